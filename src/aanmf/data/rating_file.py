"""Ratings in one file of 12 bytes per rating: int32 user, int32 item, float32 rating."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aanmf.data.file_names import Source
from aanmf.errors import DataError

RECORD = np.dtype([("user", "<i4"), ("item", "<i4"), ("rating", "<f4")])
BLOCK = 1_000_000
"""Ratings in memory at a time."""


class RatingFile:
    """Ratings on disk, read in blocks: only the rows of a call are in memory."""

    def __init__(self, path: Source) -> None:
        self.path = Path(path)
        self._handle = os.open(self.path, os.O_RDONLY)
        self.n = os.fstat(self._handle).st_size // RECORD.itemsize

    def __len__(self) -> int:
        return self.n

    def __del__(self) -> None:
        if handle := getattr(self, "_handle", None):
            os.close(handle)

    def read(self, start: int, stop: int) -> NDArray[np.void]:
        """Rows start to stop as records."""
        rows = np.empty(min(stop, self.n) - start, RECORD)
        self.read_into(rows, start)
        return rows

    def read_into(self, rows: NDArray[np.void], start: int) -> None:
        """Fills `rows` with those from `start` on."""
        waiting, at = rows.view(np.uint8).data, start * RECORD.itemsize
        while len(waiting):
            got = os.preadv(self._handle, [waiting], at)
            if not got:
                raise DataError(f"{self.path}: ended early; prepare the ratings again (remove the folder)")
            waiting, at = waiting[got:], at + got

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[int, NDArray[np.void]]]:
        """All rows in order: (number of the first, records)."""
        for start in range(0, self.n, size):
            yield start, self.read(start, start + size)

    def mapped(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """Users, items and ratings as views of the file; the system reads the parts that are used."""
        with os.fdopen(os.dup(self._handle), "rb") as file:  # by its handle: a newer model may have taken its place
            rows = np.memmap(file, RECORD, mode="c", shape=(self.n,))
        return rows["user"], rows["item"], rows["rating"]

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any rating and with their order."""
        digest = hashlib.sha256()
        for _, rows in self.blocks():
            digest.update(rows.data)
        return digest.hexdigest()[:16]
