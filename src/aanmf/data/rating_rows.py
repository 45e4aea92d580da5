"""The rows of a table of ratings: ids, ratings, times and context; without the latter also of streams."""

from __future__ import annotations

import time as clock
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data import cells
from aanmf.data.columns import find_columns
from aanmf.data.context import ContextTable
from aanmf.data.infer import infer
from aanmf.data.options import ReadOptions
from aanmf.data.report import date_of
from aanmf.data.schema import Schema
from aanmf.data.tables import IDS, Reader, Table
from aanmf.errors import DataError

SIDES = {"users": "user", "items": "item"}


@dataclass(frozen=True)
class RatingRows:
    """The readable rows of a table of ratings.

    Attributes:
        table: these rows, with the notices of their reading.
        names: column by role.
        user, item: (n,) ids.
        rating: (n,) ones where `has_ratings` is False.
        time: (n,) seconds since 1970, or None.
        has_ratings: False where there is no column of ratings, or all are equal and no scale is stated.
    """

    table: Table
    names: Mapping[str, str]
    user: pl.Series
    item: pl.Series
    rating: NDArray[np.float32]
    time: NDArray[np.int64] | None
    has_ratings: bool


def read_ratings(table: Table, options: ReadOptions, used: Set[str] = frozenset()) -> RatingRows:
    """Finds the columns and reads their cells.

    Args:
        table: the ratings.
        options: stated columns, and the policy for rows that cannot be read.
        used: columns that are used otherwise, or that nothing shall be said about.

    Raises:
        DataError: a column is not found, or a cell cannot be read.
    """
    table.require_rows()
    names, notices = find_columns(table, options, used)
    table = replace(table, notices=(*table.notices, *notices))
    table, columns = table.read_columns(readers(names, options), options)
    user, item = columns[names["user"]], columns[names["item"]]
    time = columns[names["time"]].to_numpy() if "time" in names else None
    rating, has_ratings = np.ones(len(user), np.float32), "rating" in names
    if has_ratings:
        name = names["rating"]
        rating, has_ratings = columns[name].to_numpy().astype(np.float32), _are_ratings(columns[name], options)
        if opinions := opinions_of(table.frame[name]):
            table = replace(table, notices=(*table.notices, f"{table.where}: column {name!r}: {opinions}"))
        if not has_ratings:
            equal = f"all {len(user)} ratings are {rating[0]:g}: each row is read as a choice without a rating"
            table = replace(table, notices=(*table.notices, f"{table.where}: column {name!r}: {equal}"))
            rating = np.ones_like(rating)
    return RatingRows(table, names, user, item, rating, time, has_ratings)


def _are_ratings(column: pl.Series, options: ReadOptions) -> bool:
    """Whether the numbers differ, as ratings do; where a scale is stated, they are ratings anyway."""
    return column.n_unique() > 1 or len(column) < 2 or options.scale is not None


def readers(names: Mapping[str, str], options: ReadOptions) -> dict[str, Reader]:
    """How each of the columns is read, by name."""
    of_role = {
        "user": IDS,
        "item": IDS,
        "rating": Reader(lambda c: cells.ratings(cells.blank_out(c, options.missing)), "is not a finite number"),
        "time": Reader(
            lambda c: cells.times(cells.blank_out(c, options.missing), options.time_format),
            "is not a time; give seconds since 1970, a date like 2024-12-31, or a time_format (--time-format)",
        ),
    }
    return {name: of_role[role] for role, name in names.items()}


def opinions_of(column: pl.Series) -> str | None:
    """A notice where ratings are words."""
    if column.dtype == pl.Boolean:
        return "true is read as rating 1, false as 0"
    if column.dtype != pl.String:
        return None
    words = column.unique().str.strip_chars().str.to_lowercase().drop_nulls().unique().sort()
    read = [f"{word} as {cells.OPINIONS[word]:g}" for word in words if word in cells.OPINIONS]
    return f"words are read as ratings: {', '.join(read)}" if read else None


def context_columns(tables: Mapping[str, Sequence[Table]], schema: Schema, options: ReadOptions) -> list[str]:
    """Columns of the table of ratings that are stated to be context.

    Raises:
        DataError: there is no such column, or it is stated to be something else too.
    """
    (ratings,) = tables["ratings"]
    names = list(dict.fromkeys((*options.context, *schema.stated("ratings"))))
    for name in names:
        if name not in ratings.frame.columns:
            available = ", ".join(ratings.frame.columns)
            raise DataError(f"{ratings.where}: no column {name!r} for the context. Available: {available}")
        own = [side for side in SIDES if all(name not in table.frame.columns for table in tables[side])]
        others = [f"an attribute of {side}" for side in own if name in schema.named(side)]
        others += [f"the {role} of the ratings" for role, column in options.columns.items() if column == name]
        others += ["ignored"] if name in schema.ignored("ratings") else []
        if others and others != ["the time of the ratings"]:
            raise DataError(
                f"{ratings.where}: column {name!r} is stated to be context and {others[0]}: state one of them"
            )
    return names


def read_context(
    rows: RatingRows, names: Sequence[str], schema: Schema, options: ReadOptions
) -> tuple[ContextTable, tuple[str, ...]]:
    """The context of the ratings, and what is odd about it.

    Raises:
        SchemaError: a cell does not fit the declared kind.
    """
    declared, frame, found = schema.stated("ratings"), rows.table.frame, []
    time = next((name for name in names if name == rows.names.get("time")), None)
    for name in names:
        if name != time:
            found.append((name, infer(frame[name], declared.get(name), options.missing)))
    notices = [f"{rows.table.where}: context: {column.notice}" for _, column in found if column.notice is not None]
    if time is not None and rows.time is not None and (late := int((rows.time > clock.time()).sum())):
        last = date_of(int(rows.time.max()))
        notices.append(f"{rows.table.where}: column {time!r}: {late} times lie in the future (the last one: {last})")
    kept = [(name, column) for name, column in found if column.attribute is not None]
    columns = pl.DataFrame([column.values.alias(name) for name, column in kept])
    declarations = tuple(column.attribute for _, column in kept if column.attribute is not None)
    return ContextTable(columns, declarations, time), tuple(notices)


def columns_of_ratings(tables: Mapping[str, Sequence[Table]], schema: Schema) -> dict[str, list[str]]:
    """Columns of the table of ratings that are stated to belong to users and items, whose own tables lack them."""
    (ratings,) = tables["ratings"]
    found: dict[str, list[str]] = {}
    for side in SIDES:
        own = {name for table in tables[side] for name in table.frame.columns} | schema.ignored(side)
        found[side] = [name for name in ratings.frame.columns if name in schema.named(side) - own]
    return found


def with_columns_of_ratings(
    tables: Mapping[str, Sequence[Table]], rows: RatingRows, columns: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[Table]]:
    """The tables of users and items, with a further one of the columns that the ratings have of them."""
    found = {side: list(tables[side]) for side in SIDES}
    for side, own in columns.items():
        if own:
            ids = (rows.user if side == "users" else rows.item).alias(rows.names[SIDES[side]])
            frame = rows.table.frame.select(own).insert_column(0, ids).unique(maintain_order=True)
            found[side].append(Table.of(frame, rows.table.where))
    return dict(found)
