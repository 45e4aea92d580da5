"""Tables of ratings, users and items: frames that know where they come from, and whose faults are named by place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data import cells
from aanmf.data.file_names import Source, Sources
from aanmf.data.files import SHOWN, line_numbers, read_file
from aanmf.data.options import ReadOptions, ask_for
from aanmf.data.urls import Url, located
from aanmf.errors import DataError


class Reader(NamedTuple):
    """How the cells of a column are read.

    Attributes:
        read: the column with its values; null where a cell cannot be read.
        fault: what such a cell is, as the end of a message.
    """

    read: Callable[[pl.Series], pl.Series]
    fault: str


IDS = Reader(cells.ids, "is not an id; ids are text or whole numbers (as floats up to 2^53), and never empty")


@dataclass(frozen=True)
class Table:
    """Rows of ratings, users or items. Faults in their cells are reported with table, row and column.

    Attributes:
        frame: the rows.
        where: name of the table in messages.
        first: number of the first row, as an editor shows it: row 1 is the header, if there is one.
        numbers: (n,) number of each row, where some were left out; None: they follow `first`.
        notices: what was guessed or left out so far.
    """

    frame: pl.DataFrame
    where: str
    first: int
    numbers: NDArray[np.int64] | None = None
    notices: tuple[str, ...] = ()

    @classmethod
    def of(cls, frame: pl.DataFrame, where: str) -> Table:
        """A whole table; see `cells.plain`.

        Raises:
            DataError: a column holds dates that no calendar has, as damaged files do.
        """
        frame = frame.with_columns(map(cells.plain, frame))
        if off := next((each.name for each in frame if cells.is_off_calendar(each)), None):
            raise DataError(
                f"{where}: column {off!r} holds a date beyond the years 1 to 9999, or a time beyond the day"
            )
        return cls(frame, where, 1 if frame.columns[:1] == ["column_1"] else 2)

    @classmethod
    def read(cls, path: Source, options: ReadOptions | None = None) -> Table:
        """Reads a file; see `read_file`."""
        content = read_file(path, options or ReadOptions())
        table = cls.of(content.frame, str(located(path)))
        numbers = line_numbers(content.frame.height, content.left_out, table.first)
        return replace(table, numbers=numbers, notices=content.notices)

    @property
    def has_header(self) -> bool:
        """Whether the columns have names of their own."""
        return self.frame.columns[:1] != ["column_1"]

    def slice(self, start: int, length: int) -> Table:
        """Some rows, with their numbers; the notices stay with the whole."""
        numbers = None if self.numbers is None else self.numbers[start : start + length]
        return Table(self.frame[start : start + length], self.where, self.first + start, numbers)

    def require_rows(self) -> None:
        """Raises a `DataError` if the table has no rows."""
        if self.frame.height == 0:
            raise DataError(f"{self.where}: the table has no rows")

    def number(self, row: int) -> int:
        """The number of a row as an editor shows it."""
        return int(row + self.first if self.numbers is None else self.numbers[row])

    def read_columns(self, readers: Mapping[str, Reader], options: ReadOptions) -> tuple[Table, dict[str, pl.Series]]:
        """Reads columns; rows with a cell that cannot be read are an error, or are left out with a notice.

        Returns:
            The table without such rows, and the values of the columns by name.

        Raises:
            DataError: a cell cannot be read, or none of the rows.
        """
        for name in readers:
            check_type(self.frame[name], self.where, booleans=readers[name] is not IDS)
        columns = {name: reader.read(self.frame[name]) for name, reader in readers.items()}
        bad = pl.DataFrame([column.is_null().alias(name) for name, column in columns.items()])
        rows = bad.select(pl.any_horizontal(pl.all())).to_series()
        if not rows.any():
            return self, columns
        found = rows.arg_true()
        faults = [self._fault(row, next(n for n in readers if bad[n][row]), readers, options) for row in found[:SHOWN]]
        if options.bad_rows != "skip":
            more = f" ({len(found)} such rows)" if len(found) > 1 else ""
            raise DataError(
                f"{self.where}: {faults[0]}{more}. Correct it, or leave such rows out: {ask_for('bad_rows', 'skip')}"
            )
        if len(found) == self.frame.height:
            raise DataError(f"{self.where}: none of the {len(found)} rows can be read: {faults[0]}")
        more = "; ..." if len(found) > SHOWN else ""
        notice = f"{self.where}: {len(found)} rows are left out: {'; '.join(faults)}{more}"
        kept = ~rows
        numbers = np.array([self.number(row) for row in kept.arg_true()])
        table = replace(self, frame=self.frame.filter(kept), numbers=numbers, notices=(*self.notices, notice))
        return table, {name: column.filter(kept) for name, column in columns.items()}

    def ids(self, name: str) -> pl.Series:
        """A column of ids as text; a `DataError` where one is empty or a fraction."""
        return self.read_columns({name: IDS}, ReadOptions())[1][name]

    def _fault(self, row: int, name: str, readers: Mapping[str, Reader], options: ReadOptions) -> str:
        """What is wrong with a row, and where."""
        cell = self.frame[name][row]
        if cell is None or cell == "":
            fault = "the cell is empty"
        elif cells.blank_out(self.frame[name][row : row + 1], options.missing)[0] is None:
            fault = f"{cell!r} stands for a missing value"
        else:
            fault = f"{cell!r} {readers[name].fault}"
        return f"row {self.number(row)}, column {name!r}: {fault}"


def paths_of(given: Sources) -> list[Path | Url]:
    """The given files and URLs as a list."""
    if given is None:
        return []
    return [located(given)] if isinstance(given, str | PathLike) else [located(each) for each in given]


def as_frame(table: object, name: str) -> pl.DataFrame:
    """A polars, pandas or Arrow table, or an array (n, columns), as a polars frame.

    A named index of pandas becomes columns; an array, also as a list of rows, is a table without header.

    Raises:
        DataError: it is none of these, or its ids seem to be in an index without a name.
    """
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    foreign = cast("Any", table)
    if type(table).__module__.split(".")[0] == "pandas" and hasattr(table, "columns"):
        foreign = _with_index(foreign, name)
        known = foreign.astype(object).where(foreign.notna(), None)  # NaN, NaT and NA are empty cells
        return pl.DataFrame([_column(str(name), known[name].tolist()) for name in known.columns])
    if hasattr(table, "__arrow_c_stream__"):
        return pl.DataFrame(foreign)
    if isinstance(table, list | tuple) or hasattr(table, "__array__"):
        array = np.array(table if isinstance(table, list | tuple) else np.asarray(table), dtype=object)
        if array.ndim == 2:
            return pl.DataFrame([_column(f"column_{k}", column.tolist()) for k, column in enumerate(array.T, 1)])
        raise DataError(f"{name}: an array of shape {array.shape} is not a table; give one of shape (n, columns)")
    kind = type(table).__name__ if not hasattr(table, "tocoo") else f"sparse {type(table).__name__}"
    raise DataError(
        f"{name}: a {kind} is not a table; give a polars, pandas or Arrow one, an array (n, columns), or a path"
    )


def _with_index(table: Any, where: str) -> Any:
    """A pandas table with the levels of its index as columns, where they have names."""
    names = [each for each in table.index.names if each is not None]
    if len(names) == table.index.nlevels:
        return table.reset_index(level=[each for each in names if each not in table.columns])
    if names or table.index.nlevels > 1 or not _is_integer(table.index):
        raise DataError(
            f"{where}: the index of the pandas table holds {table.index[0]!r}, ... and has no name: name it "
            "(table.index.name = 'user'), or drop it (table.reset_index(drop=True))"
        )
    return table


def _is_integer(index: Any) -> bool:
    return index.dtype.kind in "iu"


def _column(name: str, values: Sequence[object]) -> pl.Series:
    lists = [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
    clean = [None if isinstance(value, float) and value != value else value for value in lists]
    kinds = {type(value) for value in clean if value is not None}
    if kinds == {int, str}:  # ids of both forms: 1 and "1" are the same
        clean = [None if value is None else str(value) for value in clean]
    elif len(kinds) > 1 and kinds != {int, float}:
        raise DataError(
            f"column {name!r} mixes {' and '.join(sorted(kind.__name__ for kind in kinds))}: give it one type"
        )
    return pl.Series(name, clean, strict=False)


def check_type(column: pl.Series, where: str, *, booleans: bool = True) -> None:
    """Raises DataError where cells are lists, bytes, times of day and such, or `booleans` that may not be there."""
    dtype, none = column.dtype, (*cells.OPAQUE, pl.Time)
    if dtype.is_nested() or dtype in none or (dtype == pl.Boolean and not booleans):
        raise DataError(f"{where}: column {column.name!r} holds {dtype} values; give numbers or text")
