"""What came since a model was trained - ratings, users, items, attributes - added to what it was trained on."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.attribute_kind import TITLES
from aanmf.data.attribute_tables import column_of_ids, read_entities
from aanmf.data.columns import NONE
from aanmf.data.context import ContextTable
from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.data.options import ReadOptions, ask_for
from aanmf.data.schema import LABEL, Schema
from aanmf.data.tables import Table, as_frame
from aanmf.errors import DataError, ModelFolderError
from aanmf.fitted import EntitySide, Fitted

RATINGS = {"user": pl.String, "item": pl.String, "rating": pl.Float32}
PAIR = ("user", "item")
How = Literal["none", "histories", "training", "full"]
POSITIONS = {"user": np.int64, "item": np.int64, "rating": np.float32}


@dataclass(frozen=True)
class Additions:
    """What came since a model was trained.

    Attributes:
        ratings: a row per user and item: their ids, and the rating; null: the user chose the item and did not rate it.
        users, items: attributes and labels, by id. An empty cell leaves what was known.
        name: of the ratings, for messages.
        notices: of the reading.
        forgotten: ids of users who are to be left out, of what is new and of what the model was trained on.
        context, time: of the ratings, as in `RatingDataset`; a context attribute that is not there counts as missing.
    """

    ratings: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=RATINGS))
    users: EntityTable = field(default_factory=lambda: EntityTable(Vocabulary([])))
    items: EntityTable = field(default_factory=lambda: EntityTable(Vocabulary([])))
    name: str = "the new ratings"
    notices: tuple[str, ...] = ()
    forgotten: Container[str] = frozenset()
    context: ContextTable = field(default_factory=ContextTable)
    time: NDArray[np.int64] | None = None

    def without_forgotten(self) -> Additions:
        """What is new of the others."""
        users = self.users.ids.ids
        gone = pl.Series([each in self.forgotten for each in users], dtype=pl.Boolean)
        rated = {each for each in self.ratings["user"].unique() if each in self.forgotten}
        if not (rated or gone.any()):
            return self
        kept = (~self.ratings["user"].is_in(list(rated))).arg_true().to_numpy().astype(np.int64)
        context, time = self.context.take(kept), None if self.time is None else self.time[kept]
        return replace(self, ratings=self.ratings[kept], users=self.users.filter(~gone), context=context, time=time)


def tables_of(
    options: ReadOptions, ratings: object = None, users: object = None, items: object = None
) -> dict[str, list[Table]]:
    """Tables out of paths and frames: one, several in a list, or None; see `RatingDataset.read` and `from_frames`."""
    found = dict[str, list[Table]]()
    for side, given in (("ratings", ratings), ("users", users), ("items", items)):
        each = [] if given is None else given if isinstance(given, list | tuple) else [given]
        found[side] = [
            Table.read(one, options) if isinstance(one, str | PathLike) else Table.of(as_frame(one, side), side)
            for one in each
        ]
    return found


def read_additions(fitted: Fitted, tables: Mapping[str, Sequence[Table]], options: ReadOptions, name: str) -> Additions:
    """Reads tables of `ratings`, `users` and `items` (none or more of each) as the model knows their columns.

    Raises:
        DataError: naming table, row and column, and what to do.
    """
    key, new, notices = {"users": "user", "items": "item"}, Additions(), list[str]()
    for table in tables.get("ratings", ()):
        only = {"ratings": [table], "users": [], "items": []}
        data = RatingDataset.of_tables(only, _as_known(fitted, table, options), name)
        if data.has_ratings and not fitted.training.has_ratings:
            raise DataError(f"{table.where}: the model has learned choices without ratings: {ask_for('rating', NONE)}")
        key |= {"users": data.columns["user"], "items": data.columns["item"]}
        new = Additions(ratings_by_id(data), context=data.context, time=data.time)
        notices += [f"ratings: {each}" for each in data.notices]
    found = dict[str, EntityTable]()
    for side, known, rated in (("users", fitted.users, "user"), ("items", fitted.items, "item")):
        ids = new.ratings[rated]
        unknown = ids.filter(pl.Series(known.table.ids.index(ids) < 0))
        own, unused = _of_known_columns(tables.get(side, ()), side, key[side], known.table)
        schema = _schema_of(side, known.table, own)
        table = read_entities(side, own, unknown, key[side], schema, replace(options, unlisted="unknown"))
        notices += [f"{side}: {each}" for each in (*unused, *table.notices)]
        found[side] = table
    return replace(new, users=found["users"], items=found["items"], name=name, notices=tuple(notices))


def _as_known(fitted: Fitted, table: Table, options: ReadOptions) -> ReadOptions:
    """How to read new ratings: on the model's scale, with the context that it has learned from, as far as it is there.

    The column of times is context where the model knows the time.
    """
    known = {each.name: each for each in fitted.context_table.attributes if each.name in table.frame.columns}
    scale = fitted.training.scale if fitted.training.has_ratings else None
    schema = options.schema.with_stated("ratings", list(known.values()))
    time = options.time or (fitted.context.time if fitted.context.time in table.frame.columns else None)
    return replace(options, scale=scale, schema=schema, time=time)


def ratings_by_id(data: RatingDataset) -> pl.DataFrame:
    """Ratings with ids in place of positions."""
    users, items = (pl.Series(side.ids.ids, dtype=pl.String) for side in (data.users, data.items))
    rating = pl.Series(data.rating) if data.has_ratings else pl.Series([None] * len(data), dtype=pl.Float32)
    return pl.DataFrame([users[data.user], items[data.item], rating], schema=RATINGS)


def _of_known_columns(
    tables: Sequence[Table], side: str, key: str, known: EntityTable
) -> tuple[list[Table], list[str]]:
    """Tables without the columns that the model does not know, and a notice of these."""
    kept, notices = list[Table](), list[str]()
    for table in tables:
        names = {*known.names, _label_column(known, [table])}
        unused = [c for c in table.frame.columns if c not in names and c != column_of_ids(table, side, key)]
        kept.append(replace(table, frame=table.frame.drop(unused)))
        if unused:
            listed = ", ".join(map(repr, unused))
            notices.append(f"{table.where}: the model has no attribute {listed}: not used")
    return kept, notices


def _schema_of(side: str, known: EntityTable, tables: Sequence[Table]) -> Schema:
    """Columns as the model has them, those that the tables have."""
    given = {name for table in tables for name in table.frame.columns}
    schema = Schema().with_stated(side, [each for each in known.attributes if each.name in given])
    label = _label_column(known, tables)
    return schema if label is None else schema.with_use(side, label, LABEL)


def _label_column(known: EntityTable, tables: Sequence[Table]) -> str | None:
    """The column of names, if the tables have it: the one that the model has them from, or one called so."""
    names = [known.label_column] if known.label_column else TITLES
    columns = [name for table in tables for name in table.frame.columns] if known.labels is not None else []
    return next((name for name in columns if name in names or (name.lower() in names)), None)


@dataclass(frozen=True)
class Update:
    """What an update did.

    Attributes:
        ratings: how many are new or have changed.
        users, items: how many are new, or have other attributes or another label.
        how: `none` (there was nothing new), `histories` (the model counts everything new, and its tables of vectors
            stay), `training` (these were trained for some more epochs), or `full` (a full fit).
        why: why so, in a sentence.
        forgotten: how many users of the training data were left out.
    """

    ratings: int
    users: int
    items: int
    how: How
    why: str
    forgotten: int = 0


@dataclass(frozen=True)
class Grown:
    """The data of a model with additions.

    Users, items and ratings keep their positions, unless users are forgotten; new ones follow.

    Attributes:
        data: all of it.
        ratings: how many are new or have changed.
        users, items: how many are new, or have other attributes or another label.
        forgotten: how many users of the training data were left out.
    """

    data: RatingDataset
    ratings: int
    users: int
    items: int
    forgotten: int = 0

    @property
    def changed(self) -> bool:
        """Whether there was anything new."""
        return self.ratings + self.users + self.items + self.forgotten > 0

    def update(self, how: How, why: str) -> Update:
        """What was done with all that is new."""
        return Update(self.ratings, self.users, self.items, how, why, self.forgotten)


def grow(fitted: Fitted, new: Additions) -> Grown:
    """Adds what is new to what a model was trained on; a new rating replaces that of the same user and item.

    A choice without a rating leaves a training rating as it is; among ratings it counts as the one of their values
    that is nearest to their mean. Of users who are forgotten nothing is left.

    Raises:
        DataError: a rating off the model's scale, or no times for a model that has learned from them.
        ModelFolderError: the model comes from a folder of an early version, without raw attributes.
    """
    new = new.without_forgotten()
    train, training = fitted.training.train, fitted.training
    for side in (fitted.users, fitted.items):
        if side.table.names != side.encoder.names:
            raise ModelFolderError(
                "the model was written by an early version of aanmf, which did not keep the attributes of "
                f"{side.name}s as they were given: train the model again, after which updates work"
            )
    if fitted.context.time is not None and new.ratings.height and new.time is None:
        raise DataError(
            f"{new.name}: the model has learned from the time of ratings ({fitted.context.time}), and these have none: "
            f"name their column ({ask_for('time', fitted.context.time)})"
        )
    low, high = training.scale
    for user, item, rating in new.ratings.filter(~pl.col("rating").is_between(low, high)).iter_rows():
        raise DataError(
            f"{new.name}: rating {rating:g} of item {item!r} by user {user!r} is off the scale {low:g} to {high:g}, "
            "which the model has learned: correct or remove it"
        )
    users, changed_users = _grown(fitted.users, new.users, new.ratings["user"])
    items, changed_items = _grown(fitted.items, new.items, new.ratings["item"])
    old = pl.DataFrame({name: getattr(train, name).numpy().astype(kind) for name, kind in POSITIONS.items()})
    old = old.with_row_index("row")
    given = new.ratings.with_row_index("row", offset=len(old)).select(
        "row",
        pl.Series("user", users.ids.index(new.ratings["user"])),
        pl.Series("item", items.ids.index(new.ratings["item"])),
        "rating",
    )
    both = old.join(given, on=PAIR, how="left", suffix="_new", maintain_order="left")
    changed = both.filter(pl.col("rating_new") != pl.col("rating")).height
    fresh = given.join(old, on=PAIR, how="anti", maintain_order="left")
    middle = old["rating"][int((old["rating"] - training.mean).abs().arg_min() or 0)]
    newer = pl.when(pl.col("rating_new").is_not_null()).then("row_new").otherwise("row")
    kept = both.select(newer.alias("row"), *PAIR, pl.coalesce("rating_new", "rating").alias("rating"))
    ratings = pl.concat([kept, fresh]).with_columns(pl.col("rating").fill_null(middle))
    rows, time = ratings["row"].to_numpy().astype(np.int64), np.empty(0, np.int64) if new.time is None else new.time
    data = RatingDataset(
        users,
        items,
        *(ratings[name].to_numpy(writable=True) for name in ("user", "item", "rating")),
        scale=training.scale if training.has_ratings else None,
        time=None if train.times is None else np.concatenate([train.times.numpy(), time])[rows],
        name=str(fitted.data.get("name", "ratings")),
        has_ratings=training.has_ratings,
        columns=fitted.columns,
        context=_joined(fitted.context_table, new).take(rows),
    )
    gone = [each for each in fitted.users.table.ids.ids if each in new.forgotten]
    data = data.without_users(frozenset(gone)) if gone else data
    return Grown(data, changed + fresh.height, changed_users, changed_items, len(gone))


def _joined(known: ContextTable, new: Additions) -> ContextTable:
    """The context of the training ratings and, below it, of what is new: null where it is not given."""
    if not known.attributes:
        return known
    empty = [pl.lit(None, dtype=kind).alias(name) for name, kind in known.columns.schema.items()]
    below = new.ratings.with_columns(empty).with_columns(new.context.columns.get_columns())
    return replace(known, columns=pl.concat([known.columns, below.select(known.columns.columns)]))


def _grown(side: EntitySide, given: EntityTable, rated: pl.Series) -> tuple[EntityTable, int]:
    """The table with new rows and cells, and how many rows are new or changed."""
    table = side.table
    new = [each for each in dict.fromkeys([*given.ids.ids, *rated]) if each not in table.ids]
    ids, old = (*table.ids.ids, *new), _frame(table)
    old = pl.concat([old, old.clear(len(new)).with_columns(id=pl.Series(new, dtype=pl.String))])
    labelled = given.labels if table.labels is not None else None
    known = [name for name in table.names if name in given.names]
    grown = old.update(_frame(replace(given.select(known), labels=labelled)), on="id", how="left")
    same = pl.DataFrame([grown[name].eq_missing(old[name]) for name in grown.columns])
    changed = len(table) - int(same[: len(table)].select(pl.all_horizontal(pl.all())).to_series().sum())
    labels = None if table.labels is None else tuple(grown["label"].fill_null(grown["id"]))
    return replace(table, ids=Vocabulary(ids), columns=grown.select(table.names), labels=labels), changed + len(new)


def _frame(table: EntityTable) -> pl.DataFrame:
    """Ids, labels where they say more, and attributes."""
    frame = pl.DataFrame({"id": pl.Series(table.ids.ids, dtype=pl.String)})
    if table.labels is not None:
        label = pl.Series(table.labels, dtype=pl.String)
        frame = frame.with_columns(label=pl.when(label != frame["id"]).then(label))
    return pl.concat([frame, table.columns], how="horizontal") if table.names else frame
