"""Which kind a column is taken for."""

from __future__ import annotations

import polars as pl
import pytest

from aanmf.data.infer import blank_out, infer
from aanmf.data.options import MISSING
from aanmf.data.schema import Attribute, Kind, Schema, declare
from aanmf.errors import SchemaError


def kind(values: list[object], name: str = "x") -> Kind | None:
    found = infer(pl.Series(name, values, strict=False), None)
    return found.attribute.kind if found.attribute else None


def test_kinds() -> None:
    assert kind(["a", "b", "a"]) is Kind.CATEGORICAL
    assert kind(["a|b", "c", "b"]) is Kind.MULTIVALUED
    assert kind(["a;b", "c", "b"]) is Kind.MULTIVALUED
    assert kind([["a"], ["a", "b"]]) is Kind.MULTIVALUED
    assert kind([[0.1, 0.2], [0.3, 0.4]]) is Kind.VECTOR
    assert kind([1, 2, 1, 2]) is Kind.CATEGORICAL
    assert kind(list(range(10, 60))) is Kind.NUMERIC
    assert kind([str(n) for n in range(10, 60)]) is Kind.NUMERIC
    assert kind([0.5, 1.5, 0.5, 1.5]) is Kind.NUMERIC
    assert kind([True, False, True]) is Kind.CATEGORICAL


def test_what_is_left_out() -> None:
    assert kind([None, None]) is None
    assert kind(["same"] * 5) is None
    assert kind([f"Film no. {n}" for n in range(30)]) is None
    assert kind(["a", "b", "a"], name="title") is None
    assert kind([[0.1], [0.2, 0.3]]) is None
    notice = infer(pl.Series("plot", [f"once {n}" for n in range(30)]), None).notice
    way = "attributes={'plot': 'categorical'} (--attribute plot=categorical) uses it"
    assert notice == f"column 'plot' is nearly all distinct (30 values in 30 rows): left out. {way}"


def test_codes_with_leading_zeros_are_not_numbers() -> None:
    assert kind(["01234", "98765", "01234", "98765"]) is Kind.CATEGORICAL


def test_markers_of_missing_values() -> None:
    assert blank_out(pl.Series(["?", " a ", "", "NA"]), MISSING).to_list() == [None, "a", None, None]
    assert kind(["3.5", "?", "4.25", "1.5"]) is Kind.NUMERIC


def test_stated_kinds_are_converted() -> None:
    def stated(values: list[object], **declared) -> list[object]:
        column = pl.Series("x", values, strict=False)
        return infer(column, Attribute(name="x", **declared)).values.to_list()

    assert stated([1, 2], kind=Kind.CATEGORICAL) == ["1", "2"]
    assert stated([1.0, 2.0], kind=Kind.CATEGORICAL) == ["1", "2"]
    assert stated(["a, b", "c"], kind=Kind.MULTIVALUED, separator=",") == [["a", "b"], ["c"]]
    assert stated(["1", "?"], kind=Kind.NUMERIC) == [1.0, None]
    assert stated(["1 2", "3 4"], kind=Kind.VECTOR, separator=" ") == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("values", "declared", "message"),
    [
        (["1", "x"], Attribute(name="x", kind=Kind.NUMERIC), "row 2 holds 'x'"),
        ([1.0, float("inf")], Attribute(name="x", kind=Kind.NUMERIC), "not a finite number"),
        ([[1.0], [1.0, 2.0]], Attribute(name="x", kind=Kind.VECTOR), "all must have one length"),
        (["1 x"], Attribute(name="x", kind=Kind.VECTOR, separator=" "), "not a finite number"),
        ([3, 4], Attribute(name="x", kind=Kind.VECTOR), "needs lists of numbers"),
        ([["a"], ["b"]], Attribute(name="x", kind=Kind.CATEGORICAL), "declare it multi-valued"),
    ],
)
def test_cells_that_do_not_fit(values: list[object], declared: Attribute, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        infer(pl.Series("x", values, strict=False), declared)


def test_a_schema_file(tmp_path) -> None:
    path = tmp_path / "schema.toml"
    path.write_text(
        '[users]\nignore = ["zip"]\n[users.age]\nkind = "numeric"\ngroups = 7\n[items.genres]\nkind = "multi-valued"\n'
    )
    schema = Schema.read(path)
    assert schema.stated("users") == {"age": Attribute(name="age", kind=Kind.NUMERIC, groups=7)}
    assert schema.ignored("users") == {"zip"}
    assert schema.stated("items")["genres"].kind is Kind.MULTIVALUED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[users", "not readable as TOML"),
        ("a = " + "[" * 50_000, "not readable as TOML"),
        ("a = " + "9" * 5_000, "not readable as TOML"),
        ("[people.age]\nkind = 'numeric'", "unknown table 'people'"),
        ("[users.age]\nkind = 'number'", "attribute 'age': kind"),
        ("[users.age]\nkind = 'numeric'\ncuts = [3, 2]", "cuts must rise"),
        ("[users.age]\nkind = 'numeric'\nbins = 3", "attribute 'age': bins"),
        ("[users]\nage = 3", "must be a table with a kind"),
        ("[users.x]\nkind = 'vector'\nmissing = 'value'", "missing vector cannot be a value"),
    ],
)
def test_a_wrong_schema_file(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "schema.toml"
    path.write_text(text)
    with pytest.raises(SchemaError, match=message):
        Schema.read(path)


def test_attributes_as_typed() -> None:
    assert Attribute.parse("age=numeric:7") == Attribute(name="age", kind=Kind.NUMERIC, groups=7)
    assert Attribute.parse("age=numeric:0").groups is None
    assert declare({"name": "x", "kind": "vector"}).kind is Kind.VECTOR
    with pytest.raises(SchemaError, match="write name=kind"):
        Attribute.parse("age")
    with pytest.raises(SchemaError, match="'age': 'sometimes' is no use of a column. Available: categorical, "):
        Attribute.parse("age=sometimes")
