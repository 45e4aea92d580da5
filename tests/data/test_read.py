"""Tables into data sets: names found, ids and ratings checked, every fault named with its place and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aanmf import RatingDataset, Schema
from aanmf.data.files import read_table
from aanmf.data.read import dataset_from_frames, read_dataset
from aanmf.data.schema import Attribute, Kind
from aanmf.errors import DataError, SchemaError

RATINGS = "userId,movieId,rating,timestamp\n1,10,4.5,1000000100\n2,10,3,1000000050\n1,11,2,1000000070\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def triples(data: RatingDataset) -> list[tuple[str, str, float]]:
    return [
        (data.users.ids.ids[u], data.items.ids.ids[i], float(r))
        for u, i, r in zip(data.user, data.item, data.rating, strict=True)
    ]


EXPECTED = [("1", "10", 4.5), ("2", "10", 3.0), ("1", "11", 2.0)]


def test_a_plain_csv(tmp_path) -> None:
    data = read_dataset(write(tmp_path, "r.csv", RATINGS))
    assert triples(data) == EXPECTED
    assert data.time is not None and data.time.tolist() == [1_000_000_100, 1_000_000_050, 1_000_000_070]
    assert data.name == "r"


@pytest.mark.parametrize("separator", ["::", "\t", ";", "|", " "])
@pytest.mark.parametrize("header", [True, False])
def test_separators_and_headers_are_found_out(tmp_path, separator: str, header: bool) -> None:
    text = RATINGS if header else RATINGS.split("\n", 1)[1]
    assert triples(read_dataset(write(tmp_path, "r.dat", text.replace(",", separator)))) == EXPECTED


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 30), st.floats(0, 10, width=32)),
        min_size=1,
        max_size=30,
        unique_by=lambda row: row[:2],
    ),
    st.sampled_from([",", "\t", "::"]),
)
@example([(0, 0, 0.0), (0, 1, 0.0)], ",")
@example([(0, 0, 0.0)], ",")
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, rows, separator: str) -> None:
    path = tmp_path_factory.mktemp("r") / "ratings.txt"
    path.write_text("\n".join(separator.join([f"u{u}", f"i{i}", repr(r)]) for u, i, r in rows) + "\n")
    data, ratings = read_dataset(path), {r for _, _, r in rows}
    assert data.has_ratings == (len(ratings) > 1 or len(rows) == 1)  # many ratings that are all equal are choices
    expected = [(f"u{u}", f"i{i}", pytest.approx(r if data.has_ratings else 1.0)) for u, i, r in rows]
    assert triples(data) == expected


def test_parquet_polars_pandas_and_arrow_agree(tmp_path) -> None:
    frame = pl.DataFrame({"user": [1, 2, 1], "item": [10.0, 10.0, 11.0], "rating": [4.5, 3.0, 2.0]})
    frame.write_parquet(tmp_path / "r.parquet")
    assert triples(read_dataset(tmp_path / "r.parquet")) == EXPECTED
    columns = frame.to_dict(as_series=False)
    for table in (frame, frame.lazy(), pd.DataFrame(columns), pa.table(columns)):
        assert triples(dataset_from_frames(table)) == EXPECTED


def test_ids_of_both_forms_are_the_same() -> None:
    mixed = pd.DataFrame({"user": [1, "1", " 2"], "item": ["a", "b", "a"], "rating": [1, 2, 3]})
    assert triples(dataset_from_frames(mixed)) == [("1", "a", 1.0), ("1", "b", 2.0), ("2", "a", 3.0)]


def test_latin_1_is_read(tmp_path) -> None:
    (tmp_path / "i.csv").write_bytes("item,title\n10,Les Misérables\n11,Brazil\n".encode("latin-1"))
    data = read_dataset(write(tmp_path, "r.csv", RATINGS), items=tmp_path / "i.csv")
    assert data.items.labels == ("Les Misérables", "Brazil")


def test_dates_become_seconds(tmp_path) -> None:
    text = "user,item,rating,date\n1,1,3,1970-01-02\n1,2,3,1970-01-01\n"
    time = read_dataset(write(tmp_path, "r.csv", text)).time
    assert time is not None and time.tolist() == [86_400, 0]


def test_users_with_attributes_kinds_and_missing_cells(tmp_path) -> None:
    users = write(tmp_path, "u.csv", "userId,sex,age\n2,F,30\n3,?,\n1,M,?\n")
    more = write(tmp_path, "likes.csv", "userId,likes\n1,tea\n1,milk\n3,tea\n")
    data = read_dataset(
        write(tmp_path, "r.csv", RATINGS),
        users=[users, more],
        schema=Schema(users=(Attribute(name="age", kind=Kind.NUMERIC, cuts=(20,)),)),
    )
    assert data.users.ids.ids == ("2", "3", "1")  # 3 has no rating, and stays
    assert data.users.columns["sex"].to_list() == ["F", None, "M"]
    assert data.users.columns["age"].to_list() == [30.0, None, None]
    assert data.users.columns["likes"].to_list() == [None, ["tea"], ["tea", "milk"]]
    assert triples(data) == EXPECTED


def test_users_without_a_row(tmp_path) -> None:
    ratings, users = write(tmp_path, "r.csv", RATINGS), write(tmp_path, "u.csv", "userId,sex\n1,F\n3,M\n")
    data = read_dataset(ratings, users=users)
    assert data.users.columns["sex"].to_list() == ["F", "M", None]
    assert "1 users with ratings have no row there ('2')" in data.users.notices[0]
    with pytest.raises(DataError, match="u.csv.*'2'.*unlisted='unknown'"):
        read_dataset(ratings, users=users, unlisted="error")


def test_repeated_pairs(tmp_path) -> None:
    path = write(tmp_path, "r.csv", RATINGS + "1,10,1.5,1000000300\n")
    with pytest.raises(
        DataError,
        match=r"r.csv: 1 ratings repeat.*rows 5; the first: user '1', item '10'.*'last', 'last-row' or 'mean'",
    ):
        read_dataset(path)
    assert triples(read_dataset(path, repeated="last")) == [*EXPECTED[1:], ("1", "10", 1.5)]
    assert triples(read_dataset(path, repeated="mean")) == [("1", "10", 3.0), *EXPECTED[1:]]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "the file is empty"),
        ("user,item,rating\n", {}, "no rows"),
        (
            "user,item,grade\n1,1,1\n",
            {},
            "which column holds the rating. Available: user, item, grade.*--rating-column",
        ),
        (RATINGS, {"user": "who"}, "no column 'who'. Available: userId"),
        ("user,item,rating\n1,1,good\n", {}, r"row 2, column 'rating': 'good' is not a finite number"),
        ("user,item,rating\n1,1,3\n1,2,nan\n", {}, r"row 3, column 'rating': 'nan' stands for a missing value"),
        ("user,item,rating\n1,1,inf\n", {}, "not a finite number"),
        ("user,item,rating\n1,1,\n", {}, "row 2, column 'rating': the cell is empty. Correct it"),
        ("user,item,rating\n1,1,3\n,2,3\n", {}, r"row 3, column 'user': the cell is empty"),
        ("user,item,rating,time\n1,1,3,noon\n", {"time": "time"}, "'noon' is not a time.*--time-format"),
        ("1,1,3\n1,2,x\n", {}, r"row 2, column 'column_3'"),
        (RATINGS, {"repeated": "first"}, None),
    ],
)
def test_faults_are_named_with_their_place(tmp_path, text: str, options: dict[str, Any], message: str | None) -> None:
    path = write(tmp_path, "ratings.csv", text)
    if message is None:
        path.write_text(text + "1,10,3,3\n")
        message = "choose error, last, last-row or mean"
    with pytest.raises(DataError, match=message) as fault:
        read_dataset(path, **options)
    assert "ratings.csv" in str(fault.value) or "repeated" in str(fault.value)


def test_files_that_are_not_there(tmp_path) -> None:
    with pytest.raises(DataError, match=r"none.csv: no such file"):
        read_dataset(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"users.csv: no such file"):
        read_dataset(write(tmp_path, "r.csv", RATINGS), users=tmp_path / "users.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"bad.parquet: cannot be read"):
        read_table(tmp_path / "bad.parquet")


@pytest.mark.parametrize(
    ("ids", "message"),
    [([1.5, 2.0], "1.5 is not an id"), ([True, False], "holds Boolean values"), ([{"a": 1}, {"a": 2}], "holds Struct")],
)
def test_what_cannot_be_an_id(ids: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset_from_frames(pl.DataFrame({"user": ids, "item": [1, 2], "rating": [1, 2]}))


def test_mixed_types_are_refused() -> None:
    table = pd.DataFrame({"user": pd.Series([1, b"x"], dtype=object), "item": [1, 2], "rating": [1, 2]})
    with pytest.raises(DataError, match="column 'user' mixes bytes and int"):
        dataset_from_frames(table)


def test_no_table_at_all() -> None:
    with pytest.raises(DataError, match="a dict is not a table"):
        dataset_from_frames({"user": [1]})


def test_a_stated_attribute_that_does_not_fit(tmp_path) -> None:
    users = write(tmp_path, "u.csv", "userId,age\n1,30\n2,old\n")
    stated = Schema(users=(Attribute(name="age", kind=Kind.NUMERIC),))
    with pytest.raises(SchemaError, match="'age': row 2 holds 'old', which is not a finite number"):
        read_dataset(write(tmp_path, "r.csv", RATINGS), users=users, schema=stated)
    absent = Schema(users=(Attribute(name="height", kind=Kind.NUMERIC),))
    with pytest.raises(DataError, match="no column 'height' for a stated attribute. Available: age"):
        read_dataset(write(tmp_path, "r.csv", RATINGS), users=users, schema=absent)


@pytest.mark.real_data
def test_the_restaurant_tables(real_data) -> None:
    folder = real_data / "restaurant"
    data = read_dataset(
        folder / "rating_final.csv",
        users=[folder / name for name in ("userprofile.csv", "usercuisine.csv", "userpayment.csv")],
        items=[folder / name for name in ("geoplaces2.csv", "chefmozcuisine.csv", "chefmozparking.csv")],
    )
    assert (len(data), len(data.users), len(data.items)) == (1161, 138, 130)
    kinds = {a.name: a.kind for a in (*data.users.attributes, *data.items.attributes)}
    assert kinds["Upayment"] == kinds["Rcuisine"] == Kind.MULTIVALUED
    assert kinds["birth_year"] == kinds["weight"] == Kind.NUMERIC
    assert kinds["smoker"] == kinds["price"] == Kind.CATEGORICAL
    assert "fax" not in kinds
    assert data.users.columns["smoker"].null_count() == 3  # as its README counts the question marks
    assert data.users.columns["activity"].null_count() == 7
    assert data.items.labels is not None and data.items.labels[0] == "Kiku Cuernavaca"
    assert (data.rating.min(), data.rating.max()) == (0, 2)
    row = data.users.ids.index(["U1135"])[0]
    listed = pl.read_csv(folder / "usercuisine.csv").filter(pl.col("userID") == "U1135")["Rcuisine"]
    assert set(data.users.columns["Rcuisine"][int(row)]) == set(listed)


@pytest.mark.real_data
def test_filmtrust_without_header(real_data) -> None:
    path = real_data / "filmtrust" / "ratings.txt"
    with pytest.raises(DataError, match="3 ratings repeat"):
        read_dataset(path)
    data = read_dataset(path, repeated="last-row")
    assert (len(data), len(data.users), len(data.items)) == (35_494, 1508, 2071)
    assert np.isclose(data.rating.max(), 4)
