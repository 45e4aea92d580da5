"""Lengths in Arrow files are checked before Polars trusts them."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from aanmf.data.arrow_batches import fault_of
from tests.data.test_parquet_pages import FRAMES

SEED = "20000068-107"
"""Of a damaged file that ended the process: Polars asked for 2^47 bytes."""


def content_of(frame: pl.DataFrame, **options: Any) -> bytes:
    frame.write_ipc(file := io.BytesIO(), **options)
    return file.getvalue()


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_whole_files_pass(name: str, compression: str) -> None:
    assert fault_of(content_of(FRAMES[name], compression=compression)) is None
    assert fault_of(content_of(FRAMES[name], compression=compression, record_batch_size=2)) is None


def test_files_that_become_much_smaller_pass() -> None:
    assert fault_of(content_of(pl.DataFrame({"n": [0] * 3_000_000}), compression="zstd")) is None


def test_files_of_another_writer_pass() -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs aanmf[arrow]")
    feather = pytest.importorskip("pyarrow.feather", reason="needs aanmf[arrow]")
    pairs = arrow.array([[("k", 1)]] * 900, type=arrow.map_(arrow.string(), arrow.int32()))
    words = arrow.array(["x", None, "y"] * 300).dictionary_encode()
    table = arrow.table({"m": pairs, "s": words, "b": [True, False, None] * 300, "none": [None] * 900})
    for compression in ("uncompressed", "lz4", "zstd"):
        feather.write_feather(table, file := io.BytesIO(), compression=compression, chunksize=200)
        assert fault_of(file.getvalue()) is None


def test_a_length_that_is_none_is_refused_before_it_ends_the_process(tmp_path: Path) -> None:
    program = (
        "import random, warnings; from pathlib import Path; from tests.fuzz.tables import targets; "
        f"warnings.simplefilter('ignore'); place = Path({str(tmp_path)!r}); "
        f"print(targets(place)['tables, damaged'].outcome(random.Random({SEED!r})))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "refused\n"), ended.stderr[-500:]


def test_every_byte_may_be_anything() -> None:
    whole, told = content_of(FRAMES["ratings"]), 0
    for at in range(len(whole) - 6):
        for byte in (0x00, 0x7F, 0xFF, whole[at] ^ 1):
            damaged = bytearray(whole)
            damaged[at] = byte
            told += fault_of(bytes(damaged)) is not None  # and nothing is raised
    assert told > 200


def test_other_files_are_left_to_their_readers() -> None:
    assert fault_of(b"") is None
    assert fault_of(b"user,item,rating\na,x,5\n") is None
