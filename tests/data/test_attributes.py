"""Every attribute kind encoded by hand; missing and unseen values by policy."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aanmf.data.attributes import AttributeEncoder, AttributeSet
from aanmf.data.dataset import EntityTable, Vocabulary
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
        ({"size": 3}, "unknown attribute 'size'. Available: sex, age, likes"),
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


@pytest.fixture
def every_kind() -> EntityTable:
    columns = pl.DataFrame(
        {
            "sex": ["F", None, "M"],
            "face": pl.Series([[0.0, 1.0], [2.0, 1.0], None], dtype=pl.List(pl.Float64)),
            "likes": pl.Series([["a"], ["b", "c"], None], dtype=pl.List(pl.String)),
            "voice": pl.Series([None, [1.0, 0.0, 2.0], [3.0, 0.0, 2.0]], dtype=pl.List(pl.Float64)),
            "age": [20.0, None, 40.0],
            "height": [150.0, 160.0, None],
        }
    )
    declared = (
        Attribute(name="sex", kind=Kind.CATEGORICAL, missing=Missing.VALUE),
        Attribute(name="face", kind=Kind.VECTOR),
        Attribute(name="likes", kind=Kind.MULTIVALUED),
        Attribute(name="voice", kind=Kind.VECTOR),
        Attribute(name="age", kind=Kind.NUMERIC, cuts=(30,)),
        Attribute(name="height", kind=Kind.NUMERIC, groups=None),
    )
    return EntityTable(Vocabulary("123"), columns, declared)


def test_all_kinds_side_by_side(every_kind: EntityTable) -> None:
    """Embedded values 0-2 sex, 3-5 likes, 6-7 age, 8 height; then 9-11 faces and 12-14 voices."""
    encoder, slots = encode(every_kind)
    labels = ["F", "M", "(missing)", "a", "b", "c", "below 30", "30 and up", "height"]
    assert [label for _, label in encoder.value_labels] == labels
    assert encoder.attribute_of_value().tolist() == [0, 0, 0, 2, 2, 2, 4, 4, 5]
    assert encoder.vector_sizes == (2, 3)
    assert slots.value.tolist() == [[0, 9, 3, 0, 0, 6, 8], [2, 10, 4, 5, 13, 0, 8], [1, 0, 0, 0, 14, 7, 0]]
    half = math.sqrt(0.5)
    np.testing.assert_allclose(
        slots.weight, [[1, 1, 1, 0, 0, 1, -1], [1, 1, half, half, 1, 0, 1], [1, 0, 0, 0, 1, 1, 0]], rtol=1e-6
    )
    np.testing.assert_array_equal(slots.mask, slots.weight != 0)
    np.testing.assert_allclose(slots.vectors[0], [[-1, 0], [1, 0], [0, 0]])
    np.testing.assert_allclose(slots.vectors[1], [[0, 0, 0], [-1, 0, 0], [1, 0, 0]])
    assert encoder.slot_attributes(slots).tolist() == [
        [0, 1, 2, -1, -1, 4, 5],
        [0, 1, 2, 2, 3, -1, 5],
        [0, -1, -1, -1, 3, 4, -1],
    ]


def test_one_row_of_many_still_knows_its_attributes(every_kind: EntityTable) -> None:
    """The vectors stay whole where rows are taken, so a slot may point far beyond the rows that are left."""
    encoder, slots = encode(every_kind)
    last = AttributeSet(slots.value[2:], slots.weight[2:], slots.mask[2:], slots.vectors)
    assert encoder.slot_attributes(last).tolist() == [[0, -1, -1, -1, 3, 4, -1]]


def test_every_kind_survives_json(every_kind: EntityTable) -> None:
    encoder, slots = encode(every_kind)
    again = AttributeEncoder.model_validate_json(encoder.model_dump_json())
    assert again == encoder
    other = again.transform(every_kind)
    for one, two in zip(
        (slots.value, slots.weight, *slots.vectors), (other.value, other.weight, *other.vectors), strict=True
    ):
        np.testing.assert_array_equal(one, two)


def test_a_new_user_of_every_kind_is_encoded_like_one_in_a_table(every_kind: EntityTable) -> None:
    encoder, slots = encode(every_kind)
    one = encoder.transform_one({"likes": "b|c", "face": [2, 1], "voice": (1.0, 0.0, 2.0), "height": "160"})
    np.testing.assert_allclose(one.weight[0], slots.weight[1])
    np.testing.assert_allclose(one.vectors[1][0], slots.vectors[1][1])
    assert one.value.tolist() == [[2, 9, 4, 5, 10, 0, 8]]  # one row: the vectors are numbers 9 and 10


def test_a_column_that_is_not_there_is_missing_by_the_same_policy(every_kind: EntityTable) -> None:
    encoder, _ = encode(every_kind)
    nothing = EntityTable(Vocabulary("xy"))
    slots = encoder.transform(nothing)
    assert slots.value[slots.mask].tolist() == [2, 2]  # sex: "missing" is a value
    np.testing.assert_array_equal(slots.mask[0], encoder.transform_one({}).mask[0])


def test_weight_of_several_labels_counts_those_known() -> None:
    _, slots = encode(
        table([["a"], ["b"], ["a", "b", "new", "newer"]], pl.List(pl.String), kind=Kind.MULTIVALUED), rows=[0, 1]
    )
    np.testing.assert_allclose(slots.weight[2], [math.sqrt(0.5)] * 2)
    assert slots.value[2].tolist() == [0, 1]


def test_everything_is_learned_from_training_rows_only() -> None:
    labels = table([["a"], ["a", "b"], ["c"]], pl.List(pl.String), kind=Kind.MULTIVALUED)
    assert [label for _, label in encode(labels, rows=[0, 1])[0].value_labels] == ["a", "b"]
    numbers = table([1.0, 2.0, 3.0, 4.0, 900.0, 901.0], pl.Float64(), kind=Kind.NUMERIC, groups=2)
    assert encode(numbers, rows=[0, 1, 2, 3])[0].fitted[0].cuts == (2.0,)
    vectors = table([[0.0, 0.0], [2.0, 0.0], [90.0, 90.0]], pl.List(pl.Float64), kind=Kind.VECTOR)
    assert encode(vectors, rows=[0, 1])[0].fitted[0].center == (1.0, 0.0)


def test_an_unseen_label_among_several_can_be_an_error() -> None:
    of = table([["a"], ["a", "b"]], pl.List(pl.String), kind=Kind.MULTIVALUED, unseen=Unseen.ERROR)
    with pytest.raises(SchemaError, match=r"'x'.*'b'.*allowed: 'a'"):
        encode(of, rows=[0])


def test_an_unseen_label_counts_as_missing_by_its_policy() -> None:
    encoder, slots = encode(table(["a", "b"], pl.String(), kind=Kind.CATEGORICAL, missing=Missing.VALUE), rows=[0])
    assert [label for _, label in encoder.value_labels] == ["a", "(missing)"]
    assert slots.value[:, 0].tolist() == [0, 1]


def test_a_label_that_reads_like_the_missing_one_is_a_label() -> None:
    encoder, slots = encode(table(["a", "(missing)", None], pl.String(), kind=Kind.CATEGORICAL))
    labels = [encoder.value_labels[v][1] for v in slots.value[:2, 0]]
    assert labels == ["a", "(missing)"]
    assert slots.mask[:, 0].tolist() == [True, True, False]


def test_equal_vectors_do_not_divide_by_zero() -> None:
    _, slots = encode(table([[1.0, 2.0], [1.0, 2.0]], pl.List(pl.Float64), kind=Kind.VECTOR))
    np.testing.assert_array_equal(slots.vectors[0], np.zeros((2, 2)))


def test_vectors_of_another_length_are_refused() -> None:
    encoder, _ = encode(table([[0.0, 1.0]], pl.List(pl.Float64), kind=Kind.VECTOR))
    with pytest.raises(SchemaError, match="'x': a vector of length 3, the model has 2"):
        encoder.transform_one({"x": [1, 2, 3]})
    with pytest.raises(SchemaError, match="'x': give a list of 2 numbers, not 12"):
        encoder.transform_one({"x": 12})
    with pytest.raises(SchemaError, match="'x': 'a' is not a number"):
        encoder.transform_one({"x": ["a", 2]})


def test_a_vector_that_no_training_row_has_is_refused() -> None:
    with pytest.raises(SchemaError, match="'x': no training row has a vector"):
        encode(table([None, [0.0, 1.0]], pl.List(pl.Float64), kind=Kind.VECTOR), rows=[0])


def test_blanks_around_a_label_are_forgiven() -> None:
    assert several().transform_one({"sex": " M ", "likes": "a | c"}).mask.sum() == 3


def test_long_lists_of_allowed_values_are_cut() -> None:
    encoder, _ = encode(table([f"l{n:02}" for n in range(45)], pl.String(), kind=Kind.CATEGORICAL))
    with pytest.raises(SchemaError, match=r"'l39' and 5 more$"):
        encoder.transform_one({"x": "zzz"})


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.integers(2, 12))
@settings(max_examples=60, deadline=None)
def test_groups_keep_the_order_of_numbers(numbers: list[float], groups: int) -> None:
    encoder, slots = encode(table(list(numbers), pl.Float64(), kind=Kind.NUMERIC, groups=groups))
    group = slots.value[:, 0]
    assert group.min() == 0
    assert group.max() == encoder.n_values - 1 < groups  # no group is empty, none too many
    assert set(group.tolist()) == set(range(encoder.n_values))
    order = np.argsort(numbers, kind="stable")
    assert (np.diff(group[order]) >= 0).all()
