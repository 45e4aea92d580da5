"""The restaurants that come with the package: their content, and how they were made from the published files."""

from __future__ import annotations

import gzip
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from aanmf import load_restaurants
from aanmf.data.restaurants import FOLDER
from aanmf.data.sources import load
from aanmf.errors import DataError
from tests import scripts
from tests.scripts import ROOT

SHIPPED = files("aanmf.data") / FOLDER


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/restaurants.py`."""
    return scripts.script("benchmarks/restaurants.py", monkeypatch)


def test_rows_as_published() -> None:
    data = load_restaurants()
    assert (len(data), len(data.users), len(data.items), data.scale) == (1161, 138, 130, (0, 2))
    rating = {
        (data.users.ids.ids[u], data.items.ids.ids[i]): r
        for u, i, r in zip(data.user, data.item, data.rating, strict=True)
    }
    assert [rating["U1077", place] for place in ("135085", "135038", "132825", "135060")] == [2, 2, 2, 1]
    user = data.users.columns.row(data.users.ids.ids.index("U1001"), named=True)
    assert user["likes"] == ["American"]
    assert (user["budget"], user["occupation"], user["birth_year"], user["smoker"]) == ("medium", "student", 1989, "no")
    at = data.items.ids.ids.index("134999")
    place = data.items.columns.row(at, named=True)
    assert data.items.label(at) == "Kiku Cuernavaca"
    assert (place["city"], place["cuisine"], place["price"]) == ("Cuernavaca", ["Japanese"], "medium")
    assert data.items.label(data.items.ids.ids.index("135106")) == "El Rincón de San Francisco"


def test_what_nobody_knows_before_the_rating_and_what_is_personal_is_left_out() -> None:
    data = load_restaurants()
    names = {*data.users.names, *data.items.names}
    assert not names & {"rating", "food_rating", "service_rating", "latitude", "longitude", "religion", "weight"}


def test_a_source_by_name() -> None:
    assert load("restaurants").fingerprint == load_restaurants().fingerprint
    for wrong in ({"source": "restaurants:10"}, {"source": "restaurants", "users": "users.csv"}):
        with pytest.raises(DataError, match="restaurants"):
            load(**wrong)  # pyright: ignore[reportArgumentType]


def test_authors_and_licence_stand_beside_the_data() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for text in ((SHIPPED / "README.md").read_text(encoding="utf-8"), notice):
        assert "Medellín" in text and "10.24432/C5DP41" in text and "creativecommons.org/licenses/by/4.0" in text
    assert f"aanmf/data/{FOLDER}" in notice
    assert sum(len(each.read_bytes()) for each in SHIPPED.iterdir()) < 100_000


def test_the_published_files_give_these_tables(real_data: Path, script: ModuleType) -> None:
    for name, table in script.prepare(real_data / "restaurant").items():
        assert gzip.decompress((SHIPPED / f"{name}.csv.gz").read_bytes()).decode() == table.write_csv()


def test_ratings_are_the_published_ones(real_data: Path) -> None:
    published = pl.read_csv(real_data / "restaurant" / "rating_final.csv", schema_overrides={"placeID": pl.String})
    data = load_restaurants()
    assert np.array(data.users.ids.ids)[data.user].tolist() == published["userID"].to_list()
    assert np.array(data.items.ids.ids)[data.item].tolist() == published["placeID"].to_list()
    assert data.rating.tolist() == published["rating"].to_list()
