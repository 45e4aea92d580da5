"""Lengths in Arrow files are checked before Polars trusts them."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aanmf.data.arrow_batches import Table, arrow_fault_of
from tests.data.test_parquet_pages import FRAMES, faults_told


def written(frame: pl.DataFrame, **options: Any) -> bytes:
    frame.write_ipc(out := io.BytesIO(), **options)
    return out.getvalue()


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
@pytest.mark.parametrize("level", [pl.CompatLevel.newest(), pl.CompatLevel.oldest()])
def test_whole_files_pass(name: str, compression: str, level: pl.CompatLevel) -> None:
    assert arrow_fault_of(written(FRAMES[name], compression=compression, compat_level=level)) is None


def test_the_densest_compression_passes() -> None:
    same = pl.DataFrame({"user": ["x" * 200] * 200_000, "rating": [1.0] * 200_000})
    assert arrow_fault_of(written(same, compression="zstd")) is None


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_files_of_another_writer_pass(compression: str) -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs aanmf[arrow]")
    feather = pytest.importorskip("pyarrow.feather", reason="needs aanmf[arrow]")
    pairs = arrow.array([[("k", 1)]] * 900, type=arrow.map_(arrow.string(), arrow.int32()))
    labels = arrow.array(["x", None, "y"] * 300).dictionary_encode()
    out = io.BytesIO()
    table = arrow.table({"m": pairs, "s": labels, "b": [True, False, None] * 300})
    feather.write_feather(table, out, compression=compression, chunksize=200)
    assert arrow_fault_of(out.getvalue()) is None


def test_a_length_without_measure_is_refused_before_it_ends_the_process(tmp_path: Path) -> None:
    path, content = tmp_path / "t.arrow", bytearray(written(FRAMES["ratings"]))
    content[first_length(bytes(content)) + 5] = 128
    path.write_bytes(content)
    program = f"from aanmf.data.files import read_table; read_table({str(path)!r})"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "t.arrow: cannot be read as a table (damaged Arrow: a length is negative or too large)" in ended.stderr


def test_every_byte_may_be_anything() -> None:
    whole = written(FRAMES["lists"])
    assert faults_told(arrow_fault_of, whole, range(6, len(whole) - 6), (0x00, 0x0D, 0x7F, 0x80, 0xFF)) > 500


def test_other_files_are_left_to_their_readers() -> None:
    assert arrow_fault_of(b"user,item,rating\na,x,5\n") is None
    assert arrow_fault_of(b"ARROW1ARROW1") is None


def first_length(content: bytes) -> int:
    """Where the length of the first part of the first batch stands."""
    end = len(content) - 10
    footer = Table.root(content, end - struct.unpack_from("<i", content, end)[0])
    offset, *_ = next(footer.structs(3, "<qiiq"))
    batch = Table.root(content, offset + 8).table(2)
    lengths = [length for _, length in batch.structs(2, "<qq") if length]
    return content.index(struct.pack("<q", lengths[0]), offset)
