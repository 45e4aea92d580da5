"""The columns of a table of ratings: found by their names, checked, and converted to ids, ratings and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.tables import Table
from aanmf.errors import DataError

USER_NAMES = ("user", "userid", "uid", "customer", "customerid", "reviewer", "reviewerid", "member", "memberid")
ITEM_NAMES = (
    *("item", "itemid", "iid", "movie", "movieid", "film", "filmid", "product", "productid", "book", "bookid"),
    *("isbn", "asin", "place", "placeid", "artist", "artistid", "song", "songid", "anime", "animeid", "business"),
    *("businessid", "restaurant", "restaurantid", "joke", "jokeid", "track", "trackid", "game", "gameid"),
)
RATING_NAMES = ("rating", "ratings", "score", "stars", "value", "bookrating", "overall", "label")
TIME_NAMES = ("timestamp", "time", "date", "datetime", "ratedat", "unixreviewtime", "tstamp")
ROLES = {"user": USER_NAMES, "item": ITEM_NAMES, "rating": RATING_NAMES, "time": TIME_NAMES}
"""Usual names of the columns of ratings by role, in lower case and without blanks and underscores."""
SHOWN = 5


@dataclass(frozen=True)
class RatingColumns:
    """Some rows of a table of ratings, with the role of its columns.

    Attributes:
        frame: the rows.
        names: column names by role: `user`, `item`, `rating`, and `time` if there is one.
        where: name of the table in messages.
        first: number of the first row, as an editor shows it.
    """

    frame: pl.DataFrame
    names: Mapping[str, str]
    where: str
    first: int

    @classmethod
    def of(cls, table: Table, given: Mapping[str, str | None]) -> RatingColumns:
        """A whole table; `given` names columns by role, the others are found."""
        return cls(table.frame, find_columns(table.frame.columns, given, table.where), table.where, table.first_row)

    def ids(self, role: str) -> pl.Series:
        """The ids of users (items) as text."""
        return clean_ids(self.frame[self.names[role]], self.where, self.first)

    def ratings(self) -> NDArray[np.float32]:
        """(n,) ratings.

        Raises:
            DataError: one is not a finite number.
        """
        column = self.frame[self.names["rating"]]
        numbers = column.str.strip_chars() if column.dtype == pl.String else column
        numbers = numbers.cast(pl.Float64, strict=False)
        bad = numbers.is_null() | numbers.is_nan() | numbers.is_infinite()
        why = "is not a finite number; correct it or take the row out"
        _refuse(bad.fill_null(True), column, self.where, self.first, why)
        return numbers.to_numpy().astype(np.float32)

    def times(self) -> NDArray[np.int64] | None:
        """(n,) whole seconds, from numbers or dates; None if there is no column of times.

        Raises:
            DataError: a cell is not a time.
        """
        if "time" not in self.names:
            return None
        column = self.frame[self.names["time"]]
        if column.dtype.is_temporal():
            return column.cast(pl.Datetime("ms")).dt.epoch("s").to_numpy()
        text = column.cast(pl.String).str.strip_chars()
        seconds = text.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
        if seconds.is_null().all():
            with suppress(pl.exceptions.ComputeError):  # raised where there is not one date
                seconds = text.str.to_datetime(strict=False, time_unit="ms").dt.epoch("s")
        why = "is not a time; give seconds since 1970 or a date like 2024-12-31"
        _refuse(seconds.is_null(), column, self.where, self.first, why)
        return seconds.to_numpy()

    def without_repeats(
        self, pair: NDArray[np.int64], rating: NDArray[np.float32], policy: str
    ) -> tuple[NDArray[np.int64] | slice, NDArray[np.float32]]:
        """Applies the policy for (user, item) pairs that are rated more than once.

        Args:
            pair: (n,) number of the pair of each row.
            rating: (n,) ratings.
            policy: `error`, `last` or `mean`.

        Returns:
            The rows to keep, and their ratings.

        Raises:
            DataError: a pair is rated more than once and the policy is `error`.
        """
        _, start, inverse, count = np.unique(pair, return_index=True, return_inverse=True, return_counts=True)
        if len(start) == len(pair):
            return slice(None), rating
        if policy == "last":
            last = np.zeros(len(start), np.int64)
            last[inverse] = np.arange(len(pair))  # later rows overwrite earlier ones
            kept = np.sort(last)
            return kept, rating[kept]
        if policy == "mean":
            mean, kept = np.bincount(inverse, weights=rating) / count, np.sort(start)
            return kept, mean[inverse[kept]].astype(np.float32)
        again = np.flatnonzero(start[inverse] != np.arange(len(pair)))
        rows = ", ".join(str(row + self.first) for row in again[:SHOWN])
        user, item = (self.ids(role)[int(again[0])] for role in ("user", "item"))
        raise DataError(
            f"{self.where}: {len(again)} ratings repeat a (user, item) pair "
            f"(rows {rows}{', ...' if len(again) > SHOWN else ''}; the first: user {user!r}, item {item!r}). "
            "Say what to do: repeated='last' or 'mean' (--repeated last|mean)"
        )


def find_columns(columns: Sequence[str], given: Mapping[str, str | None], where: str) -> dict[str, str]:
    """Column names by role: as given, else by position in a table without header, else by name.

    Raises:
        DataError: a given column does not exist, or none is found for users, items or ratings.
    """
    found: dict[str, str] = {}
    by_position = dict(zip(ROLES, columns, strict=False)) if columns[0] == "column_1" else {}
    for role, names in ROLES.items():
        column = given.get(role)
        if column is not None and column not in columns:
            raise DataError(f"{where}: no column {column!r}. Available: {', '.join(columns)}")
        column = column or by_position.get(role) or guess_column(columns, names)
        if column is not None:
            found[role] = column
        elif role != "time":
            raise DataError(
                f"{where}: cannot tell which column holds the {role}. Available: {', '.join(columns)}. "
                f"Name it ({role}=... in Python, --{role}-column on the command line)"
            )
    return found


def guess_column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column whose name, without case, blanks and underscores, is the earliest of `names`."""
    simple = {"".join(c for c in column.lower() if c.isalnum()): column for column in reversed(columns)}
    return next((simple[name] for name in names if name in simple), None)


def clean_ids(column: pl.Series, where: str, first: int = 1) -> pl.Series:
    """Ids as text: whole floats lose their `.0`, text the blanks around it.

    Raises:
        DataError: an empty id, a fraction, or a column of a type that cannot hold ids.
    """
    if column.dtype == pl.Boolean or column.dtype.is_nested():
        raise DataError(f"{where}: column {column.name!r} holds {column.dtype} values, which cannot be ids")
    if column.dtype.is_float():
        broken = column.is_not_null() & (column != column.round()).fill_null(True)
        _refuse(broken, column, where, first, "is not an id; ids are text or whole numbers")
        column = column.cast(pl.Int64, strict=False)
    text = column.cast(pl.String).str.strip_chars()
    _refuse(text.is_null() | (text == ""), column, where, first, "is empty where an id must stand")
    return text


def _refuse(bad: pl.Series, column: pl.Series, where: str, first: int, why: str) -> None:
    if bad.any():
        rows = bad.arg_true()
        more = f" ({len(rows)} such rows)" if len(rows) > 1 else ""
        raise DataError(f"{where}: row {rows[0] + first}, column {column.name!r}: {column[rows[0]]!r} {why}{more}")
