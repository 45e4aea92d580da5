"""From attribute columns to index tensors: the set I_u of attribute values of every user (item).

An encoder is fitted on the users (items) of the training ratings only and is saved with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Protocol

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny
from torch import Tensor
from torch.nn import functional as F

from aanmf.data.attribute_kind import FittedAttribute
from aanmf.data.entities import Rows
from aanmf.data.kinds import KINDS
from aanmf.data.schema import Attribute, Kind
from aanmf.errors import SchemaError


@dataclass(frozen=True)
class AttributeSet:
    """The attribute sets I_u of n users (items), padded to the length J of the longest; tensors on one device.

    Attributes:
        value: (n, J) int64: the value a_j in each slot. Those below `n_values` are rows of the embedding table; the
            others number the rows of `vectors`, one array after the other.
        weight: (n, J) float32: factor of the value (1; 1/sqrt(n) of n labels; a standardised number).
        mask: (n, J) bool: True where a slot is filled. Attention is exactly 0 elsewhere.
        vectors: one (n, d) float32 tensor per vector attribute.
        n_values: rows of the embedding table.
        context: the context of n ratings or requests; None: they have none.
    """

    value: Tensor
    weight: Tensor
    mask: Tensor
    vectors: tuple[Tensor, ...] = ()
    n_values: int = 0
    context: Context | None = None

    def __len__(self) -> int:
        return len(self.value)

    @property
    def vector_sizes(self) -> tuple[int, ...]:
        """Dimensions of the vector attributes."""
        return tuple(each.shape[1] for each in self.vectors)

    def rows(self, index: Tensor) -> AttributeSet:
        """The sets of some users (items); (B, J) each. The vectors stay whole: `value` points into them."""
        value, weight, mask = (each.index_select(0, index) for each in (self.value, self.weight, self.mask))
        context = None if self.context is None else self.context.rows(index)
        return replace(self, value=value, weight=weight, mask=mask, context=context)

    def in_context(self, context: Context | None) -> AttributeSet:
        """The same n sets, with the context of n ratings."""
        return replace(self, context=context)

    def with_unknown(self) -> AttributeSet:
        """The same with one more row: an unknown user (item), without attributes."""
        value, weight, mask = (F.pad(each, (0, 0, 0, 1)) for each in (self.value, self.weight, self.mask))
        return replace(self, value=value, weight=weight, mask=mask)

    def map(self, function: Callable[[Tensor], Tensor]) -> AttributeSet:
        """A function applied to every tensor."""
        value, weight, mask = function(self.value), function(self.weight), function(self.mask)
        context = None if self.context is None else self.context.map(function)
        return AttributeSet(value, weight, mask, tuple(map(function, self.vectors)), self.n_values, context)

    def to(self, device: torch.device) -> AttributeSet:
        """On another device."""
        return self.map(lambda tensor: tensor.to(device))

    def tensors(self) -> tuple[Tensor, ...]:
        """`value`, `weight`, `mask` and the vectors."""
        return (self.value, self.weight, self.mask, *self.vectors)


class AttributeTable(Protocol):
    """Rows with attributes: of users, items or ratings."""

    @property
    def columns(self) -> pl.DataFrame:
        """One column per attribute."""
        ...

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The declaration of each column."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Context:
    """The encoded context of n ratings, or of n requests.

    Attributes:
        sets: one (n, J) set per context attribute, in the order of the encoder. A missing one has no slot filled.
        time: (n,) int64 seconds since 1970; None where the time is not known, or not context.
    """

    sets: tuple[AttributeSet, ...] = ()
    time: Tensor | None = None

    def rows(self, index: Tensor) -> Context:
        """The context of some ratings; vectors are cut to these, too: every rating has its own."""
        return Context(tuple(_cut(each, index) for each in self.sets), None if self.time is None else self.time[index])

    def where(self, kept: Mapping[int, Tensor]) -> Context:
        """With the attributes at some places only in the rows (n,) that are True, missing in others."""
        sets = [replace(s, mask=s.mask & kept[k][:, None]) if k in kept else s for k, s in enumerate(self.sets)]
        return Context(tuple(sets), self.time)

    def map(self, function: Callable[[Tensor], Tensor]) -> Context:
        """A function applied to every tensor."""
        time = None if self.time is None else function(self.time)
        return Context(tuple(each.map(function) for each in self.sets), time)

    def to(self, device: torch.device) -> Context:
        """On another device."""
        return self.map(lambda tensor: tensor.to(device))

    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors."""
        of_sets = [tensor for each in self.sets for tensor in each.tensors()]
        return tuple(of_sets if self.time is None else [*of_sets, self.time])


def _cut(sets: AttributeSet, index: Tensor) -> AttributeSet:
    """The sets of some ratings, and their vectors alone."""
    found = sets.rows(index)
    if not sets.vectors:
        return found
    place = torch.arange(len(found), device=index.device)[:, None]
    vectors = tuple(each[index] for each in sets.vectors)
    return replace(found, value=torch.where(found.mask, place, 0), vectors=vectors)


def _of_its_kind(value: object) -> object:
    """A saved attribute as an instance of the class of its kind."""
    if not isinstance(value, Mapping):
        return value
    return KINDS[Kind(value["attribute"]["kind"])].model_validate(value)


class AttributeEncoder(BaseModel):
    """All attributes of users (or of items, or of ratings) of one model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fitted: tuple[Annotated[SerializeAsAny[FittedAttribute], BeforeValidator(_of_its_kind)], ...] = ()

    @classmethod
    def fit(cls, table: AttributeTable, rows: Rows) -> AttributeEncoder:
        """Learns labels, groups and centres from `rows` of the table: those with training ratings."""
        seen = table.columns[rows] if table.attributes else table.columns
        return cls(fitted=tuple(KINDS[each.kind].fit(each, seen[each.name]) for each in table.attributes))

    @property
    def names(self) -> list[str]:
        """Attribute names in order."""
        return [each.name for each in self.fitted]

    @property
    def n_values(self) -> int:
        """Rows of the embedding table that all attributes share."""
        return sum(each.n_values for each in self.fitted)

    @property
    def vector_sizes(self) -> tuple[int, ...]:
        """Dimensions of the vector attributes, in order."""
        return tuple(each.size for each in self.fitted if each.size is not None)

    @property
    def value_labels(self) -> list[tuple[str, str]]:
        """(attribute, label) of every row of the embedding table."""
        return [(each.name, label) for each in self.fitted for label in each.labels]

    def attribute_of_value(self) -> NDArray[np.int64]:
        """(n_values,) position of the attribute that each row of the embedding table belongs to."""
        return np.repeat(np.arange(len(self.fitted)), [each.n_values for each in self.fitted])

    def slot_attributes(self, sets: AttributeSet) -> NDArray[np.int64]:
        """(n, J) position of the attribute that each slot belongs to; -1 where the slot is empty."""
        fields = [j for j, each in enumerate(self.fitted) if each.size is not None]
        owner_of_vector = np.repeat(fields, [len(each) for each in sets.vectors]).astype(np.int64)
        owner = np.concatenate([self.attribute_of_value(), owner_of_vector, [0]])
        return np.where(sets.mask.cpu().numpy(), owner[sets.value.cpu().numpy()], -1)

    def describe(self, sets: AttributeSet, row: int = 0) -> list[tuple[str, str]]:
        """(attribute, value in words) of one user (item); missing attributes are left out."""
        owner, described, offset = self.slot_attributes(sets)[row], [], 0
        for j, each in enumerate(self.fitted):
            slots = np.flatnonzero(owner == j)
            if len(slots):
                value = [int(sets.value[row, slot]) - offset for slot in slots]
                described.append((each.name, each.describe(value, [float(sets.weight[row, slot]) for slot in slots])))
            offset += each.n_values
        return described

    def transform(self, table: AttributeTable) -> AttributeSet:
        """Encodes every row of a table; attributes that it lacks count as missing."""
        return self.transform_columns(
            [table.columns.get_column(each.name, default=None) for each in self.fitted], len(table)
        )

    def transform_one(self, values: Mapping[str, object]) -> AttributeSet:
        """Encodes one new user (item): `{"gender": "F", "age": "25-34"}`.

        Attributes left out, or None, are missing.

        Raises:
            SchemaError: an unknown attribute, or a value that no training user has (the message lists those allowed).
        """
        if unknown := set(values) - set(self.names):
            raise SchemaError(f"unknown attribute {sorted(unknown)[0]!r}. Available: {', '.join(self.names) or 'none'}")
        return self.transform_columns([each.column_of(values.get(each.name)) for each in self.fitted], 1)

    def transform_columns(self, columns: Sequence[pl.Series | None], n: int) -> AttributeSet:
        """Encodes a column of n cells per attribute (None: missing): the slots of all attributes side by side."""
        value, weight, mask = [np.zeros((n, 0), np.int64)], [np.zeros((n, 0), np.float32)], [np.zeros((n, 0), bool)]
        vectors: list[NDArray[np.float32]] = []
        embedded, projected = 0, self.n_values  # numbers of the next value with an embedding, and of the next vector
        for each, column in zip(self.fitted, columns, strict=True):
            cells = each.encode(column, n)
            value.append(cells.value + (embedded if cells.vectors is None else projected))
            weight.append(cells.weight)
            mask.append(cells.mask)
            embedded += each.n_values
            if cells.vectors is not None:
                vectors.append(cells.vectors)
                projected += n
        filled = np.concatenate(mask, axis=1)
        values = np.where(filled, np.concatenate(value, axis=1), 0)
        weights = np.where(filled, np.concatenate(weight, axis=1), 0).astype(np.float32)
        tensors = [torch.from_numpy(array) for array in (values, weights, filled, *vectors)]
        return AttributeSet(tensors[0], tensors[1], tensors[2], tuple(tensors[3:]), self.n_values)
