"""Columns of a table of users (items): of which kind they are, and their conversion."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.cells import OPAQUE, are_numbers, blank_out, dates, numbers
from aanmf.data.codes import FEW, words_of
from aanmf.data.kinds import KINDS
from aanmf.data.options import MISSING, ask_to_read
from aanmf.data.schema import Attribute, Kind
from aanmf.errors import SchemaError

DIRTY = 0.05
"""Up to this share of cells of a numeric column may be something else: they count as missing."""
PLAUSIBLE = {"age": (0, 120), "year": (1000, 2100)}
"""Lowest and highest plausible value of a column with this word in its name."""
SHOWN = 3


class Column(NamedTuple):
    """A column with its declaration, or with the reason why it is not an attribute.

    Attributes:
        attribute: None if the column is left out.
        values: the cells as the kind has them.
        notice: why it is left out, or what is odd about it.
        distinct: left out because nearly all values are distinct, as titles are.
    """

    attribute: Attribute | None
    values: pl.Series
    notice: str | None = None
    distinct: bool = False


def infer(column: pl.Series, declared: Attribute | None, missing: tuple[str, ...] = MISSING) -> Column:
    """Converts a column as declared, or as the kind that it looks like.

    | column | becomes |
    |---|---|
    | text | categorical |
    | text with `a|b` or `a;b`, lists of text | multi-valued |
    | few distinct whole numbers, numbers that look like codes, booleans | categorical |
    | other numbers, also as text, of which up to 5 % are something else | numeric, cut at quantiles |
    | dates | numeric: the year, with decimals |
    | lists of numbers of one length | vector |
    | constant, empty, or text nearly all distinct | left out, with a notice |

    Raises:
        SchemaError: a cell does not fit the declared kind.
    """
    if column.dtype in OPAQUE:
        if declared is not None:
            raise SchemaError(f"attribute {column.name!r} holds {column.dtype} values; give numbers or text")
        return Column(None, column, f"column {column.name!r} holds {column.dtype} values: left out")
    column, notices = blank_out(column, missing), list[str]()
    if declared is None or declared.kind is Kind.NUMERIC:
        column, notice = _dates_as_years(column)
        cleaned, dirty = _without_dirt(column, declared)
        column, notices = cleaned, [each for each in (notice, dirty) if each]
    if column.dtype.is_temporal():
        column = column.cast(pl.String)
    known = column.drop_nulls()
    found = _with_separator(declared, known) if declared else _guess(known)
    if isinstance(found, str):
        distinct = found.startswith("is nearly all distinct")
        use = "multi-valued:," if _are_lists(known) else "categorical"
        way = f". {ask_to_read(column.name, use)} uses it" if distinct else ""
        return Column(None, column, f"column {column.name!r} {found}: left out{way}", distinct and _is_text(known))
    values = KINDS[found.kind].convert(column, found)
    if found.kind is Kind.NUMERIC and (odd := _odd_values(values)):
        notices.append(odd)
    if declared is None and found.kind is Kind.CATEGORICAL and _are_lists(known):
        lists = ask_to_read(column.name, "multi-valued:,")
        notices.append(f"holds commas: each cell is read as one label. {lists} reads lists")
    if declared is None and found.kind is Kind.CATEGORICAL and are_numbers(known) and known.n_unique() > FEW:
        codes = f"holds {known.n_unique()} distinct whole numbers that look like codes: read as labels"
        notices.append(f"{codes}. {ask_to_read(column.name, 'numeric')} reads numbers")
    return Column(found, values, f"column {column.name!r} {'; '.join(notices)}" if notices else None)


def _guess(known: pl.Series) -> Attribute | str:
    distinct = known.n_unique()
    if distinct <= 1:
        return "has the same value in every row" if distinct else "is empty"
    return next(found for kind in KINDS.values() if (found := kind.infer(known)))


def _is_text(known: pl.Series) -> bool:
    """Whether a column could hold titles: short text, no addresses."""
    if known.dtype != pl.String or are_numbers(known) or known.str.contains(r"^\w+://|^www\.|@").any():
        return False
    return float(known.str.len_chars().mean() or 0) <= 80  # type: ignore[arg-type]


def _are_lists(known: pl.Series) -> bool:
    """Whether most cells are text with commas."""
    return known.dtype == pl.String and known.str.contains(",", literal=True).sum() > 0.5 * len(known)


def _with_separator(declared: Attribute, known: pl.Series) -> Attribute:
    """A multi-valued attribute with the separator that its cells contain, if none is stated."""
    if declared.kind is not Kind.MULTIVALUED or "separator" in declared.model_fields_set or known.dtype != pl.String:
        return declared
    found = next((each for each in ("|", ";", ",") if known.str.contains(each, literal=True).any()), "|")
    return declared.model_copy(update={"separator": found})


def _dates_as_years(column: pl.Series) -> tuple[pl.Series, str | None]:
    """A column of dates as the year with decimals: 2 July 1995 is 1995.5."""
    if not (column.dtype.is_temporal() or column.dtype == pl.String) or column.dtype in (pl.Duration, pl.Time):
        return column, None
    if column.dtype == pl.String:
        first = column.drop_nulls().head(1)
        if not len(first) or dates(first).has_nulls():
            return column, None
    found = dates(column)
    if found.null_count() > column.null_count():
        return column, None
    years = (found.dt.year() + (found.dt.ordinal_day() - 1) / 365.25).round(2).cast(pl.Float64)
    return years.alias(column.name), "holds dates: read as the year, with decimals"


def _without_dirt(column: pl.Series, declared: Attribute | None) -> tuple[pl.Series, str | None]:
    """A text column that holds numbers up to a few cells, which become empty, and a notice of these."""
    if column.dtype != pl.String:
        return column, None
    found, known = numbers(column), column.drop_nulls()
    dirty = column.filter(found.is_null() & column.is_not_null())
    if not 0 < len(dirty) <= DIRTY * len(known):
        return column, None
    clean = column.set(found.is_null(), None)
    kind = declared or _guess(clean.drop_nulls())
    if isinstance(kind, str) or kind.kind is not Kind.NUMERIC:
        return column, None
    shown = ", ".join(map(repr, dirty.unique(maintain_order=True)[:SHOWN].to_list()))
    return clean, f"holds {len(dirty)} cells that are not numbers ({shown}): they count as missing"


def _odd_values(column: pl.Series) -> str | None:
    """A notice of values that can hardly be meant."""
    known = column.drop_nulls().to_numpy()
    if len(known) < 10:
        return None
    low, high = next((PLAUSIBLE[word] for word in words_of(column.name) if word in PLAUSIBLE), (-np.inf, np.inf))
    odd = (known < low) | (known > high) | _is_code_for_missing(known) | _is_isolated(known)
    if not odd.any() or odd.mean() > 0.1:
        return None
    values, counts = np.unique(known[odd], return_counts=True)
    shown = [f"{value:g} ({count} row{'s' if count > 1 else ''})" for value, count in zip(values, counts, strict=True)]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    options = " ".join(f"--missing {value:g}" for value in values[:SHOWN])
    listed = ", ".join(shown[:SHOWN])
    return f"holds unlikely values: {listed}{more}. If they stand for missing values: missing=... ({options})"


def _is_code_for_missing(known: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a single negative value stands among numbers that are not negative, such as -1."""
    negative = known < 0
    return negative if len(np.unique(known[negative])) == 1 else np.zeros(len(known), bool)


def _is_isolated(known: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where at most 1 % of the numbers (or one) lie far from the others, with a wide gap between."""
    low, high = np.quantile(known, [0.25, 0.75])
    few, values = max(1, len(known) // 100), np.sort(known)
    far = np.zeros(len(known), bool)
    if high == low:
        return far
    gaps = np.diff(values) > 5 * (high - low)
    if above := np.flatnonzero(gaps[-few:]).tolist():
        far |= known > values[len(values) - 1 - few + above[0]]
    if below := np.flatnonzero(gaps[:few]).tolist():
        far |= known <= values[below[-1]]
    return far


def joined_columns(
    columns: Mapping[str, pl.Series], stated: Container[str], missing: tuple[str, ...]
) -> tuple[dict[str, pl.Series], list[str]]:
    """Columns such as `genre1`, `genre2`, `genre3` as one column of lists, `genre`.

    They are joined where they hold the same labels, none of them twice in a row; columns that something is stated of
    stay as they are.

    Returns:
        The columns, and a notice for each that was joined.
    """
    groups: dict[str, list[str]] = {}
    for name, column in columns.items():
        numbered = re.fullmatch(r"(.*[^\d_ ])[_ ]?\d+", name)
        if numbered and name not in stated and column.dtype == pl.String and numbered[1] not in ("column", "unnamed"):
            groups.setdefault(numbered[1], []).append(name)
    joined, notices = dict(columns), list[str]()
    for stem, names in groups.items():
        cells = [blank_out(columns[name], missing).alias(name) for name in names]
        if stem in columns or len(names) < 2 or not _share_labels(cells):
            continue
        lists = pl.DataFrame(cells).select(pl.concat_list(pl.all()).list.drop_nulls().alias(stem)).to_series()
        position = list(joined).index(names[0])
        kept = [(name, column) for name, column in joined.items() if name not in names]
        joined = dict([*kept[:position], (stem, lists), *kept[position:]])
        apart = ask_to_read(names[0], "categorical")
        notices.append(f"columns {', '.join(map(repr, names))} are read as one, {stem!r}; {apart} keeps one apart")
    return joined, notices


def _share_labels(cells: list[pl.Series]) -> bool:
    """Whether columns hold the same labels, and no row a label twice."""
    labels = [set(each.drop_nulls().to_list()) for each in cells]
    if len(set().union(*labels)) <= len(cells) or any(are_numbers(each.drop_nulls()) for each in cells):
        return False
    for own, k in zip(labels, range(len(labels)), strict=True):
        others = set().union(*labels[:k], *labels[k + 1 :])
        if 2 * len(own & others) < len(own):
            return False
    rows = pl.DataFrame(cells).select(pl.concat_list(pl.all()).list.drop_nulls().alias("row"))["row"]
    return bool((rows.list.n_unique() == rows.list.len()).all())
