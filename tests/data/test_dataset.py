"""The table of users or items: what it keeps when it is written and read again."""

from __future__ import annotations

import io

import polars as pl
import pytest

from aanmf.data.dataset import EntityTable, Vocabulary
from aanmf.data.schema import Attribute, Kind, Missing
from aanmf.errors import DataError


def test_a_table_survives_parquet() -> None:
    columns = pl.DataFrame(
        {
            "id": ["F", None, "M"],  # an attribute may be called like a column of the file
            "likes": pl.Series([["a"], ["b", "c"], None], dtype=pl.List(pl.String)),
            "age": [20.0, None, 40.25],
            "face": pl.Series([[0.0, 1.5], None, [2.0, 1.0]], dtype=pl.List(pl.Float64)),
        }
    )
    declared = (
        Attribute(name="id", kind=Kind.CATEGORICAL, missing=Missing.VALUE),
        Attribute(name="likes", kind=Kind.MULTIVALUED, separator=","),
        Attribute(name="age", kind=Kind.NUMERIC, cuts=(18.5, 30)),
        Attribute(name="face", kind=Kind.VECTOR),
    )
    table = EntityTable(Vocabulary(["7", "é", "x"]), columns, declared, ("Ann", "Bob", "Cem"), ("one thing", "another"))
    again = EntityTable.from_parquet(table.to_parquet())
    assert again.columns.equals(table.columns)
    assert again.columns.schema == table.columns.schema
    assert (again.ids, again.attributes, again.labels, again.notices) == (
        (table.ids, table.attributes, table.labels, table.notices)
    )


def test_a_table_of_ids_alone_survives_parquet() -> None:
    for ids in (["a", "b"], []):
        again = EntityTable.from_parquet(EntityTable(Vocabulary(ids)).to_parquet())
        assert (again.ids.ids, again.attributes, again.labels, again.notices) == (tuple(ids), (), None, ())


def test_bytes_that_are_no_table() -> None:
    foreign = pl.DataFrame({"id": ["a"]})
    foreign.write_parquet(buffer := io.BytesIO())
    for content in (b"", b"PAR1 no", buffer.getvalue()):
        with pytest.raises(DataError, match="not a table of users or items"):
            EntityTable.from_parquet(content)
