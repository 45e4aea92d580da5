"""Usual names of the columns of a table of ratings."""

from __future__ import annotations

USER_NAMES = ("user", "userid", "uid", "customer", "customerid", "reviewer", "reviewerid", "member", "memberid")
ITEM_NAMES = (
    *("item", "itemid", "iid", "movie", "movieid", "film", "filmid", "product", "productid", "book", "bookid"),
    *("isbn", "asin", "place", "placeid", "artist", "artistid", "song", "songid", "anime", "animeid", "business"),
    *("businessid", "restaurant", "restaurantid", "joke", "jokeid", "track", "trackid", "game", "gameid"),
)
RATING_NAMES = ("rating", "ratings", "score", "stars", "value", "bookrating", "overall", "label")
TIME_NAMES = (
    *("timestamp", "time", "date", "datetime", "ts", "tstamp", "createdat", "ratedat", "unixreviewtime", "reviewtime"),
    *("reviewdate", "ratingtime", "ratingdate", "ratingtimestamp", "unixtime", "updatedat", "playedat", "boughtat"),
)
ROLES = {"user": USER_NAMES, "item": ITEM_NAMES, "rating": RATING_NAMES, "time": TIME_NAMES}
"""Usual names of the columns of ratings by role, in lower case and without blanks and underscores."""


def simple_name(column: str) -> str:
    """A name in lower case, without blanks and underscores."""
    return "".join(c for c in column.lower() if c.isalnum())
