"""Whole numbers that number something, such as directors 1 to 815, told from those that measure it."""

from __future__ import annotations

import re

import polars as pl

from aanmf.data.cells import numbers

FEW = 20
"""Up to this many distinct whole numbers, each found twice on average, are labels; more are numbers."""
QUANTITIES = {
    *("age", "year", "price", "cost", "weight", "height", "length", "size", "count", "number", "num", "n", "amount"),
    *("minutes", "duration", "runtime", "pages", "salary", "income", "budget", "revenue", "votes", "score", "rating"),
    *("popularity", "population", "distance"),
}
"""Words in names of columns whose whole numbers measure something."""
CODES = {"id", "ids", "code", "codes", "zip", "zipcode", "postcode", "plz", "key"}
"""Last words of names of columns whose whole numbers are codes."""


def looks_like_codes(known: pl.Series) -> bool:
    """Whether a column without empty cells holds codes: many whole numbers without an order.

    It does if it is named so, or if its numbers count from 0 or 1 almost without gaps, or lie far apart and repeat.
    """
    words, found = words_of(known.name), numbers(known)
    if (found != found.round()).any() or QUANTITIES.intersection(words):
        return False
    if words and words[-1] in CODES:
        return True
    distinct = found.n_unique()
    low, high = float(found.min() or 0), float(found.max() or 0)  # type: ignore[arg-type]
    counted = low in (0, 1) and distinct > FEW and distinct >= 0.8 * (high - low + 1)
    round_numbers = float((found % 10 == 0).sum()) >= 0.5 * len(found)
    return counted or (len(found) >= 2 * distinct and high - low > 100 * distinct and not round_numbers)


def words_of(name: str) -> list[str]:
    """The words of a column's name: `Year-Of-Publication`, `birthYear`."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
