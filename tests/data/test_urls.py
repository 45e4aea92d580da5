"""Tables behind URLs: what is one, shards in an object store, and stores that do not answer."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from aanmf.cli import main
from aanmf.data import shards
from aanmf.data.dataset import RatingDataset
from aanmf.data.shards import is_sharded
from aanmf.data.stream import stream_dataset
from aanmf.data.urls import Url, is_database, located
from aanmf.errors import AanmfError, DataError, MissingExtraError
from tests.data.objects import Store, serving
from tests.data.test_shards import ratings

listed = pytest.mark.skipif(importlib.util.find_spec("obstore") is None, reason="pip install 'aanmf[urls]'")


def parquet(table: pl.DataFrame, row_group_size: int | None = None) -> bytes:
    table.write_parquet(out := io.BytesIO(), row_group_size=row_group_size)
    return out.getvalue()


@pytest.fixture
def store(monkeypatch) -> Iterator[Store]:
    with serving() as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{found.port}")
        for name, value in (
            ("ACCESS_KEY_ID", "me"),
            ("SECRET_ACCESS_KEY", "?"),
            ("REGION", "x"),
            ("ALLOW_HTTP", "true"),
        ):
            monkeypatch.setenv(f"AWS_{name}", value)
        yield found


@pytest.fixture
def bucket(store: Store) -> str:
    """A new one for each test, since Polars keeps connections by name; two shards in it."""
    name = f"bucket{store.port}"
    store.objects[f"{name}/r/a.parquet"] = parquet(ratings())
    store.objects[f"{name}/r/b.parquet"] = parquet(ratings(seed=1))
    return name


@pytest.mark.parametrize(
    ("source", "kind", "several", "database"),
    [
        ("ratings.csv", Path, False, False),
        ("ratings/*.parquet", Path, True, False),
        ("file:///data/r%20s.csv", Path, False, False),
        ("s3://bucket/r/*.parquet", Url, True, False),
        ("gs://bucket/r/", Url, True, False),
        ("az://container/part-1.parquet", Url, False, False),
        ("https://host/part-1.parquet?x=*", Url, False, False),
        ("sqlite:///ratings.db", Path, False, True),
        ("postgresql://me@host/db?sslmode=require", Path, False, True),
    ],
)
def test_what_a_source_is(source: str, kind: type, several: bool, database: bool) -> None:
    assert isinstance(located(source), kind)
    assert is_sharded(source) is several
    assert is_database(source) is database


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    ratings().write_csv(tmp_path / "r s.csv")
    assert located((tmp_path / "r s.csv").as_uri()) == tmp_path / "r s.csv"
    assert len(RatingDataset.read((tmp_path / "r s.csv").as_uri())) == 40


def test_a_signature_is_not_told() -> None:
    assert str(Url("https://host/a.parquet?Signature=secret")) == "https://host/a.parquet"


def test_parquet_from_a_web_server(store: Store) -> None:
    store.objects["r/a.parquet"] = parquet(ratings())
    data = RatingDataset.read(f"http://127.0.0.1:{store.port}/r/a.parquet")
    assert data.rating.tolist() == ratings()["rating"].to_list()
    with pytest.raises(DataError, match=r"/r/none\.parquet: no such object\. Correct the name"):
        RatingDataset.read(f"http://127.0.0.1:{store.port}/r/none.parquet")
    with pytest.raises(DataError, match="a web server has no list of its files: name one file"):
        stream_dataset(f"http://127.0.0.1:{store.port}/r/*.parquet", "work")


def test_nobody_answers() -> None:
    """In bounded time: Polars tries for seconds, not for hours."""
    with serving() as gone:
        pass
    with pytest.raises(DataError, match=r"/a\.parquet: cannot be read from there .*network and the store answer"):
        RatingDataset.read(f"http://127.0.0.1:{gone.port}/a.parquet")


def test_a_pattern_without_obstore(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore.exceptions", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'aanmf\[urls\]'"):
        stream_dataset("s3://bucket/r/*.parquet", tmp_path / "work")


@listed
@pytest.mark.parametrize("pattern", ["r/*.parquet", "r/", "*/*.parquet"])
def test_shards_in_an_object_store(store: Store, bucket: str, tmp_path: Path, pattern: str) -> None:
    store.objects[f"{bucket}/r/deeper/c.parquet"] = store.objects[f"{bucket}/r/notes.md"] = b"not asked for"
    data = stream_dataset(f"s3://{bucket}/{pattern}", tmp_path / "work")
    expected = pl.concat([ratings(), ratings(seed=1)])
    assert data.file.read(0, 80)["rating"].tolist() == expected["rating"].to_list()
    users = [data.users.ids.ids[at] for at in data.file.read(0, 80)["user"]]
    assert users == expected["user"].cast(pl.String).to_list()


@listed
def test_text_shards_and_tables_of_users(store: Store, bucket: str, tmp_path: Path) -> None:
    store.objects[f"{bucket}/r/b.csv"] = ratings(seed=1).write_csv().encode()
    del store.objects[f"{bucket}/r/b.parquet"]
    users = pl.DataFrame({"user": range(1, 9), "gender": ["F", "M"] * 4})
    store.objects[f"{bucket}/users.csv"] = users.write_csv().encode()
    data = stream_dataset(f"s3://{bucket}/r/*", tmp_path / "work", users=f"s3://{bucket}/users.csv")
    assert (len(data), list(data.users.columns.columns)) == (80, ["gender"])


@listed
def test_each_part_of_an_object_is_fetched_once(store: Store, bucket: str, tmp_path: Path, monkeypatch) -> None:
    """Also where a piece is much smaller than a row group, which cannot be read in part."""
    monkeypatch.setattr(shards, "PIECE", 20_000)
    n, rng = 200_000, np.random.default_rng(0)
    table = pl.DataFrame({"user": rng.permutation(n), "item": rng.permutation(n), "rating": rng.integers(1, 6, n)})
    content = store.objects[f"{bucket}/one/a.parquet"] = parquet(table, row_group_size=n)
    assert len(stream_dataset(f"s3://{bucket}/one/", tmp_path / "work")) == n
    assert store.sent < 3 * len(content)  # its first rows, by which columns are found, and all of them


@listed
def test_an_object_that_changes_is_noticed(store: Store, bucket: str, tmp_path: Path, monkeypatch) -> None:
    """By its entity tag, though size and time are the same."""
    source, key = f"s3://{bucket}/r/*.parquet", f"{bucket}/r/b.parquet"
    first = stream_dataset(source, tmp_path / "work")
    sent = store.sent
    assert stream_dataset(source, tmp_path / "work").fingerprint == first.fingerprint
    used_again = store.sent - sent
    other = store.objects[key].replace(store.objects[key][100:101], b"?", 1)
    assert used_again < len(store.objects[key]) * 2 + 2000
    real = shards._batches

    def batches(path, frame):
        yield from real(path, frame)
        if str(path).endswith("b.parquet"):
            store.objects[key] = other

    store.objects[f"{bucket}/r/c.parquet"] = parquet(ratings(seed=2))
    monkeypatch.setattr(shards, "_batches", batches)
    with pytest.raises(DataError, match=r"b\.parquet: has changed while the ratings were read .*of the same size"):
        stream_dataset(source, tmp_path / "work")
    del store.objects[key]
    with pytest.raises(DataError, match=r"b\.parquet: was removed while"):
        shards.Shard(Url(f"s3://{key}"), [])._check()


@listed
def test_nothing_there(store: Store, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"s3://{bucket}/none/\*\.parquet: no file of ratings there"):
        stream_dataset(f"s3://{bucket}/none/*.parquet", tmp_path / "work")
    with pytest.raises(AanmfError, match=rf"s3://{bucket}/none\.csv: no such"):
        stream_dataset(f"s3://{bucket}/r/", tmp_path / "work", users=f"s3://{bucket}/none.csv")


@listed
def test_a_store_that_does_not_answer(monkeypatch, tmp_path: Path) -> None:
    for name, value in (("ENDPOINT_URL", "http://127.0.0.1:9"), ("ACCESS_KEY_ID", "me"), ("SECRET_ACCESS_KEY", "?")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with pytest.raises(DataError, match=r"s3://silent/r/\*\.parquet: cannot be read from there \(Generic S3 error"):
        stream_dataset("s3://silent/r/*.parquet", tmp_path / "work")


@listed
def test_training_from_an_object_store(store: Store, bucket: str, tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "m")
    assert main(["train", f"s3://{bucket}/r/*.parquet", "--model", "mf", "--set", "epochs=1", "--out", out]) == 0
    assert (tmp_path / "m" / "manifest.json").is_file()
