"""Checks the structure of a Parquet file before it is read.

Polars takes the counts in the headers of a file as they are: a negative one makes it ask for 2^61 bytes, which ends the
process. So all counts are checked against each other first: every page of every column is visited, none is unpacked.
Structures are those of `parquet.thrift`, in Thrift's compact protocol.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from aanmf.errors import DataError

MAGIC = b"PAR1"
DEEPEST = 16
"""Levels of structures in each other; the format needs 6."""
Fields = dict[int, Any]
"""A structure: values by the number of the field."""


class DamagedError(ValueError):
    """The file is not as the format says."""


def check_parquet(path: Path) -> None:
    """Checks the counts and sizes in a Parquet file.

    Example:
        >>> import polars as pl, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "ratings.parquet"
        >>> pl.DataFrame({"user": ["a"], "item": ["x"], "rating": [5.0]}).write_parquet(path)
        >>> check_parquet(path)

    Raises:
        DataError: they do not fit together.
    """
    with path.open("rb") as file:
        if not file.read(1):
            return  # who reads it says that it is empty
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            fault = fault_of(content)
    if fault is not None:
        raise DataError(f"{path}: cannot be read as a table (damaged Parquet: {fault})")


def fault_of(content: bytes | mmap.mmap) -> str | None:
    """What does not fit in a Parquet file; None: nothing, or it is another kind of file."""
    if len(content) < 12 or content[-4:] != MAGIC:
        return None
    try:
        length = int.from_bytes(content[-8:-4], "little")
        if length > len(content) - 12:
            raise DamagedError("the footer is longer than the file")
        footer = Compact(content, len(content) - 8 - length).structure()
        if _count(footer, 3) != sum(_count(group, 3) for group in _list(footer, 4)):
            raise DamagedError("the parts of the file have another number of rows than the whole")
        for group in _list(footer, 4):
            for chunk in _list(group, 1):
                _check_column(content, _fields(chunk, 3))
    except DamagedError as fault:
        return str(fault)
    return None


def _check_column(content: bytes | mmap.mmap, column: Fields) -> None:
    """Goes through the pages of a part of a column."""
    left, starts = _count(column, 5), [_count(column, 9), _count(column, 11) if 11 in column else 0]
    at = min((start for start in starts if start > 0), default=0)
    while left:
        reader = Compact(content, at)
        page = reader.structure()
        size = _count(page, 3, most=len(content) - reader.at)
        at = reader.at + size
        if 5 in page or 8 in page:
            header = _fields(page, 5 if 5 in page else 8)
            values = _count(header, 1, most=left)
            left -= values
            if 8 in page:
                levels = (_count(header, field, most=size) for field in (5, 6))
                if sum(levels) > size or max(_count(header, 2), _count(header, 3)) > values:
                    raise DamagedError("the parts of a page are larger than the page")
        elif 7 in page:
            _count(_fields(page, 7), 1, most=_count(page, 2))


def _count(fields: Fields, number: int, most: int | None = None) -> int:
    found = fields.get(number)
    if not isinstance(found, int) or found < 0 or (most is not None and found > most):
        raise DamagedError("a count is negative, too large or missing")
    return found


def _fields(fields: Fields, number: int) -> Fields:
    found = fields.get(number)
    if not isinstance(found, dict):
        raise DamagedError("a header is missing")
    return found


def _list(fields: Fields, number: int) -> list[Fields]:
    found = fields.get(number)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DamagedError("a list is missing")
    return found


class Compact:
    """Reads structures of Thrift's compact protocol."""

    def __init__(self, content: bytes | mmap.mmap, at: int) -> None:
        self.content, self.at = content, at

    def structure(self, depth: int = 0) -> Fields:
        """The structure that begins here."""
        if depth > DEEPEST:
            raise DamagedError("structures in each other without end")
        fields, number = Fields(), 0
        while kind := (head := self._byte()) & 15:
            number = number + (head >> 4) if head >> 4 else self._number()
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):  # a truth value in a list, a byte
            return self._byte()
        if kind in (4, 5, 6):
            return self._number()
        if kind in (7, 8, 13):
            return self._skip(8 if kind == 7 else 16 if kind == 13 else self._varint())
        if kind in (9, 10):
            head = self._byte()
            size = head >> 4 if head >> 4 != 15 else self._varint()
            if size > len(self.content) - self.at:
                raise DamagedError("a list is longer than the file")
            return [self._value(head & 15, depth) for _ in range(size)]
        if kind == 12:
            return self.structure(depth + 1)
        raise DamagedError(f"a field of kind {kind}")

    def _skip(self, size: int) -> None:
        self.at += size

    def _number(self) -> int:
        found = self._varint()
        return (found >> 1) ^ -(found & 1)

    def _varint(self) -> int:
        found, shift = 0, 0
        while shift < 70:
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
            shift += 7
        raise DamagedError("a number without end")

    def _byte(self) -> int:
        if not 0 <= self.at < len(self.content):
            raise DamagedError("the file ends before its parts")
        self.at += 1
        return self.content[self.at - 1]
