"""Files and foreign frames as polars tables; separator, header and encoding of text files are detected."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.errors import DataError

Source = str | PathLike[str]
Sources = Source | Sequence[Source] | None
"""One file, several, or none."""
SEPARATORS = ("::", "\t", ",", ";", "|", " ")
"""Tried in this order: the first one that all of the first lines contain."""


@dataclass(frozen=True)
class Table:
    """Rows of ratings, users or items. Faults in their cells are reported with table, row and column.

    Attributes:
        frame: the rows.
        where: name of the table in messages.
        first: number of the first row, as an editor shows it: row 1 is the header, if there is one.
    """

    frame: pl.DataFrame
    where: str
    first: int

    @classmethod
    def of(cls, frame: pl.DataFrame, where: str) -> Table:
        """A whole table."""
        return cls(frame, where, 1 if frame.columns[:1] == ["column_1"] else 2)

    @classmethod
    def read(cls, path: Source, separator: str | None = None) -> Table:
        """Reads a file; see `read_table`."""
        return cls.of(read_table(path, separator), str(path))

    def require_rows(self) -> None:
        """Raises a `DataError` if the table has no rows."""
        if self.frame.height == 0:
            raise DataError(f"{self.where}: the table has no rows")

    def ids(self, name: str) -> pl.Series:
        """A column of ids as text: whole floats lose their `.0`, text the blanks around it.

        Raises:
            DataError: an empty id, a fraction, or a column of a type that cannot hold ids.
        """
        column = self.frame[name]
        if column.dtype == pl.Boolean or column.dtype.is_nested():
            raise DataError(f"{self.where}: column {name!r} holds {column.dtype} values, which cannot be ids")
        if column.dtype.is_float():
            broken = column.is_not_null() & (column != column.round()).fill_null(True)
            self._refuse(broken, name, "is not an id; ids are text or whole numbers")
            column = column.cast(pl.Int64, strict=False)
        text = column.cast(pl.String).str.strip_chars()
        self._refuse(text.is_null() | (text == ""), name, "is empty where an id must stand")
        return text

    def ratings(self, name: str) -> NDArray[np.float32]:
        """(n,) a column of ratings.

        Raises:
            DataError: one is not a finite number.
        """
        column = self.frame[name]
        numbers = column.str.strip_chars() if column.dtype == pl.String else column
        numbers = numbers.cast(pl.Float64, strict=False)
        bad = (numbers.is_null() | numbers.is_nan() | numbers.is_infinite()).fill_null(True)
        self._refuse(bad, name, "is not a finite number; correct it or take the row out")
        return numbers.to_numpy().astype(np.float32)

    def times(self, name: str) -> NDArray[np.int64]:
        """(n,) whole seconds since 1970, from a column of numbers or dates.

        Raises:
            DataError: a cell is not a time.
        """
        column = self.frame[name]
        if column.dtype.is_temporal():
            return column.cast(pl.Datetime("ms")).dt.epoch("s").to_numpy()
        text = column.cast(pl.String).str.strip_chars()
        seconds = text.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
        if seconds.is_null().all():
            with suppress(pl.exceptions.ComputeError):  # raised where there is not one date
                seconds = text.str.to_datetime(strict=False, time_unit="ms").dt.epoch("s")
        self._refuse(seconds.is_null(), name, "is not a time; give seconds since 1970 or a date like 2024-12-31")
        return seconds.to_numpy()

    def _refuse(self, bad: pl.Series, name: str, why: str) -> None:
        if bad.any():
            rows = bad.arg_true()
            more = f" ({len(rows)} such rows)" if len(rows) > 1 else ""
            cell = self.frame[name][rows[0]]
            raise DataError(f"{self.where}: row {rows[0] + self.first}, column {name!r}: {cell!r} {why}{more}")


def paths_of(given: Sources) -> list[Path]:
    """The given files as a list."""
    if given is None:
        return []
    return [Path(given)] if isinstance(given, str | PathLike) else [Path(each) for each in given]


def read_table(path: Source, separator: str | None = None, header: bool | None = None) -> pl.DataFrame:
    """Reads CSV, TSV or another separated text file (every column as text), or Parquet (typed).

    Args:
        path: the file; a pattern such as `ratings/*.parquet` reads all Parquet files that match.
        separator: text between cells; detected if None.
        header: whether the first line holds column names; None: it does if none of its cells is a number. Without a
            header the columns are called `column_1`, `column_2`, ...

    Raises:
        DataError: the file does not exist, is empty, or cannot be parsed.
    """
    path = Path(path)
    if "*" not in path.name and not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        if path.suffix in (".parquet", ".pq"):
            return pl.read_parquet(path)
        return _read_text(path, separator, header)
    except (pl.exceptions.PolarsError, FileNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: cannot be read as a table ({reason})") from None


def as_frame(table: object, name: str) -> pl.DataFrame:
    """A polars, pandas or Arrow table as a polars frame.

    Raises:
        DataError: it is none of these.
    """
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    foreign = cast("Any", table)
    if type(table).__module__.split(".")[0] == "pandas" and hasattr(table, "columns"):
        return pl.DataFrame([_pandas_column(str(name), foreign[name].tolist()) for name in foreign.columns])
    if hasattr(table, "__arrow_c_stream__"):
        return pl.DataFrame(foreign)
    raise DataError(f"{name}: a {type(table).__name__} is not a table; give a polars, pandas or Arrow one, or a path")


def _pandas_column(name: str, values: list[object]) -> pl.Series:
    clean = [None if value is None or value != value else value for value in values]  # NaN, NaT differ from themselves
    kinds = {type(value) for value in clean if value is not None}
    if kinds == {int, str}:  # ids of both forms: 1 and "1" are the same
        clean = [None if value is None else str(value) for value in clean]
    elif len(kinds) > 1 and kinds != {int, float}:
        raise DataError(
            f"column {name!r} mixes {' and '.join(sorted(kind.__name__ for kind in kinds))}: give it one type"
        )
    return pl.Series(name, clean, strict=False)


def _read_text(path: Path, separator: str | None, header: bool | None) -> pl.DataFrame:
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        content = content.decode("latin-1").encode("utf-8")
    content = content.removeprefix(b"\xef\xbb\xbf")
    lines = [line for line in content[:200_000].decode("utf-8", "ignore").splitlines()[:50] if line.strip()]
    if len(lines) == 50:
        lines = lines[:-1]  # may be cut
    if not lines:
        raise DataError(f"{path}: the file is empty")
    separator = separator or next((each for each in SEPARATORS if all(each in line for line in lines)), ",")
    if len(separator) > 1:
        single = "\t" if b"\t" not in content else "\x1f"
        content = content.replace(separator.encode(), single.encode())
        lines = [line.replace(separator, single) for line in lines]
        separator = single
    if header is None:
        header = not any(_is_number(cell.strip('"')) for cell in lines[0].split(separator))
    frame = pl.read_csv(
        io.BytesIO(content),
        separator=separator,
        has_header=header,
        infer_schema=False,
        quote_char='"' if separator in ",;" else None,
        raise_if_empty=False,
    )
    if not header:
        return frame.rename({name: f"column_{number}" for number, name in enumerate(frame.columns, start=1)})
    return frame.rename({name: name.strip().strip('"') for name in frame.columns})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
