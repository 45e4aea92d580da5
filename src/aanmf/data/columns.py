"""Which column of a table holds users, items, ratings and times: as stated, or found by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def find_columns(columns: Sequence[str], given: Mapping[str, str | None], where: str) -> dict[str, str]:
    """Column names by role: as given, else by position in a table without header, else by name.

    There may be no ratings where the columns of the other roles are all that the table has.

    Raises:
        DataError: a given column does not exist, or none is found for users, items or ratings.
    """
    found: dict[str, str] = {}
    missing: list[str] = []
    by_position = dict(zip(ROLES, columns, strict=False)) if columns[0] == "column_1" else {}
    for role, names in ROLES.items():
        column = given.get(role)
        if column is not None and column not in columns:
            raise DataError(f"{where}: no column {column!r}. Available: {', '.join(columns)}")
        column = column or by_position.get(role) or guess_column(columns, names)
        if column is not None:
            found[role] = column
        elif role != "time":
            missing.append(role)
    others = set(columns) - set(found.values())
    if missing and (missing != ["rating"] or others):
        role = missing[0]
        raise DataError(
            f"{where}: cannot tell which column holds the {role}. Available: {', '.join(columns)}. "
            f"Name it ({role}=... in Python, --{role}-column on the command line)"
        )
    return found


def guess_column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column whose name, without case, blanks and underscores, is the earliest of `names`."""
    simple = {"".join(c for c in column.lower() if c.isalnum()): column for column in reversed(columns)}
    return next((simple[name] for name in names if name in simple), None)
