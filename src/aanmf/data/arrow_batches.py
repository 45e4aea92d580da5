"""Checks the structure of an Arrow file before it is read, as `parquet_pages` does for Parquet.

Polars takes the lengths in an Arrow file as they are, and asks for so much memory: one that is far too large ends the
process. Structures are those of `Message.fbs` and `File.fbs`, as flatbuffers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from aanmf.data.parquet_pages import DamagedError

MAGIC = b"ARROW1"
RATIO = 40_000
"""Zstandard makes 128 KiB of one value into 4 bytes; nothing is packed more densely."""
SMALL = 1 << 20
"""Bytes or rows that need no memory to speak of."""


def arrow_fault_of(content: bytes) -> str | None:
    """What does not fit in an Arrow file; None: nothing, or it is another kind of file.

    Example:
        >>> import io, polars as pl
        >>> pl.DataFrame({"user": ["a"], "rating": [5.0]}).write_ipc(out := io.BytesIO())
        >>> arrow_fault_of(out.getvalue()) is None
        True
    """
    if not content.startswith(MAGIC) or not content.endswith(MAGIC) or len(content) < 24:
        return None
    try:
        end = len(content) - len(MAGIC) - 4
        (size,) = struct.unpack_from("<i", content, end)
        footer = Table.root(content, end - _within(size, end))
        for field in (2, 3):  # dictionaries, batches
            for block in footer.structs(field, "<qiiq"):
                _check_block(content, block[0], block[1], block[3])
    except (DamagedError, struct.error, OverflowError) as fault:
        return str(fault)
    return None


def _check_block(content: bytes, offset: int, head: int, body: int) -> None:
    """Checks the lengths in a batch, or in a dictionary."""
    start = _within(offset, len(content)) + _within(head, len(content))
    _within(start + _within(body, len(content)), len(content))
    prefix = 8 if content[offset : offset + 4] == b"\xff\xff\xff\xff" else 4
    message = Table.root(content, offset + prefix)
    batch = message.table(2)
    if message.number(1, "<B") == 2:  # a dictionary: its values are a batch
        batch = batch.table(1)
    packed, most = batch.has(3), 0
    for at, length in batch.structs(2, "<qq"):
        _within(at + _within(length, body), body)
        most += _unpacked(content, start + at, length) if packed and length >= 8 else length
    for count in (batch.number(0, "<q"), *(n for node in batch.structs(1, "<qq") for n in node)):
        _within(count, 8 * most + SMALL)
    for (count,) in batch.structs(4, "<q"):
        _within(count, len(content))


def _unpacked(content: bytes, at: int, length: int) -> int:
    """Bytes of a compressed part, which begins with their number; -1: it is not compressed after all."""
    (size,) = struct.unpack_from("<q", content, at)
    return length if size == -1 else _within(size, RATIO * length + SMALL)


def _within(count: int, most: int) -> int:
    if not 0 <= count <= most:
        raise DamagedError("a length is negative or too large")
    return count


class Table:
    """A table of a flatbuffer: fields by number, which may be absent."""

    def __init__(self, content: bytes, at: int) -> None:
        self.content, self.at = content, at
        self._fields = at - self._read("<i", at)

    @classmethod
    def root(cls, content: bytes, at: int) -> Table:
        """The table that a flatbuffer begins with."""
        return cls(content, at + struct.unpack_from("<I", content, _within(at, len(content)))[0])

    def _read(self, form: str, at: int) -> int:
        return struct.unpack_from(form, self.content, _within(at, len(self.content)))[0]

    def _place(self, field: int) -> int | None:
        size = self._read("<H", self._fields)
        offset = self._read("<H", self._fields + 4 + 2 * field) if 4 + 2 * field < size else 0
        return self.at + offset if offset else None

    def has(self, field: int) -> bool:
        """Whether a field is there."""
        return self._place(field) is not None

    def number(self, field: int, form: str) -> int:
        """A number; 0 where it is absent."""
        place = self._place(field)
        return 0 if place is None else self._read(form, place)

    def table(self, field: int) -> Table:
        """A table within this one."""
        place = self._place(field)
        if place is None:
            raise DamagedError("a part is missing")
        return Table(self.content, place + self._read("<I", place))

    def structs(self, field: int, form: str) -> Iterator[tuple[int, ...]]:
        """The elements of a list; none where it is absent."""
        place = self._place(field)
        if place is None:
            return
        start = place + self._read("<I", place)
        count, size = self._read("<I", start), struct.calcsize(form)
        _within(start + 4 + count * size, len(self.content))
        yield from struct.iter_unpack(form, self.content[start + 4 : start + 4 + count * size])
