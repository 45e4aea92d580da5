"""Every attribute kind encoded by hand; missing and unseen values by policy."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from aanmf.data.dataset import EntityTable, Vocabulary
from aanmf.data.encode import AttributeEncoder
from aanmf.data.schema import Attribute, Kind, Missing, Unseen
from aanmf.errors import SchemaError


def table(values: list[object], dtype: pl.DataType, **declared) -> EntityTable:
    attribute = Attribute(name="x", **declared)
    column = pl.DataFrame({"x": pl.Series(values, dtype=dtype)})
    return EntityTable(Vocabulary(map(str, range(len(values)))), column, (attribute,))


def encode(of: EntityTable, rows: list[int] | None = None):
    encoder = AttributeEncoder.fit(of, np.arange(len(of)) if rows is None else np.array(rows))
    return encoder, encoder.transform(of)


def test_categorical() -> None:
    encoder, slots = encode(table(["b", None, "a", "b"], pl.String(), kind=Kind.CATEGORICAL))
    assert encoder.value_labels == [("x", "a"), ("x", "b")]
    assert slots.value[:, 0].tolist() == [1, 0, 0, 1]
    assert slots.mask[:, 0].tolist() == [True, False, True, True]
    assert slots.weight[:, 0].tolist() == [1, 0, 1, 1]


def test_multivalued_weights_and_padding() -> None:
    cells = [["b", "a", "b"], None, ["c"], []]
    encoder, slots = encode(table(cells, pl.List(pl.String), kind=Kind.MULTIVALUED))
    assert [label for _, label in encoder.value_labels] == ["a", "b", "c"]
    assert slots.value[0].tolist() == [1, 0]
    np.testing.assert_allclose(slots.weight[0], 1 / math.sqrt(2))  # twice the same label is one
    assert slots.mask.tolist() == [[True, True], [False, False], [True, False], [False, False]]
    assert slots.weight[2].tolist() == [1, 0]


def test_numeric_in_quantile_groups() -> None:
    encoder, slots = encode(table([1.0, 2, 3, 4, None], pl.Float64(), kind=Kind.NUMERIC, groups=2))
    assert encoder.fitted[0].cuts == (2.0,)
    assert [label for _, label in encoder.value_labels] == ["below 2", "2 and up"]
    assert slots.value[:, 0].tolist() == [0, 1, 1, 1, 0]
    assert slots.mask[:, 0].tolist() == [True] * 4 + [False]


def test_numeric_cut_where_stated() -> None:
    encoder, slots = encode(table([17.0, 18, 24, 25, 99], pl.Float64(), kind=Kind.NUMERIC, cuts=(18, 25)))
    assert [label for _, label in encoder.value_labels] == ["below 18", "18 to 25", "25 and up"]
    assert slots.value[:, 0].tolist() == [0, 1, 1, 2, 2]


def test_numeric_standardised() -> None:
    encoder, slots = encode(table([1.0, 3.0, None], pl.Float64(), kind=Kind.NUMERIC, groups=None))
    assert encoder.n_values == 1
    np.testing.assert_allclose(slots.weight[:, 0], [-1, 1, 0])
    assert slots.mask[:, 0].tolist() == [True, True, False]


def test_constant_number_does_not_divide_by_zero() -> None:
    _, slots = encode(table([2.0, 2.0], pl.Float64(), kind=Kind.NUMERIC, groups=None))
    assert slots.weight[:, 0].tolist() == [0, 0]
    _, slots = encode(table([2.0, 2.0], pl.Float64(), kind=Kind.NUMERIC, groups=5))
    assert slots.value[:, 0].tolist() == [0, 0]


def test_vector_is_centred_and_scaled() -> None:
    encoder, slots = encode(table([[0.0, 0.0], [2.0, 0.0], None], pl.List(pl.Float64), kind=Kind.VECTOR))
    assert encoder.vector_sizes == (2,)
    np.testing.assert_allclose(slots.vectors[0], [[-1, 0], [1, 0], [0, 0]])
    assert slots.value[:2, 0].tolist() == [0, 1]  # rows of the vectors, after no embedded values
    assert slots.mask[:, 0].tolist() == [True, True, False]


def test_values_of_users_outside_of_training_are_unseen() -> None:
    encoder, slots = encode(table(["a", "b", "c"], pl.String(), kind=Kind.CATEGORICAL), rows=[0, 1])
    assert encoder.n_values == 2
    assert slots.mask[:, 0].tolist() == [True, True, False]
    numbers = table([1.0, 2.0, 1000.0], pl.Float64(), kind=Kind.NUMERIC, groups=None)
    assert encode(numbers, rows=[0, 1])[0].fitted[0].center == (1.5,)


def test_missing_as_a_value_of_its_own() -> None:
    for cells, dtype, kind in (
        (["a", None], pl.String(), Kind.CATEGORICAL),
        ([["a"], None], pl.List(pl.String), Kind.MULTIVALUED),
        ([3.0, None], pl.Float64(), Kind.NUMERIC),
    ):
        encoder, slots = encode(table(cells, dtype, kind=kind, missing=Missing.VALUE))
        assert encoder.value_labels[-1] == ("x", "(missing)")
        assert slots.mask[:, 0].tolist() == [True, True]
        assert slots.value[1, 0] == encoder.n_values - 1
        assert slots.weight[1, 0] == 1


def test_unseen_can_be_an_error() -> None:
    of = table(["a", "b"], pl.String(), kind=Kind.CATEGORICAL, unseen=Unseen.ERROR)
    with pytest.raises(SchemaError, match=r"'x'.*'b'.*allowed: 'a'"):
        encode(of, rows=[0])


def several() -> AttributeEncoder:
    columns = pl.DataFrame(
        {"sex": ["F", "M"], "age": [20.0, 40.0], "likes": pl.Series([["a"], ["b", "c"]], dtype=pl.List(pl.String))}
    )
    declared = (
        Attribute(name="sex", kind=Kind.CATEGORICAL),
        Attribute(name="age", kind=Kind.NUMERIC, cuts=(30,)),
        Attribute(name="likes", kind=Kind.MULTIVALUED),
    )
    return AttributeEncoder.fit(EntityTable(Vocabulary("12"), columns, declared), np.arange(2))


def test_one_new_user_from_plain_values() -> None:
    encoder = several()
    slots = encoder.transform_one({"sex": "M", "age": "35", "likes": "a|c"})
    labels = [encoder.value_labels[v] for v, m in zip(slots.value[0], slots.mask[0], strict=True) if m]
    assert labels == [("sex", "M"), ("age", "30 and up"), ("likes", "a"), ("likes", "c")]
    assert not encoder.transform_one({}).mask.any()
    assert encoder.transform_one({"likes": ["b"]}).mask.sum() == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 3}, "unknown attribute 'size'; this model knows: sex, age, likes"),
        ({"sex": "X"}, "'X' is not among .* allowed: 'F', 'M'"),
        ({"likes": "a|z"}, "'z' is not among"),
        ({"age": "old"}, "'old' is not a number"),
        ({"age": float("nan")}, "not a finite number"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(values: dict[str, object], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        several().transform_one(values)


def test_which_attribute_a_slot_belongs_to() -> None:
    encoder = several()
    slots = encoder.transform_one({"sex": "F", "likes": "b|c"})
    assert encoder.slot_attributes(slots)[0].tolist() == [0, -1, 2, 2]


def test_encoder_survives_json() -> None:
    encoder = several()
    assert AttributeEncoder.model_validate_json(encoder.model_dump_json()) == encoder


def test_a_table_without_a_column_counts_as_missing() -> None:
    only_sex = several().transform(
        EntityTable(Vocabulary("1"), pl.DataFrame({"sex": ["F"]}), (Attribute(name="sex", kind=Kind.CATEGORICAL),))
    )
    assert only_sex.mask.sum() == 1
