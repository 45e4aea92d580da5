"""Ratings that stay on disk: prepared from shards, the same as if they were read into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from aanmf.data import shards
from aanmf.data.attributes import AttributeSet
from aanmf.data.context import ContextEncoder, ContextRows
from aanmf.data.dataset import RatingDataset
from aanmf.data.rating_file import RECORD, RatingFile
from aanmf.data.shards import find_shards, is_sharded
from aanmf.data.stream import StreamedDataset, stream_dataset
from aanmf.errors import DataError, SchemaError
from tests.conftest import stored

USERS = "userid,gender,age\nu3,F,20\nu1,M,30\nu9,F,40\n"
ITEMS = "itemid,genres\ni2,drama|war\ni1,war\n"


@pytest.fixture
def ratings(tmp_path) -> pl.DataFrame:
    """100 ratings in three shards of two kinds, in an order in which the first ids are not the listed ones."""
    rng = np.random.default_rng(0)
    pairs = rng.permutation(20 * 10)[:100]
    frame = pl.DataFrame(
        {
            "userId": [f"u{19 - pair // 10}" for pair in pairs],
            "movieId": [f"i{pair % 10}" for pair in pairs],
            "rating": rng.integers(1, 6, 100).astype(float),
        }
    )
    (tmp_path / "shards").mkdir()
    frame[:40].write_parquet(tmp_path / "shards" / "a.parquet", row_group_size=15)
    frame[40:75].write_csv(tmp_path / "shards" / "b.csv")
    frame[75:].select("rating", "movieId", "userId").write_parquet(tmp_path / "shards" / "c.parquet")
    (tmp_path / "users.csv").write_text(USERS)
    (tmp_path / "items.csv").write_text(ITEMS)
    frame.write_csv(tmp_path / "all.csv")
    return frame


def rows(data: StreamedDataset) -> list[tuple[str, str, float]]:
    records = data.file.read(0, len(data))
    users, items = data.users.ids.ids, data.items.ids.ids
    return [(users[u], items[i], float(r)) for u, i, r in records.tolist()]


@pytest.mark.parametrize("piece", [7, 1_000_000])
@pytest.mark.parametrize("tables", [False, True])
def test_the_same_as_in_memory(ratings, tmp_path, monkeypatch, piece: int, tables: bool) -> None:
    monkeypatch.setattr(shards, "PIECE", piece)
    given = {"users": tmp_path / "users.csv", "items": [tmp_path / "items.csv"]} if tables else {}
    data = stream_dataset(tmp_path / "shards", tmp_path / "work", **given)
    memory = RatingDataset.read(tmp_path / "all.csv", **given)
    for streamed, read in ((data.users, memory.users), (data.items, memory.items)):
        assert streamed.ids == read.ids
        assert streamed.attributes == read.attributes
        assert streamed.columns.equals(read.columns)
    records = data.file.read(0, len(data))
    np.testing.assert_array_equal(records["user"], memory.user)
    np.testing.assert_array_equal(records["item"], memory.item)
    np.testing.assert_array_equal(records["rating"], memory.rating)
    assert rows(data) == list(ratings.iter_rows())
    assert data.range() == (1.0, 5.0)
    assert [each.tolist() for each in data.rated()] == [
        np.unique(memory.user).tolist(),
        np.unique(memory.item).tolist(),
    ]


def test_ids_are_text_whatever_their_type(tmp_path) -> None:
    (tmp_path / "s").mkdir()
    pl.DataFrame({"user": [1, 2], "item": ["a", "b"], "rating": [3, 4]}).write_parquet(tmp_path / "s" / "1.parquet")
    pl.DataFrame({"user": ["2", "x"], "item": ["a", "b"], "rating": ["5", " 1.5"]}).write_csv(tmp_path / "s" / "2.csv")
    data = stream_dataset(f"{tmp_path}/s/*", tmp_path / "work")
    assert rows(data) == [("1", "a", 3.0), ("2", "b", 4.0), ("2", "a", 5.0), ("x", "b", 1.5)]


def test_what_was_prepared_is_used_again_until_a_file_changes(ratings, tmp_path) -> None:
    def prepare(**given):
        return stream_dataset(tmp_path / "shards", tmp_path / "work", **given)

    one = prepare()
    inode = stored(tmp_path / "work", "ratings.bin").stat().st_ino
    again = prepare()
    assert stored(tmp_path / "work", "ratings.bin").stat().st_ino == inode
    assert again.fingerprint == one.fingerprint
    ratings[:10].write_parquet(tmp_path / "shards" / "a.parquet")
    changed = prepare()
    assert len(changed) == 70
    assert changed.fingerprint != one.fingerprint
    listed = prepare(users=tmp_path / "users.csv")
    assert listed.users.ids.ids[:3] == ("u3", "u1", "u9")
    assert rows(listed) == rows(changed)
    assert [path.name for path in tmp_path.glob("work*")] == ["work"]
    assert len(list((tmp_path / "work").iterdir())) == 5  # three files, the manifest and the lock


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("rating", float("nan"), r"c\.parquet: row 7, column 'rating': nan stands for a missing value"),
        ("userId", None, r"c\.parquet: row 7, column 'userId': the cell is empty"),
    ],
)
def test_a_fault_is_named_with_shard_and_row(ratings, tmp_path, monkeypatch, column, value, message) -> None:
    monkeypatch.setattr(shards, "PIECE", 4)
    broken = ratings[75:].with_columns(
        pl.when(pl.int_range(pl.len()) == 5).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )
    broken.write_parquet(tmp_path / "shards" / "c.parquet")
    with pytest.raises(DataError, match=message):
        stream_dataset(tmp_path / "shards", tmp_path / "work")
    assert not (tmp_path / "work").exists()
    assert not (tmp_path / "work").exists()


def test_a_shard_without_the_column_is_named(ratings, tmp_path) -> None:
    ratings.drop("rating").write_parquet(tmp_path / "shards" / "d.parquet")
    with pytest.raises(
        DataError, match=r"d\.parquet: no column 'rating', which .*a\.parquet has\. Available: userId, movieId"
    ):
        stream_dataset(tmp_path / "shards", tmp_path / "work")


def test_no_such_shards(tmp_path) -> None:
    with pytest.raises(DataError, match="no file of ratings there"):
        find_shards(tmp_path / "*.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"bad\.parquet: cannot be read as Parquet"):
        stream_dataset(tmp_path, tmp_path / "work")


def test_which_sources_are_several_files(tmp_path) -> None:
    assert is_sharded("ratings/*.parquet")
    assert is_sharded(str(tmp_path))
    assert not is_sharded("ratings.csv")
    assert not is_sharded("ml-100k")
    assert not is_sharded("postgresql://me@host/db?sslmode=require")


def test_a_file_is_read_in_blocks_and_by_row(tmp_path) -> None:
    records = np.array([(u, 2 * u, u / 2) for u in range(10)], RECORD)
    path = tmp_path / "ratings.bin"
    path.write_bytes(records.tobytes())
    file = RatingFile(path)
    assert len(file) == 10
    assert file.read(3, 5).tolist() == [(3, 6, 1.5), (4, 8, 2.0)]
    assert file.read(8, 99).tolist() == records[8:].tolist()
    assert [(start, len(block)) for start, block in file.blocks(4)] == [(0, 4), (4, 4), (8, 2)]
    for found, name in zip(file.mapped(), ("user", "item", "rating"), strict=True):
        np.testing.assert_array_equal(found, records[name])
    with Path(path).open("r+b") as shortened:
        shortened.truncate(60)
    with pytest.raises(DataError, match="ended early"):
        file.read(0, 10)


# ---------------------------------------------------------------- context


def in_context(folder: Path, n: int = 300) -> pl.DataFrame:
    """Ratings with context of several kinds in three shards, written to `folder`; the whole table."""
    rng = np.random.default_rng(5)
    frame = pl.DataFrame(
        {
            "user": [f"u{k % 20}" for k in range(n)],
            "item": [f"i{k // 20}" for k in range(n)],
            "rating": rng.integers(1, 6, n).astype(float),
            "companion": [("family", "alone", None)[k % 3] for k in range(n)],
            "weather": [("sun|wind", "rain", "sun")[k % 3] for k in rng.integers(3, size=n)],
            "degrees": rng.normal(20, 5, n).round(2),
            "timestamp": 1_600_000_000 + rng.integers(10**8, size=n),
        }
    )
    folder.mkdir()
    frame[:100].write_parquet(folder / "a.parquet")
    frame[100:180].write_csv(folder / "b.csv")
    frame[180:].select(reversed(frame.columns)).write_parquet(folder / "c.parquet")
    return frame


CONTEXT = ["companion", "weather", "degrees", "timestamp"]


@pytest.mark.parametrize("piece", [7, 1_000_000])
def test_context_as_in_memory(tmp_path, monkeypatch, piece: int) -> None:
    """The same kinds, encoders and slots, for all rows and for some in any order."""
    monkeypatch.setattr(shards, "PIECE", piece)
    memory = RatingDataset.from_frames(in_context(tmp_path / "shards"), context=CONTEXT)
    encoder = ContextEncoder.fit(memory.context, memory.time)
    whole = encoder.transform(memory.context, memory.time)
    for _ in range(2):  # prepared, then used again
        data = stream_dataset(tmp_path / "shards", tmp_path / "work", context=CONTEXT)
        assert data.context.names == memory.context.names
        assert data.context.attributes == memory.context.attributes
        contexts = ContextRows.fit(data.context, data.time)
        assert contexts.encoder == encoder
        some = np.random.default_rng(0).permutation(len(memory))[:50]
        for rows, expected in ((some, whole.rows(torch.from_numpy(some))), (np.arange(len(memory)), whole)):
            for found, of_memory in zip(contexts.of(rows).sets, expected.sets, strict=True):
                slots = [sorted(zip(*each, strict=True)) for each in _filled(found)]
                assert slots == [sorted(zip(*each, strict=True)) for each in _filled(of_memory)]
            time = contexts.of(rows).time
            assert time is not None
            assert expected.time is not None
            assert time.tolist() == expected.time.tolist()


def _filled(sets: AttributeSet) -> list[tuple[list[int], list[float]]]:
    return [
        (value[mask].tolist(), weight[mask].tolist())
        for value, weight, mask in zip(sets.value, sets.weight, sets.mask, strict=True)
    ]


def test_a_rare_label_is_learned_where_most_rows_are_skipped(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("aanmf.data.context.SAMPLE", 3)
    frame = in_context(tmp_path / "shards")
    rare = [*frame["companion"][:249], "colleagues", *frame["companion"][250:]]
    frame.with_columns(companion=pl.Series(rare))[180:].write_parquet(tmp_path / "shards" / "c.parquet")
    data = stream_dataset(tmp_path / "shards", tmp_path / "work", context=["companion"])
    assert ContextRows.fit(data.context, data.time).encoder.attributes.fitted[0].labels == (
        "alone",
        "colleagues",
        "family",
    )


def test_a_shard_without_the_context_is_named(tmp_path) -> None:
    in_context(tmp_path / "shards")
    pl.read_csv(tmp_path / "shards" / "b.csv").drop("weather").write_csv(tmp_path / "shards" / "b.csv")
    with pytest.raises(DataError, match=r"b\.csv: no column 'weather', which .*a\.parquet has\. Available: user, item"):
        stream_dataset(tmp_path / "shards", tmp_path / "work", context=["weather"])


def test_a_shard_with_another_kind_of_context_is_named(tmp_path) -> None:
    frame = in_context(tmp_path / "shards")
    other = frame[180:].with_columns(degrees=pl.lit("warm"))
    other.write_parquet(tmp_path / "shards" / "c.parquet")
    with pytest.raises(SchemaError, match=r"c\.parquet.*'degrees'.*'warm'"):
        stream_dataset(tmp_path / "shards", tmp_path / "work", context=["degrees"])


def test_other_context_is_prepared_anew(tmp_path) -> None:
    in_context(tmp_path / "shards")
    first, second = (
        stream_dataset(tmp_path / "shards", tmp_path / "work", context=names)
        for names in (["companion"], ["companion", "timestamp"])
    )
    assert (first.context.names, second.context.names) == (["companion"], ["companion", "timestamp"])
    assert first.fingerprint != second.fingerprint
    assert second.with_context(["companion"]).fingerprint == first.fingerprint
    assert second.with_context([]).time is None
