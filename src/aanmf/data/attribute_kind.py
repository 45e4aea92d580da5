"""What every attribute kind can do: the base class of those in `aanmf.data.kinds`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from aanmf.data.schema import Attribute, Kind, Missing
from aanmf.errors import SchemaError

MISSING_LABEL = "(missing)"
FARTHEST = 1e9
"""Standard deviations from the mean."""
SHOWN = 40
"""Longer lists of allowed values are cut in messages and left out of the OpenAPI document."""
TITLES = ("title", "name", "label")
"""Columns shown in place of the id."""


class Cells(NamedTuple):
    """One attribute of n users (items), encoded in w slots each.

    Attributes:
        value: (n, w) value in each slot, counted from 0 within the attribute; with `vectors`, a row of them.
        weight: (n, w) factor of the value.
        mask: (n, w) True where a slot is filled.
        vectors: (n, d) values without an embedding, which are projected to the latent space; else None.
    """

    value: NDArray[np.int64]
    weight: NDArray[np.float32]
    mask: NDArray[np.bool_]
    vectors: NDArray[np.float32] | None = None


class FittedAttribute(BaseModel, ABC):
    """One attribute with what was learned from the training users (items)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attribute: Attribute
    labels: tuple[str, ...] = ()
    """The values that have an embedding, in order; for a numeric attribute, its groups."""
    cuts: tuple[FiniteFloat, ...] | None = None
    """Numeric in groups: group g holds cuts[g-1] <= x < cuts[g]."""
    center: tuple[FiniteFloat, ...] = ()
    """Standardised numeric: the mean. Vector: the mean vector."""
    deviation: FiniteFloat = Field(default=1.0, gt=0, validation_alias=AliasChoices("deviation", "spread"))
    """Standardised numeric: the standard deviation. Vector: root mean square distance from the mean."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """What was read from a file can be encoded with."""
        numbers = {Kind.NUMERIC: self.cuts is None, Kind.VECTOR: True}.get(self.attribute.kind, False)
        expected = {Kind.NUMERIC: 1 + len(self.cuts or ()), Kind.VECTOR: 0}.get(self.attribute.kind)
        if bool(self.center) != numbers or (self.attribute.kind is Kind.NUMERIC and len(self.center) > 1):
            raise ValueError("the centre does not fit the kind")
        more = 1 if self.attribute.missing is Missing.VALUE else 0  # the label of an empty cell
        if expected is not None and not expected <= len(self.labels) <= expected + more:
            raise ValueError("labels do not fit the cuts")
        if len(set(self.labels)) != len(self.labels) or list(self.cuts or ()) != sorted(set(self.cuts or ())):
            raise ValueError("labels must differ, and cuts must rise")
        return self

    dtype: ClassVar[pl.DataType]
    """Type of a column of this kind in a data set."""
    is_list: ClassVar[bool] = False
    """Whether a cell holds several values."""
    has_labels: ClassVar[bool] = False
    """Whether users (items) can be grouped by the values of a cell."""

    @classmethod
    @abstractmethod
    def infer(cls, known: pl.Series) -> Attribute | str | None:
        """Decides whether a column without empty cells is of this kind.

        Returns:
            The declaration if it is, the reason if it cannot be an attribute at all, None to let other kinds decide.
        """

    @classmethod
    @abstractmethod
    def convert(cls, column: pl.Series, attribute: Attribute) -> pl.Series:
        """The column as `dtype`; empty cells are null.

        Raises:
            SchemaError: a cell does not fit the kind.
        """

    @classmethod
    @abstractmethod
    def summarise(cls, column: pl.Series, attribute: Attribute) -> tuple[int | None, str]:
        """The number of distinct values of a converted column (if that says anything), and examples."""

    @classmethod
    def fit(cls, attribute: Attribute, column: pl.Series) -> Self:
        """Learns from the column of the training users (items)."""
        fitted = cls._learn(attribute, column.drop_nulls())
        if attribute.missing is Missing.VALUE:
            return fitted.model_copy(update={"labels": (*fitted.labels, MISSING_LABEL)})
        return fitted

    def encode(self, column: pl.Series | None, n: int) -> Cells:
        """Encodes a column of n cells; None is a column of empty cells.

        Raises:
            SchemaError: a vector of another length, or a value without training data under `unseen = "error"`.
        """
        cells = self._encode(pl.Series(self.name, [None] * n, self.dtype) if column is None else column)
        if self.attribute.missing is Missing.VALUE:
            empty = ~cells.mask.any(axis=1)
            cells.value[empty, 0], cells.weight[empty, 0], cells.mask[empty, 0] = self.n_values - 1, 1.0, True
        return cells

    def column_of(self, value: object) -> pl.Series:
        """A column of one cell, from the value given for a new user (item); None is an empty cell.

        Raises:
            SchemaError: the value does not fit the kind, or no training user (item) has it.
        """
        return pl.Series(self.name, [None if value is None else self._parse(value)], self.dtype)

    def _standardised(self, numbers: NDArray[np.float64]) -> NDArray[np.float32]:
        """Numbers as deviations from the centre.

        Raises:
            SchemaError: one is so far away that nothing can be computed with it.
        """
        found = (numbers - np.array(self.center)) / self.deviation
        far = np.abs(found) > FARTHEST
        if far.any():
            raise SchemaError(
                f"attribute {self.name!r}: {numbers[far].flat[0]:g} is more than {FARTHEST:g} standard deviations from "
                "the mean of the training data: correct it, or leave it out"
            )
        return found.astype(np.float32)

    @classmethod
    @abstractmethod
    def _learn(cls, attribute: Attribute, known: pl.Series) -> Self: ...

    @abstractmethod
    def _encode(self, column: pl.Series) -> Cells: ...

    @abstractmethod
    def _parse(self, value: object) -> object: ...

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.attribute.name

    @property
    def n_values(self) -> int:
        """Rows in the embedding table."""
        return len(self.labels)

    @property
    def size(self) -> int | None:
        """Dimension d of a vector; None for kinds with embedded values."""
        return None

    @property
    def known_labels(self) -> tuple[str, ...]:
        """The values with an embedding, without the one for a missing cell."""
        return self.labels[:-1] if self.attribute.missing is Missing.VALUE else self.labels

    @property
    def choices(self) -> tuple[str, ...]:
        """The values to choose from for a new user; empty where any number is allowed."""
        return self.known_labels if self.has_labels else ()

    def describe(self, value: Sequence[int], weight: Sequence[float]) -> str:
        """The filled slots of one user (item) in words; `value` and `weight` as in `Cells`."""
        return ", ".join(self.labels[v] for v in value)

    @abstractmethod
    def cell_type(self) -> Any:
        """Type of a cell in a request, for pydantic."""

    def allowed(self) -> str:
        """The allowed labels as the end of an error message."""
        known = self.known_labels
        more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
        shown = ", ".join(map(repr, known[:SHOWN])) or "nothing"
        return f"not among the values of the training data; allowed: {shown}{more}"
