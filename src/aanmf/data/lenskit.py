"""Data sets of LensKit: ratings or choices, users and items with their attributes."""
# pyright: reportMissingImports=false

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from aanmf.data.columns import NONE
from aanmf.data.dataset import RatingDataset, warned
from aanmf.data.entities import EntityTable
from aanmf.data.frames import tables_of
from aanmf.data.options import ReadOptions
from aanmf.data.schema import Kind
from aanmf.data.tables import Table
from aanmf.errors import MissingExtraError

if TYPE_CHECKING:
    from lenskit.data import Dataset, DatasetBuilder

SIDES = ("user", "item")


def from_lenskit(data: Dataset, *, options: ReadOptions | None = None, **keywords: object) -> RatingDataset:
    """The default interactions of a `Dataset`, with the attributes of users and items.

    Interactions without a `rating` are choices. Ids become text, as everywhere in this library; sparse vectors are left
    out, with a notice.

    Args:
        data: what LensKit has built, or loaded with `Dataset.load`.
        options: how to read the tables.
        **keywords: options by name; see `ReadOptions`.

    Raises:
        DataError: a table cannot be used.
    """
    interactions = data.interactions()
    rating = None if "rating" in interactions.attribute_names else NONE
    asked = ReadOptions.of(options, {"rating": rating, **keywords})
    tables = {"ratings": [Table.of(pl.DataFrame(interactions.arrow(ids=True)), "interactions")]}
    tables |= {f"{side}s": [_entities(data, side)] for side in SIDES}
    return warned(RatingDataset.of_tables(tables, asked, data.name or "ratings"))


def to_lenskit(data: RatingDataset) -> Dataset:
    """The data set as one of LensKit, with interactions of the class `rating` (or `choice`); `save` writes it to disk.

    Raises:
        MissingExtraError: LensKit is not installed.
    """
    try:
        from lenskit.data import DatasetBuilder
    except ModuleNotFoundError:
        raise MissingExtraError("needs LensKit: pip install 'aanmf[lenskit]'") from None
    tables, builder = tables_of(data), DatasetBuilder(data.name)
    for side, unordered, entities in zip(SIDES, tables[1:], (data.users, data.items), strict=True):
        frame = unordered.sort(side)  # LensKit sorts ids, but not the vectors of a column without empty cells
        builder.add_entities(side, frame[side].to_list())
        _add_attributes(builder, side, frame, entities)
    ratings = tables.ratings.rename({"user": "user_id", "item": "item_id", "time": "timestamp"}, strict=False)
    if data.time is not None:
        ratings = ratings.with_columns(pl.from_epoch("timestamp"))
    name = "rating" if data.has_ratings else "choice"
    builder.add_interactions(name, ratings.to_arrow(), entities=list(SIDES), missing="error", default=True)
    return builder.build()


def _entities(data: Dataset, side: str) -> Table:
    """The users (items) with their attributes."""
    entities, where = data.entities(side), f"{side}s"
    sparse = [name for name in entities.attributes if entities.attribute(name).is_sparse]
    table = Table.of(pl.DataFrame(entities.arrow().drop_columns(sparse)), where)
    notices = (f"{where}: column {name!r} is not used: it holds sparse vectors" for name in sparse)
    return replace(table, notices=tuple(notices))


def _add_attributes(builder: DatasetBuilder, side: str, frame: pl.DataFrame, entities: EntityTable) -> None:
    """Labels and attributes, each for the users (items) that have a value."""
    if entities.labels is not None:
        builder.add_scalar_attribute(side, "title", frame[side].to_list(), frame["label"].to_list())
    for attribute in entities.attributes:
        known = frame.select(side, attribute.name).drop_nulls()
        ids, values = known[side].to_list(), known[attribute.name]
        if attribute.kind is Kind.VECTOR:
            builder.add_vector_attribute(side, attribute.name, ids, np.array(values.to_list(), np.float64))
        elif attribute.kind is Kind.MULTIVALUED:
            builder.add_list_attribute(side, attribute.name, ids, values.to_list())
        else:
            builder.add_scalar_attribute(side, attribute.name, ids, values.to_list())
