"""`aanmf update`: where new data come from, what it says, and that nothing is replaced where it fails."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from aanmf import AANMFpp, load_model
from aanmf.cli import main
from aanmf.serving.run import default_store
from aanmf.serving.store import RatingStore, StoredRating
from tests.conftest import small_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = AANMFpp(factors=2, epochs=1, members=1, parts=2, l2=5.0).fit(small_dataset())
    model.save(tmp_path / "model")
    (tmp_path / "new.csv").write_text("user,item,rating\nann,i1,5\nann,i2,5\nu1,fresh,5\n")
    (tmp_path / "users.csv").write_text("user,gender,age,shoe\nann,F,31,40\nbob,M,44,43\n")
    (tmp_path / "items.csv").write_text("item,genres\nfresh,war\nunrated,drama|war\n")
    return tmp_path / "model"


def run(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, object]:
    assert main(["update", *map(str, args), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_from_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = folder.parent
    given = place / "new.csv", "--users", place / "users.csv", "--items", place / "items.csv"
    assert main(["update", str(folder), *map(str, given)]) == 0
    shown, notes = (" ".join(text.split()) for text in capsys.readouterr())
    assert "3 ratings, 2 users, 2 items" in shown
    assert "at once, without training (0.50% of the ratings came since the last training, at most 2%)" in shown
    assert "the model has no attribute 'shoe': not used" in notes
    model = load_model(folder)
    assert model.explain("ann", "i5", top=100).parts["value"].is_in(["F"]).any()
    assert "unrated" in model.recommend("bob", n=30, unrated=True)["item"]
    assert run(capsys, folder, *given)["updated"] is False


def test_from_a_database(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(folder.parent / "shop.sqlite") as shop:
        shop.execute("CREATE TABLE bought (customer TEXT, thing TEXT, stars REAL)")
        shop.execute("INSERT INTO bought VALUES ('ann', 'i1', 4), ('ann', 'i3', 2)")
        shop.execute("CREATE TABLE customers (customer TEXT, gender TEXT)")
        shop.execute("INSERT INTO customers VALUES ('ann', 'F')")
    url = f"sqlite:///{folder.parent / 'shop.sqlite'}"
    columns = "--user-column", "customer", "--item-column", "thing", "--rating-column", "stars"
    queries = "--ratings-query", "SELECT * FROM bought", "--users-query", "SELECT * FROM customers"
    found = run(capsys, folder, url, *queries, *columns)
    assert (found["new_ratings"], found["new_users"], found["how"]) == (2, 1, "histories")
    assert load_model(folder).fitted_.users.table.columns["gender"][-1] == "F"


def test_stored_ratings_with_attributes_of_their_users(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = RatingStore(default_store(folder))
    store.add([StoredRating("ann", "i1", 5.0), StoredRating("carl", "i2", None)])
    store.close()
    found = run(capsys, folder, "--users", folder.parent / "users.csv")
    assert (found["new_ratings"], found["new_users"]) == (2, 3)  # ann, carl and bob
    genders = load_model(folder).fitted_.users.table.columns["gender"][-3:].to_list()
    assert sorted(genders, key=str) == ["F", "M", None]


def test_attributes_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, folder, "--items", folder.parent / "items.csv")
    assert (found["updated"], found["new_ratings"], found["new_items"]) == (True, 0, 2)
    assert not Path(default_store(folder).removeprefix("sqlite:///")).exists()


def test_full(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, folder, folder.parent / "new.csv", "--full")
    assert (found["how"], found["why"]) == ("full", "a full fit was asked for")
    assert load_model(folder).fitted_.data["ratings"] == 603


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere.csv"], "nowhere.csv: no such file"),
        (["new.csv", "--store", "sqlite:///x"], "--store sqlite:///x: no such file"),
        (["new.csv", "--users-query", "SELECT 1"], "new.csv is not a database: --users-query"),
        (["bad.csv"], "rating 9 of item 'i1' by user 'ann' is off the scale 1 to 5"),
        (["--users", "bad.csv", "--users", "nowhere.csv"], "nowhere.csv: no such file"),
    ],
)
def test_what_fails_leaves_the_model_as_it_was(
    folder: Path, args: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("bad.csv").write_text("user,item,rating\nann,i1,9\nann,i2,1\n")
    manifest = (folder / "manifest.json").read_bytes()
    assert main(["update", "model", *args]) == 1
    assert words in " ".join(capsys.readouterr().err.split())
    assert (folder / "manifest.json").read_bytes() == manifest
