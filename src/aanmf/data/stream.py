"""Ratings that do not fit in memory: read file by file into one file of 12 bytes per rating.

A prepared folder holds `ratings.bin` (`aanmf.data.rating_file`), the ids of users and items in the order of their
positions, the context of the ratings, and a manifest (`aanmf.storage`). It is used again as long as the files and the
way to read them stay the same. In memory are the ids, the tables of users and items, the context (four bytes per rating
and label, eight per number or time), and one piece of a file (a text file whole, Parquet in pieces).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from aanmf.data.attribute_tables import read_entities, stated_uses
from aanmf.data.columns import Roles, find_columns
from aanmf.data.context import ContextTable
from aanmf.data.dataset import RatingDataset
from aanmf.data.entities import EntityTable
from aanmf.data.file_names import Source, Sources
from aanmf.data.files import SHOWN
from aanmf.data.options import ReadOptions
from aanmf.data.rating_file import RECORD, RatingFile
from aanmf.data.rating_rows import RatingRows, context_columns, opinions_of, readers
from aanmf.data.report import notices_of, warn_of
from aanmf.data.scratch import MEMORY, Scratch, blocks_of
from aanmf.data.shard_ids import IdForms
from aanmf.data.shards import HEAD, Shard, find_shards, first_rows, stamp_there
from aanmf.data.stream_context import ContextOfPieces, stored_context
from aanmf.data.tables import Table, paths_of
from aanmf.errors import DataError, ModelFolderError
from aanmf.locks import locked
from aanmf.manifest import files_of, read_manifest
from aanmf.storage import new_files

MADE_BY = ("user", "item", "rating", "time", "time_format", "separator", "encoding", "missing", "bad_rows", "context")
"""Options that change what is prepared."""
RATINGS = "ratings.bin"


@dataclass(frozen=True)
class StreamedDataset:
    """Ratings of items by users on disk, with the attributes of both: what `RatingDataset` is in memory.

    Attributes:
        users, items: their tables; users and items without a rating may be among them.
        file: the ratings, with positions in `users` and `items`.
        scale: lowest and highest possible rating if stated, else None (the range of the ratings is used).
        name: for messages and reports.
        notices: columns and rows of the ratings that were treated specially on reading: one sentence each.
        context, time: as in `RatingDataset`; there are times only where they are context.
        has_ratings: as in `RatingDataset`; every row has a rating here.
    """

    users: EntityTable
    items: EntityTable
    file: RatingFile
    scale: tuple[float, float] | None = None
    name: str = "ratings"
    notices: tuple[str, ...] = ()
    context: ContextTable = field(default_factory=ContextTable)
    time: NDArray[np.int64] | None = None
    has_ratings: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.file)

    def __repr__(self) -> str:
        return f"StreamedDataset({self.name}: {len(self)} ratings, {len(self.users)} users, {len(self.items)} items)"

    @property
    def fingerprint(self) -> str:
        """Changes with any rating, its order, its user, item or context."""
        own = self.file.fingerprint
        return f"{own}-{self.context.fingerprint(self.time)}" if self.context.names else own

    def with_context(self, names: Sequence[str]) -> StreamedDataset:
        """See `RatingDataset.with_context`."""
        context = self.context.select(names, self.context.time)
        return replace(self, context=context, time=None if context.time is None else self.time)

    def in_memory(self) -> RatingDataset:
        """The same ratings in memory, for models that need all of them at a time.

        Raises:
            DataError: a user rated an item twice; `RatingDataset.read` has ways to deal with that.
        """
        return self._at_once(MEMORY)

    def on_disk(self) -> RatingDataset:
        """The same with all arrays in files of the folder, also those of a training by a model that can do that.

        Raises:
            DataError: as for `in_memory`; or the disk is full.
        """
        return self._at_once(Scratch(self.file.path.parent))

    def _at_once(self, scratch: Scratch) -> RatingDataset:
        n = len(self)
        user, item, pairs = (scratch.empty(n, dtype=torch.int64).numpy() for _ in range(3))
        rating = scratch.empty(n).numpy()
        for start, rows in self.file.blocks():
            part = slice(start, start + len(rows))
            user[part], item[part], rating[part] = rows["user"], rows["item"], rows["rating"]
            pairs[part] = user[part] * len(self.items) + item[part]
        pairs.sort()
        ends = (pairs[block.start : block.stop + 1] for block in blocks_of(n))
        again = np.concatenate([pairs[:0], *(each[1:][each[1:] == each[:-1]] for each in ends)])
        if again.size:
            at, of = divmod(int(again[0]), len(self.items))
            raise DataError(
                f"{self.name}: {len(again)} ratings repeat a (user, item) pair; the first: user "
                f"{self.users.ids.ids[at]!r}, item {self.items.ids.ids[of]!r}. Remove them from the files, or read "
                "these with RatingDataset.read(..., repeated='last-row')"
            )
        return RatingDataset(
            self.users,
            self.items,
            user,
            item,
            rating,
            self.time,
            self.scale,
            name=self.name,
            notices=self.notices,
            context=self.context,
            scratch=scratch,
        )

    def rated(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of the users and of the items that have a rating."""
        users, items = np.zeros(len(self.users), bool), np.zeros(len(self.items), bool)
        for _, rows in self.file.blocks():
            users[rows["user"]], items[rows["item"]] = True, True
        return np.flatnonzero(users), np.flatnonzero(items)

    def range(self) -> tuple[float, float]:
        """Lowest and highest rating."""
        ends = [(rows["rating"].min(), rows["rating"].max()) for _, rows in self.file.blocks()]
        return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def stream_dataset(
    source: Source,
    folder: Source,
    *,
    users: Sources = None,
    items: Sources = None,
    options: ReadOptions | None = None,
    **keywords: object,
) -> StreamedDataset:
    """Prepares ratings in many files for training from disk.

    Columns and cells are read as `RatingDataset.read` does, with the same notices. There are five differences. Times
    are kept only where they are context. The kinds of context columns are those of the first million rows. Equal
    ratings throughout are an error. Columns of the ratings cannot be attributes of users or items: give them in tables
    of their own. A pair that is rated twice counts twice, since finding such pairs takes all ratings at once.

    Args:
        source: a pattern such as `ratings/*.parquet`, or a folder.
        folder: where the prepared ratings and the ids go; they are used again as long as the files are the same.
        users, items: as in `RatingDataset.read`.
        options, keywords: as in `RatingDataset.read`. All files have the columns that are used, and write ids alike.

    Raises:
        DataError: naming file, row and column, and what to do; or `repeated` is given.
        SchemaError: a cell of the context does not fit its kind.
        ConfigError: an unknown option.
    """
    asked, folder, files = ReadOptions.of(options, keywords), Path(folder), find_shards(source)
    if asked.repeated is not None:
        raise DataError(
            f"repeated={asked.repeated!r} (--repeated {asked.repeated}): streamed ratings are not searched for "
            "repeated pairs; leave the option out to count every rating, or remove repeated pairs from the files first"
        )
    paths = {"users": paths_of(users), "items": paths_of(items)}
    stamps = [each.stamp for each in files] + [stamp_there(path) for path in (*paths["users"], *paths["items"])]
    made_of = {"files": stamps, **{name: getattr(asked, name) for name in MADE_BY}}
    tables = {side: [Table.read(path, asked) for path in given] for side, given in paths.items()}
    first = first_rows(files, asked)
    schema = stated_uses({**tables, "ratings": [first]}, asked)
    made_of["declared"] = [each.model_dump(mode="json") for each in schema.ratings]
    context = context_columns({**tables, "ratings": [first]}, schema, asked)
    roles = _roles(first, asked, context, schema.ignored("ratings"))

    def entities(side: str, rated: pl.Series) -> EntityTable:
        return read_entities(side, tables[side], rated, roles.names[side[:-1]], schema, asked)

    with locked(folder, wait=True):
        prepared = _prepared(folder, made_of)
        if prepared is None:
            none = pl.Series("id", [], dtype=pl.String)  # ids of the tables come first, as if read into memory
            ids = {side: _Ids(entities(side, none).ids.ids) for side in paths}
            prepared = _prepare(folder, files, first, roles, ids, ContextOfPieces(context, schema, asked), made_of)
        stored, notices = prepared
        found = {side: entities(side, pl.read_parquet(stored[f"{side}.parquet"])["id"]) for side in paths}
        file, name = RatingFile(stored[RATINGS]), asked.name or str(source)
        table, time = stored_context(stored)
    notices = (*roles.notices, *notices)
    data = StreamedDataset(found["users"], found["items"], file, asked.scale, name, notices, table, time)
    warn_of(name, notices_of(data.notices, data.users, data.items))
    return data


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
    files: Sequence[Shard],
    first: Table,
    roles: Roles,
    ids: dict[str, _Ids],
    context: ContextOfPieces,
    made_of: Mapping[str, object],
) -> tuple[dict[str, Path], list[str]]:
    """The one pass over the shards; returns the files of what is prepared, and the notices of its rows."""
    told, low, high, options, names = list[str](), np.inf, -np.inf, context.options, roles.names
    forms, columns = IdForms(), list(dict.fromkeys((*names.values(), *context.names)))
    with new_files(folder) as new:
        with new.open(RATINGS) as out:
            for file in files:
                with file.unchanged():
                    for number, whole in enumerate(file.pieces(first, columns, options)):
                        if number == 0:
                            forms.meet(whole.slice(0, HEAD), (names["user"], names["item"]))
                            told += _opinions(whole, names["rating"], first)
                        rows, cells = _records(whole, names, ids, options)
                        told += (*cells.table.notices, *context.add(cells))
                        low, high = min(low, rows["rating"].min()), max(high, rows["rating"].max())
                        out.write(rows.data)
        if low == high:
            raise DataError(
                f"{files[0].path} and {len(files) - 1} others: all ratings are {low:g}: each row is a choice without a "
                "rating, and choices cannot be streamed. Give them as one file, which is read into memory"
            )
        for side, known in ids.items():
            known.table.select("id").write_parquet(table := io.BytesIO())
            new.write(f"{side}.parquet", table.getvalue())
        context.write(new)
        if len(told) > SHOWN:
            told = [*told[:SHOWN], f"{len(told) - SHOWN} more notices of this kind"]
        new.commit({"made of": made_of, "notices": told})
    return files_of(folder, read_manifest(folder)), told


def _records(
    whole: Table, names: Mapping[str, str], ids: Mapping[str, _Ids], options: ReadOptions
) -> tuple[NDArray[np.void], RatingRows]:
    """The ratings of a piece as they are stored, and as they were read."""
    piece, columns = whole.read_columns(readers(names, options), options)
    user, item, rating = (columns[names[role]] for role in ("user", "item", "rating"))
    rows = np.empty(piece.frame.height, RECORD)
    rows["user"], rows["item"] = ids["users"].positions(user), ids["items"].positions(item)
    rows["rating"] = rating
    time = columns[names["time"]].to_numpy() if "time" in names else None
    return rows, RatingRows(piece, names, user, item, rating.to_numpy(), time, has_ratings=True)


def _opinions(piece: Table, rating: str, first: Table) -> list[str]:
    """A notice where the ratings of a shard are words, and those of the first one are not, or are other words."""
    found = opinions_of(piece.frame[rating])
    return [f"{piece.where}: column {rating!r}: {found}"] if found and found != opinions_of(first.frame[rating]) else []


def _roles(head: Table, options: ReadOptions, context: Sequence[str], ignored: Set[str] = frozenset()) -> Roles:
    """The columns of one file of ratings, by its first rows; times are kept as context only."""
    names, notices = find_columns(head, options, {*context, *ignored})
    if "rating" not in names:
        raise DataError(
            f"{head.where}: cannot tell which column holds the rating, and choices without ratings cannot be streamed. "
            f"Available: {', '.join(head.frame.columns)}. Name it (rating=..., --rating-column)"
        )
    if names.get("time") not in (None, *context):
        notices = (*notices, f"column {names.pop('time')!r} is not used: streamed ratings have no times")
    if opinions := opinions_of(head.frame[names["rating"]]):
        notices = (*notices, f"column {names['rating']!r}: {opinions}")
    return Roles(names, notices)


def _prepared(folder: Path, made_of: Mapping[str, object]) -> tuple[dict[str, Path], list[str]] | None:
    """The files of what is prepared in a folder, and the notices of its rows; None: nothing, or of other ratings."""
    try:
        manifest = read_manifest(folder)
    except ModelFolderError:
        return None
    stored, same = files_of(folder, manifest), manifest.get("made of") == json.loads(json.dumps(made_of))
    if not same or not all(path.is_file() for path in stored.values()):
        return None
    return stored, [str(each) for each in cast("list[str]", manifest["notices"])]
