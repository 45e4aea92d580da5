"""Tables of other libraries, in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from aanmf.data.dataset import RatingDataset
from aanmf.data.frames import TableKind, as_kind, kind_of, pairs_of, tables_of, training_data
from aanmf.data.options import ReadOptions
from aanmf.data.stream import StreamedDataset
from aanmf.data.tables import Table, as_frame
from aanmf.errors import DataError, MissingExtraError
from tests.conftest import small_dataset

ROWS = [("ann", "tea", 5.0), ("bob", "tea", 2.0), ("ann", "rum", 1.0)]


def assert_read(data: RatingDataset | StreamedDataset) -> None:
    assert isinstance(data, RatingDataset)
    users, items = data.users.ids.ids, data.items.ids.ids
    found = [(users[u], items[i], r) for u, i, r in zip(data.user, data.item, data.rating, strict=True)]
    assert found == ROWS


@pytest.mark.parametrize(
    "table",
    [
        pl.DataFrame(ROWS, schema=["who", "movie", "rating"], orient="row"),
        pl.LazyFrame(ROWS, schema=["who", "movie", "rating"], orient="row"),
        pd.DataFrame(ROWS, columns=["who", "movie", "rating"]),
        pd.DataFrame(ROWS, columns=["who", "movie", "rating"]).set_index(["who", "movie"]),
        pa.table(dict(zip(["who", "movie", "rating"], map(list, zip(*ROWS, strict=True)), strict=True))),
    ],
    ids=["polars", "lazy", "pandas", "pandas index", "arrow"],
)
def test_a_table_with_its_ratings(table: Any) -> None:
    assert_read(training_data(table, options=ReadOptions(user="who")))


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, pl.Series, lambda y: np.array(y)[:, None]])
@pytest.mark.parametrize("pairs", [list, lambda rows: np.array(rows, dtype=object), pd.DataFrame])
def test_pairs_and_their_ratings(pairs: Any, kind: Any) -> None:
    named = pairs([row[:2] for row in ROWS])
    if isinstance(named, pd.DataFrame):
        named = named.set_axis(["user", "item"], axis=1)
    assert_read(training_data(named, kind([row[2] for row in ROWS])))


def test_ratings_in_the_table_count_for_nothing_where_they_are_given_apart() -> None:
    table = pl.DataFrame({"user": ["a", "b"], "item": ["x", "x"], "rating": [9.0, 8.0]})
    with pytest.warns(UserWarning, match="column 'rating' is not used"):
        data = training_data(table, [1.0, 2.0])
    assert isinstance(data, RatingDataset)
    assert data.rating.tolist() == [1, 2]


def test_further_columns_of_an_array_are_named_as_unused() -> None:
    with pytest.warns(UserWarning, match="column 'column_3' is not used"):
        data = training_data(np.array([[1, 2, 7, 1, 1], [2, 2, 8, 1, 2], [2, 1, 9, 2, 1]]), [1.0, 2.0, 3.0])
    assert isinstance(data, RatingDataset)
    assert data.users.ids.ids == ("1", "2")


def test_attributes_come_with_the_tables() -> None:
    users = pd.DataFrame({"user": ["bob", "ann", "eve"], "town": ["Rome", "Oslo", "Rome"]})
    data = training_data(pl.DataFrame(ROWS, schema=["user", "item", "rating"], orient="row"), users=users)
    assert data.users.ids.ids == ("bob", "ann", "eve")
    assert data.users.columns["town"].to_list() == ["Rome", "Oslo", "Rome"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": [1]}, "leave y out"),
        ({"users": pl.DataFrame(), "items": pl.DataFrame()}, "leave users, items out"),
        ({"options": ReadOptions()}, "leave options out"),
    ],
)
def test_a_data_set_has_everything_already(arguments: dict[str, Any], message: str) -> None:
    data = small_dataset()
    assert training_data(data) is data
    with pytest.raises(DataError, match=message):
        training_data(data, **arguments)


@pytest.mark.parametrize(
    ("table", "y", "message"),
    [
        (ROWS, [1.0, 2.0], "y: 3 ratings are needed, one per row of the table"),
        (np.zeros(3), None, r"shape \(3,\) is not a table"),
        ({"user": [1]}, None, "a dict is not a table"),
    ],
)
def test_what_is_no_table_of_ratings(table: Any, y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        training_data(table, y)


def test_a_sparse_matrix_is_named_as_one() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(DataError, match="a sparse csr_array is not a table"):
        as_frame(sparse.csr_array(np.eye(2)), "ratings")


def test_pairs_are_found_by_what_is_known_of_their_columns() -> None:
    table = Table.of(pl.DataFrame({"rater": [1, 2], "user": ["x", "y"], "product_id": [3.0, 4.0]}), "pairs")
    assert pairs_of(table) == (["x", "y"], ["3", "4"])
    assert pairs_of(table, {"user": "rater", "item": "elsewhere"}) == (["1", "2"], ["3", "4"])
    assert pairs_of(Table.of(as_frame([("a", 1), ("b", 2)], "pairs"), "pairs")) == (["a", "b"], ["1", "2"])
    with pytest.raises(DataError, match="pairs: no column 'item'. Available: user"):
        pairs_of(Table.of(pl.DataFrame({"user": ["x"]}), "pairs"))


def test_tables_of_a_data_set_are_read_as_the_same() -> None:
    data = small_dataset()
    again = RatingDataset.from_frames(*tables_of(data), time="time")
    assert again.fingerprint == data.fingerprint
    assert again.users.ids == data.users.ids
    assert again.users.columns.equals(data.users.columns)
    assert again.items.columns.equals(data.items.columns)
    assert again.time is not None
    assert data.time is not None
    np.testing.assert_array_equal(again.time, data.time)


def test_tables_keep_labels_beside_an_attribute_of_that_name_and_context() -> None:
    ratings = pl.DataFrame(
        {"user": ["a", "a", "b"], "item": ["x", "y", "x"], "rating": [1, 2, 3], "mood": ["m", "n", "n"]}
    )
    items = pl.DataFrame({"item": ["x", "y"], "title": ["The X", "The Y"], "label": ["EMI", "Decca"]})
    schema = {"items.label": "categorical", "items.title": "label"}
    data = RatingDataset.from_frames(ratings, items=items, attributes=schema, context=["mood"])
    tables = tables_of(data)
    assert tables.items["label_shown"].to_list() == ["The X", "The Y"]
    assert tables.items["label"].to_list() == ["EMI", "Decca"]
    assert tables.ratings["mood"].to_list() == ["m", "n", "n"]


def test_results_in_the_kind_of_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({"item": ["a", "b"], "rating": [1.5, 2.5]})
    assert as_kind(frame, "polars") is frame
    kinds: dict[TableKind, type] = {"pandas": pd.DataFrame, "arrow": pa.Table}
    for kind, expected in kinds.items():
        table = as_kind(frame, kind)
        assert isinstance(table, expected)
        assert kind_of(table) == kind
        assert as_frame(table, "results").to_dicts() == frame.to_dicts()

    def absent(self: object) -> None:
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")

    monkeypatch.setattr(pl.DataFrame, "to_pandas", absent)
    with pytest.raises(MissingExtraError, match=r"need pyarrow: pip install 'aanmf\[arrow\]'"):
        as_kind(frame, "pandas")
