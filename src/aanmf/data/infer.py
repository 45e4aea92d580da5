"""Attribute columns: which kind they are, and their conversion to the form that a data set keeps."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from aanmf.data.schema import Attribute, Kind
from aanmf.errors import SchemaError

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "none given")
"""Text that stands for an empty cell."""
FEW = 20
"""Up to so many distinct whole numbers, each met twice on average, are labels; more are numbers."""
TITLES = ("title", "name", "label")
"""Columns that a person reads in place of the id."""


@dataclass(frozen=True)
class Column:
    """An attribute with its values, or the reason why a column is none.

    Exactly one of `attribute` and `notice` is set.
    """

    attribute: Attribute | None
    values: pl.Series
    notice: str | None = None


def infer(column: pl.Series, stated: Attribute | None, missing: tuple[str, ...] = MISSING) -> Column:
    """Converts a column as stated, or finds out what it is.

    | column | becomes |
    |---|---|
    | text | categorical |
    | text with `a|b` or `a;b`, lists of text | multi-valued |
    | few distinct whole numbers, booleans | categorical |
    | other numbers, also as text | numeric, cut at quantiles |
    | lists of numbers of one length | vector |
    | constant, empty, or text nearly all distinct | left out, with a notice |

    Raises:
        SchemaError: a cell does not fit the stated kind.
    """
    column = blank_out(column, missing)
    if stated is not None:
        return Column(stated, convert(column, stated))
    known = column.drop_nulls()
    distinct = known.n_unique()
    if distinct <= 1:
        return _out(column, "is empty" if distinct == 0 else "has the same value in every row")
    if known.dtype.is_nested():
        return _infer_lists(column, known)
    if known.dtype == pl.Boolean:
        return _as(column, Kind.CATEGORICAL)
    if _are_numbers(known):
        return _infer_numbers(column, known, distinct)
    text = known.cast(pl.String)
    for separator in ("|", ";"):
        if text.str.contains(separator, literal=True).mean() >= 0.02:  # type: ignore[operator]
            return _as(column, Kind.MULTIVALUED, separator=separator)
    if column.name.lower() in TITLES or _nearly_distinct(distinct, len(known)):
        return _out(column, f"is nearly all distinct ({distinct} values in {len(known)} rows)")
    return _as(column, Kind.CATEGORICAL)


def blank_out(column: pl.Series, missing: tuple[str, ...]) -> pl.Series:
    """Text stripped of blanks, markers of missing values and NaN turned into null."""
    if column.dtype in (pl.Categorical, pl.Enum) or column.dtype.is_temporal():
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        return text.set(text.is_in(list(missing)).fill_null(False), None)
    return column.fill_nan(None) if column.dtype.is_float() else column


def convert(column: pl.Series, attribute: Attribute) -> pl.Series:
    """A column (blanked out) in the form that its kind has in a data set.

    Raises:
        SchemaError: naming the first cell that does not fit.
    """
    match attribute.kind:
        case Kind.CATEGORICAL:
            if column.dtype.is_nested():
                raise SchemaError(f"attribute {column.name!r} holds lists; declare it multi-valued or vector")
            return _labels(column)
        case Kind.MULTIVALUED:
            return _lists(column, attribute.separator)
        case Kind.NUMERIC:
            return _numbers(column)
        case Kind.VECTOR:
            return _vectors(column, attribute.separator)


def _as(column: pl.Series, kind: Kind, **options: str) -> Column:
    attribute = Attribute(name=column.name, kind=kind, **options)  # type: ignore[arg-type]
    return Column(attribute, convert(column, attribute))


def _out(column: pl.Series, why: str) -> Column:
    return Column(None, column, f"column {column.name!r} {why}: left out")


def _infer_lists(column: pl.Series, known: pl.Series) -> Column:
    inner = known.explode().drop_nulls()
    if inner.dtype.is_numeric():
        lengths = known.list.len() if isinstance(known.dtype, pl.List) else None
        if lengths is not None and lengths.n_unique() > 1:
            return _out(column, "holds lists of numbers of different lengths")
        return _as(column, Kind.VECTOR)
    return _as(column, Kind.MULTIVALUED)


def _infer_numbers(column: pl.Series, known: pl.Series, distinct: int) -> Column:
    numbers = known.cast(pl.Float64)
    whole = bool((numbers == numbers.round()).all())
    if whole and distinct <= FEW and len(known) >= 2 * distinct:
        return _as(column, Kind.CATEGORICAL)
    return _as(column, Kind.NUMERIC)


def _are_numbers(known: pl.Series) -> bool:
    if known.dtype.is_numeric():
        return True
    if known.dtype != pl.String or known.str.contains(r"^[+-]?0\d").any():  # 01234 is a code, not a number
        return False
    return known.cast(pl.Float64, strict=False).is_not_null().all()


def _nearly_distinct(distinct: int, n: int) -> bool:
    return distinct > 0.5 * n and (distinct > FEW or distinct == n >= 10)


def _labels(column: pl.Series) -> pl.Series:
    """Whole floats lose their `.0`, so that 1 and 1.0 are one label."""
    if column.dtype.is_float() and bool((column.drop_nulls() == column.drop_nulls().round()).all()):
        column = column.cast(pl.Int64)
    return column.cast(pl.String)


def _lists(column: pl.Series, separator: str) -> pl.Series:
    lists = column if column.dtype.is_nested() else _labels(column).str.split(separator)
    if isinstance(lists.dtype, pl.Array):
        lists = lists.arr.to_list()
    cells = lists.cast(pl.List(pl.String)).list.eval(
        pl.element().str.strip_chars().filter(pl.element().str.strip_chars().str.len_chars() > 0)
    )
    return cells.set((cells.list.len() == 0).fill_null(False), None)


def _numbers(column: pl.Series) -> pl.Series:
    if column.dtype.is_nested():
        raise SchemaError(f"attribute {column.name!r} holds lists; declare it vector or multi-valued")
    numbers = column.cast(pl.Float64, strict=False)
    bad = (numbers.is_null() & column.is_not_null()) | (numbers.is_infinite() | numbers.is_nan()).fill_null(False)
    if bad.any():
        row = bad.arg_true()[0]
        raise SchemaError(
            f"attribute {column.name!r}: row {row + 1} holds {column[row]!r}, which is not a finite number; "
            "correct it, leave the cell empty, or declare the attribute categorical"
        )
    return numbers


def _vectors(column: pl.Series, separator: str) -> pl.Series:
    if column.dtype == pl.String:
        column = column.str.split(separator)
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if not isinstance(column.dtype, pl.List):
        raise SchemaError(f"attribute {column.name!r}: a vector needs lists of numbers, not {column.dtype}")
    vectors = column.cast(pl.List(pl.Float64), strict=False)
    lengths = vectors.list.len().drop_nulls()
    if lengths.n_unique() > 1:
        raise SchemaError(
            f"attribute {column.name!r}: vectors of {lengths.min()} to {lengths.max()} numbers; "
            "all must have one length"
        )
    inner = vectors.drop_nulls().explode()
    if inner.is_null().any() or not inner.is_finite().all():
        raise SchemaError(f"attribute {column.name!r}: a vector holds something that is not a finite number")
    return vectors
