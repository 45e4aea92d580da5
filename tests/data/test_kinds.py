"""What a kind knows beyond encoding (see test_attributes) and inference (see test_infer)."""

from __future__ import annotations

import json

import polars as pl
import pydantic
import pytest

from aanmf.data.attributes import AttributeEncoder
from aanmf.data.entities import EntityTable, Vocabulary
from aanmf.data.kinds import KINDS
from aanmf.data.schema import Attribute, Kind, Missing
from aanmf.errors import SchemaError

COLUMNS = pl.DataFrame(
    {
        "sex": ["F", None, "M"],
        "likes": pl.Series([["a"], ["b", "c"], None], dtype=pl.List(pl.String)),
        "age": [20.0, 30.0, 40.0],
        "height": [150.0, 160.0, None],
        "face": pl.Series([[0.0, 1.0], [2.0, 1.0], None], dtype=pl.List(pl.Float64)),
    }
)
DECLARED = (
    Attribute(name="sex", kind=Kind.CATEGORICAL),
    Attribute(name="likes", kind=Kind.MULTIVALUED),
    Attribute(name="age", kind=Kind.NUMERIC, cuts=(30,)),
    Attribute(name="height", kind=Kind.NUMERIC, groups=None, missing=Missing.VALUE),
    Attribute(name="face", kind=Kind.VECTOR),
)
TABLE = EntityTable(Vocabulary("123"), COLUMNS, DECLARED)


@pytest.fixture
def encoder() -> AttributeEncoder:
    return AttributeEncoder.fit(TABLE, TABLE.ids.index("123"))


def test_every_kind_has_a_class_of_its_own() -> None:
    assert set(KINDS) == set(Kind)
    assert len(set(KINDS.values())) == len(Kind)
    for attribute, column in zip(DECLARED, COLUMNS, strict=True):
        assert KINDS[attribute.kind].dtype == column.dtype


def test_encoded_cells_in_words(encoder: AttributeEncoder) -> None:
    sets = encoder.transform(TABLE)
    assert encoder.describe(sets, 0) == [
        ("sex", "F"), ("likes", "a"), ("age", "below 30"), ("height", "150"), ("face", "2 numbers")
    ]  # fmt: skip
    assert encoder.describe(sets, 1) == [
        ("likes", "b, c"),
        ("age", "30 and up"),
        ("height", "160"),
        ("face", "2 numbers"),
    ]
    assert encoder.describe(sets, 2) == [("sex", "M"), ("age", "30 and up"), ("height", "(missing)")]


def test_what_a_form_asks(encoder: AttributeEncoder) -> None:
    assert {each.name: each.choices for each in encoder.fitted} == {
        "sex": ("F", "M"), "likes": ("a", "b", "c"), "age": (), "height": (), "face": ()
    }  # fmt: skip
    assert [each.name for each in encoder.fitted if each.is_list] == ["likes", "face"]
    assert [each.name for each in encoder.fitted if each.has_labels] == ["sex", "likes"]
    assert [each.size for each in encoder.fitted] == [None, None, None, None, 2]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("sex", "F", "X"),
        ("likes", ["a", "c"], ["a", "z"]),
        ("age", 31.5, float("nan")),
        ("height", 1, "tall"),
        ("face", [1.0, 2.0], [1.0]),
    ],
)
def test_the_type_of_a_cell_in_a_request(encoder: AttributeEncoder, name: str, good: object, bad: object) -> None:
    fitted = encoder.fitted[encoder.names.index(name)]
    checked = pydantic.TypeAdapter(fitted.cell_type())
    assert checked.validate_python(good) == good
    with pytest.raises(pydantic.ValidationError):
        checked.validate_python(bad)


@pytest.mark.parametrize("values", [{"height": 1e300}, {"face": [4e138, 1.9]}])
def test_a_number_that_nothing_can_be_computed_with(encoder: AttributeEncoder, values: dict[str, object]) -> None:
    with pytest.raises(SchemaError, match=r"more than 1e\+09 standard deviations from the mean of the training data"):
        encoder.transform_one(values)


def test_a_column_in_short() -> None:
    found = {each.name: KINDS[each.kind].summarise(COLUMNS[each.name], each) for each in DECLARED}
    assert found["sex"][0] == 2
    assert found["likes"][0] == 3
    assert set(found["likes"][1].split(", ")) == {"a", "b", "c"}
    assert found["age"] == (3, "20 to 40, in groups")
    assert found["height"] == (2, "150 to 160, standardised")
    assert found["face"] == (None, "2 numbers each")


def test_an_encoder_saved_by_an_earlier_version(encoder: AttributeEncoder) -> None:
    """The standard deviation was called `spread`."""
    saved = json.loads(encoder.model_dump_json())
    for each in saved["fitted"]:
        each["spread"] = each.pop("deviation")
    again = AttributeEncoder.model_validate(saved)
    assert again == encoder
    assert [type(each) for each in again.fitted] == [KINDS[each.kind] for each in DECLARED]
