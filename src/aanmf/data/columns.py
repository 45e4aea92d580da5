"""Which column of a table holds users, items, ratings and times: as stated, or found by its name and its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import polars as pl

from aanmf.data.cells import OPAQUE, share_of_times
from aanmf.data.names import ROLES, simple_name
from aanmf.data.options import ReadOptions, ask_for, ask_for_context, ask_to_read
from aanmf.data.tables import Table, check_type
from aanmf.errors import DataError

NONE = "none"
"""Stands for the column of ratings where there is none."""


class Roles(NamedTuple):
    """Which columns of a table of ratings are used.

    Attributes:
        names: column by role: `user`, `item`, and where there are any `rating` and `time`.
        notices: what was guessed, and which columns are not used.
    """

    names: dict[str, str]
    notices: tuple[str, ...] = ()


def find_columns(table: Table, options: ReadOptions, used: Set[str] = frozenset()) -> Roles:
    """The columns of a table of ratings: as stated, else by position in a table without header, else by name.

    There may be no ratings where that is stated, or where the columns of the other roles are all that the table has.

    Args:
        table: the ratings, or some of them.
        options: stated columns.
        used: other columns of the table that are used, or that nothing shall be said about.

    Raises:
        DataError: a stated column does not exist, or none is found for users, items or ratings.
    """
    columns, where = table.frame.columns, table.where
    names = {role: name for role, name in options.columns.items() if name is not None}
    without_ratings = names.get("rating") == NONE and NONE not in columns
    if without_ratings:
        del names["rating"]
    for name in names.values():
        if name not in columns:
            raise DataError(f"{where}: no column {name!r}. Available: {', '.join(columns)}")
    stated, free = set(names), [each for each in columns if each not in names.values()]
    guessed = _by_position(table, names) if not table.has_header else _by_name(free, used)
    for role, name in guessed.items():
        if role not in names and not (role == "rating" and without_ratings) and name in free:
            names[role] = name
    for name in names.values():
        check_type(table.frame[name], where)
    notices = [each for each in _check_time(table, names, stated, options) if "time" in names or not _names(each, used)]
    _check_rating(table, names, stated, without_ratings)
    others = [name for name in columns if name not in names.values() and name not in used]
    said = {name for name in others if any(_names(notice, {name}) for notice in notices)}
    for name in others:
        if name not in said:
            notices.append(f"{where}: column {name!r} {_why_unused(table.frame, name, names)}")
    return Roles(names, tuple(notices))


def guess_column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column whose name, without case, blanks and underscores, is the earliest of `names`."""
    simple = {simple_name(column): column for column in reversed(columns)}
    return next((simple[name] for name in names if name in simple), None)


def _names(notice: str, columns: Set[str]) -> bool:
    """Whether a notice is about one of these columns."""
    return any(repr(name) in notice for name in columns)


def _by_name(columns: Sequence[str], used: Set[str]) -> dict[str, str]:
    """Roles by name; only times may be in a column that is used otherwise."""
    free = [name for name in columns if name not in used]
    found = {role: guess_column(columns if role == "time" else free, names) for role, names in ROLES.items()}
    return {role: name for role, name in found.items() if name is not None}


def _by_position(table: Table, stated: Mapping[str, str]) -> dict[str, str]:
    """Roles by position, in a table without header of at most four columns."""
    columns = table.frame.columns
    if len(columns) > len(ROLES) and not {"user", "item"} <= set(stated):
        raise DataError(
            f"{table.where}: no header and {len(columns)} columns; without names only user, item, rating and time can "
            "be told apart, in this order. Add a first line with names, or state the columns: user='column_1', ... "
            "(--user-column column_1, ...)"
        )
    return dict(zip(ROLES, columns, strict=False)) if len(columns) <= len(ROLES) else {}


def _check_time(table: Table, names: dict[str, str], stated: set[str], options: ReadOptions) -> list[str]:
    """Drops a guessed column of times whose values are not plausible times, and says so."""
    column, frame = names.get("time"), table.frame
    if column is None or "time" in stated:
        return []
    share = share_of_times(frame[column], options.time_format)
    if not table.has_header and share == 1:
        return [f"{table.where}: no header; column {column!r} is read as times"]
    if table.has_header and share > 0.5:
        return []
    del names["time"]
    examples = ", ".join(map(repr, frame[column].drop_nulls()[:3].to_list()))
    how = ask_for("time_format", "%d/%m/%Y") if "/" in examples else ask_for("time", column)
    return [
        f"{table.where}: column {column!r} is not used: {examples} are not plausible times, or dates whose order is "
        f"beyond doubt; {how} reads them"
    ]


def _check_rating(table: Table, names: Mapping[str, str], stated: set[str], without_ratings: bool) -> None:
    """Raises a `DataError` where a column is missing, or where ratings are times."""
    missing = [role for role in ("user", "item", "rating") if role not in names]
    others = set(table.frame.columns) - set(names.values())
    if missing and (missing != ["rating"] or (others and not without_ratings)):
        role = missing[0]
        none = f"; if each row is a choice without a rating, such as a click: {ask_for('rating', NONE)}"
        raise DataError(
            f"{table.where}: cannot tell which column holds the {role}. "
            f"Available: {', '.join(table.frame.columns)}. "
            f"Name it ({role}=... in Python, --{role}-column on the command line){none if role == 'rating' else ''}"
        )
    rating = names.get("rating")
    if rating is not None and "rating" not in stated and share_of_times(table.frame[rating]) > 0.9:
        raise DataError(
            f"{table.where}: column {rating!r} holds times, not ratings. If each row is a choice without a rating, "
            f"such as a click: {ask_for('rating', NONE)} and {ask_for('time', rating)}"
        )


def _why_unused(frame: pl.DataFrame, name: str, names: Mapping[str, str]) -> str:
    """Why a column of the ratings is not used, and what would use it."""
    column = frame[name]
    if column.null_count() == len(column) or (column.dtype == pl.String and (column == "").all()):
        return "is not used: it is empty"
    if column.dtype in OPAQUE:
        return f"is not used: it holds {column.dtype} values"
    if "time" not in names and share_of_times(frame[name]) > 0.9:
        return f"is not used: it holds times; {ask_for('time', name)} reads them"
    for side in ("user", "item"):
        if not frame[name].dtype.is_nested() and _depends_on(frame, name, names[side]):
            distinct = frame[name].n_unique() == frame[names[side]].n_unique()
            use = "label" if distinct and side == "item" else "categorical"
            return f"is not used: it belongs to the {side}; {ask_to_read(f'{side}s.{name}', use)} uses it"
    return f"is not used: it differs between ratings. {ask_for_context(name)} uses it, if it is known before the rating"


def _depends_on(frame: pl.DataFrame, name: str, key: str) -> bool:
    """Whether all rows of a user (item) have the same value, and several of them more than one row."""
    rows = frame.group_by(key).agg(pl.col(name).n_unique().alias("values"), pl.len().alias("rows"))
    return bool((rows["values"] == 1).all()) and rows.height < frame.height and frame[name].n_unique() > 1
