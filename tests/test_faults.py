"""After a fault at any step of a save the folder holds the old state or the new one, whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
import torch

from aanmf import MF, load_model
from aanmf.cli import main
from aanmf.data.stream import StreamedDataset, stream_dataset
from aanmf.errors import CheckpointError
from aanmf.manifest import files_of, read_manifest
from aanmf.storage import replace_file
from aanmf.training.checkpoint import Checkpoint, Checkpoints
from tests.conftest import small_dataset
from tests.faults import FAULTS, failing

Write = Callable[[Path], object]


def every_fault(
    start: Path, place: Path, write: Write, check: Callable[[Path], None], fault: str, stride: int = 1
) -> int:
    """Lets every step of `write` fail, each on a copy of `start`; returns how many steps there are.

    Args:
        start: the folder as it is before.
        place: where copies are made.
        write: what is done to a copy.
        check: looks at the copy afterwards.
        fault: one of `FAULTS`.
        stride: 1 tries every step, 5 every fifth and the last ten.
    """
    place.mkdir(exist_ok=True)
    shutil.copytree(start, place / "whole")
    with failing(place) as counted:
        write(place / "whole")
    assert counted.done > 5
    for at in sorted({*range(1, counted.done + 1, stride), *range(counted.done - 9, counted.done + 1)}):
        copy = place / str(at)
        shutil.copytree(start, copy)
        with failing(copy, fault, at) as failed:
            write(copy)
        assert failed.done >= at
        check(copy)
        shutil.rmtree(copy)
    return counted.done


@pytest.fixture(scope="module")
def models() -> list[MF]:
    return [MF(epochs=1, factors=factors).fit(small_dataset()) for factors in (2, 3)]


STRIDES = (6, pytest.param(1, marks=pytest.mark.slow))


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_is_saved_over_an_older_one(models: list[MF], tmp_path: Path, fault: str, stride: int) -> None:
    old, new = models
    old.save(tmp_path / "start" / "model")
    found: list[int] = []

    def check(copy: Path) -> None:
        found.append(load_model(copy / "model").get_params()["factors"])
        new.save(copy / "model")  # goes through, and leaves nothing of the failed one
        named = {path.name for path in files_of(copy / "model", read_manifest(copy / "model")).values()}
        assert {path.name for path in (copy / "model").iterdir()} == named | {"manifest.json", ".lock"}
        assert [path.name for path in copy.iterdir()] == ["model"]

    every_fault(tmp_path / "start", tmp_path / "copies", lambda copy: new.save(copy / "model"), check, fault, stride)
    assert set(found) == {2, 3}
    assert found == sorted(found), "once the new model is there it stays"


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_is_saved_where_none_was(models: list[MF], tmp_path: Path, fault: str, stride: int) -> None:
    old, new = models

    def check(copy: Path) -> None:
        if (copy / "model" / "manifest.json").exists():
            assert load_model(copy / "model").get_params()["factors"] == 2
        elif fault in ("ENOSPC", "EIO"):
            assert not (copy / "model").exists()
        new.save(copy / "model")
        assert load_model(copy / "model").get_params()["factors"] == 3

    (tmp_path / "start").mkdir()
    every_fault(tmp_path / "start", tmp_path / "copies", lambda copy: old.save(copy / "model"), check, fault, stride)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_is_written(tmp_path: Path, fault: str) -> None:
    def write(copy: Path) -> None:
        with suppress(CheckpointError):
            Checkpoints(copy / "c").write(_checkpoint(2))

    def check(copy: Path) -> None:
        checkpoints = Checkpoints(copy / "c", resume=True)
        found = checkpoints.open({})
        assert found is not None
        assert found.progress["step"] in (1, 2)
        assert found.tensors["weights"]["p"].tolist() == [found.progress["step"]] * 10
        checkpoints.write(_checkpoint(3))
        assert len(list((copy / "c").iterdir())) == 2  # the last two, and nothing that was begun

    Checkpoints(tmp_path / "start" / "c").write(_checkpoint(1))
    every_fault(tmp_path / "start", tmp_path / "copies", write, check, fault)


def _checkpoint(step: int) -> Checkpoint:
    return Checkpoint({"step": step}, {"weights": {"p": torch.full((10,), float(step))}})


@pytest.mark.parametrize("fault", FAULTS)
def test_ratings_are_prepared(tmp_path: Path, fault: str) -> None:
    """Over those of another file; whatever happened, what is read afterwards are the ratings of the new one."""
    for name, rating in (("old", 1.0), ("new", 2.0)):
        (tmp_path / name).mkdir()
        frame = pl.DataFrame({"user": list("aabbc"), "item": list("xyxyx"), "rating": [rating, 3, 4, 5, 1]})
        frame.write_csv(tmp_path / name / "r.csv")

    def prepare(copy: Path) -> StreamedDataset:
        return stream_dataset(tmp_path / "new", copy / "data")

    def check(copy: Path) -> None:
        data = prepare(copy)
        assert data.file.read(0, 5)["rating"].tolist() == [2, 3, 4, 5, 1]
        assert data.users.ids.ids == ("a", "b", "c")
        named = {path.name for path in files_of(copy / "data", read_manifest(copy / "data")).values()}
        assert named <= {path.name for path in (copy / "data").iterdir()}

    stream_dataset(tmp_path / "old", tmp_path / "start" / "data")
    every_fault(tmp_path / "start", tmp_path / "copies", prepare, check, fault)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_is_replaced(tmp_path: Path, fault: str) -> None:
    def write(copy: Path) -> None:
        with replace_file(copy / "notes.txt") as file:
            file.write(b"new")
            file.write(b"er")

    def check(copy: Path) -> None:
        assert (copy / "notes.txt").read_bytes() in (b"old", b"newer")

    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "notes.txt").write_bytes(b"old")
    every_fault(tmp_path / "start", tmp_path / "copies", write, check, fault)


@pytest.mark.parametrize("stride", (50, pytest.param(1, marks=pytest.mark.slow)))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_is_updated(tmp_path: Path, fault: str, stride: int) -> None:
    """By the command: the folder holds the model of before or the one that has learned, and the next update works."""
    (tmp_path / "start").mkdir()
    MF(factors=2, epochs=1).fit(small_dataset()).save(tmp_path / "start" / "model")
    (tmp_path / "new.csv").write_text("user,item,rating\nann,i1,5\nann,i2,5\n")

    def update(copy: Path) -> int:
        return main(["update", str(copy / "model"), str(tmp_path / "new.csv"), "--json"])

    def check(copy: Path) -> None:
        assert load_model(copy / "model").fitted_.data["ratings"] in (600, 602)
        assert update(copy) == 0
        assert load_model(copy / "model").fitted_.data["ratings"] == 602

    every_fault(tmp_path / "start", tmp_path / "copies", update, check, fault, stride)
