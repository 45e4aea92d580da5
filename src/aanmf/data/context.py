"""Context: what belongs to single ratings, such as company, weather and the time.

A context attribute has a cell per rating. It is declared, encoded and checked as attributes of users and items are; the
time of a rating becomes two of them, its hour and its weekday, and stays a number beside them.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from aanmf.data.attributes import AttributeEncoder, Context
from aanmf.data.cells import EARLIEST, LATEST, times
from aanmf.data.parquet_pages import fault_of
from aanmf.data.schema import Attribute, Kind
from aanmf.errors import DataError, SchemaError

Rows = NDArray[np.int64]
TIME = "timestamp"
"""Name of the time as context, where its column has none."""
SAMPLE = 1_000_000
"""So many streamed ratings show what their context is like."""
HOURS = tuple(f"{hour:02}" for hour in range(24))
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class ContextTable:
    """The context of n ratings: one row per rating, one column per context attribute.

    Attributes:
        columns: as in `EntityTable`; null means missing.
        attributes: the declaration of each column, in column order.
        time: the name under which the time of a rating is context too; None: it is not.
    """

    columns: pl.DataFrame = field(default_factory=pl.DataFrame)
    attributes: tuple[Attribute, ...] = ()
    time: str | None = None

    def __len__(self) -> int:
        return self.columns.height

    @property
    def names(self) -> list[str]:
        """Names of the context attributes, that of the time last."""
        return [*self.columns.columns, *([] if self.time is None else [self.time])]

    def take(self, rows: Rows) -> ContextTable:
        """The context of some ratings."""
        if not self.attributes:
            return self
        taken = self.columns[np.arange(len(self))[rows]]
        return replace(self, columns=taken.with_columns(pl.col(pl.Categorical).cast(pl.String)))

    def compact(self) -> ContextTable:
        """The same with labels as numbers of four bytes, which `take` turns back to text."""
        return replace(self, columns=self.columns.with_columns(pl.col(pl.String).cast(pl.Categorical)))

    def select(self, names: Sequence[str], time: str | None) -> ContextTable:
        """Only these attributes; `time` is the name of the time, None where there are no times.

        Raises:
            DataError: no such context attribute.
        """
        available = [*self.columns.columns, *([] if time is None else [time])]
        if unknown := [name for name in names if name not in available]:
            raise DataError(f"no context {unknown[0]!r}. Available: {', '.join(available) or 'none'}")
        kept = [each for each in self.attributes if each.name in names]
        return ContextTable(
            self.columns.select(each.name for each in kept), tuple(kept), time if time in names else None
        )

    def with_time(self, time: NDArray[np.int64] | None) -> ContextTable:
        """With the hour and the weekday (UTC) of times (n,) as columns, if the time is context."""
        if self.time is None or time is None:
            return self
        when = pl.from_epoch(pl.Series(time), time_unit="s")
        weekday = pl.Series([WEEKDAYS[day - 1] for day in when.dt.weekday()], dtype=pl.String)
        derived = {"hour": when.dt.strftime("%H"), "weekday": weekday}
        new = [column.alias(name) for name, column in derived.items() if name not in self.columns.columns]
        declared = [Attribute(name=column.name, kind=Kind.CATEGORICAL) for column in new]
        return replace(
            self, columns=pl.DataFrame([*self.columns.get_columns(), *new]), attributes=(*self.attributes, *declared)
        )

    def fingerprint(self, time: NDArray[np.int64] | None) -> str:
        """Sixteen hexadecimal digits that change with any cell, and with any time (n,) if the time is context."""
        digest = hashlib.sha256()
        for part in self.columns.iter_slices(SAMPLE):
            digest.update(part.write_ndjson().encode())
        if self.time is not None and time is not None:
            digest.update(np.ascontiguousarray(time).data)
        return digest.hexdigest()[:16]

    def to_parquet(self) -> bytes:
        """The table as a Parquet file, with the declarations in its metadata."""
        declared = [each.model_dump(mode="json") for each in self.attributes]
        buffer = io.BytesIO()
        self.columns.write_parquet(buffer, metadata={"aanmf": json.dumps({"attributes": declared, "time": self.time})})
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, content: bytes) -> ContextTable:
        """The table that `to_parquet` wrote."""
        if fault := fault_of(content):
            raise DataError(f"not a table of context written by this library ({fault})")
        about = json.loads(pl.read_parquet_metadata(io.BytesIO(content))["aanmf"])
        declared = tuple(Attribute.model_validate(each) for each in about["attributes"])
        return cls(pl.read_parquet(io.BytesIO(content)), declared, about["time"])


class ContextEncoder(BaseModel):
    """All context attributes of one model; fitted on the training ratings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attributes: AttributeEncoder = AttributeEncoder()
    """Of the columns, and of what follows from the time."""
    columns: tuple[str, ...] = ()
    """Names of the columns."""
    time: str | None = None
    """Name of the time; None: it is not context."""

    @classmethod
    def fit(cls, table: ContextTable, time: NDArray[np.int64] | None) -> ContextEncoder:
        """Learns labels, groups and centres from the context of the training ratings."""
        whole = table.with_time(time)
        encoder = AttributeEncoder.fit(whole, np.arange(len(whole)))
        return cls(attributes=encoder, columns=tuple(table.columns.columns), time=table.time)

    @property
    def names(self) -> list[str]:
        """What a request may give, in order."""
        return [*self.columns, *([] if self.time is None else [self.time])]

    def transform(self, table: ContextTable, time: NDArray[np.int64] | None) -> Context:
        """Encodes every row; attributes that the table lacks count as missing."""
        whole, n = table.with_time(time), len(table) if time is None else len(time)
        found = [whole.columns.get_column(each.name, default=None) for each in self.attributes.fitted]
        sets = tuple(each.transform_columns([column], n) for each, column in zip(self._apart, found, strict=True))
        known = None if self.time is None or table.time is None or time is None else torch.tensor(time)
        return Context(sets, known)

    def transform_requests(self, requests: Sequence[Mapping[str, object]]) -> Context:
        """Encodes the context of n requests: `[{"companion": "family", "timestamp": "2024-12-31 20:15"}]`.

        Attributes left out, or None, are missing: predictions are averaged over what is usual. The time counts only
        where all requests have one.

        Raises:
            SchemaError: an unknown attribute, a value that no training rating has, or not a time.
        """
        for values in requests:
            if unknown := sorted(set(values) - set(self.names)):
                known = ", ".join(self.names) or "none"
                raise SchemaError(f"unknown context {unknown[0]!r}; this model knows: {known}")
        time, table = None, ContextTable()
        if self.time is not None and all(values.get(self.time) is not None for values in requests):
            time = np.array([seconds(self.time, values[self.time]) for values in requests], np.int64)
            table = ContextTable(time=self.time).with_time(time)
        sets = []
        for fitted, encoder in zip(self.attributes.fitted, self._apart, strict=True):
            if fitted.name in self.columns:
                column = pl.concat([fitted.column_of(values.get(fitted.name)) for values in requests])
            else:
                column = table.columns.get_column(fitted.name, default=None)
            sets.append(encoder.transform_columns([column], len(requests)))
        return Context(tuple(sets), None if time is None else torch.from_numpy(time))

    def describe(self, context: Context, row: int = 0) -> list[tuple[str, str | None]]:
        """(attribute, value in words) of one rating or request, in order; None where it is missing."""
        found = []
        for fitted, encoder, sets in zip(self.attributes.fitted, self._apart, context.sets, strict=True):
            described = encoder.describe(sets, row)
            found.append((fitted.name, described[0][1] if described else None))
        return found

    @property
    def _apart(self) -> list[AttributeEncoder]:
        """An encoder for each attribute."""
        return [AttributeEncoder(fitted=(each,)) for each in self.attributes.fitted]


@dataclass(frozen=True)
class ContextRows:
    """The context of streamed ratings, encoded for the rows that are asked for.

    Attributes:
        encoder: of a model.
        table, time: of all ratings.
    """

    encoder: ContextEncoder
    table: ContextTable
    time: NDArray[np.int64] | None

    @classmethod
    def fit(cls, table: ContextTable, time: NDArray[np.int64] | None) -> ContextRows:
        """Learns the encoder from rows from everywhere, and from the first row of each label."""
        of_all = cls(ContextEncoder(), table, time)
        rows = of_all._sample()
        return replace(of_all, encoder=ContextEncoder.fit(table.take(rows), None if time is None else time[rows]))

    def of(self, rows: Rows) -> Context:
        """Of some ratings."""
        return self.encoder.transform(self.table.take(rows), None if self.time is None else self.time[rows])

    @property
    def fingerprint(self) -> str:
        """See `ContextTable.fingerprint`."""
        return self.table.fingerprint(self.time)

    def some(self) -> Context:
        """Of those that `fit` learns from."""
        return self.of(self._sample())

    def _sample(self) -> Rows:
        n = len(self.table) if self.time is None else len(self.time)
        first = [column.arg_unique() for column in self.table.columns.select(pl.col(pl.Categorical))]
        return np.unique(np.concatenate([np.arange(0, n, max(1, n // SAMPLE)), *first]).astype(np.int64))


def written(time: int) -> str:
    """Seconds since 1970 as a date and time (UTC)."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M")


def seconds(name: str, value: object) -> int:
    """Seconds since 1970 of a time in a request: a number in a plausible unit, a date, or text of either.

    Raises:
        SchemaError: it is none of these.
    """
    found = None
    if isinstance(value, int | float | str | date | datetime) and not isinstance(value, bool):
        found = times(pl.Series([value], strict=False))[0]
    if found is None or not EARLIEST <= found <= LATEST:
        raise SchemaError(
            f"context {name!r}: {value!r} is not a time; give seconds since 1970, or a date like 2024-12-31 20:15"
        )
    return int(found)
