"""From attribute columns to index arrays: the set I_u of attribute values of every user (item).

An encoder is fitted on the users (items) of the training ratings only and travels with the model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional as F

from aanmf.data.dataset import EntityTable, Rows
from aanmf.data.schema import Attribute, Kind, Missing, Unseen
from aanmf.errors import SchemaError

MISSING_LABEL = "(missing)"


@dataclass(frozen=True)
class AttributeSet:
    """The attribute sets I_u of n users (items), padded to the length J of the longest; tensors on one device.

    Attributes:
        value: (n, J) int64: which value a_j stands in the slot. Those below `n_values` are rows of the embedding table;
            the ones from there on number the rows of `vectors`, one array after the other.
        weight: (n, J) float32: what the value is multiplied with (1; 1/sqrt(n) of n labels; a standardised number).
        mask: (n, J) bool: True where the slot is taken. Attention is exactly 0 elsewhere.
        vectors: one (n, d) float32 tensor per vector attribute.
        n_values: rows of the embedding table.
    """

    value: Tensor
    weight: Tensor
    mask: Tensor
    vectors: tuple[Tensor, ...] = ()
    n_values: int = 0

    def __len__(self) -> int:
        return len(self.value)

    @property
    def vector_sizes(self) -> tuple[int, ...]:
        """Dimensions of the vector attributes."""
        return tuple(each.shape[1] for each in self.vectors)

    def rows(self, index: Tensor) -> AttributeSet:
        """The sets of some users (items); (B, J) each. The vectors stay whole: `value` points into them."""
        value, weight, mask = (each.index_select(0, index) for each in (self.value, self.weight, self.mask))
        return replace(self, value=value, weight=weight, mask=mask)

    def with_unknown(self) -> AttributeSet:
        """The same with one more row: an unknown user (item), without attributes."""
        value, weight, mask = (F.pad(each, (0, 0, 0, 1)) for each in (self.value, self.weight, self.mask))
        return replace(self, value=value, weight=weight, mask=mask)

    def map(self, function: Callable[[Tensor], Tensor]) -> AttributeSet:
        """A function applied to every tensor."""
        value, weight, mask, *vectors = (function(each) for each in self.tensors())
        return AttributeSet(value, weight, mask, tuple(vectors), self.n_values)

    def to(self, device: torch.device) -> AttributeSet:
        """On another device."""
        return self.map(lambda tensor: tensor.to(device))

    def tensors(self) -> tuple[Tensor, ...]:
        """`value`, `weight`, `mask` and the vectors, as `map` takes them."""
        return (self.value, self.weight, self.mask, *self.vectors)


class FittedAttribute(BaseModel):
    """One attribute with what was learned from the training users (items)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attribute: Attribute
    labels: tuple[str, ...] = ()
    """The values that have an embedding, in order (for a numeric attribute: its groups)."""
    cuts: tuple[float, ...] | None = None
    """Numeric in groups: group g holds cuts[g-1] <= x < cuts[g]."""
    center: tuple[float, ...] = ()
    """Standardised numeric: the mean. Vector: the mean vector."""
    spread: float = 1.0
    """Standardised numeric: the standard deviation. Vector: root mean square distance from the mean."""

    @property
    def n_values(self) -> int:
        """Rows in the embedding table."""
        return len(self.labels)


class AttributeEncoder(BaseModel):
    """All attributes of users (or of items) of one model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fitted: tuple[FittedAttribute, ...] = ()

    @classmethod
    def fit(cls, table: EntityTable, rows: Rows) -> AttributeEncoder:
        """Learns labels, groups and scales from `rows` of the table: those with training ratings."""
        seen = table.columns[rows] if table.attributes else table.columns
        return cls(fitted=tuple(_fit(attribute, seen[attribute.name]) for attribute in table.attributes))

    @property
    def names(self) -> list[str]:
        """Attribute names in order."""
        return [each.attribute.name for each in self.fitted]

    @property
    def n_values(self) -> int:
        """Rows of the embedding table that all attributes share."""
        return sum(each.n_values for each in self.fitted)

    @property
    def vector_sizes(self) -> tuple[int, ...]:
        """Dimensions of the vector attributes, in order."""
        return tuple(len(each.center) for each in self.fitted if each.attribute.kind is Kind.VECTOR)

    @property
    def value_labels(self) -> list[tuple[str, str]]:
        """(attribute, label) of every row of the embedding table."""
        return [(each.attribute.name, label) for each in self.fitted for label in each.labels]

    def attribute_of_value(self) -> NDArray[np.int64]:
        """(n_values,) position of the attribute that each row of the embedding table belongs to."""
        return np.repeat(np.arange(len(self.fitted)), [each.n_values for each in self.fitted])

    def slot_attributes(self, sets: AttributeSet) -> NDArray[np.int64]:
        """(n, J) position of the attribute that each slot belongs to; -1 where the slot is empty."""
        fields = [j for j, each in enumerate(self.fitted) if each.attribute.kind is Kind.VECTOR]
        owner_of_vector = np.repeat(fields, [len(each) for each in sets.vectors]).astype(np.int64)
        owner = np.concatenate([self.attribute_of_value(), owner_of_vector, [0]])
        return np.where(sets.mask.cpu().numpy(), owner[sets.value.cpu().numpy()], -1)

    def transform(self, table: EntityTable) -> AttributeSet:
        """Encodes every row of a table; attributes that it lacks count as missing."""
        columns = [table.columns[name] if name in table.names else None for name in self.names]
        return self._encode(columns, len(table))

    def transform_one(self, values: Mapping[str, object]) -> AttributeSet:
        """Encodes one new user (item) from plain values: `{"gender": "F", "age": "25-34"}`.

        Attributes left out, or None, are missing.

        Raises:
            SchemaError: an attribute that the model does not know, or a value that no training user has
                (the message lists what is allowed).
        """
        if unknown := set(values) - set(self.names):
            raise SchemaError(
                f"unknown attribute {sorted(unknown)[0]!r}; this model knows: {', '.join(self.names) or 'none'}"
            )
        columns = [_one_cell(each, values.get(each.attribute.name)) for each in self.fitted]
        return self._encode(columns, 1)

    def _encode(self, columns: Sequence[pl.Series | None], n: int) -> AttributeSet:
        blocks: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]] = []
        vectors: list[NDArray[np.float32]] = []
        offset, vector_offset = 0, self.n_values
        for each, column in zip(self.fitted, columns, strict=True):
            if each.attribute.kind is Kind.VECTOR:
                array, mask = _vectors(each, column, n)
                vectors.append(array)
                value = vector_offset + np.arange(n)[:, None]
                blocks.append((value, np.ones((n, 1), np.float32), mask[:, None]))
                vector_offset += n
            else:
                nothing = _one_cell(each, None).new_from_index(0, n)
                value, weight, mask = _slots(each, nothing if column is None else column)
                blocks.append((value + offset, weight, mask))
            offset += each.n_values
        if not blocks:
            blocks = [(np.zeros((n, 0), np.int64), np.zeros((n, 0), np.float32), np.zeros((n, 0), bool))]
        value, weight, mask = (np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
        cells = np.where(mask, value, 0), np.where(mask, weight, 0).astype(np.float32), mask
        tensors = [torch.from_numpy(each) for each in (*cells, *vectors)]
        return AttributeSet(tensors[0], tensors[1], tensors[2], tuple(tensors[3:]), self.n_values)


def _fit(attribute: Attribute, column: pl.Series) -> FittedAttribute:
    known = column.drop_nulls()
    gap = (MISSING_LABEL,) if attribute.missing is Missing.VALUE else ()
    match attribute.kind:
        case Kind.CATEGORICAL:
            return FittedAttribute(attribute=attribute, labels=(*known.unique().sort().to_list(), *gap))
        case Kind.MULTIVALUED:
            labels = known.explode().drop_nulls().unique().sort().to_list()
            return FittedAttribute(attribute=attribute, labels=(*labels, *gap))
        case Kind.VECTOR:
            return _fit_vector(attribute, known)
        case Kind.NUMERIC:
            numbers = known.to_numpy()
            if attribute.groups is None and attribute.cuts is None:
                center = float(numbers.mean()) if len(numbers) else 0.0
                spread = float(numbers.std()) if len(numbers) else 1.0
                return FittedAttribute(
                    attribute=attribute, labels=(attribute.name, *gap), center=(center,), spread=spread or 1.0
                )
            cuts = attribute.cuts if attribute.cuts is not None else _quantile_cuts(numbers, attribute.groups or 2)
            return FittedAttribute(attribute=attribute, labels=(*_group_labels(cuts), *gap), cuts=cuts)


def _fit_vector(attribute: Attribute, known: pl.Series) -> FittedAttribute:
    if len(known) == 0:
        raise SchemaError(f"attribute {attribute.name!r}: no training row has a vector; leave the attribute out")
    array = np.array(known.to_list(), dtype=np.float64)
    center = array.mean(axis=0)
    spread = float(np.sqrt(((array - center) ** 2).sum(axis=1).mean())) or 1.0
    return FittedAttribute(attribute=attribute, center=tuple(center.tolist()), spread=spread)


def _quantile_cuts(numbers: NDArray[np.float64], groups: int) -> tuple[float, ...]:
    if len(numbers) == 0:
        return ()
    cuts = np.unique(np.quantile(numbers, np.arange(1, groups) / groups, method="closest_observation"))
    return tuple(float(cut) for cut in cuts if cut > numbers.min())


def _group_labels(cuts: Sequence[float]) -> list[str]:
    if not cuts:
        return ["any"]
    between = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(cuts)]
    return [f"below {cuts[0]:g}", *between, f"{cuts[-1]:g} and up"]


def _slots(
    each: FittedAttribute, column: pl.Series
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """(n, w) value (counted from 0 within the attribute), weight and mask of one attribute."""
    if each.attribute.kind is Kind.MULTIVALUED:
        value, weight, mask = _many_labels(each, column)
    else:
        if each.attribute.kind is Kind.CATEGORICAL:
            position = _positions(each, column)
            number = np.ones(len(column), np.float32)
        else:
            position, number = _numbers(each, column)
        value, weight, mask = position[:, None], number[:, None], (position >= 0)[:, None]
    if each.attribute.missing is Missing.VALUE:
        empty = ~mask.any(axis=1)
        value[empty, 0], weight[empty, 0], mask[empty, 0] = each.n_values - 1, 1.0, True
    return value, weight, mask


def _positions(each: FittedAttribute, labels: pl.Series) -> NDArray[np.int64]:
    """Position of each label among the known ones; -1 where missing or unseen."""
    known = each.labels[: each.n_values - (each.attribute.missing is Missing.VALUE)]
    position = labels.replace_strict(known, list(range(len(known))), default=-1, return_dtype=pl.Int64)
    result = position.fill_null(-1).to_numpy().copy()
    if each.attribute.unseen is Unseen.ERROR:
        strange = labels.filter(pl.Series(result < 0)).drop_nulls().unique().sort().to_list()
        if strange:
            raise _not_allowed(each, strange[0])
    return result


def _numbers(each: FittedAttribute, column: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    number = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    gone = np.isnan(number)
    if each.cuts is not None:
        group = np.searchsorted(np.array(each.cuts), number, side="right")
        return np.where(gone, -1, group), np.ones(len(number), np.float32)
    standard = (np.where(gone, 0.0, number) - each.center[0]) / each.spread
    return np.where(gone, -1, 0).astype(np.int64), standard.astype(np.float32)


def _many_labels(
    each: FittedAttribute, column: pl.Series
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    n = len(column)
    pairs = (
        pl.DataFrame({"row": np.arange(n), "label": column}).explode("label").drop_nulls().unique(maintain_order=True)
    )
    position = _positions(each, pairs["label"])
    row = pairs["row"].to_numpy()[position >= 0]
    position = position[position >= 0]
    count = np.bincount(row, minlength=n)
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    width = max(1, int(count.max(initial=0)))
    value, mask = np.zeros((n, width), np.int64), np.zeros((n, width), bool)
    value[row, place], mask[row, place] = position, True
    weight = (mask / np.sqrt(np.maximum(count, 1))[:, None]).astype(np.float32)
    return value, weight, mask


def _vectors(each: FittedAttribute, column: pl.Series | None, n: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    size = len(each.center)
    array, mask = np.zeros((n, size), np.float32), np.zeros(n, bool)
    if column is not None:
        mask = column.is_not_null().to_numpy()
        lengths = set(column.drop_nulls().list.len().to_list())
        if lengths - {size}:
            raise SchemaError(
                f"attribute {each.attribute.name!r}: a vector of length {min(lengths - {size})}, the model has {size}"
            )
        if mask.any():
            array[mask] = (np.array(column.drop_nulls().to_list()) - np.array(each.center)) / each.spread
    return array, mask


def _one_cell(each: FittedAttribute, value: object) -> pl.Series:
    """A column of one row from a plain value, refused where the model does not know it."""
    name = each.attribute.name
    if value is None:
        dtype: pl.DataType = {
            Kind.CATEGORICAL: pl.String(),
            Kind.MULTIVALUED: pl.List(pl.String),
            Kind.NUMERIC: pl.Float64(),
            Kind.VECTOR: pl.List(pl.Float64),
        }[each.attribute.kind]
        return pl.Series(name, [None], dtype=dtype)
    match each.attribute.kind:
        case Kind.CATEGORICAL:
            return pl.Series(name, [_allowed(each, value)])
        case Kind.MULTIVALUED:
            parts: Iterable[object] = (
                value.split(each.attribute.separator)
                if isinstance(value, str)
                else value
                if isinstance(value, Iterable)
                else [value]
            )
            return pl.Series(name, [[_allowed(each, part) for part in parts]], dtype=pl.List(pl.String))
        case Kind.NUMERIC:
            return pl.Series(name, [_finite(name, value)])
        case Kind.VECTOR:
            if isinstance(value, str):  # from a command line
                value = value.replace(",", " ").split()
            if not isinstance(value, Iterable):
                raise SchemaError(f"attribute {name!r}: give a list of {len(each.center)} numbers, not {value!r}")
            return pl.Series(name, [[_finite(name, part) for part in value]], dtype=pl.List(pl.Float64))


def _allowed(each: FittedAttribute, value: object) -> str:
    label = str(value).strip()
    if label not in each.labels:
        raise _not_allowed(each, label)
    return label


def _not_allowed(each: FittedAttribute, label: str) -> SchemaError:
    shown = [repr(known) for known in each.labels if known != MISSING_LABEL]
    more = f" and {len(shown) - 40} more" if len(shown) > 40 else ""
    return SchemaError(
        f"attribute {each.attribute.name!r}: {label!r} is not among the values of the training data; "
        f"allowed: {', '.join(shown[:40])}{more}"
    )


def _finite(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise SchemaError(f"attribute {name!r}: {value!r} is not a number") from None
    if not np.isfinite(number):
        raise SchemaError(f"attribute {name!r}: {value!r} is not a finite number")
    return number
