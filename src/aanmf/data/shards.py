"""Shards: several files that hold one table of ratings, of which a piece at a time is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from aanmf.data.file_names import PARQUET, Source, is_table
from aanmf.data.files import BROKEN
from aanmf.data.options import ReadOptions
from aanmf.data.parquet_pages import check_parquet
from aanmf.data.tables import Table
from aanmf.data.urls import Url, is_database, located, stamp_of, unreachable
from aanmf.errors import DataError

PIECE = 1_000_000
"""Rows of a Parquet shard that are read at a time."""
HEAD = 10_000
"""Rows by which the columns of a file are found."""
STAYS = "What was prepared earlier stays as it is"


@dataclass(frozen=True)
class Shard:
    """A file of ratings.

    Attributes:
        path: where it is.
        stamp: what changes when the file does, as it was when the files were listed.
    """

    path: Path | Url
    stamp: list[object]

    @classmethod
    def of(cls, path: Path | Url) -> Shard:
        """The file as it is now; a `DataError` if it is not there."""
        return cls(path, stamp_there(path))

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Within the block the file is read.

        Raises:
            DataError: it has changed since it was listed, which also explains faults that were found in it.
        """
        self._check()
        try:
            yield
        except DataError:
            self._check()
            raise
        self._check()

    def head(self, options: ReadOptions) -> Table:
        """The first rows."""
        if self.path.suffix in PARQUET:
            return Table.of(_read(self.path, _scanned(self.path).head(HEAD)), str(self.path))
        return Table.read(self.path, options).slice(0, HEAD)

    def pieces(self, like: Table, columns: Sequence[str], options: ReadOptions) -> Iterator[Table]:
        """The rows: Parquet is read in pieces, anything else whole.

        Args:
            like: the first rows of the first shard; they have the columns.
            columns: names of those that are read.
            options: of reading.

        Raises:
            DataError: the file cannot be read, or lacks a column.
        """
        if self.path.suffix not in PARQUET:
            whole = _named(Table.read(self.path, options), like)
            for start in range(0, whole.frame.height, PIECE):
                if start == 0:
                    self._require(whole.frame.columns, columns, like)
                yield replace(whole.slice(start, PIECE), notices=() if start else whole.notices)
            return
        frame = _scanned(self.path)
        n = int(_read(self.path, frame.select(pl.len())).item())
        if n:
            self._require(frame.collect_schema().names(), columns, like)
        at = first = Table.of(pl.DataFrame(schema=frame.collect_schema()), str(self.path)).first
        for rows in _batches(self.path, frame.select(columns)):
            yield replace(Table.of(rows, str(self.path)), first=at)
            at += rows.height
        if at - first != n:
            raise DataError(f"{self.path}: holds {at - first} of its {n} rows: it is damaged. Write it again. {STAYS}")

    def _require(self, available: Sequence[str], columns: Sequence[str], like: Table) -> None:
        if lacking := [name for name in columns if name not in available]:
            raise DataError(
                f"{self.path}: no column {lacking[0]!r}, which {like.where} has. Available: {', '.join(available)}. "
                "Columns must have the same names in all files: rename it, or put the file elsewhere"
            )

    def _check(self) -> None:
        now = stamp_of(self.path)
        if now is None:
            raise DataError(
                f"{self.path}: was removed while the ratings were read. Give the command again when no other program "
                f"writes the files. {STAYS}"
            )
        if now != self.stamp:
            sizes = f"{self.stamp[1]:,} bytes, now {now[1]:,}" if now[1] != self.stamp[1] else "of the same size"
            raise DataError(
                f"{self.path}: has changed while the ratings were read (it was {sizes}). Give the command again when "
                f"no other program writes the files. {STAYS}"
            )


def find_shards(source: Source) -> list[Shard]:
    """The files of a folder, or those that match a pattern, in order of their names.

    Raises:
        DataError: no file is found.
    """
    path = located(source)
    if isinstance(path, Url):
        found = [Shard(url, [str(url), *stamp]) for url, stamp in path.matches(is_table)]
    elif path.is_dir():
        found = [Shard.of(each) for each in sorted(path.iterdir()) if is_table(each)]
    else:
        found = [Shard.of(each) for each in sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))]
    if not found:
        raise DataError(f"{path}: no file of ratings there, such as part-1.parquet, .csv, .csv.gz or .jsonl")
    return found


def is_sharded(source: str) -> bool:
    """Whether a source names several files: a pattern or a folder."""
    if is_database(source):
        return False
    path = located(source)
    return path.is_several if isinstance(path, Url) else any(sign in str(path) for sign in "*?[") or path.is_dir()


def first_rows(files: Sequence[Shard], options: ReadOptions) -> Table:
    """The first rows of the first file that has some."""
    for file in files:
        with file.unchanged():
            table = file.head(options)
        if table.frame.height:
            return table
    raise DataError(f"{files[0].path}: the table has no rows, nor has any other of the {len(files)} files")


def stamp_there(path: Path | Url) -> list[object]:
    """See `stamp_of`; a `DataError` if it is not there."""
    stamp = stamp_of(path)
    if stamp is None:
        raise DataError(f"{path}: no such file")
    return stamp


def _scanned(path: Path | Url) -> pl.LazyFrame:
    try:
        if isinstance(path, Path):
            check_parquet(path)
        table = pl.scan_parquet(path if isinstance(path, Path) else path.text)
        table.collect_schema()
    except (*BROKEN, OSError) as error:
        raise _unreadable(path, error) from None
    return table


def _read(path: Path | Url, frame: pl.LazyFrame) -> pl.DataFrame:
    try:
        return frame.collect()
    except (*BROKEN, OSError) as error:
        raise _unreadable(path, error) from None


def _batches(path: Path | Url, frame: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """The rows in order, some at a time: every part of the file is read once (docs/decisions/0011-large-data.md)."""
    try:
        yield from frame.collect_batches(chunk_size=PIECE, maintain_order=True, engine="streaming")
    except (*BROKEN, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path | Url, error: BaseException) -> DataError:
    if isinstance(path, Url):
        return unreachable(path, error)
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return DataError(f"{path}: cannot be read as Parquet ({reason}). Write it again. {STAYS}")


def _named(table: Table, like: Table) -> Table:
    """A table without header has the columns of the first shard, if it has as many: `split` leaves one header."""
    if table.has_header or not like.has_header or table.frame.width != like.frame.width:
        return table
    notice = f"{table.where}: has no header: its columns are taken to be those of {like.where}"
    frame = table.frame.rename(dict(zip(table.frame.columns, like.frame.columns, strict=True)))
    return replace(table, frame=frame, notices=(*table.notices, notice))
