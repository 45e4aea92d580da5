"""The list that a page shows: how it is ranked and filtered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from aanmf.errors import ConfigError
from aanmf.fitted import EntitySide
from aanmf.ranking import RANK_BY, ListOptions, RankBy

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

LENGTHS = (10, 20, 50)
"""Items of a list."""
WORDS: Mapping[RankBy, str] = {
    "match": "what the user is likely to choose and like",
    "rating": "predicted rating",
    "low": "predicted rating, on the safe side",
}
MOST_CHOICES = 300
"""Values of an attribute to choose from; where there are more, one is typed."""
IS, FROM, TO = "is.", "from.", "to."
"""Stand before an attribute's name in the page's queries: `/?user=1&is.genres=Drama&from.year=1990`."""
LINE = 120
"""Characters of an item's attributes in a list."""


@dataclass(frozen=True)
class ListChoice:
    """What the reader chose about the list.

    Attributes:
        n: items.
        rank_by: one of those that the model offers; None: its default.
        diversity: from 0 to 0.9.
        seen: also items that the user has rated.
        where: conditions as the address has them, by the name of the field: `is.genres`, `from.year`, `to.year`.
    """

    n: int
    rank_by: RankBy | None
    diversity: float
    seen: bool
    where: Mapping[str, str]

    def fields(self) -> list[tuple[str, str]]:
        """Name and value of every field that says what is not as usual, for links and forms."""
        usual = {"n": str(LENGTHS[0]), "rank_by": "", "diversity": "0", "seen": ""}
        own = {"n": str(self.n), "rank_by": self.rank_by or "", "diversity": f"{self.diversity:g}"}
        own["seen"] = "1" if self.seen else ""
        return [(name, own[name]) for name in usual if own[name] != usual[name]] + list(self.where.items())

    def options(self, interval: float | None) -> ListOptions:
        """As the model takes it.

        Raises:
            ConfigError: a limit that is not a number.
        """
        conditions: dict[str, Any] = {}
        for field, value in self.where.items():
            if field.startswith(IS):
                conditions[field.removeprefix(IS)] = value
        for at, prefix in enumerate((FROM, TO)):
            for field, value in self.where.items():
                if field.startswith(prefix):
                    conditions.setdefault(field.removeprefix(prefix), [None, None])[at] = _number(field, value)
        return ListOptions(self.n, self.rank_by, interval, seen=self.seen, where=conditions, diversity=self.diversity)


def read_choice(query: QueryParams) -> ListChoice:
    """What an address says about the list.

    Raises:
        ConfigError: a length, a way to rank or a diversity that the page does not offer.
    """
    rank_by, n, diversity = query.get("rank_by") or None, query.get("n", "10"), query.get("diversity") or "0"
    if rank_by is not None and rank_by not in RANK_BY:
        raise ConfigError(f"rank_by={rank_by!r}. Available: {', '.join(RANK_BY)}")
    if n not in map(str, LENGTHS):
        raise ConfigError(f"n={n!r}. Available: {', '.join(map(str, LENGTHS))}")
    where = {name: value.strip() for name, value in query.items() if name.startswith((IS, FROM, TO)) and value.strip()}
    return ListChoice(int(n), rank_by, _number("diversity", diversity), bool(query.get("seen")), where)


def filter_fields(items: EntitySide) -> list[dict[str, Any]]:
    """Attributes of the items that a list can be filtered by: name, `choices` of labels, `number`."""
    fields: list[dict[str, Any]] = []
    for name in items.table.names:
        column = items.table.columns[name]
        if column.dtype.is_numeric():
            fields.append({"name": name, "number": True, "choices": []})
        elif column.dtype in (pl.String, pl.List(pl.String)):
            labels = column.explode() if column.dtype == pl.List(pl.String) else column
            choices = labels.drop_nulls().unique().sort().to_list()
            fields.append({"name": name, "number": False, "choices": choices if len(choices) <= MOST_CHOICES else []})
    return fields


def item_row(items: EntitySide, at: int) -> dict[str, object]:
    """An item as lists show it: `item`, `title`, `facts`."""
    return {"item": items.ids[at], "title": items.label(at) or items.ids[at], "facts": facts(items, at)}


def facts(side: EntitySide, position: int) -> str:
    """The attributes of an item (or user) in one line, as they were given."""
    columns = (side.table.columns[name] for name in side.table.names)
    return shorten(" · ".join(word for column in columns if (word := _words(column, position))), LINE, placeholder=" …")


def _number(field: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise ConfigError(f"{field}={text!r}: give a number")
    return number


def _words(column: pl.Series, position: int) -> str:
    value = column[position]
    if value is None or column.dtype == pl.List(pl.Float64):
        return ""
    if isinstance(value, pl.Series):
        return ", ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
