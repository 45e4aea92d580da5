"""The report on how tables were read: what each column is used for, and what its cells hold."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf import html
from aanmf.data.attributes import AttributeTable
from aanmf.data.entities import EntityTable
from aanmf.data.kinds import KINDS
from aanmf.data.schema import Attribute
from aanmf.errors import DataWarning

BARS = " ▁▂▃▄▅▆▇█"
BINS = 10
"""Bars of a histogram: ranges of a number, or the most frequent labels."""
HEADS = ("name", "kind", "values", "missing", "histogram", "examples")


@dataclass(frozen=True)
class AttributeReport:
    """What the cells of one attribute hold.

    Attributes:
        name: of the column.
        kind: of the attribute.
        values: number of distinct values; None for vectors.
        missing: number of empty cells.
        examples: the most frequent labels, or the range of the numbers.
        histogram: range or label, and its number of cells; of numbers all in order, of labels the most frequent.
    """

    name: str
    kind: str
    values: int | None
    missing: int
    examples: str
    histogram: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, attribute: Attribute, column: pl.Series) -> AttributeReport:
        """Counts the cells of a converted column."""
        values, examples = KINDS[attribute.kind].summarise(column, attribute)
        counts = histogram(column)
        return cls(attribute.name, attribute.kind.value, values, column.null_count(), examples, counts)

    @property
    def bars(self) -> str:
        """The histogram as text."""
        return bars([count for _, count in self.histogram])

    @property
    def cells(self) -> tuple[object, ...]:
        """A row of a table with `HEADS`."""
        return (self.name, self.kind, self.values, self.missing, self.bars, self.examples)


@dataclass(frozen=True)
class ReadingReport:
    """How tables of ratings, users and items were read.

    >>> from aanmf import load_restaurants
    >>> report = load_restaurants().report()
    >>> report.ratings, report.scale
    (1161, (0.0, 2.0))

    Attributes:
        name: of the data set.
        fingerprint: of its ratings.
        ratings: number of ratings, or of choices.
        has_ratings: whether the rows have ratings.
        scale: lowest and highest rating: as stated, else as found; NaN without ratings.
        mean: of the ratings.
        rating_counts: number of ratings by value, where there are few values.
        users, items: number of users (items).
        rated_users, rated_items: number of users (items) with ratings.
        density: share of all pairs of these that is rated.
        time: first and last time as ISO dates (UTC); None: there are no times.
        splits: names of the splits that come with the data.
        columns: names of the columns of ratings by role, and of the labels of users and items.
        attributes: of `users` and `items`, in the order of the columns; of `ratings` where there is a context.
        notices: what was guessed, left out or looks wrong, and what to do.
        context: names of what belongs to single ratings.
    """

    name: str
    fingerprint: str
    ratings: int
    has_ratings: bool
    scale: tuple[float, float]
    mean: float
    rating_counts: Mapping[str, int]
    users: int
    rated_users: int
    items: int
    rated_items: int
    density: float
    time: tuple[str, str] | None
    splits: tuple[str, ...]
    columns: Mapping[str, str]
    attributes: Mapping[str, tuple[AttributeReport, ...]]
    notices: tuple[str, ...]
    context: tuple[str, ...] = ()

    def facts(self) -> list[tuple[str, str]]:
        """Names and values of what is not an attribute, to be shown line by line."""
        low, high = self.scale
        columns = ", ".join(f"{role}: {name}" for role, name in self.columns.items())
        what = f"{self.ratings:,} from {low:g} to {high:g}, mean {self.mean:.2f}" if self.ratings else "0"
        counts = ", ".join(f"{value}: {count:,}" for value, count in self.rating_counts.items())
        return [
            ("source", self.name),
            ("ratings", what) if self.has_ratings else ("choices", f"{self.ratings:,}"),
            *([("of each", counts)] if counts and self.has_ratings else []),
            ("users", f"{self.users:,} ({self.rated_users:,} with ratings)"),
            ("items", f"{self.items:,} ({self.rated_items:,} with ratings)"),
            ("density", f"{100 * self.density:.2f} % of all pairs"),
            ("times", " to ".join(self.time) if self.time else "none"),
            ("own splits", ", ".join(self.splits) or "none"),
            *([("context", ", ".join(self.context))] if self.context else []),
            *([("columns", columns)] if columns else []),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [f"{name:<11} {value}" for name, value in self.facts()]
        for side, attributes in self.attributes.items():
            lines.append(f"\nAttributes of {side}: {'' if attributes else 'none'}".rstrip())
            rows = [HEADS, *(tuple("" if c is None else str(c) for c in each.cells) for each in attributes)]
            widths = [max(len(row[j]) for row in rows) for j in range(len(HEADS))]
            if attributes:
                lines += ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        if self.notices:
            lines += ["\nNotices:", *(f"- {notice}" for notice in self.notices)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks."""
        parts = [html.facts(self.facts())]
        for side, attributes in self.attributes.items():
            names = ", ".join(each.name for each in attributes) or "none"
            rows = html.table(HEADS, [each.cells for each in attributes])
            parts.append(html.fold(f"attributes of {side}: {names}", rows))
        if self.notices:
            parts.append(html.fold("notices", *map(html.line, self.notices)))
        return html.block(f"How {self.name} was read", *parts)


def notices_of(ratings: Iterable[str], users: EntityTable, items: EntityTable) -> tuple[str, ...]:
    """All notices of a reading, with the table that they are about."""
    parts = {"ratings": ratings, "users": users.notices, "items": items.notices}
    return tuple(f"{table}: {notice}" for table, notices in parts.items() for notice in notices)


def warn_of(name: str, notices: Sequence[str]) -> None:
    """One `DataWarning` with all notices, if there are any, at the line that called the reader."""
    if notices:
        text = "\n".join((f"{name}: not everything was read as it stands", *(f"- {each}" for each in notices)))
        warnings.warn(text, DataWarning, stacklevel=4)


def histogram(column: pl.Series) -> tuple[tuple[str, int], ...]:
    """Counts of a converted column: of ranges of numbers, or of the most frequent labels; none of vectors."""
    known = column.drop_nulls()
    if known.dtype.is_numeric():
        return _ranges(known.to_numpy())
    labels = known.explode().drop_nulls() if known.dtype.is_nested() else known
    if labels.dtype != pl.String:
        return ()
    counts = labels.value_counts(sort=True).head(BINS)
    return tuple(zip(counts[counts.columns[0]].to_list(), counts["count"].to_list(), strict=True))


def bars(counts: Sequence[int]) -> str:
    """A bar for each count; only zero has none."""
    highest = max(counts, default=0)
    return "".join(BARS[0 if count == 0 else max(1, round(count / highest * (len(BARS) - 1)))] for count in counts)


def _ranges(known: NDArray[np.float64]) -> tuple[tuple[str, int], ...]:
    if not len(known):
        return ()
    counts, edges = np.histogram(known, BINS)
    ends = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    return tuple((f"{low:g} to {high:g}", count) for low, high, count in ends)


def attributes_of(table: AttributeTable) -> tuple[AttributeReport, ...]:
    """What the attributes of users (items, ratings) hold."""
    return tuple(AttributeReport.of(each, table.columns[each.name]) for each in table.attributes)


def date_of(seconds: int) -> str:
    """Seconds since 1970 as an ISO date (UTC)."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):  # numbers that are no times, such as positions
        return str(seconds)
