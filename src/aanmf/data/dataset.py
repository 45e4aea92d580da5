"""`RatingDataset`: ratings, users and items, as arrays and columns."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf import html
from aanmf.data.columns import find_columns
from aanmf.data.entities import SHOWN, EntityTable, Rows, Vocabulary, read_entities
from aanmf.data.options import ReadOptions
from aanmf.data.tables import Source, Sources, Table, as_frame, paths_of
from aanmf.errors import DataError

__all__ = ["EntityTable", "RatingDataset", "Rows", "Vocabulary"]


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

    def __post_init__(self) -> None:
        assert self.user.shape == self.item.shape == self.rating.shape
        assert self.time is None or self.time.shape == self.user.shape

    def __len__(self) -> int:
        return len(self.rating)

    def __repr__(self) -> str:
        return f"RatingDataset({self.name}: {len(self)} ratings, {len(self.users)} users, {len(self.items)} items)"

    def _repr_html_(self) -> str:
        return _to_html(self.describe())

    def describe(self) -> dict[str, Any]:
        """Counts, ranges and attributes, as plain values: what `aanmf data --json` prints."""
        counts = pl.Series("rating", self.rating).value_counts().sort("rating")
        rated = {side: len(np.unique(rows)) for side, rows in (("users", self.user), ("items", self.item))}
        found = (counts["rating"][0], counts["rating"][-1]) if len(counts) else (math.nan, math.nan)
        few = len(counts) <= 10
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "ratings": len(self),
            "has_ratings": self.has_ratings,
            "scale": list(self.scale or found),
            "mean": float(self.rating.mean(dtype=np.float64)) if len(self) else math.nan,
            "rating_counts": {f"{value:g}": count for value, count in counts.iter_rows()} if few else {},
            "users": len(self.users),
            "rated_users": rated["users"],
            "items": len(self.items),
            "rated_items": rated["items"],
            "density": len(self) / max(1, rated["users"] * rated["items"]),
            "time_stamps": self.time is not None,
            "days": None if self.time is None or not len(self) else [_day(self.time.min()), _day(self.time.max())],
            "splits": list(self.folds),
            "attributes": {"users": self.users.describe(), "items": self.items.describe()},
            "notices": [*self.users.notices, *self.items.notices],
        }

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

        Args:
            ratings: CSV, TSV (any separator, also `::`) or Parquet, with a row per rating. A table of users and items
                alone is one of choices (`has_ratings`); repeated rows in it count once.
            users, items: a file with a row per user (item), or several files: further ones may have several rows per
                user (one cuisine each, say), and their columns become multi-valued attributes.
            options: how to read the tables.
            **keywords: options by name, such as `user="uid"` or `repeated="last"`; see `ReadOptions`.

        Raises:
            DataError: naming file, row and column, and what to do.
            ConfigError: an unknown option.
        """
        asked = ReadOptions.of(options, keywords)
        paths = {"ratings": [ratings], "users": paths_of(users), "items": paths_of(items)}
        tables = {side: [Table.read(path, asked.separator) for path in given] for side, given in paths.items()}
        return cls.of_tables(tables, asked, Path(ratings).stem)

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
        return cls.of_tables(tables, ReadOptions.of(options, keywords), "ratings")

    @classmethod
    def of_tables(cls, tables: Mapping[str, Sequence[Table]], options: ReadOptions, name: str) -> RatingDataset:
        """The last step of all readers: finds columns, checks ids and ratings, attaches attributes.

        Args:
            tables: one table of `ratings`, and any number of `users` and `items`.
            options: how to read them.
            name: of the data set, where the options give none.
        """
        (ratings,) = tables["ratings"]
        ratings.require_rows()
        names = find_columns(ratings.frame.columns, options.columns, ratings.where)
        user_ids, item_ids = ratings.ids(names["user"]), ratings.ids(names["item"])
        has_ratings = "rating" in names
        rating = ratings.ratings(names["rating"]) if has_ratings else np.ones(len(user_ids), np.float32)
        time = ratings.times(names["time"]) if "time" in names else None
        users = read_entities("users", tables["users"], user_ids, names["user"], options)
        items = read_entities("items", tables["items"], item_ids, names["item"], options)
        user, item = users.ids.index(user_ids), items.ids.index(item_ids)
        scale, name = options.scale if has_ratings else None, options.name or name
        data = cls(users, items, user, item, rating, time, scale, name=name, has_ratings=has_ratings)
        return _without_repeats(data, options.repeated if has_ratings else "last", ratings)

    def take(self, rows: Rows) -> RatingDataset:
        """These ratings, in this order, with the same users and items."""
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            rating=self.rating[rows],
            time=None if self.time is None else self.time[rows],
            folds={},
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

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any rating, its order, or its user and item."""
        digest = hashlib.sha256()
        for array in (self.user, self.item, self.rating):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


def _day(seconds: np.int64) -> str:
    """`1997-09-20`."""
    return str(np.datetime64(int(seconds), "s").astype("datetime64[D]"))


def _to_html(found: Mapping[str, Any]) -> html.Html:
    """What `RatingDataset.describe` found, for notebooks."""
    noun = "ratings" if found["has_ratings"] else "choices"
    facts: list[tuple[str, object]] = [(noun, found["ratings"])]
    if found["has_ratings"] and found["ratings"]:
        low, high = found["scale"]
        facts += [("scale", f"{low:g} to {high:g}"), ("mean rating", f"{found['mean']:.3f}")]
    for side in ("users", "items"):
        rated = found[f"rated_{side}"]
        facts.append((side, found[side] if rated == found[side] else f"{found[side]:,} ({rated:,} with {noun})"))
    facts.append(("density", f"{100 * found['density']:.3g} % of all pairs"))
    if found["days"]:
        facts.append(("time", " to ".join(found["days"])))
    parts = [html.facts(facts)]
    for side, attributes in found["attributes"].items():
        names = ", ".join(each["name"] for each in attributes) or "none"
        heads = ("attribute", "kind", "values", "missing", "for instance")
        rows = html.table(heads, [tuple(each.values()) for each in attributes])
        parts.append(
            html.fold(f"attributes of {side}: {names}", rows) if attributes else html.line(f"no attributes of {side}")
        )
    if found["notices"]:
        parts.append(html.fold("notes on reading", *map(html.line, found["notices"])))
    return html.block(f"RatingDataset {found['name']}", *parts)


def _without_repeats(data: RatingDataset, policy: str | None, table: Table) -> RatingDataset:
    """Applies the policy for (user, item) pairs that are rated more than once."""
    pair = data.user * len(data.items) + data.item
    _, start, inverse, count = np.unique(pair, return_index=True, return_inverse=True, return_counts=True)
    if len(start) == len(data):
        return data
    if policy == "last":
        last = np.zeros(len(start), np.int64)
        last[inverse] = np.arange(len(data))  # later rows overwrite earlier ones
        return data.take(np.sort(last))
    if policy == "mean":
        mean, kept = np.bincount(inverse, weights=data.rating) / count, np.sort(start)
        return replace(data.take(kept), rating=mean[inverse[kept]].astype(np.float32))
    again = np.flatnonzero(start[inverse] != np.arange(len(data)))
    rows = ", ".join(str(row + table.first) for row in again[:SHOWN])
    user, item = data.users.ids.ids[data.user[again[0]]], data.items.ids.ids[data.item[again[0]]]
    raise DataError(
        f"{table.where}: {len(again)} ratings repeat a (user, item) pair "
        f"(rows {rows}{', ...' if len(again) > SHOWN else ''}; the first: user {user!r}, item {item!r}). "
        "Say what to do: repeated='last' or 'mean' (--repeated last|mean)"
    )


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
