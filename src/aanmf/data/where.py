"""Which items (or users) have some attributes: `{"genres": "Drama", "year": (1990, 1999)}`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.dataset import EntityTable
from aanmf.errors import ConfigError

Where = Mapping[str, object]
"""A condition per attribute, all of which must hold. A value, or several of which one must be there; of a number a
pair (low, high), ends included, each of which may be None."""
SHOWN = 40


def rows_where(table: EntityTable, where: Where) -> NDArray[np.bool_]:
    """Rows (n,) that meet all conditions; a row whose attribute is missing does not.

    Raises:
        DataError: no such attribute.
        ConfigError: an attribute that cannot be filtered by, a value that no row has, or not a range of numbers.
    """
    found = np.ones(len(table), bool)
    for name, value in where.items():
        table.attribute(name)
        column = table.columns[name]
        if column.dtype.is_numeric():
            found &= _in_range(column, name, value)
        elif column.dtype in (pl.String, pl.List(pl.String)):
            found &= _with_label(column, name, value)
        else:
            raise ConfigError(f"where: {name!r} is a vector; give attributes with labels or numbers")
    return found


def _in_range(column: pl.Series, name: str, value: object) -> NDArray[np.bool_]:
    if isinstance(value, tuple | list) and len(value) == 1:
        (value,) = value
    low, high = value if isinstance(value, tuple | list) and len(value) == 2 else (value, value)
    try:
        ends = [None if end is None else float(end) for end in (low, high)]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ConfigError(
            f"where: {name!r} holds numbers, {value!r} is none: give a number or a pair (low, high)"
        ) from None
    numbers = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    low, high = (default if end is None else end for end, default in zip(ends, (-np.inf, np.inf), strict=True))
    return (numbers >= low) & (numbers <= high)


def _with_label(column: pl.Series, name: str, value: object) -> NDArray[np.bool_]:
    wanted = (
        [str(each) for each in value] if isinstance(value, Iterable) and not isinstance(value, str) else [str(value)]
    )
    labels = column.explode() if column.dtype == pl.List(pl.String) else column
    known = labels.drop_nulls().unique().sort().to_list()
    if strange := [label for label in wanted if label not in known]:
        near = difflib.get_close_matches(strange[0], known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
        raise ConfigError(
            f"where: no item has {name} {strange[0]!r}.{hint} Available: {', '.join(known[:SHOWN]) or 'none'}{more}"
        )
    if column.dtype == pl.String:
        return column.is_in(wanted).fill_null(False).to_numpy()
    return column.list.eval(pl.element().is_in(wanted)).list.any().fill_null(False).to_numpy()
