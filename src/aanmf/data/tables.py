"""Files and foreign frames as polars tables: separators, headers and encodings found out, faults named."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from aanmf.errors import DataError

if TYPE_CHECKING:
    from os import PathLike

SEPARATORS = ("::", "\t", ",", ";", "|", " ")
"""Tried in this order: the first one that stands in every one of the first lines."""


def read_table(path: str | PathLike[str], separator: str | None = None, header: bool | None = None) -> pl.DataFrame:
    """Reads CSV, TSV or another separated text file (every column as text), or Parquet (typed).

    Args:
        path: the file; a pattern such as `ratings/*.parquet` reads all files that match.
        separator: found out if None.
        header: whether the first line holds column names; None: it does if none of its cells is a number. Without one
            the columns are called `column_1`, `column_2`, ...

    Raises:
        DataError: no such file, an empty one, or one that cannot be parsed.
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
    if type(table).__module__.split(".")[0] == "pandas" and hasattr(table, "columns"):
        return pl.DataFrame([_pandas_column(str(column), table[column]) for column in table.columns])  # type: ignore[index, attr-defined]
    if hasattr(table, "__arrow_c_stream__"):
        return pl.DataFrame(table)  # pyright: ignore[reportArgumentType]
    raise DataError(f"{name}: a {type(table).__name__} is not a table; give a polars, pandas or Arrow one, or a path")


def _pandas_column(name: str, column: object) -> pl.Series:
    values = column.tolist()  # type: ignore[attr-defined]
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
