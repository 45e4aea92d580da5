"""Atomic files of RecBole, read and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from aanmf.data.dataset import RatingDataset
from aanmf.data.recbole import read_recbole, write_recbole
from aanmf.data.schema import Kind
from aanmf.data.sources import load
from aanmf.errors import DataError
from tests.conftest import small_dataset

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n186\t302\t4\t891717742\n"
USER = "user_id:token\tage:float\tgender:token\n196\t49\tM\n186\t39\tF\n7\t\tM\n"
ITEM = (
    "item_id:token\tmovie_title:token_seq\tclass:token_seq\tplot:float_seq\n"
    "242\tKolya\tComedy\t0.5 1\n302\tL.A. Confidential\tCrime Film-Noir Mystery\t1 -2.5\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "ml"
    place.mkdir()
    for ending, text in ((".inter", INTER), (".user", USER), (".item", ITEM)):
        (place / f"ml{ending}").write_text(text)
    return place


def test_types_in_the_header_say_what_columns_are(folder: Path) -> None:
    data = read_recbole(folder)
    assert data.name == "ml"
    assert data.users.ids.ids == ("196", "186", "7")
    assert data.rating.tolist() == [3, 4]
    assert data.time is not None
    assert data.time.tolist() == [881250949, 891717742]
    assert data.users.attribute("age").kind is Kind.NUMERIC
    assert data.users.columns["age"].to_list() == [49, 39, None]
    assert data.users.columns["gender"].to_list() == ["M", "F", "M"]
    assert data.items.labels == ("Kolya", "L.A. Confidential")
    assert data.items.columns["class"].to_list() == [["Comedy"], ["Crime", "Film-Noir", "Mystery"]]
    assert data.items.columns["plot"].to_list() == [[0.5, 1], [1, -2.5]]


def test_what_is_said_of_a_column_replaces_its_type(folder: Path) -> None:
    data = read_recbole(folder / "ml.inter", attributes={"class": "categorical", "users.age": "ignore"})
    assert data.items.columns["class"].to_list() == ["Comedy", "Crime Film-Noir Mystery"]
    assert data.users.names == ["gender"]


def test_the_command_line_reads_them(folder: Path) -> None:
    found = load(str(folder / "ml.inter"), attributes={"gender": "ignore"})
    assert found.users.names == ["age"]
    with pytest.raises(DataError, match="ml.user and ml.item are read too"):
        load(str(folder / "ml.inter"), users=folder / "ml.user")


def test_choices_have_no_ratings(folder: Path) -> None:
    (folder / "ml.inter").write_text("user_id:token\titem_id:token\n196\t242\n186\t302\n")
    assert not read_recbole(folder).has_ratings


def test_what_is_written_is_read(tmp_path: Path) -> None:
    data = small_dataset()
    path = write_recbole(data, tmp_path / "toy")
    assert path == tmp_path / "toy" / "toy.inter"
    assert path.read_text().startswith("user_id:token\titem_id:token\trating:float\ttimestamp:float\n")
    again = read_recbole(tmp_path / "toy", time="timestamp")
    np.testing.assert_array_equal(again.rating, data.rating)
    np.testing.assert_array_equal(again.user, data.user)
    np.testing.assert_array_equal(again.item, data.item)
    assert again.time is not None
    assert data.time is not None
    np.testing.assert_array_equal(again.time, data.time)
    assert again.users.ids == data.users.ids
    assert again.users.columns.equals(data.users.columns)
    assert again.items.columns.equals(data.items.columns)
    assert [each.kind for each in again.users.attributes] == [each.kind for each in data.users.attributes]


def test_blanks_in_labels_and_titles(tmp_path: Path) -> None:
    items = pl.DataFrame({"item": ["a", "b"], "title": ["Gone with\tthe Wind", "M"], "tags": [["sci fi", "old"], []]})
    ratings = pl.DataFrame({"user": ["x", "y"], "item": ["a", "b"], "rating": [1, 2]})
    write_recbole(RatingDataset.from_frames(ratings, items=items), tmp_path / "toy")
    again = read_recbole(tmp_path / "toy")
    assert again.items.labels == ("Gone with the Wind", "M")
    assert again.items.columns["tags"].to_list() == [["sci_fi", "old"], None]


def test_a_folder_without_ratings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one file of ratings \(NAME.inter\) is needed. Available: none"):
        read_recbole(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_recbole(tmp_path / "x.inter")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        write_recbole(small_dataset(), tmp_path / "file")
