"""From attribute columns to index tensors: the set I_u of attribute values of every user (item).

An encoder is fitted on the users (items) of the training ratings only and is saved with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny
from torch import Tensor
from torch.nn import functional as F

from aanmf.data.attribute_kind import FittedAttribute
from aanmf.data.entities import EntityTable, Rows
from aanmf.data.kinds import KINDS
from aanmf.data.schema import Kind
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
        value, weight, mask = function(self.value), function(self.weight), function(self.mask)
        return AttributeSet(value, weight, mask, tuple(map(function, self.vectors)), self.n_values)

    def to(self, device: torch.device) -> AttributeSet:
        """On another device."""
        return self.map(lambda tensor: tensor.to(device))

    def tensors(self) -> tuple[Tensor, ...]:
        """`value`, `weight`, `mask` and the vectors."""
        return (self.value, self.weight, self.mask, *self.vectors)


def _of_its_kind(value: object) -> object:
    """A saved attribute as an instance of the class of its kind."""
    if not isinstance(value, Mapping):
        return value
    return KINDS[Kind(value["attribute"]["kind"])].model_validate(value)


class AttributeEncoder(BaseModel):
    """All attributes of users (or of items) of one model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fitted: tuple[Annotated[SerializeAsAny[FittedAttribute], BeforeValidator(_of_its_kind)], ...] = ()

    @classmethod
    def fit(cls, table: EntityTable, rows: Rows) -> AttributeEncoder:
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

    def transform(self, table: EntityTable) -> AttributeSet:
        """Encodes every row of a table; attributes that it lacks count as missing."""
        return self._encode([table.columns.get_column(each.name, default=None) for each in self.fitted], len(table))

    def transform_one(self, values: Mapping[str, object]) -> AttributeSet:
        """Encodes one new user (item): `{"gender": "F", "age": "25-34"}`.

        Attributes left out, or None, are missing.

        Raises:
            SchemaError: an unknown attribute, or a value that no training user has (the message lists those allowed).
        """
        if unknown := set(values) - set(self.names):
            raise SchemaError(f"unknown attribute {sorted(unknown)[0]!r}. Available: {', '.join(self.names) or 'none'}")
        return self._encode([each.column_of(values.get(each.name)) for each in self.fitted], 1)

    def _encode(self, columns: Sequence[pl.Series | None], n: int) -> AttributeSet:
        """Puts the slots of all attributes side by side, and numbers their values through."""
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
