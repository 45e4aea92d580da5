"""Ratings that do not fit in memory: read shard by shard, ids mapped once, kept in a file of 12 bytes per rating.

A prepared folder holds `ratings.bin` (records of int32 user, int32 item, float32 rating), the ids of users and items in
the order of their positions, and a manifest. It is made beside its place and renamed into it, and used again as long as
the shards and the way to read them stay the same. Memory: the ids, the tables of users and items, and one piece of a
shard (a text shard is read whole, Parquet in pieces).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.infer import MISSING
from aanmf.data.read import clean_ids, entities, finite, rating_columns
from aanmf.data.schema import Schema
from aanmf.data.tables import read_table
from aanmf.errors import DataError

if TYPE_CHECKING:
    from os import PathLike

    from aanmf.data.dataset import EntityTable

    Source = str | PathLike[str]

RECORD = np.dtype([("user", "<i4"), ("item", "<i4"), ("rating", "<f4")])
PIECE = 1_000_000
"""Rows of a Parquet shard that are read at a time."""
SUFFIXES = (".parquet", ".pq", ".csv", ".tsv", ".txt", ".dat")
RATINGS, MANIFEST = "ratings.bin", "prepared.json"


class RatingFile:
    """Ratings on disk, read in blocks: only what is asked for is in memory."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._handle = os.open(self.path, os.O_RDONLY)
        self.n = os.fstat(self._handle).st_size // RECORD.itemsize

    def __len__(self) -> int:
        return self.n

    def __del__(self) -> None:
        if handle := getattr(self, "_handle", None):
            os.close(handle)

    def read(self, start: int, stop: int) -> NDArray[np.void]:
        """Rows start to stop as records."""
        rows = self.empty(min(stop, self.n) - start)
        self.read_into(rows, start)
        return rows

    @staticmethod
    def empty(n: int) -> NDArray[np.void]:
        """Room for n records."""
        return np.empty(n, RECORD)

    def read_into(self, rows: NDArray[np.void], start: int) -> None:
        """Fills `rows` with those from `start` on."""
        waiting, at = rows.view(np.uint8).data, start * RECORD.itemsize
        while len(waiting):
            got = os.preadv(self._handle, [waiting], at)
            if not got:
                raise DataError(f"{self.path}: ended early; prepare the ratings again (remove the folder)")
            waiting, at = waiting[got:], at + got

    def blocks(self, size: int = PIECE) -> Iterator[tuple[int, NDArray[np.void]]]:
        """All rows in order: (number of the first, records)."""
        for start in range(0, self.n, size):
            yield start, self.read(start, start + size)

    def mapped(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """Users, items and ratings as views of the file, which the system reads where they are looked at."""
        rows = np.memmap(self.path, RECORD, mode="c", shape=(self.n,))
        return rows["user"], rows["item"], rows["rating"]

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any rating and with their order."""
        digest = hashlib.sha256()
        for _, rows in self.blocks():
            digest.update(rows.data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class StreamedDataset:
    """Ratings of items by users on disk, with what is known of both: what `RatingDataset` is in memory.

    Attributes:
        users, items: the tables; a row of them need not have a rating.
        file: the ratings, with positions in `users` and `items`.
        scale: lowest and highest possible rating if stated, else None (the range of the ratings is used).
        name: for messages and reports.
    """

    users: EntityTable
    items: EntityTable
    file: RatingFile
    scale: tuple[float, float] | None = None
    name: str = "ratings"

    def __len__(self) -> int:
        return len(self.file)

    def __repr__(self) -> str:
        return f"StreamedDataset({self.name}: {len(self)} ratings, {len(self.users)} users, {len(self.items)} items)"

    @property
    def fingerprint(self) -> str:
        """Changes with any rating, its order, or its user and item."""
        return self.file.fingerprint

    def rated(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of the users and of the items that have a rating."""
        users, items = np.zeros(len(self.users), bool), np.zeros(len(self.items), bool)
        for _, rows in self.file.blocks():
            users[rows["user"]], items[rows["item"]] = True, True
        return np.flatnonzero(users), np.flatnonzero(items)

    def range(self) -> tuple[float, float]:
        """Lowest and highest rating there is."""
        ends = [(rows["rating"].min(), rows["rating"].max()) for _, rows in self.file.blocks()]
        return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def shards(source: Source) -> list[Path]:
    """The files of a folder, or those that match a pattern, in order of their names.

    Raises:
        DataError: there is none.
    """
    path = Path(source)
    if path.is_dir():
        found = [each for each in path.iterdir() if each.suffix in SUFFIXES]
    else:
        found = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if not found:
        raise DataError(f"{source}: no file of ratings there ({', '.join(SUFFIXES)})")
    return sorted(found)


def is_sharded(source: str) -> bool:
    """Whether a source names several files: a pattern or a folder."""
    if "://" in source:  # a database
        return False
    return any(sign in source for sign in "*?[") or Path(source).is_dir()


def stream_dataset(
    source: Source,
    folder: Source,
    *,
    users: Source | Sequence[Source] | None = None,
    items: Source | Sequence[Source] | None = None,
    schema: Schema | None = None,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    separator: str | None = None,
    unlisted: str = "unknown",
    missing: Sequence[str] = MISSING,
    scale: tuple[float, float] | None = None,
    name: str | None = None,
) -> StreamedDataset:
    """Prepares ratings that lie in many files for training from disk.

    A pair that is rated twice counts twice: to find that out takes all ratings at once.

    Args:
        source: a pattern such as `ratings/*.parquet`, or a folder.
        folder: where the prepared ratings and the ids go; what was prepared there before is used if it is the same.
        users, items, schema, unlisted, missing, scale: as in `read_dataset`.
        user, item, rating: column names; found in each shard if None.
        separator: of text shards; found out if None.
        name: for messages and reports.

    Raises:
        DataError: naming shard, row and column, and what to do.
    """
    folder, files = Path(folder), shards(source)
    tables = {"users": _paths(users), "items": _paths(items)}
    given = {"user": user, "item": item, "rating": rating}
    stamps = [_stamp(path) for path in (*files, *tables["users"], *tables["items"])]
    made_of = {"files": stamps, "columns": given, "separator": separator}
    keys = _Shard.open(files[0], given, separator).columns

    def table(side: str, rated: pl.Series) -> EntityTable:
        frames = [read_table(path, separator) for path in tables[side]]
        where = ", ".join(map(str, tables[side]))
        return entities(side, frames, rated, keys[side[:-1]], schema or Schema(), tuple(missing), unlisted, where)

    if not _is_prepared(folder, made_of):
        none = pl.Series("id", [], dtype=pl.String)  # ids of the tables come first, as if read into memory
        _prepare(folder, files, {side: _Ids(table(side, none).ids.ids) for side in tables}, given, separator, made_of)
    found = {side: table(side, pl.read_parquet(folder / f"{side}.parquet")["id"]) for side in tables}
    return StreamedDataset(found["users"], found["items"], RatingFile(folder / RATINGS), scale, name or str(source))


class _Ids:
    """Positions of ids, in the order in which they are met."""

    def __init__(self, known: Sequence[str]) -> None:
        self.table = self._numbered(pl.Series("id", known, dtype=pl.String), 0)

    def positions(self, ids: pl.Series) -> NDArray[np.int32]:
        """(n,) positions; ids not met before get the next ones."""
        asked = ids.alias("id").to_frame()
        new = asked.unique(maintain_order=True).join(self.table, on="id", how="anti", maintain_order="left")["id"]
        if len(new):
            self.table = pl.concat([self.table, self._numbered(new, self.table.height)])
        return asked.join(self.table, on="id", how="left", maintain_order="left")["position"].to_numpy()

    @staticmethod
    def _numbered(ids: pl.Series, first: int) -> pl.DataFrame:
        return pl.DataFrame({"id": ids, "position": pl.arange(first, first + len(ids), dtype=pl.Int32, eager=True)})


def _prepare(
    folder: Path,
    files: list[Path],
    ids: dict[str, _Ids],
    given: dict[str, str | None],
    separator: str | None,
    made_of: dict[str, object],
) -> None:
    """The one pass over the shards."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with (new / RATINGS).open("wb") as out:
            for path in files:
                shard, where = _Shard.open(path, given, separator), str(path)
                for first, piece in shard.pieces():
                    user, item, rating = (piece[shard.columns[role]] for role in given)
                    rows = np.empty(piece.height, RECORD)
                    rows["user"] = ids["users"].positions(clean_ids(user, where, first))
                    rows["item"] = ids["items"].positions(clean_ids(item, where, first))
                    rows["rating"] = finite(rating, where, first).to_numpy()
                    out.write(rows.data)
            out.flush()
            os.fsync(out.fileno())
        for side, known in ids.items():
            known.table.select("id").write_parquet(new / f"{side}.parquet")
        (new / MANIFEST).write_text(json.dumps({"made of": made_of}, indent=1), encoding="utf-8")
        new.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@dataclass(frozen=True)
class _Shard:
    """One file of ratings, with the names of its columns by role."""

    path: Path
    table: pl.LazyFrame
    columns: dict[str, str]
    height: int

    @classmethod
    def open(cls, path: Path, given: dict[str, str | None], separator: str | None) -> _Shard:
        if path.suffix in (".parquet", ".pq"):
            try:
                table = pl.scan_parquet(path)
                names, height = table.collect_schema().names(), int(table.select(pl.len()).collect().item())
            except (pl.exceptions.PolarsError, OSError) as error:
                reason = str(error).strip().splitlines()[0]
                raise DataError(f"{path}: cannot be read as Parquet ({reason})") from None
        else:
            frame = read_table(path, separator)
            table, names, height = frame.lazy(), frame.columns, frame.height
        header = pl.DataFrame(schema=dict.fromkeys(names, pl.String))
        return cls(path, table, rating_columns(header, str(path), **given, time=None), height)

    def pieces(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """The columns of users, items and ratings, and the number of the first row as an editor shows it."""
        wanted = [self.columns[role] for role in ("user", "item", "rating")]
        first = 1 if self.columns["user"].startswith("column_") else 2
        for start in range(0, self.height, PIECE):
            yield start + first, self.table.slice(start, PIECE).select(wanted).collect()


def _stamp(path: Path) -> list[object]:
    """What changes when a file does."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def _is_prepared(folder: Path, made_of: dict[str, object]) -> bool:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["made of"] == made_of
    except (OSError, ValueError, KeyError):
        return False


def _paths(given: Source | Sequence[Source] | None) -> list[Path]:
    if given is None:
        return []
    return [Path(given)] if isinstance(given, str | os.PathLike) else [Path(each) for each in given]
