"""Shards: several files that hold one table of ratings, of which a piece at a time is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from aanmf.data.files import BROKEN, PARQUET, Source, is_table
from aanmf.data.options import ReadOptions
from aanmf.data.parquet_pages import check_parquet
from aanmf.data.tables import Table
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

    path: Path
    stamp: list[object]

    @classmethod
    def of(cls, path: Path) -> Shard:
        """The file as it is now; a `DataError` if it is not there."""
        return cls(path, stamp_of(path))

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
        first = Table.of(pl.DataFrame(schema=frame.collect_schema()), str(self.path)).first
        for start in range(0, n, PIECE):
            rows = _read(self.path, frame.select(columns).slice(start, PIECE))
            if rows.height != min(PIECE, n - start):
                raise DataError(f"{self.path}: has fewer than its {n} rows: it is damaged. Write it again. {STAYS}")
            yield replace(Table.of(rows, str(self.path)), first=start + first)

    def _require(self, available: Sequence[str], columns: Sequence[str], like: Table) -> None:
        if lacking := [name for name in columns if name not in available]:
            raise DataError(
                f"{self.path}: no column {lacking[0]!r}, which {like.where} has. Available: {', '.join(available)}. "
                "Columns must have the same names in all files: rename it, or put the file elsewhere"
            )

    def _check(self) -> None:
        if not self.path.is_file():
            raise DataError(
                f"{self.path}: was removed while the ratings were read. Give the command again when no other program "
                f"writes the files. {STAYS}"
            )
        if (now := stamp_of(self.path)) != self.stamp:
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
    path = Path(source)
    if path.is_dir():
        found = [each for each in path.iterdir() if is_table(each)]
    else:
        found = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if not found:
        raise DataError(f"{source}: no file of ratings there, such as part-1.parquet, .csv, .csv.gz or .jsonl")
    return [Shard.of(each) for each in sorted(found)]


def is_sharded(source: str) -> bool:
    """Whether a source names several files: a pattern or a folder."""
    if "://" in source:  # a database
        return False
    return any(sign in source for sign in "*?[") or Path(source).is_dir()


def first_rows(files: Sequence[Shard], options: ReadOptions) -> Table:
    """The first rows of the first file that has some."""
    for file in files:
        with file.unchanged():
            table = file.head(options)
        if table.frame.height:
            return table
    raise DataError(f"{files[0].path}: the table has no rows, nor has any other of the {len(files)} files")


def stamp_of(path: Path) -> list[object]:
    """What changes when a file does: path, size, and time of the last change in nanoseconds."""
    try:
        stat = path.stat()
    except OSError:
        raise DataError(f"{path}: no such file") from None
    if not path.is_file():
        raise DataError(f"{path}: is not a file")
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def _scanned(path: Path) -> pl.LazyFrame:
    try:
        check_parquet(path)
        table = pl.scan_parquet(path)
        table.collect_schema()
    except (*BROKEN, OSError) as error:
        raise _unreadable(path, error) from None
    return table


def _read(path: Path, frame: pl.LazyFrame) -> pl.DataFrame:
    try:
        return frame.collect()
    except (*BROKEN, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: BaseException) -> DataError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return DataError(f"{path}: cannot be read as Parquet ({reason}). Write it again. {STAYS}")


def _named(table: Table, like: Table) -> Table:
    """A table without header has the columns of the first shard, if it has as many: `split` leaves one header."""
    if table.has_header or not like.has_header or table.frame.width != like.frame.width:
        return table
    notice = f"{table.where}: has no header: its columns are taken to be those of {like.where}"
    frame = table.frame.rename(dict(zip(table.frame.columns, like.frame.columns, strict=True)))
    return replace(table, frame=frame, notices=(*table.notices, notice))
