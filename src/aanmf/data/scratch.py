"""Large arrays: in memory, or in files that the system can take out of memory and read again."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aanmf.errors import DataError

BLOCK = 4_000_000
"""Numbers that are taken at a time."""
SMALL = 1 << 20
"""Arrays of fewer bytes stay in memory."""


@dataclass(frozen=True)
class Scratch:
    """Makes arrays of a number per rating.

    Those in files count as cache of the system: under a limit of memory, what was not used lately makes room. The files
    have no names. They are gone when the last array is, and when the process is killed.

    Attributes:
        folder: on a disk with room for them; None, or once it has been removed: in memory.
    """

    folder: Path | None = None

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
        """An array to be filled; that of another device than the processor is in the memory of the device.

        Raises:
            DataError: the disk is full.
        """
        size = math.prod(shape) * dtype.itemsize
        elsewhere = size < SMALL or (device is not None and device.type != "cpu")
        if elsewhere or self.folder is None or not self.folder.is_dir():
            return torch.empty(*shape, dtype=dtype, device=device)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            try:
                # room for all of it, now: a write to a map of a full disk would end the process
                os.posix_fallocate(file.fileno(), 0, size) if hasattr(os, "posix_fallocate") else file.truncate(size)
            except OSError as error:
                raise DataError(
                    f"{self.folder}: no room for {size / 1e9:.1f} GB of what training computes per rating "
                    f"({error.strerror}): free some, or prepare the ratings on a larger disk"
                ) from error
            return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=dtype).view(*shape)

    def like(self, other: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """An array to be filled, of the shape and on the device of another one."""
        return self.empty(*other.shape, dtype=dtype or other.dtype, device=other.device)

    def filled(self, like: Tensor, value: Callable[[slice], Tensor], dtype: torch.dtype | None = None) -> Tensor:
        """An array of the length of another one (n,), computed block by block."""
        found = self.like(like, dtype)
        for block in blocks_of(len(like)):
            found[block] = value(block)
        return found


MEMORY = Scratch()


def blocks_of(n: int) -> Iterator[slice]:
    """Slices of n rows, `BLOCK` of them at a time.

    Example:
        >>> list(blocks_of(5_000_000))
        [slice(0, 4000000, None), slice(4000000, 5000000, None)]
    """
    for start in range(0, n, BLOCK):
        yield slice(start, min(start + BLOCK, n))


def places_in_order(key: Tensor, count: Tensor, scratch: Scratch = MEMORY) -> Tensor:
    """int32 places (E,) that sort keys (E,), those of equal ones in their order: a stable argsort, block by block.

    `count` (n,) is how often each key occurs.

    Example:
        >>> places_in_order(torch.tensor([2, 0, 2, 0]), torch.tensor([2, 0, 2])).tolist()
        [1, 3, 0, 2]
    """
    places, free = scratch.like(key, torch.int32), count.cumsum(0) - count
    for block in blocks_of(len(key)):
        order = torch.argsort(key[block], stable=True)
        own = key[block].index_select(0, order)
        count = torch.bincount(own, minlength=len(count))
        first = count.cumsum(0) - count
        at = torch.arange(len(own), device=key.device) + (free - first).index_select(0, own)
        places[at] = (order + block.start).int()
        free += count
    return places


def picked(values: Tensor, places: Tensor, scratch: Scratch = MEMORY, dtype: torch.dtype | None = None) -> Tensor:
    """values[places] (E,), block by block."""
    return scratch.filled(places, lambda block: values.index_select(0, places[block]), dtype or values.dtype)
