"""Files as polars tables: compression, encoding, separator and header are detected."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.arrow_batches import arrow_fault_of
from aanmf.data.cells import numbers
from aanmf.data.file_names import ARROW, EXCEL, JSON, PARQUET, Source
from aanmf.data.names import ROLES, simple_name
from aanmf.data.options import ReadOptions, ask_for
from aanmf.data.parquet_pages import check_parquet
from aanmf.data.urls import Url, located, unreachable
from aanmf.errors import DataError, MissingExtraError

SEPARATORS = ("::", "\t", ";", ",", "|")
"""Blanks separate cells only where nothing else does."""
BOMS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",  # before that of UTF-16, with which it begins
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
WIDE = {"utf-16-le": 1, "utf-16-be": 0}
"""Encodings of two bytes per letter, and which of them is zero in Latin letters, digits and separators."""
MOST_COLUMNS = 2_000
BROKEN = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What Polars raises for a file that cannot be read; a panic is no Exception."""
BROKEN_TABLE = (*BROKEN, OSError, EOFError, lzma.LZMAError, zlib.error)
csv.field_size_limit(1 << 30)  # or a cell, or a line with another separator, could be at most 128 KiB long
HEAD = 200_000
"""Letters of a text file that tell its separator and its columns."""
SHOWN = 5
"""Longer lists of rows are cut in messages."""


@dataclass(frozen=True)
class FileContent:
    """A table as its file has it.

    Attributes:
        frame: the rows; every column of a text file is text.
        left_out: positions of lines of a text file that are not rows of the table.
        notices: what was guessed or left out.
    """

    frame: pl.DataFrame
    left_out: tuple[int, ...] = ()
    notices: tuple[str, ...] = ()


def read_table(path: Source, separator: str | None = None, header: bool | None = None) -> pl.DataFrame:
    """Reads a file as a frame; see `read_file`.

    Args:
        path: the file; a pattern such as `ratings/*.parquet` reads all Parquet files that match.
        separator: text between cells; detected if None.
        header: whether the first line holds column names; None: it does if none of its cells is a number. Without a
            header the columns are called `column_1`, `column_2`, ...

    Raises:
        DataError: the file does not exist, is empty, or cannot be parsed.
    """
    return read_file(path, ReadOptions(separator=separator), header).frame


def read_file(path: Source, options: ReadOptions, header: bool | None = None) -> FileContent:
    """Reads CSV, TSV or another separated text file, Parquet, JSON lines, Arrow or Excel; also compressed.

    Raises:
        DataError: the file does not exist, is empty, or cannot be parsed.
        MissingExtraError: a library for this kind of file is not installed.
    """
    path = located(path)
    if isinstance(path, Url):
        return _read_url(path, options, header)
    _check_there(path)
    try:
        if path.suffix in PARQUET:
            for part in list(path.parent.glob(path.name)) or [path]:
                check_parquet(part)
                _check_width(len(pl.read_parquet_schema(part)), path)
            return FileContent(pl.read_parquet(path))
        if path.suffix in EXCEL:
            return _whole(_read_excel(path), path)
        return _parsed(path.read_bytes(), path, path, options, header)
    except BROKEN_TABLE as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: cannot be read as a table ({reason})") from None


def _read_url(url: Url, options: ReadOptions, header: bool | None) -> FileContent:
    """A table behind a URL; Polars reads Parquet, also by a pattern."""
    try:
        if url.suffix in PARQUET:
            frame = pl.scan_parquet(url.text)
            _check_width(len(frame.collect_schema()), url)
            return FileContent(frame.collect())
    except (*BROKEN, OSError) as error:
        raise unreachable(url, error) from None
    if url.is_several or url.suffix in EXCEL:
        raise DataError(f"{url}: several tables, or Excel, are not read from a URL; name one file, or download them")
    try:
        return _parsed(url.read_bytes(), url, url.path, options, header)
    except BROKEN_TABLE as error:
        raise DataError(f"{url}: cannot be read as a table ({str(error).strip().splitlines()[0]})") from None


def _parsed(content: bytes, path: Path | Url, name: PurePath, options: ReadOptions, header: bool | None) -> FileContent:
    """Text, JSON lines or Arrow, as the name says."""
    if unpack := UNPACK.get(name.suffix):
        content, name = unpack(content), name.with_suffix("")
    if name.suffix in JSON:
        return _whole(_read_json(content), path)
    if name.suffix in ARROW:
        if fault := arrow_fault_of(content):
            raise DataError(f"{path}: cannot be read as a table (damaged Arrow: {fault})")
        return _whole(pl.read_ipc(io.BytesIO(content)), path)
    return _read_text(content, path, options, header)


def _check_there(path: Path) -> None:
    """Raises a `DataError` unless it is a file, or a pattern that Parquet files match."""
    more = "`aanmf train` reads the tables of a folder or pattern from disk, AANMF++ with --on-disk"
    if path.is_dir():
        raise DataError(f"{path}: is a folder: name a file in it, or several by a pattern for Parquet. {more}")
    if "*" not in path.name:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
    elif path.suffix not in PARQUET:
        raise DataError(f"{path}: a pattern is read here for Parquet only; name one file. {more}")
    elif next(path.parent.glob(path.name), None) is None:
        raise DataError(f"{path}: no file matches")


def _unpack_zstd(content: bytes) -> bytes:
    try:
        import zstandard  # type: ignore[import-not-found,unused-ignore]
    except ModuleNotFoundError:
        raise MissingExtraError(
            "files that end in .zst need zstandard: pip install 'aanmf[files]', or unpack them with `zstd -d FILE`"
        ) from None
    try:
        return zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True).read()
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from None


UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": _unpack_zstd,
}


def _read_excel(path: Path) -> pl.DataFrame:
    try:
        import fastexcel  # type: ignore[import-not-found,unused-ignore]
    except ModuleNotFoundError:
        raise MissingExtraError(
            f"{path}: Excel files need fastexcel: pip install 'aanmf[files]', or save the sheet as CSV"
        ) from None
    try:
        return pl.read_excel(path)
    except fastexcel.FastExcelError as error:
        raise OSError(str(error)) from None


def _read_json(content: bytes) -> pl.DataFrame:
    """JSON lines, or one list of objects."""
    if content.lstrip()[:1] == b"[":
        return pl.read_json(io.BytesIO(content), infer_schema_length=None)
    return pl.read_ndjson(io.BytesIO(content), infer_schema_length=None)


def _read_text(content: bytes, path: Path | Url, options: ReadOptions, header: bool | None) -> FileContent:
    text, notices = _decoded(content, path, options.encoding)
    lines = [line for line in text[:HEAD].splitlines()[:50] if line.strip()]
    if len(lines) == 50:
        lines = lines[:-1]  # may be cut
    if not lines:
        raise DataError(f"{path}: the file is empty")
    cut = len(lines[0]) == HEAD
    separator = options.separator or _separator(lines)
    if len(separator) > 1:
        single = "\t" if "\t" not in text else "\x1f"
        text, lines, separator = text.replace(separator, single), [e.replace(separator, single) for e in lines], single
    quote = '"' if separator in ",;" or _is_quoted(text, separator) else None
    first = [cell.strip().strip('"') for cell in _cells(lines[:1], separator)[0]]
    _check_width(len(first), path, cut=cut)
    if header is None:
        header = _is_header(first)
    try:
        frame, left_out = _parse(text, separator, quote, header), ()
    except pl.exceptions.ComputeError:  # a line has more cells than the first one
        text, left_out, more = _without_long_lines(text, separator, header, path, options)
        frame, notices = _parse(text, separator, quote, header), (*notices, *more)
    named = [name.strip().strip('"') for name in frame.columns]
    if not header:
        named = [f"column_{number}" for number in range(1, frame.width + 1)]
    frame.columns = [name or f"unnamed_{number}" for number, name in enumerate(named, start=1)]
    last = frame.columns[-1]
    if frame.width > 1 and (last.startswith(("unnamed_", "column_"))) and (frame[last].fill_null("") == "").all():
        frame = frame.drop(last)  # a separator at the end of every line
    return FileContent(frame, left_out, notices)


def _parse(text: str, separator: str, quote: str | None, header: bool) -> pl.DataFrame:
    return pl.read_csv(
        text.encode(),
        separator=separator,
        has_header=header,
        infer_schema=False,
        quote_char=quote,
        raise_if_empty=False,
    )


def _decoded(content: bytes, path: Path | Url, encoding: str | None) -> tuple[str, tuple[str, ...]]:
    """The text of a file, and a notice where its encoding is a guess."""
    given = encoding or next((name for bom, name in BOMS.items() if content.startswith(bom)), None)
    if given is None and b"\0" in content[:1000]:
        head = content[:1000]
        if wide := next(
            (e for e, at in WIDE.items() if 10 * head[at::2].count(0) > len(head) > 20 * head[1 - at :: 2].count(0)),
            None,
        ):
            raise DataError(f"{path}: looks like {wide} without its mark: state encoding={wide!r} (--encoding)")
        raise DataError(f"{path}: not a text file; convert it to CSV, JSON lines or Parquet")
    try:
        return content.decode(given or "utf-8"), ()
    except LookupError:
        raise DataError(f"encoding={encoding!r}: no such encoding; give one like utf-8, cp1252 or gb18030") from None
    except UnicodeDecodeError as error:
        if given is not None:
            raise DataError(f"{path}: not in {given} (byte {error.start})") from None
    notice = f"{path}: not in UTF-8, read as Windows-1252; if letters look wrong, state encoding=... (--encoding)"
    try:
        return content.decode("cp1252"), (notice,)
    except UnicodeDecodeError:
        return content.decode("latin-1"), (notice,)


def _is_header(first: Sequence[str]) -> bool:
    """Whether the cells of the first line are names: none of them is a number, or two are usual names of columns.

    Two, since `user,item,2019` is a header of an unusual kind, and `user 7` is not one.
    """
    usual = sum(any(simple_name(cell) in names for names in ROLES.values()) for cell in first)
    return usual >= 2 or not numbers(pl.Series(first, dtype=pl.String)).is_not_null().any()


def _is_quoted(text: str, separator: str) -> bool:
    """Whether cells are in quotation marks: each cell that begins with one ends with one, and there are some."""
    if '"' not in text:
        return False
    cells = (cell.strip() for line in text.splitlines() for cell in line.split(separator))
    begun = [cell for cell in cells if cell.startswith('"')]
    return bool(begun) and all(len(cell) > 1 and cell.endswith('"') for cell in begun)


def _whole(frame: pl.DataFrame, path: Path | Url) -> FileContent:
    """A table that was read at once."""
    _check_width(frame.width, path)
    return FileContent(frame)


def _check_width(columns: int, path: Path | Url, *, cut: bool = False) -> None:
    """Raises a `DataError` where there are too many columns; `cut`: there are more than these."""
    if columns > MOST_COLUMNS:
        found = f"more than {columns:,}" if cut else f"{columns:,}"
        raise DataError(
            f"{path}: {found} columns, at most {MOST_COLUMNS:,} are read: leave out those that are not needed "
            "(features by the thousand belong into one vector column)"
        )


def _separator(lines: Sequence[str]) -> str:
    """The separator that cuts all lines into the same number of cells, the largest one; commas if there is none."""
    widths = {each: {len(cells) for cells in _cells(lines, each)} for each in SEPARATORS}
    even = {each: min(width) for each, width in widths.items() if len(width) == 1 and min(width) > 1}
    if even:
        return max(even, key=lambda each: even[each])
    uneven = [each for each in SEPARATORS if min(widths[each]) > 1]  # some lines are broken, or end in a separator
    if uneven:
        return uneven[0]
    return " " if all(" " in line.strip() for line in lines) else ","


def _cells(lines: Sequence[str], separator: str) -> list[list[str]]:
    """The cells of some lines."""
    if separator not in (";", ","):
        return [line.split(separator) for line in lines]
    return [row for row in csv.reader(lines, delimiter=separator) if row]


def _without_long_lines(
    text: str, separator: str, header: bool, path: Path | Url, options: ReadOptions
) -> tuple[str, tuple[int, ...], tuple[str, ...]]:
    """The text without lines that have more cells than the first one; separators at the end of lines are cut off.

    Returns:
        The text, the positions of lines that were left out (counted from the first row of the table), and a notice.

    Raises:
        DataError: there are such lines, and they are not to be left out.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    rows = _cells(lines, separator)
    if len(rows) != len(lines):
        raise DataError(f"{path}: a line has more cells than the first one, and quoted cells hold line breaks")
    width = len(rows[0])
    kept = [row[:width] if not any(row[width:]) else row for row in rows]
    long = [n for n, row in enumerate(kept) if len(row) > width]
    shown = ", ".join(str(n + 1) for n in long[:SHOWN]) + (", ..." if len(long) > SHOWN else "")
    found = f"{path}: {len(long)} lines have more than the {width} cells of the first one (lines {shown})"
    if long and options.bad_rows != "skip":
        raise DataError(f"{found}. Correct them, or pass {ask_for('bad_rows', 'skip')}")
    out = io.StringIO()
    if separator in (";", ","):
        csv.writer(out, delimiter=separator, lineterminator="\n").writerows(r for r in kept if len(r) == width)
    else:
        out.writelines(separator.join(row) + "\n" for row in kept if len(row) == width)
    notices = (f"{found}: left out",) if long else ()
    return out.getvalue(), tuple(n - header for n in long), notices


def line_numbers(rows: int, left_out: Sequence[int], first: int) -> NDArray[np.int64] | None:
    """(rows,) number of each row as an editor shows it; None: they follow each other."""
    if not left_out:
        return None
    return np.delete(np.arange(rows + len(left_out)), np.asarray(left_out)) + first
