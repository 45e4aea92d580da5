"""Users and items: their ids, and the table of their attributes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel

from aanmf.data.parquet_pages import fault_of
from aanmf.data.schema import Attribute
from aanmf.errors import DataError

Rows = NDArray[np.int64]
"""Positions of rows, or of users or items."""


class Vocabulary:
    """Ids in a fixed order, and the way back from an id to its position.

    Ids are strings at the edge: `1` and `"1"` are the same id.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids: tuple[str, ...] = tuple(ids)
        self._position = {known: position for position, known in enumerate(self.ids)}
        if len(self._position) != len(self.ids):
            twice = next(known for position, known in enumerate(self.ids) if self._position[known] != position)
            raise DataError(f"id {twice!r} has several rows in a table that must have one row per id")

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, wanted: object) -> bool:
        return str(wanted) in self._position

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.ids == other.ids

    def __hash__(self) -> int:
        return hash(self.ids)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} ids)"

    def index(self, ids: Iterable[object], unknown: int = -1) -> Rows:
        """Positions of `ids`; `unknown` where one is not in the vocabulary."""
        get = self._position.get
        return np.fromiter((get(str(each), unknown) for each in ids), dtype=np.int64)


class _About(BaseModel):
    """What the Parquet file of a table says about its columns."""

    attributes: tuple[Attribute, ...] = ()
    notices: tuple[str, ...] = ()
    label_column: str | None = None


@dataclass(frozen=True)
class EntityTable:
    """Users, or items: one row per id, one column per attribute.

    Attributes:
        ids: the vocabulary; row r of every column belongs to `ids.ids[r]`.
        columns: one column per attribute: String (categorical), List(String) (multi-valued), Float64 (numeric),
            List(Float64) (vector). Null means missing.
        attributes: the declaration of each column, in column order.
        labels: names shown with the ids, such as titles of films, if the table has them.
        notices: columns and rows that were treated specially on reading, and why: one sentence each.
        label_column: name of the column that the labels come from.
    """

    ids: Vocabulary
    columns: pl.DataFrame = field(default_factory=pl.DataFrame)
    attributes: tuple[Attribute, ...] = ()
    labels: tuple[str, ...] | None = None
    notices: tuple[str, ...] = ()
    label_column: str | None = None

    def __post_init__(self) -> None:
        assert self.columns.columns == [attribute.name for attribute in self.attributes]
        assert not self.attributes or self.columns.height == len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def names(self) -> list[str]:
        """Names of the attributes."""
        return self.columns.columns

    def attribute(self, name: str) -> Attribute:
        """The declaration of one attribute.

        Raises:
            DataError: no attribute has this name.
        """
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise DataError(f"no attribute {name!r}. Available: {', '.join(self.names) or 'none'}")

    def filter(self, kept: pl.Series) -> EntityTable:
        """The rows (a Boolean each) that are kept, in their order."""
        chosen = kept.to_list()
        ids = Vocabulary(compress(self.ids.ids, chosen))
        labels = None if self.labels is None else tuple(compress(self.labels, chosen))
        return replace(self, ids=ids, columns=self.columns.filter(kept) if self.names else self.columns, labels=labels)

    def select(self, names: Sequence[str]) -> EntityTable:
        """The same users (items) with only these attributes."""
        return replace(
            self, columns=self.columns.select(names), attributes=tuple(self.attribute(name) for name in names)
        )

    def label(self, row: int) -> str:
        """The label if the table has labels, else the id."""
        return self.labels[row] if self.labels else self.ids.ids[row]

    def to_parquet(self) -> bytes:
        """The whole table as a Parquet file: columns `id`, `label` and `attributes`; declarations in its metadata."""
        frame = pl.DataFrame({"id": pl.Series(self.ids.ids, dtype=pl.String)})
        if self.labels is not None:
            frame = frame.with_columns(label=pl.Series(self.labels, dtype=pl.String))
        if self.attributes:
            frame = frame.with_columns(attributes=self.columns.to_struct())
        about = _About(attributes=self.attributes, notices=self.notices, label_column=self.label_column)
        buffer = io.BytesIO()
        frame.write_parquet(buffer, metadata={"aanmf": about.model_dump_json()})
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, content: bytes) -> EntityTable:
        """The table that `to_parquet` wrote.

        Raises:
            DataError: the bytes are no such file.
        """
        if fault := fault_of(content):
            raise DataError(f"not a table of users or items written by this library ({fault})")
        try:
            frame = pl.read_parquet(io.BytesIO(content))
            about = _About.model_validate_json(pl.read_parquet_metadata(io.BytesIO(content))["aanmf"])
            columns = frame["attributes"].struct.unnest() if about.attributes else pl.DataFrame()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, KeyError, ValueError) as error:
            raise DataError(f"not a table of users or items written by this library ({error})") from None
        texts = frame.select(pl.col("id", "label") if "label" in frame.columns else "id")
        if set(texts.dtypes) != {pl.String} or sum(texts.null_count().row(0)):
            raise DataError("an id or label of the table is missing, or no text")
        if columns.columns != [each.name for each in about.attributes]:
            raise DataError("the table has other columns than its declaration")
        labels = tuple(frame["label"]) if "label" in frame.columns else None
        return cls(Vocabulary(frame["id"]), columns, about.attributes, labels, about.notices, about.label_column)
