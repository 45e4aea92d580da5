"""`RatingDataset`: ratings, users and items, as arrays and columns."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.attribute_tables import read_entities, stated_uses
from aanmf.data.context import TIME, ContextTable
from aanmf.data.entities import EntityTable, Rows, Vocabulary
from aanmf.data.file_names import Source, Sources, stem
from aanmf.data.files import SHOWN
from aanmf.data.options import ReadOptions, ask_for
from aanmf.data.rating_rows import (
    columns_of_ratings,
    context_columns,
    read_context,
    read_ratings,
    with_columns_of_ratings,
)
from aanmf.data.report import BINS, ReadingReport, attributes_of, date_of, notices_of, warn_of
from aanmf.data.scratch import MEMORY, Scratch
from aanmf.data.tables import Table, as_frame, paths_of
from aanmf.errors import DataError

__all__ = ["ContextTable", "EntityTable", "RatingDataset", "Rows", "Vocabulary"]


@dataclass(frozen=True)
class RatingDataset:
    """Ratings of items by users, with the attributes of both.

    Attributes:
        users, items: their tables; users and items without a rating may be among them.
        user, item: (n,) positions in `users` and `items`.
        rating: (n,) float32.
        time: (n,) int64 seconds, or None.
        scale: lowest and highest possible rating if stated, else None (the range of the training ratings is used).
        folds: test rows of the splits that a data set ships with (`u1` ... `u5` of MovieLens 100K), by name.
        name: for messages and reports.
        has_ratings: False where a row is a choice (a click, a purchase) without a rating; `rating` then holds ones.
        columns: names of the columns of ratings by role (`user`, `item`, `rating`, `time`), as they were read.
        notices: columns and rows of the ratings that were treated specially on reading: one sentence each.
        context: what belongs to single ratings, a row per rating; empty where nothing was named as context.
        scratch: where a training on all of them keeps what it computes per rating, if its model can.

    >>> import polars as pl
    >>> ratings = pl.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"], "rating": [5, 3, 4]})
    >>> items = pl.DataFrame({"item": ["x", "y"], "genre": ["crime", "travel"]})
    >>> data = RatingDataset.from_frames(ratings, items=items)
    >>> data
    RatingDataset(ratings: 3 ratings, 2 users, 2 items)
    >>> [attribute.name for attribute in data.items.attributes]
    ['genre']
    """

    users: EntityTable
    items: EntityTable
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    rating: NDArray[np.float32]
    time: NDArray[np.int64] | None = None
    scale: tuple[float, float] | None = None
    folds: Mapping[str, Rows] = field(default_factory=dict)
    name: str = "ratings"
    has_ratings: bool = True
    columns: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    context: ContextTable = field(default_factory=ContextTable)
    scratch: Scratch = MEMORY

    def __post_init__(self) -> None:
        assert self.user.shape == self.item.shape == self.rating.shape
        assert not self.context.attributes or len(self.context) == len(self.user)
        assert self.time is None or self.time.shape == self.user.shape

    def __len__(self) -> int:
        return len(self.rating)

    def __repr__(self) -> str:
        return f"RatingDataset({self.name}: {len(self)} ratings, {len(self.users)} users, {len(self.items)} items)"

    def _repr_html_(self) -> str:
        return self.report()._repr_html_()

    @classmethod
    def read(
        cls,
        ratings: Source,
        *,
        users: Sources = None,
        items: Sources = None,
        options: ReadOptions | None = None,
        **keywords: object,
    ) -> RatingDataset:
        """Reads ratings, and attributes of users and items, from files.

        What was guessed, left out or looks wrong is in one `DataWarning`; `report` shows everything.

        Args:
            ratings: a file with a row per rating: CSV, TSV (any separator, also `::`), JSON lines, Parquet, Arrow or
                Excel, also compressed. A table of users and items alone is one of choices (`has_ratings`), and so is
                one in which all ratings are equal; repeated rows in it count once.
            users, items: a file with a row per user (item), or several files. Further ones may have several rows per
                user, such as one for each cuisine. Their columns become multi-valued attributes.
            options: how to read the tables.
            **keywords: options by name, such as `user="uid"` or `repeated="last"`; see `ReadOptions`.

        Raises:
            DataError: naming file, row and column, and what to do.
            ConfigError: an unknown option.
        """
        asked = ReadOptions.of(options, keywords)
        paths = {"ratings": [ratings], "users": paths_of(users), "items": paths_of(items)}
        tables = {side: [Table.read(path, asked) for path in given] for side, given in paths.items()}
        return warned(cls.of_tables(tables, asked, stem(ratings)))

    @classmethod
    def from_frames(
        cls,
        ratings: object,
        users: object | Sequence[object] | None = None,
        items: object | Sequence[object] | None = None,
        *,
        options: ReadOptions | None = None,
        **keywords: object,
    ) -> RatingDataset:
        """Builds a data set from polars, pandas or Arrow tables; arguments as those of `read`.

        Raises:
            DataError: naming table, row and column, and what to do.
            ConfigError: an unknown option.
        """
        frames = {"ratings": [ratings], "users": _several(users), "items": _several(items)}
        tables = {side: [Table.of(as_frame(each, side), side) for each in given] for side, given in frames.items()}
        return warned(cls.of_tables(tables, ReadOptions.of(options, keywords), "ratings"))

    @classmethod
    def of_tables(cls, tables: Mapping[str, Sequence[Table]], options: ReadOptions, name: str) -> RatingDataset:
        """The last step of all readers: finds columns, checks ids and ratings, attaches attributes.

        Args:
            tables: one table of `ratings`, and any number of `users` and `items`.
            options: how to read them.
            name: of the data set, where the options give none.
        """
        (table,) = tables["ratings"]
        schema = stated_uses(tables, options)
        of_context, moved = context_columns(tables, schema, options), columns_of_ratings(tables, schema)
        used = {*of_context, *moved["users"], *moved["items"], *schema.ignored("ratings")}
        rows = read_ratings(table, options, used)
        context, notices = read_context(rows, of_context, schema, options)
        tables = with_columns_of_ratings(tables, rows, moved)
        names, name = rows.names, options.name or name
        users = read_entities("users", tables["users"], rows.user, names["user"], schema, options)
        items = read_entities("items", tables["items"], rows.item, names["item"], schema, options)
        user, item = users.ids.index(rows.user), items.ids.index(rows.item)
        data = cls(
            users,
            items,
            user,
            item,
            rows.rating,
            rows.time,
            options.scale if rows.has_ratings else None,
            name=name,
            has_ratings=rows.has_ratings,
            columns=names,
            notices=(*rows.table.notices, *notices),
            context=context,
        )
        return _without_repeats(data, options.repeated if rows.has_ratings else "last-row", rows.table)

    def report(self) -> ReadingReport:
        """How the tables were read: what every column is used for, counts, ranges, missing and unlikely values."""
        values, counts = np.unique(self.rating, return_counts=True)
        users, items = len(np.unique(self.user)), len(np.unique(self.item))
        labels = {"user label": self.users.label_column, "item label": self.items.label_column}
        return ReadingReport(
            name=self.name,
            fingerprint=self.fingerprint,
            ratings=len(self),
            has_ratings=self.has_ratings,
            scale=self.scale or ((float(values[0]), float(values[-1])) if len(self) else (math.nan, math.nan)),
            mean=float(self.rating.mean(dtype=np.float64)) if len(self) else math.nan,
            rating_counts={f"{v:g}": int(c) for v, c in zip(values, counts, strict=True) if len(values) <= BINS},
            users=len(self.users),
            rated_users=users,
            items=len(self.items),
            rated_items=items,
            density=len(self) / max(1, users * items),
            time=None if self.time is None or not len(self) else (date_of(self.time.min()), date_of(self.time.max())),
            splits=tuple(self.folds),
            columns={**self.columns, **{role: name for role, name in labels.items() if name is not None}},
            context=tuple(self.context.names),
            attributes={
                "users": attributes_of(self.users),
                "items": attributes_of(self.items),
                **({"ratings": attributes_of(self.context)} if self.context.attributes else {}),
            },
            notices=notices_of(self.notices, self.users, self.items),
        )

    def take(self, rows: Rows) -> RatingDataset:
        """These ratings, in this order, with the same users and items."""
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            rating=self.rating[rows],
            time=None if self.time is None else self.time[rows],
            folds={},
            context=self.context.take(rows),
        )

    def without_users(self, gone: Container[str]) -> RatingDataset:
        """The same as if some users had never been there: without their rows, ratings, and notices of reading."""
        users = self.users
        kept = np.array([each not in gone for each in users.ids.ids], bool)
        rows = kept[self.user]
        place = np.cumsum(kept) - 1
        return RatingDataset(
            replace(users.filter(pl.Series(kept)), notices=()),
            replace(self.items, notices=()),
            place[self.user[rows]],
            self.item[rows],
            self.rating[rows],
            None if self.time is None else self.time[rows],
            self.scale,
            name=self.name,
            has_ratings=self.has_ratings,
            context=self.context.take(rows),
        )

    def split(self, test: float = 0.2, seed: int = 0) -> tuple[RatingDataset, RatingDataset]:
        """Splits at random into a training part and a part of `test` (a share) of the ratings.

        Raises:
            DataError: one of the parts would be empty.
        """
        train, held_out = random_split(len(self), test, seed)
        return self.take(train), self.take(held_out)

    def with_attributes(self, users: Sequence[str] | None = None, items: Sequence[str] | None = None) -> RatingDataset:
        """The same ratings with only these attributes (None: all)."""
        return replace(
            self,
            users=self.users if users is None else self.users.select(users),
            items=self.items if items is None else self.items.select(items),
        )

    def with_context(self, names: Sequence[str]) -> RatingDataset:
        """The same ratings with only this context; the name of the column of times makes them context.

        >>> from aanmf import load_movielens
        >>> load_movielens("100k").with_context(["timestamp"]).context.names  # doctest: +SKIP
        ['timestamp']

        Raises:
            DataError: no such context.
        """
        time = None if self.time is None else self.columns.get("time", TIME)
        return replace(self, context=self.context.select(names, time))

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any rating, its order, its user, item or context."""
        digest = hashlib.sha256()
        for array in (self.user, self.item, self.rating):
            digest.update(np.ascontiguousarray(array).tobytes())
        if self.context.names:
            digest.update(self.context.fingerprint(self.time).encode())
        return digest.hexdigest()[:16]


def _without_repeats(data: RatingDataset, policy: str | None, table: Table) -> RatingDataset:
    """Applies the policy for (user, item) pairs that are rated more than once."""
    pair = data.user * len(data.items) + data.item
    _, start, inverse, count = np.unique(pair, return_index=True, return_inverse=True, return_counts=True)
    if len(start) == len(data):
        return data
    if policy == "last" and data.time is None:
        raise DataError(
            f"{table.where}: {ask_for('repeated', 'last')} needs times, and these ratings have none. Name their column "
            f"(time=..., --time-column), or pass {ask_for('repeated', 'last-row')} or {ask_for('repeated', 'mean')}"
        )
    if policy in ("last", "last-row"):
        time = None if policy == "last-row" else data.time
        order = np.arange(len(data)) if time is None else np.argsort(time, kind="stable")
        last = np.zeros(len(start), np.int64)
        last[inverse[order]] = order  # later rows overwrite earlier ones
        return data.take(np.sort(last))
    if policy == "mean":
        mean, kept = np.bincount(inverse, weights=data.rating) / count, np.sort(start)
        return replace(data.take(kept), rating=mean[inverse[kept]].astype(np.float32))
    again = np.flatnonzero(start[inverse] != np.arange(len(data)))
    rows = ", ".join(str(table.number(row)) for row in again[:SHOWN])
    user, item = data.users.ids.ids[data.user[again[0]]], data.items.ids.ids[data.item[again[0]]]
    raise DataError(
        f"{table.where}: {len(again)} ratings repeat a (user, item) pair "
        f"(rows {rows}{', ...' if len(again) > SHOWN else ''}; the first: user {user!r}, item {item!r}). "
        "Say what to do: repeated='last', 'last-row' or 'mean' (--repeated last|last-row|mean)"
    )


def warned(data: RatingDataset) -> RatingDataset:
    """The data set, after one `DataWarning` with all notices of its reading."""
    warn_of(data.name, notices_of(data.notices, data.users, data.items))
    return data


def _several(given: object | Sequence[object] | None) -> Sequence[object]:
    if given is None:
        return []
    return given if isinstance(given, list | tuple) else [given]


def random_split(n: int, test: float, seed: int) -> tuple[Rows, Rows]:
    """`default_rng(seed).permutation(n)`: the first 1 - `test` of it are training rows, the others test rows.

    Raises:
        DataError: `test` is no share, or one of the parts would be empty.
    """
    if not 0 < test < 1:
        raise DataError(f"holdout:{test:g}: the share of test ratings must lie between 0 and 1")
    order, n_train = np.random.default_rng(seed).permutation(n), n - round(n * test)
    if n_train in (0, n):
        raise DataError(
            f"split holdout:{test:g}: {n_train} training and {n - n_train} test ratings; both parts need some"
        )
    return order[:n_train], order[n_train:]
