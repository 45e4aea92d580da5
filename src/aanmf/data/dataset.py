"""`RatingDataset`: ratings, users and items, as arrays and columns. Nothing here knows of models."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.schema import Attribute
from aanmf.errors import DataError

if TYPE_CHECKING:
    from os import PathLike

    from aanmf.data.schema import Schema

Rows = NDArray[np.int64]


class Vocabulary:
    """Ids in a fixed order, and the way back from an id to its position.

    Ids are strings at the edge: `1` and `"1"` are the same id.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids: tuple[str, ...] = tuple(ids)
        self._position = {label: position for position, label in enumerate(self.ids)}
        if len(self._position) != len(self.ids):
            twice = next(label for position, label in enumerate(self.ids) if self._position[label] != position)
            raise DataError(f"id {twice!r} stands more than once in a table that must have one row per id")

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, label: object) -> bool:
        return str(label) in self._position

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.ids == other.ids

    def __hash__(self) -> int:
        return hash(self.ids)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} ids)"

    def index(self, labels: Iterable[object], unknown: int = -1) -> Rows:
        """Positions of `labels`; `unknown` where an id is not in the vocabulary."""
        get = self._position.get
        return np.fromiter((get(str(label), unknown) for label in labels), dtype=np.int64)


@dataclass(frozen=True)
class EntityTable:
    """Users, or items: one row per id, one column per attribute.

    Attributes:
        ids: the vocabulary; row r of every column belongs to `ids.ids[r]`.
        columns: one column per attribute: String (categorical), List(String) (multi-valued), Float64 (numeric),
            List(Float64) (vector). Null means missing.
        attributes: the declaration of each column, in column order.
        labels: what a person reads in place of the id (a film's title), if there is such a thing.
        notices: what was left out on reading, and why: one sentence each.
    """

    ids: Vocabulary
    columns: pl.DataFrame = field(default_factory=pl.DataFrame)
    attributes: tuple[Attribute, ...] = ()
    labels: tuple[str, ...] | None = None
    notices: tuple[str, ...] = ()

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
            DataError: there is no such attribute.
        """
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise DataError(f"no attribute {name!r}; there are: {', '.join(self.names) or 'none'}")

    def select(self, names: Sequence[str]) -> EntityTable:
        """The same users (items) with only these attributes."""
        return replace(
            self, columns=self.columns.select(names), attributes=tuple(self.attribute(name) for name in names)
        )

    def label(self, row: int) -> str:
        """What a person reads: the label where there is one, else the id."""
        return self.labels[row] if self.labels else self.ids.ids[row]

    def to_parquet(self) -> bytes:
        """The whole table as a Parquet file: columns `id`, `label` and `attributes`; declarations in its metadata."""
        frame = pl.DataFrame({"id": pl.Series(self.ids.ids, dtype=pl.String)})
        if self.labels is not None:
            frame = frame.with_columns(label=pl.Series(self.labels, dtype=pl.String))
        if self.attributes:
            frame = frame.with_columns(attributes=self.columns.to_struct())
        about = {"attributes": [each.model_dump(mode="json") for each in self.attributes], "notices": self.notices}
        buffer = io.BytesIO()
        frame.write_parquet(buffer, metadata={"aanmf": json.dumps(about)})
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, content: bytes) -> EntityTable:
        """The table that `to_parquet` wrote.

        Raises:
            DataError: the bytes are no such file.
        """
        try:
            frame = pl.read_parquet(io.BytesIO(content))
            about = json.loads(pl.read_parquet_metadata(io.BytesIO(content))["aanmf"])
            declared = tuple(Attribute.model_validate(each) for each in about["attributes"])
        except (pl.exceptions.PolarsError, KeyError, ValueError) as error:
            raise DataError(f"not a table of users or items written by this library ({error})") from None
        columns = frame["attributes"].struct.unnest() if declared else pl.DataFrame()
        labels = tuple(frame["label"]) if "label" in frame.columns else None
        return cls(Vocabulary(frame["id"]), columns, declared, labels, tuple(about["notices"]))


@dataclass(frozen=True)
class RatingDataset:
    """Ratings of items by users, with what is known of both.

    Attributes:
        users, items: the tables; a row of them need not have a rating.
        user, item: (n,) positions in `users` and `items`.
        rating: (n,) float32.
        time: (n,) int64 seconds, or None.
        scale: lowest and highest possible rating if stated, else None (the range of the training ratings is used).
        folds: test rows of the splits that a data set ships with (`u1` ... `u5` of MovieLens 100K), by name.
        name: for messages and reports.
    """

    users: EntityTable
    items: EntityTable
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    rating: NDArray[np.float32]
    time: NDArray[np.int64] | None = None
    scale: tuple[float, float] | None = None
    folds: Mapping[str, Rows] = field(default_factory=dict)
    name: str = "ratings"

    def __post_init__(self) -> None:
        assert self.user.shape == self.item.shape == self.rating.shape
        assert self.time is None or self.time.shape == self.user.shape

    def __len__(self) -> int:
        return len(self.rating)

    def __repr__(self) -> str:
        return f"RatingDataset({self.name}: {len(self)} ratings, {len(self.users)} users, {len(self.items)} items)"

    @classmethod
    def read(
        cls,
        ratings: str | PathLike[str],
        *,
        users: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
        items: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
        schema: Schema | None = None,
        **options: object,
    ) -> RatingDataset:
        """Reads tables from files; see `aanmf.data.read.read_dataset` for every option."""
        from aanmf.data.read import read_dataset

        return read_dataset(ratings, users=users, items=items, schema=schema, **options)  # type: ignore[arg-type]

    @classmethod
    def from_frames(
        cls, ratings: object, users: object = None, items: object = None, **options: object
    ) -> RatingDataset:
        """From polars, pandas or Arrow tables; see `aanmf.data.read.dataset_from_frames` for every option."""
        from aanmf.data.read import dataset_from_frames

        return dataset_from_frames(ratings, users, items, **options)  # type: ignore[arg-type]

    def take(self, rows: Rows) -> RatingDataset:
        """These ratings, in this order, with the same users and items."""
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            rating=self.rating[rows],
            time=None if self.time is None else self.time[rows],
            folds={},
        )

    def split(self, test: float = 0.2, seed: int = 0) -> tuple[RatingDataset, RatingDataset]:
        """Random hold-out: training and test part; see `aanmf.data.split.holdout`."""
        from aanmf.data.split import holdout

        fold = holdout(len(self), test, seed)
        return self.take(fold.train), self.take(fold.test)

    def with_attributes(self, users: Sequence[str] | None = None, items: Sequence[str] | None = None) -> RatingDataset:
        """The same ratings with only these attributes (None: all)."""
        return replace(
            self,
            users=self.users if users is None else self.users.select(users),
            items=self.items if items is None else self.items.select(items),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any rating, its order, or its user and item."""
        digest = hashlib.sha256()
        for array in (self.user, self.item, self.rating):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]
