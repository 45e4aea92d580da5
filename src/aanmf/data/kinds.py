"""Attribute kinds: one class per kind, with everything the library knows about it.

A column of a table is inferred (or declared) and converted once, when it is read. A kind is then fitted on the cells
of the training users (items): labels, cut points, a centre. A fitted attribute encodes cells as values, weights and
masks, checks the cells of a new user, and describes encoded cells in words. A new kind is a class here, its entry in
`KINDS`, and its name in `aanmf.data.schema.Kind`. `FittedAttribute` documents the methods.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, SupportsFloat

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, FiniteFloat

from aanmf.data.attribute_kind import SHOWN, TITLES, Cells, FittedAttribute
from aanmf.data.cells import are_numbers, numbers
from aanmf.data.codes import FEW, looks_like_codes
from aanmf.data.schema import Attribute, Kind, Unseen
from aanmf.errors import SchemaError


class _Labelled(FittedAttribute):
    """What kinds with labels have in common."""

    has_labels: ClassVar[bool] = True

    @classmethod
    def summarise(cls, column: pl.Series, attribute: Attribute) -> tuple[int | None, str]:
        labels = _exploded(column.drop_nulls()).value_counts(sort=True)
        return labels.height, ", ".join(labels[labels.columns[0]].head(4).to_list())

    @classmethod
    def _learn(cls, attribute: Attribute, known: pl.Series) -> Self:
        return cls(attribute=attribute, labels=tuple(_exploded(known).unique().sort().to_list()))

    def _positions(self, labels: pl.Series) -> NDArray[np.int64]:
        """Position of each label among the known ones; -1 where missing or unseen."""
        known = self.known_labels
        position = labels.replace_strict(list(known), list(range(len(known))), default=-1, return_dtype=pl.Int64)
        result = position.fill_null(-1).to_numpy().copy()
        if self.attribute.unseen is Unseen.ERROR:
            unseen = labels.filter(pl.Series(result < 0)).drop_nulls().unique().sort().to_list()
            if unseen:
                raise SchemaError(f"attribute {self.name!r}: {unseen[0]!r} is {self.allowed()}")
        return result

    def _label(self, value: object) -> str:
        label = str(value).strip()
        if label not in self.labels:
            raise SchemaError(f"attribute {self.name!r}: {label!r} is {self.allowed()}")
        return label

    def _label_type(self) -> Any:
        known = self.known_labels
        if 0 < len(known) <= SHOWN:
            return Literal[known]
        among = frozenset(known)

        def check(label: str) -> str:
            if label not in among:
                raise ValueError(self.allowed())
            return label

        return Annotated[str, AfterValidator(check)]


class Categorical(_Labelled):
    """One label per cell: one value of weight 1."""

    dtype: ClassVar[pl.DataType] = pl.String()

    @classmethod
    def infer(cls, known: pl.Series) -> Attribute | str | None:
        """Booleans, few whole numbers, and text that repeats; the last kind to ask."""
        distinct, n = known.n_unique(), len(known)
        if known.dtype != pl.Boolean:
            nearly_distinct = distinct > 0.5 * n and (distinct > FEW or distinct == n >= 10)
            if nearly_distinct or (known.name.lower() in TITLES and not are_numbers(known)):
                return f"is nearly all distinct ({distinct} values in {n} rows)"
        return Attribute(name=known.name, kind=Kind.CATEGORICAL)

    @classmethod
    def convert(cls, column: pl.Series, attribute: Attribute) -> pl.Series:
        if column.dtype.is_nested():
            raise SchemaError(f"attribute {column.name!r} holds lists; declare it multi-valued or vector")
        return _as_text(column)

    def _encode(self, column: pl.Series) -> Cells:
        position = self._positions(column)[:, None]
        return Cells(position, np.ones(position.shape, np.float32), position >= 0)

    def _parse(self, value: object) -> object:
        return self._label(value)

    def cell_type(self) -> Any:
        return self._label_type()


class MultiValued(_Labelled):
    """A list of labels per cell: n values of weight 1/sqrt(n)."""

    dtype: ClassVar[pl.DataType] = pl.List(pl.String)
    is_list: ClassVar[bool] = True

    @classmethod
    def infer(cls, known: pl.Series) -> Attribute | str | None:
        """Lists, and text of which 2 % or more holds `|` or `;`."""
        if known.dtype.is_nested():
            return Attribute(name=known.name, kind=Kind.MULTIVALUED)
        if known.dtype == pl.String:
            for separator in ("|", ";"):
                if known.str.contains(separator, literal=True).sum() >= 0.02 * len(known):
                    return Attribute(name=known.name, kind=Kind.MULTIVALUED, separator=separator)
        return None

    @classmethod
    def convert(cls, column: pl.Series, attribute: Attribute) -> pl.Series:
        lists = column if column.dtype.is_nested() else _as_text(column).str.split(attribute.separator)
        stripped = pl.element().str.strip_chars()
        cells = _as_lists(lists).cast(cls.dtype).list.eval(stripped.filter(stripped.str.len_chars() > 0))
        return cells.set((cells.list.len() == 0).fill_null(False), None)

    def _encode(self, column: pl.Series) -> Cells:
        n = len(column)
        pairs = pl.DataFrame({"row": np.arange(n), "label": column}).explode("label").drop_nulls()
        pairs = pairs.unique(maintain_order=True)
        position = self._positions(pairs["label"])
        row, position = pairs["row"].to_numpy()[position >= 0], position[position >= 0]
        count = np.bincount(row, minlength=n)
        slot = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        width = max(1, int(count.max(initial=0)))
        value, mask = np.zeros((n, width), np.int64), np.zeros((n, width), bool)
        value[row, slot], mask[row, slot] = position, True
        weight = mask / np.sqrt(np.maximum(count, 1))[:, None]
        return Cells(value, weight.astype(np.float32), mask)

    def _parse(self, value: object) -> object:
        if isinstance(value, str):
            value = value.split(self.attribute.separator)
        return [self._label(label) for label in (value if isinstance(value, Iterable) else [value])]

    def cell_type(self) -> Any:
        label: Any = self._label_type()
        return Annotated[list[label], Field(max_length=1000)]


class Numeric(FittedAttribute):
    """A number per cell: the value of its group, or one value weighted by the standardised number."""

    dtype: ClassVar[pl.DataType] = pl.Float64()

    @classmethod
    def infer(cls, known: pl.Series) -> Attribute | str | None:
        """Numbers, also as text, unless they are a few whole ones that repeat, or look like codes."""
        if known.dtype == pl.Boolean or not are_numbers(known):
            return None
        found, distinct = numbers(known), known.n_unique()
        few = distinct <= FEW and len(known) >= 2 * distinct and bool((found == found.round()).all())
        return None if few or looks_like_codes(known) else Attribute(name=known.name, kind=Kind.NUMERIC)

    @classmethod
    def convert(cls, column: pl.Series, attribute: Attribute) -> pl.Series:
        if column.dtype.is_nested():
            raise SchemaError(f"attribute {column.name!r} holds lists; declare it vector or multi-valued")
        found = numbers(column)
        bad = found.is_null() & column.is_not_null()
        if bad.any():
            row = bad.arg_true()[0]
            raise SchemaError(
                f"attribute {column.name!r}: row {row + 1} holds {column[row]!r}, which is not a finite number; "
                "correct it, leave the cell empty, or declare the attribute categorical"
            )
        return found

    @classmethod
    def summarise(cls, column: pl.Series, attribute: Attribute) -> tuple[int | None, str]:
        known = column.drop_nulls().to_numpy()
        if not len(known):
            return 0, ""
        how = "standardised" if attribute.groups is None and attribute.cuts is None else "in groups"
        return len(np.unique(known)), f"{known.min():g} to {known.max():g}, {how}"

    @classmethod
    def _learn(cls, attribute: Attribute, known: pl.Series) -> Self:
        numbers = known.to_numpy()
        if attribute.cuts is not None:
            cuts = attribute.cuts
        elif attribute.groups is not None:
            cuts = _quantile_cuts(numbers, attribute.groups)
        else:
            mean, deviation = (float(numbers.mean()), float(numbers.std())) if len(numbers) else (0.0, 1.0)
            return cls(attribute=attribute, labels=(attribute.name,), center=(mean,), deviation=deviation or 1.0)
        return cls(attribute=attribute, labels=_group_labels(cuts), cuts=cuts)

    def _encode(self, column: pl.Series) -> Cells:
        number = column.cast(pl.Float64).fill_null(np.nan).to_numpy()[:, None]
        mask = ~np.isnan(number)
        if self.cuts is not None:
            group = np.searchsorted(np.array(self.cuts), number, side="right")
            return Cells(group, np.ones(number.shape, np.float32), mask)
        standardised = self._standardised(np.where(mask, number, self.center[0]))
        return Cells(np.zeros(number.shape, np.int64), standardised, mask)

    def _parse(self, value: object) -> object:
        return _finite(self.name, value)

    def describe(self, value: Sequence[int], weight: Sequence[float]) -> str:
        if self.cuts is None and value[0] == 0:
            return f"{weight[0] * self.deviation + self.center[0]:g}"
        return super().describe(value, weight)

    def cell_type(self) -> Any:
        return FiniteFloat


class Vector(FittedAttribute):
    """The same number of numbers per cell: a value of its own, projected to the latent space."""

    dtype: ClassVar[pl.DataType] = pl.List(pl.Float64)
    is_list: ClassVar[bool] = True

    @property
    def size(self) -> int | None:
        """Dimension d of the vectors."""
        return len(self.center)

    @classmethod
    def infer(cls, known: pl.Series) -> Attribute | str | None:
        """Lists of numbers."""
        if not known.dtype.is_nested() or not _exploded(known).dtype.is_numeric():
            return None
        if isinstance(known.dtype, pl.List) and known.list.len().n_unique() > 1:
            return "holds lists of numbers of different lengths"
        return Attribute(name=known.name, kind=Kind.VECTOR)

    @classmethod
    def convert(cls, column: pl.Series, attribute: Attribute) -> pl.Series:
        where = f"attribute {column.name!r}"
        lists = _as_lists(column.str.split(attribute.separator) if column.dtype == pl.String else column)
        if not isinstance(lists.dtype, pl.List):
            raise SchemaError(f"{where}: a vector needs lists of numbers, not {column.dtype}")
        vectors = lists.cast(cls.dtype, strict=False)
        lengths = vectors.list.len().drop_nulls()
        if lengths.n_unique() > 1:
            ends = f"{lengths.min()} to {lengths.max()}"
            raise SchemaError(f"{where}: vectors of {ends} numbers; all must have one length")
        inner = vectors.drop_nulls().explode()
        if inner.is_null().any() or not inner.is_finite().all():
            raise SchemaError(f"{where}: a vector holds something that is not a finite number")
        return vectors

    @classmethod
    def summarise(cls, column: pl.Series, attribute: Attribute) -> tuple[int | None, str]:
        known = column.drop_nulls()
        return None, f"{len(known[0])} numbers each" if len(known) else ""

    @classmethod
    def _learn(cls, attribute: Attribute, known: pl.Series) -> Self:
        if len(known) == 0:
            raise SchemaError(f"attribute {attribute.name!r}: no training row has a vector; leave the attribute out")
        array = np.array(known.to_list(), dtype=np.float64)
        center = array.mean(axis=0)
        deviation = float(np.sqrt(((array - center) ** 2).sum(axis=1).mean()))
        return cls(attribute=attribute, center=tuple(center.tolist()), deviation=deviation or 1.0)

    def _encode(self, column: pl.Series) -> Cells:
        n, size, known = len(column), len(self.center), column.drop_nulls()
        wrong = set(known.list.len()) - {size}
        if wrong:
            raise SchemaError(f"attribute {self.name!r}: a vector of length {min(wrong)}, the model has {size}")
        array, mask = np.zeros((n, size), np.float32), column.is_not_null().to_numpy()
        if mask.any():
            array[mask] = self._standardised(np.array(known.to_list()))
        return Cells(np.arange(n)[:, None], np.ones((n, 1), np.float32), mask[:, None], array)

    def _parse(self, value: object) -> object:
        if isinstance(value, str):  # from a command line
            value = value.replace(",", " ").split()
        if not isinstance(value, Iterable):
            raise SchemaError(f"attribute {self.name!r}: give a list of {self.size} numbers, not {value!r}")
        return [_finite(self.name, part) for part in value]

    def describe(self, value: Sequence[int], weight: Sequence[float]) -> str:
        return f"{self.size} numbers"

    def cell_type(self) -> Any:
        return Annotated[list[FiniteFloat], Field(min_length=self.size, max_length=self.size)]


KINDS: dict[Kind, type[FittedAttribute]] = {
    Kind.VECTOR: Vector,
    Kind.MULTIVALUED: MultiValued,
    Kind.NUMERIC: Numeric,
    Kind.CATEGORICAL: Categorical,
}
"""The class of each kind, in the order in which they are asked about a column of unknown kind."""


def _as_text(column: pl.Series) -> pl.Series:
    """Labels as text; whole floats lose their `.0`, so that 1 and 1.0 are one label."""
    if column.dtype.is_float() and bool((column.drop_nulls() == column.drop_nulls().round()).all()):
        column = column.cast(pl.Int64)
    return column.cast(pl.String)


def _as_lists(column: pl.Series) -> pl.Series:
    return column.arr.to_list() if isinstance(column.dtype, pl.Array) else column


def _exploded(known: pl.Series) -> pl.Series:
    return known.explode().drop_nulls() if known.dtype.is_nested() else known


def _quantile_cuts(numbers: NDArray[np.float64], groups: int) -> tuple[float, ...]:
    if len(numbers) == 0:
        return ()
    cuts = np.unique(np.quantile(numbers, np.arange(1, groups) / groups, method="closest_observation"))
    return tuple(float(cut) for cut in cuts if cut > numbers.min())


def _group_labels(cuts: Sequence[float]) -> tuple[str, ...]:
    if not cuts:
        return ("any",)
    between = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(cuts)]
    return (f"below {cuts[0]:g}", *between, f"{cuts[-1]:g} and up")


def _finite(name: str, value: object) -> float:
    try:
        number = float(value if isinstance(value, str | SupportsFloat) else "")
    except (TypeError, ValueError):
        raise SchemaError(f"attribute {name!r}: {value!r} is not a number") from None
    if not np.isfinite(number):
        raise SchemaError(f"attribute {name!r}: {value!r} is not a finite number")
    return number
