"""Counts in Parquet files are checked before Polars trusts them."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aanmf.data.parquet_pages import Compact, DamagedError, _check_column, check_parquet, fault_of
from aanmf.errors import DataError

FRAMES = {
    "ratings": pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "rating": [1.0, None]}),
    "lists": pl.DataFrame(
        {"l": [["a", "b"], [], None], "v": [[1.0, 2.0], [3.0], [4.0]], "s": [{"a": 1, "b": [1]}] * 3}
    ),
    "dictionary": pl.DataFrame({"c": pl.Series(["x", "y", "x"] * 5000, dtype=pl.Categorical), "n": range(15_000)}),
    "empty": pl.DataFrame({"user": []}, schema={"user": pl.String}),
    "nothing": pl.DataFrame({"n": [None] * 10}),
}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize(
    "written",
    [{}, {"compression": "uncompressed"}, {"compression": "snappy", "row_group_size": 2}, {"data_page_size": 64}],
)
def test_whole_files_pass(name: str, written: dict[str, Any], tmp_path: Path) -> None:
    FRAMES[name].write_parquet(tmp_path / "t.parquet", **written)
    check_parquet(tmp_path / "t.parquet")


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_files_of_another_writer_pass(version: str, dictionary: bool, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs aanmf[arrow]")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs aanmf[arrow]")
    pairs = arrow.array([[("k", 1)]] * 900, type=arrow.map_(arrow.string(), arrow.int32()))
    table = arrow.table({"m": pairs, "s": ["x", None, "y"] * 300, "b": [True, False, None] * 300})
    parquet.write_table(
        table, tmp_path / "t.parquet", data_page_version=version, use_dictionary=dictionary, row_group_size=200
    )
    check_parquet(tmp_path / "t.parquet")


def test_a_negative_count_is_refused_before_it_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(with_negative_count(written(FRAMES["lists"])))
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read as a table \(damaged Parquet: a count is neg"):
        check_parquet(path)
    program = f"from aanmf.data.files import read_table; read_table({str(path)!r})"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "damaged Parquet" in ended.stderr


def test_every_byte_of_the_structure_may_be_anything() -> None:
    whole = written(FRAMES["ratings"])
    assert faults_told(fault_of, whole, range(len(whole) - 4), (0x00, 0x0D, 0x7F, 0xFF)) > 500


def faults_told(
    fault_of: Callable[[bytes], str | None], whole: bytes, places: Iterable[int], values: Iterable[int]
) -> int:
    """How often a fault is told where one byte has another value, or one bit; nothing may be raised."""
    told = 0
    for at in places:
        for value in (*values, whole[at] ^ 1):
            told += fault_of(whole[:at] + bytes([value]) + whole[at + 1 :]) is not None
    return told


def test_a_structure_in_place_of_a_number_is_refused() -> None:
    """Fuzzing found it: the place of the dictionary was a structure."""
    with pytest.raises(DamagedError, match="a count is negative, too large or missing"):
        _check_column(b"", {5: 1, 9: 4, 11: {}})


def test_structures_without_end_are_refused() -> None:
    deep = b"\x1c" * 1000
    footer = b"\x4c" + deep
    content = b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    assert fault_of(content) == "structures in each other without end"
    assert fault_of(b"PAR1" + b"\xff" * 4 + b"PAR1") == "the footer is longer than the file"


def test_other_files_are_left_to_their_readers(tmp_path: Path) -> None:
    assert fault_of(b"user,item,rating\na,x,5\n") is None
    (tmp_path / "t.parquet").write_bytes(b"")
    check_parquet(tmp_path / "t.parquet")


def written(frame: pl.DataFrame) -> bytes:
    frame.write_parquet(out := io.BytesIO())
    return out.getvalue()


def with_negative_count(content: bytes) -> bytes:
    """The file with -7 for the number of values in a page; it begins after the magic number."""
    reader = Compact(content, 4)
    found = reader.structure()
    assert 5 in found or 7 in found
    for at in range(4, reader.at):
        changed = content[:at] + b"\x0d" + content[at + 1 :]
        header = Compact(changed, 4).structure()
        if any(isinstance(header.get(k), dict) and header[k].get(1) == -7 for k in (5, 7)):
            return changed
    raise AssertionError("no count")
