"""Columns of a table of users (items): of which kind they are, and their conversion."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from aanmf.data.kinds import KINDS
from aanmf.data.options import MISSING
from aanmf.data.schema import Attribute


class Column(NamedTuple):
    """A column with its declaration, or with the reason why it is not an attribute."""

    attribute: Attribute | None
    values: pl.Series
    notice: str | None = None


def infer(column: pl.Series, declared: Attribute | None, missing: tuple[str, ...] = MISSING) -> Column:
    """Converts a column as declared, or as the kind that it looks like.

    | column | becomes |
    |---|---|
    | text | categorical |
    | text with `a|b` or `a;b`, lists of text | multi-valued |
    | few distinct whole numbers, booleans | categorical |
    | other numbers, also as text | numeric, cut at quantiles |
    | lists of numbers of one length | vector |
    | constant, empty, or text nearly all distinct | left out, with a notice |

    Raises:
        SchemaError: a cell does not fit the declared kind.
    """
    column = blank_out(column, missing)
    found = declared or _guess(column.drop_nulls())
    if isinstance(found, str):
        return Column(None, column, f"column {column.name!r} {found}: left out")
    return Column(found, KINDS[found.kind].convert(column, found))


def _guess(known: pl.Series) -> Attribute | str:
    distinct = known.n_unique()
    if distinct <= 1:
        return "has the same value in every row" if distinct else "is empty"
    return next(found for kind in KINDS.values() if (found := kind.infer(known)))


def blank_out(column: pl.Series, missing: tuple[str, ...]) -> pl.Series:
    """The column with stripped text, and null for texts of missing values and NaN."""
    if column.dtype in (pl.Categorical, pl.Enum) or column.dtype.is_temporal():
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        return text.set(text.is_in(list(missing)).fill_null(False), None)
    return column.fill_nan(None) if column.dtype.is_float() else column
