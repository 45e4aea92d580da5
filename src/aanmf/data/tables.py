"""Files and foreign frames as polars tables; separator, header and encoding of text files are detected."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, cast

import polars as pl

from aanmf.errors import DataError

Source = str | PathLike[str]
Sources = Source | Sequence[Source] | None
"""One file, several, or none."""
SEPARATORS = ("::", "\t", ",", ";", "|", " ")
"""Tried in this order: the first one that all of the first lines contain."""


@dataclass(frozen=True)
class Table:
    """Rows of ratings, users or items, and the name of the table in messages."""

    frame: pl.DataFrame
    where: str

    def __post_init__(self) -> None:
        if self.frame.height == 0:
            raise DataError(f"{self.where}: the table has no rows")

    @classmethod
    def read(cls, path: Source, separator: str | None = None) -> Table:
        """Reads a file; see `read_table`."""
        return cls(read_table(path, separator), str(path))

    @property
    def first_row(self) -> int:
        """The number of the first row as an editor shows it: row 1 is the header, if there is one."""
        return 1 if self.frame.columns[0] == "column_1" else 2


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
    separator = separator or _find_separator(lines)
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


def _find_separator(lines: list[str]) -> str:
    for candidate in SEPARATORS:
        if all(candidate in line for line in lines):
            return candidate
    return ","


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
