"""Ratings out of a database are those that a file gives."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aanmf.cli import main
from aanmf.data.read import dataset_from_frames
from aanmf.data.schema import Kind
from aanmf.data.sources import load
from aanmf.data.sql import read_sql
from aanmf.errors import ConfigError, DataError
from tests.postgres import postgres_url

sqlalchemy = pytest.importorskip("sqlalchemy", reason="database tests need aanmf[sql]")

SCRIPT = """
CREATE TABLE ratings (user_id INTEGER, item_id TEXT, rating NUMERIC(3,1), given BIGINT);
CREATE TABLE people (id INTEGER PRIMARY KEY, gender TEXT, age DOUBLE PRECISION, password TEXT);
CREATE TABLE films (id TEXT PRIMARY KEY, title TEXT, genres TEXT);
INSERT INTO people VALUES (1, 'F', 31, 'x'), (2, NULL, 44.5, 'y'), (3, 'M', 31, 'z'), (4, 'F', 20, 'q');
INSERT INTO films VALUES ('a', 'Ann', 'drama|war'), ('b', 'Bob', 'war'), ('c', 'Cat', 'drama');
INSERT INTO ratings VALUES (1, 'a', 4.5, 100), (1, 'b', 3, 101), (2, 'a', 2, 102), (3, 'c', 5, 103), (4, 'b', 1, 104),
  (2, 'c', 3, 105), (3, 'a', 4, 106), (4, 'c', 2, 107);
"""
USERS = "SELECT id, gender, age FROM people ORDER BY id"
ITEMS = "SELECT * FROM films ORDER BY id"
RATINGS = 'SELECT user_id AS "user", item_id AS item, rating FROM ratings WHERE user_id < 4 ORDER BY given'


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_url() as url:
        engine = sqlalchemy.create_engine(url.replace("://", "+psycopg://", 1))
        with engine.begin() as connection:
            for statement in filter(str.strip, SCRIPT.split(";")):
                connection.execute(sqlalchemy.text(statement))
        engine.dispose()
        yield url


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    connection = sqlite3.connect(tmp_path / "films.db")
    connection.executescript(SCRIPT)
    connection.close()
    return f"sqlite:///{tmp_path / 'films.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("sqlite" if request.param == "sqlite" else "postgres")


def test_queries_give_what_tables_give(url: str) -> None:
    data = read_sql(url, ratings=RATINGS, users=USERS, items=ITEMS)
    expected = dataset_from_frames(
        pl.DataFrame({"user": [1, 1, 2, 3, 2, 3], "item": list("abacca"), "rating": [4.5, 3.0, 2.0, 5.0, 3.0, 4.0]}),
        users=pl.DataFrame({"id": [1, 2, 3, 4], "gender": ["F", None, "M", "F"], "age": [31.0, 44.5, 31.0, 20.0]}),
        items=pl.DataFrame(
            {"id": list("abc"), "title": ["Ann", "Bob", "Cat"], "genres": ["drama|war", "war", "drama"]}
        ),
    )
    assert data.rating.tolist() == [4.5, 3.0, 2.0, 5.0, 3.0, 4.0]
    assert data.fingerprint == expected.fingerprint
    assert data.users.columns.equals(expected.users.columns)
    assert data.users.attribute("age").kind is Kind.NUMERIC
    assert data.items.columns.equals(expected.items.columns)
    assert data.items.labels == ("Ann", "Bob", "Cat")


def test_the_table_ratings_is_the_default(url: str) -> None:
    data = load(url)
    assert (len(data), len(data.users), len(data.items)) == (8, 4, 3)
    assert data.time is None or len(data.time) == 8


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        ({"ratings": "SELECT * FROM nothing"}, "--ratings-query failed: "),
        ({"users": "SELEKT"}, "--users-query failed: "),
        ({"ratings": "DELETE FROM films WHERE id = 'zzz'"}, "--ratings-query returns no rows"),
        ({"ratings": "SELECT user_id, user_id, rating FROM ratings"}, "two columns 'user_id'"),
        ({"ratings": "SELECT * FROM ratings WHERE user_id > 9"}, "the table has no rows"),
        ({"ratings": "SELECT item_id, rating FROM ratings"}, "cannot tell which column holds the user"),
        ({"users": "SELECT * FROM people WHERE id > 9"}, "--users-query"),
    ],
)
def test_queries_that_cannot_be_used(url: str, queries: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as told:
        read_sql(url, **queries)
    assert words in str(told.value)


def test_databases_that_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_sql(f"sqlite:///{tmp_path / 'nowhere.db'}")
    assert not (tmp_path / "nowhere.db").exists()
    with pytest.raises(DataError, match="cannot be reached") as told:
        read_sql("postgresql://somebody:secret@127.0.0.1:1/x")
    assert "secret" not in str(told.value)
    for url in ("nonsense://x", "postgresql://somebody:secret@host:port/x"):
        with pytest.raises(ConfigError, match="not a database URL") as refused:
            read_sql(url)
        assert "secret" not in str(refused.value)


def test_files_and_queries_do_not_mix(sqlite: str) -> None:
    with pytest.raises(DataError, match="is a database"):
        load(sqlite, users="users.csv")
    with pytest.raises(DataError, match="is not a database"):
        load("ml-100k", queries={"users": USERS})


def test_train_from_a_database(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queries = ["--ratings-query", RATINGS, "--users-query", USERS, "--items-query", ITEMS]
    options = ["--set", "factors=2", "--set", "epochs=2", "--set", "validation=0"]
    assert main(["train", url, *queries, *options, "--out", str(tmp_path / "m"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ratings"], found["users"], found["items"]) == (6, 3, 3)  # one user has no rating
    assert found["attributes"] == ["gender", "age"]
    assert main(["data", url, "--users-query", "SELEKT", "--json"]) == 1
    assert "--users-query failed" in json.loads(capsys.readouterr().out)["error"]["message"]
