"""Large arrays in files: what they hold, that nothing of them stays, and a disk that is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from aanmf.data import scratch as of_scratch
from aanmf.data.scratch import MEMORY, Scratch, picked, places_in_order
from aanmf.errors import DataError


@pytest.fixture
def files(tmp_path, monkeypatch) -> Scratch:
    """Even the smallest arrays are in files."""
    monkeypatch.setattr(of_scratch, "SMALL", 0)
    return Scratch(tmp_path)


def maps(folder: Path) -> int:
    """How many files of a folder this process has mapped, those without a name among them."""
    return Path("/proc/self/maps").read_text().count(str(folder))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_arrays_are_in_files_without_names_and_leave_nothing(files: Scratch, tmp_path) -> None:
    array = files.empty(3, 1000, dtype=torch.float16)
    array[1] = 3
    assert array.shape == (3, 1000)
    assert float(array.sum(dtype=torch.float32)) == 3000
    assert maps(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    part = array[1, 5:7]
    del array
    assert part.tolist() == [3, 3]
    del part
    assert maps(tmp_path) == 0


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_small_arrays_stay_in_memory(tmp_path) -> None:
    array = Scratch(tmp_path).empty(1000)
    assert array.shape == (1000,)
    assert maps(tmp_path) == 0


def test_an_array_of_another_kind_and_shape(files: Scratch) -> None:
    one = files.like(torch.zeros(2, 3, dtype=torch.int64), torch.int32)
    assert (one.shape, one.dtype) == ((2, 3), torch.int32)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_an_error_before_anything_is_written(files: Scratch, tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=rf"{tmp_path}: no room for 0.4 GB .*No space left on device.*larger disk"):
        files.empty(100_000_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_places_are_those_of_a_stable_sort(files: Scratch, monkeypatch, block: int, kind: torch.dtype) -> None:
    monkeypatch.setattr(of_scratch, "BLOCK", block)
    key = torch.randint(0, 9, (100,), generator=torch.Generator().manual_seed(block)).to(kind)
    expected = torch.argsort(key, stable=True)
    for scratch in (MEMORY, files):
        places = places_in_order(key, torch.bincount(key, minlength=12), scratch)
        assert torch.equal(places.long(), expected)
        assert torch.equal(picked(key, places, scratch), key[expected])
