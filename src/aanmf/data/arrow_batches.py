"""A look at the structure of an Arrow file before it is read, as `parquet_pages` takes at Parquet.

Polars takes the lengths in the headers of record batches as they are, and asks for so much memory. So they are checked
against the size of the file first. Headers are flatbuffers, as in `File.fbs` and `Message.fbs` of the Arrow format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from aanmf.data.parquet_pages import DamagedError
from aanmf.errors import DataError

MAGIC = b"ARROW1"
BATCH, DICTIONARY = 3, 2
"""Kinds of messages that hold data."""
RATIO = 20_000
"""A compressed part becomes so many times as large, at most."""


def check_arrow(content: bytes, path: Path) -> None:
    """Checks the lengths in the content of an Arrow file; `path` is for the message.

    Example:
        >>> import io, polars as pl
        >>> pl.DataFrame({"user": ["a"], "item": ["x"], "rating": [5.0]}).write_ipc(file := io.BytesIO())
        >>> check_arrow(file.getvalue(), Path("ratings.arrow"))

    Raises:
        DataError: they do not fit together.
    """
    if fault := fault_of(content):
        raise DataError(f"{path}: cannot be read as a table (damaged Arrow: {fault})")


def fault_of(content: bytes) -> str | None:
    """What does not fit in an Arrow file; None: nothing, or it is another kind of file."""
    if content[: len(MAGIC)] != MAGIC or content[-len(MAGIC) :] != MAGIC or len(content) < 20:
        return None
    try:
        end = len(content) - len(MAGIC) - 4
        footer = Table.root(content, end - _number(content, "<i", end))
        for field in (2, 3):
            for at in footer.structures(field, 24):
                offset, _, body = struct.unpack_from("<qi4xq", content, at)
                _check_message(content, offset, body)
    except DamagedError as fault:
        return str(fault)
    return None


def _check_message(content: bytes, offset: int, body: int) -> None:
    """One record batch, or the values of a dictionary."""
    if not 0 <= offset <= len(content) - 16:
        raise DamagedError("a part begins beyond the end")
    start = offset + 8 if _number(content, "<I", offset) == 0xFFFFFFFF else offset + 4
    begin = start + _number(content, "<i", start - 4)
    if body < 0 or begin < start or begin + body > len(content):
        raise DamagedError("a part is longer than the file")
    message = Table.root(content, start)
    batch = message.table(2)
    if message.scalar("<B", 1) == DICTIONARY:
        batch = batch.table(1)
    elif message.scalar("<B", 1) != BATCH:
        raise DamagedError("a part is no table")
    rows, compressed = batch.scalar("<q", 0), batch.has(3)
    largest = max(rows, 8 * body * (RATIO if compressed else 1))
    if not 0 <= rows <= max(2**31, largest):
        raise DamagedError("a negative or too large number of rows")
    buffers = list(batch.structures(2, 16))
    if rows > largest and buffers:
        raise DamagedError("more rows than bits")
    for at in batch.structures(1, 16):
        length, empty = struct.unpack_from("<qq", content, at)
        if not 0 <= empty <= length <= largest:
            raise DamagedError("a negative or too large number of values")
    for at in buffers:
        where, length = struct.unpack_from("<qq", content, at)
        if where < 0 or length < 0 or where + length > body:
            raise DamagedError("values lie beyond the end of their part")
        if compressed and length >= 8 and not -1 <= _number(content, "<q", begin + where) <= RATIO * length:
            raise DamagedError("a compressed part of impossible size")
    for at in batch.structures(4, 8):
        if not 0 <= _number(content, "<q", at) <= len(buffers):
            raise DamagedError("more parts of texts than parts")


class Table:
    """A table of a flatbuffer: fields by number, found through the table of their places."""

    def __init__(self, content: bytes, at: int) -> None:
        self.content, self.at = content, at
        self.places = at - _number(content, "<i", at)
        self.size = _number(content, "<H", self.places)

    @classmethod
    def root(cls, content: bytes, at: int) -> Table:
        """The table that a flatbuffer which begins here holds."""
        return cls(content, at + _number(content, "<I", at))

    def _place(self, field: int) -> int | None:
        entry = 4 + 2 * field
        found = _number(self.content, "<H", self.places + entry) if entry + 2 <= self.size else 0
        return self.at + found if found else None

    def has(self, field: int) -> bool:
        """Whether the field is there."""
        return self._place(field) is not None

    def scalar(self, form: str, field: int) -> int:
        """A number; 0 where it is left out."""
        place = self._place(field)
        return 0 if place is None else _number(self.content, form, place)

    def table(self, field: int) -> Table:
        """A table in this one."""
        place = self._place(field)
        if place is None:
            raise DamagedError("a header is missing")
        return Table(self.content, place + _number(self.content, "<I", place))

    def structures(self, field: int, size: int) -> Iterator[int]:
        """Where the structures of a list begin, each of `size` bytes."""
        place = self._place(field)
        if place is None:
            return
        start = place + _number(self.content, "<I", place)
        count = _number(self.content, "<I", start)
        if start + 4 + count * size > len(self.content):
            raise DamagedError("a list is longer than the file")
        for k in range(count):
            yield start + 4 + k * size


def _number(content: bytes, form: str, at: int) -> int:
    if not 0 <= at <= len(content) - struct.calcsize(form):
        raise DamagedError("the file ends before its parts")
    return struct.unpack_from(form, content, at)[0]
