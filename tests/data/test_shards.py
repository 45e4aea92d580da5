"""Shards that change while they are read, or differ from each other: an error that names them, and nothing lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from aanmf.data import shards, stream
from aanmf.data.stream import StreamedDataset, stream_dataset
from aanmf.errors import DataError


def ratings(n: int = 40, seed: int = 0) -> pl.DataFrame:
    """Ratings by users 1 to 8 of items 1 to 5."""
    pairs = np.arange(n)
    stars = np.random.default_rng(seed).integers(1, 6, n)
    return pl.DataFrame({"user": 1 + pairs % 8, "item": 1 + pairs // 8 % 5, "rating": stars})


def write(path: Path, table: pl.DataFrame) -> None:
    """As the ending of the name says."""
    {".parquet": table.write_parquet, ".csv": table.write_csv, ".jsonl": table.write_ndjson}[path.suffix](path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards, a.parquet and b.parquet."""
    (tmp_path / "shards").mkdir()
    write(tmp_path / "shards" / "a.parquet", ratings())
    write(tmp_path / "shards" / "b.parquet", ratings(seed=1))
    return tmp_path / "shards"


def prepare(folder: Path) -> StreamedDataset:
    return stream_dataset(folder, folder.parent / "work")


def state(folder: Path) -> dict[str, bytes]:
    """What is prepared."""
    return {path.name: path.read_bytes() for path in (folder.parent / "work").iterdir() if path.name != ".lock"}


# ---------------------------------------------------------------- shards that change


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grow(path: Path) -> None:
    write(path, pl.concat([ratings(), ratings()]))


def grow_without_footer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    other = path.parent.parent / path.name
    write(other, ratings(seed=5))
    other.replace(path)


CHANGES: list[Callable[[Path], None]] = [truncate, grow, grow_without_footer, replace, Path.unlink]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_shard_that_changes_is_named(folder: Path, monkeypatch, change, suffix: str, when: str) -> None:
    """After the first shard was read, or between two pieces of the second one; then the command is given again."""
    monkeypatch.setattr(shards, "PIECE", 10)
    (folder / "b.parquet").unlink()
    changed = folder / f"b{suffix}"
    prepare(folder)
    before = state(folder)
    write(changed, ratings(seed=1))
    seen: list[int] = []
    real = stream._records

    def records(*given):
        seen.append(1)
        if len(seen) == (4 if when == "before" else 6):  # a shard has four pieces
            change(changed)
        return real(*given)

    with monkeypatch.context() as patched:
        patched.setattr(stream, "_records", records)
        with pytest.raises(DataError, match=rf"b\{suffix}: (has changed|was removed) while the ratings were read"):
            prepare(folder)
    assert state(folder) == before
    write(changed, ratings(seed=1))
    assert len(prepare(folder)) == 80


def test_a_shard_that_is_gone_when_its_turn_comes(folder: Path, monkeypatch) -> None:
    real = shards.find_shards

    def found(source):
        listed = real(source)
        (folder / "b.parquet").unlink()
        return listed

    monkeypatch.setattr(stream, "find_shards", found)
    with pytest.raises(DataError, match=r"b\.parquet: was removed while the ratings were read"):
        prepare(folder)


def test_rows_that_a_footer_promises_must_be_there(folder: Path, monkeypatch) -> None:
    """Whatever Polars makes of a file, fewer rows than it says are an error."""
    real = shards._batches
    monkeypatch.setattr(shards, "_batches", lambda path, frame: real(path, frame.head(30)))
    with pytest.raises(DataError, match=r"a\.parquet: holds 30 of its 40 rows"):
        prepare(folder)


# ---------------------------------------------------------------- another schema


def test_further_columns_are_ignored_and_order_does_not_matter(folder: Path) -> None:
    write(folder / "b.parquet", ratings(seed=1).select("rating", pl.lit("x").alias("note"), "item", "user"))
    data = prepare(folder)
    assert len(data) == 80
    assert data.file.read(40, 80)["rating"].tolist() == ratings(seed=1)["rating"].to_list()


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("column", ["user", "item", "rating"])
def test_a_column_of_another_name_is_not_guessed(folder: Path, suffix: str, column: str) -> None:
    """`user_id` would be found by its name, but so might be another column that is not meant."""
    other = {"user": "user_id", "item": "item_id", "rating": "score"}[column]
    write(folder / f"c{suffix}", ratings().rename({column: other}))
    message = rf"c\{suffix}: no column '{column}', which .*a\.parquet has\. Available: .*{other}.*rename it"
    with pytest.raises(DataError, match=message):
        prepare(folder)


def test_a_file_cut_by_split_has_its_header_once(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    write(tmp_path / "all.csv", ratings().select("rating", "user", "item"))
    subprocess.run(["split", "-l", "15", "--additional-suffix=.csv", "../all.csv"], cwd=tmp_path / "shards", check=True)
    data = prepare(tmp_path / "shards")
    assert data.file.read(0, 40)["rating"].tolist() == ratings()["rating"].to_list()
    assert any("xab.csv: has no header: its columns are taken to be those of" in each for each in data.notices)


def test_ratings_as_text_are_read_or_named_with_their_row(folder: Path) -> None:
    write(folder / "b.parquet", ratings(seed=1).with_columns(pl.col("rating").cast(pl.String)))
    assert prepare(folder).file.read(40, 80)["rating"].tolist() == ratings(seed=1)["rating"].to_list()
    text = ["five", *map(str, ratings(seed=1)["rating"][1:])]
    write(folder / "b.parquet", ratings(seed=1).with_columns(rating=pl.Series(text)))
    with pytest.raises(DataError, match=r"b\.parquet: row 2, column 'rating': 'five' is not a finite number"):
        prepare(folder)


def test_words_among_numbers_are_told(folder: Path) -> None:
    write(folder / "b.parquet", ratings(seed=1).with_columns(pl.col("rating") > 3))
    notice = f"{folder / 'b.parquet'}: column 'rating': true is read as rating 1, false as 0"
    assert notice in prepare(folder).notices


def test_text_that_is_stored_as_bytes(folder: Path) -> None:
    as_bytes = pl.col("user", "item").cast(pl.String)
    write(folder / "a.parquet", ratings().with_columns(as_bytes))
    write(folder / "b.parquet", ratings(seed=1).with_columns(as_bytes.cast(pl.Binary)))
    assert len(prepare(folder).users) == 8


# ---------------------------------------------------------------- ids of another type

INTEGERS, FLOATS = pl.col("user"), pl.col("user").cast(pl.Float64)
TEXT = pl.col("user").cast(pl.String)
CODES, POINTS = TEXT.str.zfill(3), FLOATS.cast(pl.String)


@pytest.mark.parametrize(
    ("first", "second", "suffixes", "told"),
    [
        (INTEGERS, TEXT, (".parquet", ".parquet"), ("whole numbers", "text")),
        (TEXT, INTEGERS, (".parquet", ".jsonl"), ("text", "whole numbers")),
        (FLOATS, TEXT, (".parquet", ".parquet"), ("whole numbers", "text")),
        (INTEGERS, CODES, (".parquet", ".csv"), ("whole numbers", "codes that begin with 0, such as '007'")),
        (INTEGERS, POINTS, (".parquet", ".csv"), ("whole numbers", "numbers with a point, such as '7.0'")),
        (TEXT, POINTS, (".csv", ".csv"), ("whole numbers as text", "numbers with a point, such as '7.0'")),
    ],
)
def test_ids_of_two_types_are_an_error(tmp_path: Path, first, second, suffixes, told) -> None:
    (tmp_path / "shards").mkdir()
    write(tmp_path / "shards" / f"a{suffixes[0]}", ratings().with_columns(first))
    write(tmp_path / "shards" / f"b{suffixes[1]}", ratings(seed=1).with_columns(second))
    message = f"b{suffixes[1]}: the ids in column 'user' are {told[1]}, in {tmp_path / 'shards' / 'a'}{suffixes[0]}"
    with pytest.raises(DataError) as raised:
        prepare(tmp_path / "shards")
    assert f"{message} they are {told[0]}: nobody can tell" in str(raised.value)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("first", "second", "suffixes"),
    [
        (INTEGERS, FLOATS, (".parquet", ".parquet")),
        (INTEGERS, INTEGERS.cast(pl.UInt16), (".parquet", ".parquet")),
        (INTEGERS, TEXT, (".parquet", ".csv")),
        (TEXT, TEXT.cast(pl.Categorical), (".parquet", ".parquet")),
        (CODES, CODES, (".parquet", ".csv")),
    ],
)
def test_ids_that_are_the_same_beyond_doubt(tmp_path: Path, first, second, suffixes) -> None:
    (tmp_path / "shards").mkdir()
    write(tmp_path / "shards" / f"a{suffixes[0]}", ratings().with_columns(first))
    write(tmp_path / "shards" / f"b{suffixes[1]}", ratings(seed=1).with_columns(second))
    assert len(prepare(tmp_path / "shards").users) == 8


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64])
def test_floats_too_large_for_whole_numbers_are_no_ids(folder: Path, dtype) -> None:
    """2^53 and 2^53 + 1 are the same float: two users would become one."""
    exact = 2**24 if dtype == pl.Float32 else 2**53
    write(folder / "b.parquet", ratings().with_columns((pl.lit(exact) - pl.col("user")).cast(dtype).alias("user")))
    assert len(prepare(folder).users) == 16
    write(folder / "b.parquet", ratings().with_columns((pl.lit(4 * exact) + pl.col("user")).cast(dtype).alias("user")))
    with pytest.raises(DataError, match=r"b\.parquet: row 2, column 'user': .* is not an id"):
        prepare(folder)


# ---------------------------------------------------------------- a full disk


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a small disk, as root")
def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "work").mkdir()
    write(tmp_path / "shards" / "a.parquet", ratings(1000))
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path / "work")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        prepare(tmp_path / "shards")
        before = state(tmp_path / "shards")
        write(tmp_path / "shards" / "b.parquet", ratings(100_000))
        with pytest.raises(OSError, match=r"No space left on device; what was there stays as it was.*work'"):
            prepare(tmp_path / "shards")
        assert state(tmp_path / "shards") == before
        write(tmp_path / "shards" / "b.parquet", ratings(2000))  # fits
        assert len(prepare(tmp_path / "shards")) == 3000
    finally:
        subprocess.run(["umount", str(tmp_path / "work")], check=True)
