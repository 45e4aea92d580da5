"""Users and items: their ids, the table of their attributes, and how it is read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.attribute_kind import TITLES
from aanmf.data.columns import ITEM_NAMES, USER_NAMES, guess_column
from aanmf.data.infer import infer
from aanmf.data.kinds import KINDS
from aanmf.data.options import ReadOptions
from aanmf.data.schema import Attribute
from aanmf.data.tables import Table
from aanmf.errors import DataError

Rows = NDArray[np.int64]
"""Positions of rows, or of users or items."""
SHOWN = 5
"""Longer lists of ids and rows are cut in messages."""


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
            DataError: no attribute has this name.
        """
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise DataError(f"no attribute {name!r}. Available: {', '.join(self.names) or 'none'}")

    def select(self, names: Sequence[str]) -> EntityTable:
        """The same users (items) with only these attributes."""
        return replace(
            self, columns=self.columns.select(names), attributes=tuple(self.attribute(name) for name in names)
        )

    def label(self, row: int) -> str:
        """The label if the table has labels, else the id."""
        return self.labels[row] if self.labels else self.ids.ids[row]

    def describe(self) -> list[dict[str, Any]]:
        """A row per attribute: `name`, `kind`, `values` (how many), `missing` (empty cells) and `examples`."""
        rows = list[dict[str, Any]]()
        for each in self.attributes:
            values, examples = KINDS[each.kind].summarise(self.columns[each.name], each)
            found = {"name": each.name, "kind": each.kind.value, "values": values}
            rows.append(found | {"missing": self.columns[each.name].null_count(), "examples": examples})
        return rows

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


# ------------------------------------------------------------------- reading


def read_entities(side: str, tables: Sequence[Table], rated: pl.Series, key: str, options: ReadOptions) -> EntityTable:
    """The table of users (items): rows of the first table with one row per id, then ids that only have ratings.

    Args:
        side: `"users"` or `"items"`.
        tables: attributes. Further tables may have several rows per id; their columns become multi-valued.
        rated: ids of the users (items) of the ratings.
        key: column of these ids in the ratings: the tables may have the same.
        options: declared attributes, empty cells, and the policy for ids without a row.

    Raises:
        DataError: an id, a column or a cell cannot be used, with its place.
    """
    where = ", ".join(table.where for table in tables)
    rated = rated.unique(maintain_order=True).alias("id")
    keyed = [_keyed(table, side, key) for table in tables]
    main = next((frame for frame in keyed if not frame["id"].is_duplicated().any()), None)
    ids, notices = rated, []
    if main is not None:
        alone = rated.filter(~rated.is_in(main["id"].implode()))
        ids = pl.concat([main["id"], alone])
        if len(alone):
            shown = ", ".join(map(repr, alone[:SHOWN].to_list()))
            more = ", ..." if len(alone) > SHOWN else ""
            text = f"{where}: {len(alone)} {side} with ratings have no row there ({shown}{more})"
            if options.unlisted == "error":
                raise DataError(f"{text}; add them, or pass unlisted='unknown' (--unlisted unknown)")
            notices.append(f"{text}: all their attributes are missing")
    columns: dict[str, pl.Series] = {}
    for frame in keyed:
        for column in _aligned(frame, ids):
            columns[column.name if column.name not in columns else f"{column.name}_{len(columns)}"] = column
    return _entities(side, ids, columns, notices, options, where)


def _keyed(table: Table, side: str, key: str) -> pl.DataFrame:
    """The frame with its id column, cleaned, as `id`."""
    table.require_rows()
    frame, names = table.frame, USER_NAMES if side == "users" else ITEM_NAMES
    column = key if key in frame.columns else guess_column(frame.columns, (*names, "id")) or frame.columns[0]
    return frame.drop(column).insert_column(0, table.ids(column).alias("id"))


def _aligned(frame: pl.DataFrame, ids: pl.Series) -> list[pl.Series]:
    """Columns with a row per id; where an id has several rows, their distinct values as `a|b|c`."""
    if frame["id"].is_duplicated().any():
        texts = [_one_separator(frame[c].cast(pl.String).str.strip_chars()) for c in frame.columns if c != "id"]
        rows = pl.DataFrame([frame["id"], *texts]).group_by("id", maintain_order=True)
        lists = rows.agg(pl.all().drop_nulls().unique(maintain_order=True))
        frame = lists.with_columns(pl.exclude("id").list.join("|"))
    joined = ids.to_frame("id").join(frame, on="id", how="left", maintain_order="left")
    return [joined[c] for c in joined.columns if c != "id"]


def _one_separator(column: pl.Series) -> pl.Series:
    """A list within a cell (`Mon;Tue;`) joins the list of its rows."""
    known = column.drop_nulls()
    if not len(known) or known.str.contains(";", literal=True).sum() < 0.5 * len(known):
        return column
    return column.str.strip_chars_end(";").str.replace_all(";", "|", literal=True)


def _entities(
    side: str, ids: pl.Series, columns: dict[str, pl.Series], notices: list[str], options: ReadOptions, where: str
) -> EntityTable:
    """Attributes and labels out of columns."""
    declared, ignored = options.schema.stated(side), options.schema.ignored(side)
    if absent := (set(declared) | ignored) - set(columns):
        available = ", ".join(columns) or "none"
        raise DataError(f"{where}: no column {sorted(absent)[0]!r} for a stated attribute. Available: {available}")
    attributes: list[Attribute] = []
    kept: list[pl.Series] = []
    labels: tuple[str, ...] | None = None
    for name, column in columns.items():
        if name in ignored:
            continue
        found = infer(column.alias(name), declared.get(name), options.missing)
        if found.attribute is not None:
            attributes.append(found.attribute)
            kept.append(found.values.alias(name))
        elif labels is None and name.lower() in TITLES and found.values.dtype == pl.String:
            labels = tuple(found.values.fill_null(ids).to_list())
            notices.append(f"column {name!r} holds names: shown beside the id, not used as an attribute")
        else:
            notices.append(found.notice or "")
    return EntityTable(Vocabulary(ids.to_list()), pl.DataFrame(kept), tuple(attributes), labels, tuple(notices))
