"""Tables of other libraries: training data from them, pairs to predict, and results in their kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from aanmf.data.columns import guess_column
from aanmf.data.dataset import RatingDataset
from aanmf.data.entities import EntityTable
from aanmf.data.names import ITEM_NAMES, USER_NAMES
from aanmf.data.options import ReadOptions
from aanmf.data.stream import StreamedDataset
from aanmf.data.tables import Table, as_frame
from aanmf.errors import DataError, MissingExtraError

TableKind = Literal["polars", "pandas", "arrow"]


def kind_of(table: object) -> TableKind:
    """Which library a table belongs to; polars for data sets and arrays, which belong to none of the others."""
    library = type(table).__module__.partition(".")[0]
    kinds: dict[str, TableKind] = {"pandas": "pandas", "pyarrow": "arrow"}
    return kinds.get(library, "polars")


def as_kind(frame: pl.DataFrame, kind: TableKind) -> object:
    """A table of results as a table of another library.

    Raises:
        MissingExtraError: pandas or pyarrow is not installed.
    """
    try:
        return {"polars": lambda: frame, "pandas": frame.to_pandas, "arrow": frame.to_arrow}[kind]()
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"tables of {kind} need {error.name}: pip install 'aanmf[arrow]'") from None


def training_data(
    data: object, y: object = None, users: object = None, items: object = None, options: ReadOptions | None = None
) -> RatingDataset | StreamedDataset:
    """What a model is trained on: a data set as it is, or one read from tables.

    Args:
        data: a data set, or a table with a row per rating (polars, pandas, Arrow, or an array whose first columns are
            users, items and, without `y`, ratings).
        y: (n,) the ratings, where the table does not have them.
        users, items: tables of attributes.
        options: how to read the tables.

    Raises:
        DataError: tables are given with a data set, or a table cannot be used.
    """
    if isinstance(data, RatingDataset | StreamedDataset):
        given = {"y": y, "users": users, "items": items, "options": options}
        if extra := [name for name, value in given.items() if value is not None]:
            raise DataError(f"{data!r} holds ratings, users and items already: leave {', '.join(extra)} out")
        return data
    frame, stated = as_frame(data, "ratings"), dict[str, str]()
    if y is not None:
        if frame.columns[:1] == ["column_1"]:
            stated |= zip(("user", "item"), frame.columns, strict=False)
        name = "rating"
        while name in frame.columns:
            name += "_given"
        frame, stated["rating"] = frame.with_columns(_ratings(y, frame.height).alias(name)), name
    return RatingDataset.from_frames(frame, users, items, options=options, **stated)


class Tables(NamedTuple):
    """A data set as polars tables.

    Attributes:
        ratings: a row per rating: `user`, `item`, where there are any `rating` and `time` (seconds since 1970), and its
            context.
        users, items: a row per user (item): `user` (`item`), if there are labels its own (see `label_column`), and its
            attributes.
    """

    ratings: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame


def tables_of(data: RatingDataset) -> Tables:
    """The tables of a data set, as `RatingDataset.from_frames` takes them."""
    sides = {"user": data.users, "item": data.items}
    ids = {name: pl.Series(name, side.ids.ids, dtype=pl.String) for name, side in sides.items()}
    columns: dict[str, object] = {"user": ids["user"].gather(data.user), "item": ids["item"].gather(data.item)}
    columns |= {"rating": data.rating} if data.has_ratings else {}
    columns |= {"time": data.time} if data.time is not None else {}
    tables = [
        pl.DataFrame(
            [ids[name], *([] if side.labels is None else [pl.Series(label_column(side), side.labels)]), *side.columns]
        )
        for name, side in sides.items()
    ]
    return Tables(pl.DataFrame(columns).hstack(data.context.columns.get_columns()), *tables)


def label_column(side: EntityTable) -> str:
    """The name of the labels in `tables_of`: `label`, or where an attribute has that name, `label_shown`."""
    return "label_shown" if "label" in side.columns.columns else "label"


def pairs_of(table: Table, columns: Mapping[str, str] | None = None) -> tuple[list[str], list[str]]:
    """Users and items of a table with a row per pair: ids as text.

    Args:
        table: the pairs.
        columns: names of the columns by role (`user`, `item`) where they are known; else they are found by their names,
            or by position in a table without header.

    Raises:
        DataError: a column is not found, or an id is empty or a fraction.
    """
    frame, sides = table.frame, list[list[str]]()
    for position, (side, names) in enumerate((("user", USER_NAMES), ("item", ITEM_NAMES))):
        column = (columns or {}).get(side)
        if column not in frame.columns:
            column = guess_column(frame.columns, names)
        if not table.has_header and position < frame.width:
            column = frame.columns[position]
        if column is None:
            raise DataError(f"{table.where}: no column {side!r}. Available: {', '.join(frame.columns)}")
        sides.append(table.ids(column).to_list())
    return sides[0], sides[1]


def _ratings(y: object, n: int) -> pl.Series:
    """Ratings (n,) of any library as a column."""
    ratings = np.asarray(y)
    if ratings.ndim == 2 and ratings.shape[1] == 1:
        ratings = ratings[:, 0]
    if ratings.shape != (n,):
        raise DataError(f"y: {n} ratings are needed, one per row of the table; its shape is {ratings.shape}")
    return pl.Series(ratings.tolist(), strict=False)
