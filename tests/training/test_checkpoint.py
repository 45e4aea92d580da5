"""Checkpoints: a training that is killed at any moment ends with the bits of one that is not."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
import pytest
import torch

from aanmf import AANMF, MF, AANMFpp, BayesFM, disk, storage
from aanmf.cli import main
from aanmf.errors import BusyError, CheckpointError, ConfigError
from aanmf.locks import locked
from aanmf.training import checkpoint
from aanmf.training.checkpoint import Checkpoint, Checkpoints, Every
from aanmf.training.distributed import Ranks
from aanmf.training.log import Epoch
from tests.conftest import small_dataset, stored, threads
from tests.test_context import planted

SETTINGS = {"factors": 4, "epochs": 4, "batch_size": 60, "learning_rate": 0.02}  # 9 steps an epoch in the search
ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """Stands for the end of a process: nothing may catch it."""


class Dying(Checkpoints):
    """The process is gone after the n-th checkpoint was written."""

    def __init__(self, folder: Path, every: str, lives: int, resume: bool = False) -> None:
        super().__init__(folder, every, resume=resume)
        self.lives = lives

    def write(self, checkpoint: Checkpoint, ranks: Ranks | None = None) -> Path:
        path = super().write(checkpoint, ranks)
        self.lives -= 1
        if self.lives == 0:
            raise Killed
        return path


def die(model, data, folder: Path, every: str, lives: int, resume: bool = False) -> None:
    with pytest.raises(Killed):
        model.fit(data, checkpoints=Dying(folder, every, lives, resume))


def bits(model) -> dict[str, bytes]:
    return {name: each.numpy().tobytes() for name, each in model.module_.state_dict().items()}


def errors(model) -> list[tuple[str, int, float, float | None]]:
    return [(e.phase, e.epoch, e.train_mse, e.valid_mse) for e in model.fitted_.training_log.epochs]


@pytest.mark.parametrize("model", [MF, AANMF])
def test_killed_after_any_checkpoint_a_training_ends_with_the_same_bits(small, tmp_path, model) -> None:
    whole = model(**SETTINGS).fit(small)
    assert {e.phase for e in whole.fitted_.training_log.epochs} == {"search", "final"}
    counted = Dying(tmp_path / "count", "5", lives=-1)
    model(**SETTINGS).fit(small, checkpoints=counted)
    written = -1 - counted.lives
    assert written >= 8
    for lives in {*range(1, written, 3), written}:
        folder = tmp_path / str(lives)
        die(model(**SETTINGS), small, folder, "5", lives)
        resumed = model(**SETTINGS).fit(small, checkpoints=Checkpoints(folder, "5", resume=True))
        assert bits(resumed) == bits(whole)
        assert errors(resumed) == errors(whole)
        assert resumed.fitted_.training_log.best_epoch == whole.fitted_.training_log.best_epoch


MEMBERS = {"factors": 3, "epochs": 3, "members": 2, "parts": 2, "l2_candidates": (20.0, 60.0), "validation_cuts": 2}


@pytest.mark.parametrize("n", [1, 2])
def test_the_members_of_a_killed_training_are_those_of_a_whole_one(small, tmp_path, n: int) -> None:
    with threads(n):
        whole = AANMFpp(**MEMBERS).fit(small)
        counted = Dying(tmp_path / "count", "epoch", lives=-1)
        assert bits(AANMFpp(**MEMBERS).fit(small, checkpoints=counted)) == bits(whole)
        written = -1 - counted.lives
        assert written > 20 // n
        for lives in {*range(1, written, 5 - n), written}:
            folder = tmp_path / str(lives)
            die(AANMFpp(**MEMBERS), small, folder, "epoch", lives)
            told: list[Epoch] = []
            going_on = Checkpoints(folder, "epoch", resume=True)
            resumed = AANMFpp(**MEMBERS).fit(small, checkpoints=going_on, on_epoch=told.append)
            assert bits(resumed) == bits(whole)
            assert errors(resumed) == errors(whole)
            assert told == resumed.fitted_.training_log.epochs[-len(told) :] or not told
            assert resumed.chosen_ == whole.chosen_


def test_what_times_say_survives_a_kill(tmp_path) -> None:
    data = planted().take(np.arange(600)).with_context(["timestamp"])
    whole = AANMFpp(**MEMBERS).fit(data)
    assert whole.module_.drift is not None
    assert whole.module_.drift.residual.any()
    for lives in (4, 15):
        die(AANMFpp(**MEMBERS), data, tmp_path / str(lives), "epoch", lives)
        resumed = AANMFpp(**MEMBERS).fit(data, checkpoints=Checkpoints(tmp_path / str(lives), resume=True))
        assert bits(resumed) == bits(whole)


def test_killed_again_and_again_it_goes_on_each_time(small, tmp_path) -> None:
    for _ in range(4):
        die(AANMF(**SETTINGS), small, tmp_path / "c", "4", lives=2, resume=True)
    resumed = AANMF(**SETTINGS).fit(small, checkpoints=Checkpoints(tmp_path / "c", "4", resume=True))
    assert bits(resumed) == bits(AANMF(**SETTINGS).fit(small))


def test_a_checkpoint_after_each_epoch_is_the_default(small, tmp_path) -> None:
    counted = Dying(tmp_path, "epoch", lives=-1)
    MF(**SETTINGS, validation=0).fit(small, checkpoints=counted)
    assert -1 - counted.lives == 4
    documents = storage.read_folder(tmp_path / "00000003").documents
    assert (documents["progress"]["epoch"], documents["progress"]["step"]) == (4, 0)  # where to go on


CHILD = """
import sys
from aanmf import AANMF, Checkpoints
from tests.conftest import small_dataset
from tests.training.test_checkpoint import LONG
data = small_dataset()
print("ready", flush=True)
AANMF(**LONG).fit(data, checkpoints=Checkpoints(sys.argv[1], "7"))
"""
LONG = {**SETTINGS, "epochs": 12, "patience": 12, "batch_size": 16}


def _killed_at_random(folder: Path, moments: int, seed: int) -> None:
    draw, data = random.Random(seed), small_dataset()
    start = time.perf_counter()
    whole = bits(AANMF(**LONG).fit(data))
    seconds, caught = time.perf_counter() - start, 0
    for moment in range(moments):
        place = folder / str(moment)
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(place)], stdout=subprocess.PIPE, cwd=ROOT)
        assert child.stdout and child.stdout.readline() == b"ready\n"
        time.sleep(draw.uniform(0, 2 * seconds))  # it also has checkpoints to write
        child.kill()
        caught += child.wait() == -9
        child.stdout.close()
        resumed = AANMF(**LONG).fit(data, checkpoints=Checkpoints(place, "50", resume=True))
        assert bits(resumed) == whole
    assert caught  # else nothing was shown


def test_killed_at_random_moments(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    _killed_at_random(tmp_path, moments=2, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_50_random_moments(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    _killed_at_random(tmp_path, moments=50, seed=1)


def test_a_full_disk_is_an_error_and_the_last_good_checkpoint_stays(small, tmp_path, monkeypatch) -> None:
    sync, count = disk.sync, 0

    def full(file: IO[bytes]) -> None:
        nonlocal count
        count += 1
        if count > 20:  # in the fourth checkpoint, of six or seven files each
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr(disk, "sync", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*last good one, .*, stays.*resume"):
        MF(**SETTINGS).fit(small, checkpoints=Checkpoints(tmp_path, "5"))
    monkeypatch.undo()
    names = sorted(path.name for path in tmp_path.glob("[!.]*"))
    assert len(names) == 2  # and nothing that was begun
    storage.read_folder(tmp_path / names[-1])
    resumed = MF(**SETTINGS).fit(small, checkpoints=Checkpoints(tmp_path, resume=True))
    assert bits(resumed) == bits(MF(**SETTINGS).fit(small))


def test_what_a_killed_process_had_begun_to_write_is_removed(small, tmp_path) -> None:
    (tmp_path / "00000099").mkdir()
    (tmp_path / "00000099" / ".weights.safetensors-x1y2z3w4").write_bytes(b"half")
    MF(**SETTINGS).fit(small, checkpoints=Checkpoints(tmp_path))
    assert not (tmp_path / "00000099").exists()


def test_two_are_kept_and_cleared_when_done(small, tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", "5")
    MF(**SETTINGS).fit(small, checkpoints=checkpoints)
    names = sorted(path.name for path in (tmp_path / "c").glob("[!.]*"))
    assert len(names) == 2
    assert int(names[1]) == int(names[0]) + 1
    checkpoints.clear()
    assert not (tmp_path / "c").exists()


def test_a_damaged_checkpoint_is_passed_over(small, tmp_path, caplog) -> None:
    die(MF(**SETTINGS), small, tmp_path, "5", lives=4)
    older, newer = sorted(tmp_path.glob("[!.]*"))
    content = bytearray(stored(newer, "adam.safetensors").read_bytes())
    content[-1] ^= 1
    stored(newer, "adam.safetensors").write_bytes(content)
    resuming = Checkpoints(tmp_path, "epoch", resume=True)
    resumed = MF(**SETTINGS).fit(small, checkpoints=resuming)
    assert resuming.started_from == older
    assert "adam.safetensors was changed" in caplog.text
    assert bits(resumed) == bits(MF(**SETTINGS).fit(small))


def test_no_whole_checkpoint_is_an_error(small, tmp_path) -> None:
    die(MF(**SETTINGS), small, tmp_path, "5", lives=1)
    stored(tmp_path / "00000001", "adam.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint there is whole"):
        MF(**SETTINGS).fit(small, checkpoints=Checkpoints(tmp_path, resume=True))


def test_another_training_is_refused(small, tmp_path) -> None:
    die(MF(**SETTINGS), small, tmp_path, "5", lives=1)

    def resume(model, data) -> None:
        model.fit(data, checkpoints=Checkpoints(tmp_path, resume=True))

    with pytest.raises(CheckpointError, match=r"learning_rate was 0\.02 and is now 0\.03"):
        resume(MF(**{**SETTINGS, "learning_rate": 0.03}), small)
    with pytest.raises(CheckpointError, match=r"model was 'MF' and is now 'AANMF'"):
        resume(AANMF(**SETTINGS), small)
    with pytest.raises(CheckpointError, match="training data was"):
        resume(MF(**SETTINGS), small_dataset(seed=1))
    with pytest.raises(CheckpointError, match="training data was"):
        resume(MF(**SETTINGS), small.with_attributes(users=["gender"]))
    resume(MF(**SETTINGS, device="cpu"), small)  # the device may be another one


def test_checkpoints_are_not_overwritten_by_oversight(small, tmp_path) -> None:
    die(MF(**SETTINGS), small, tmp_path, "5", lives=1)
    with pytest.raises(CheckpointError, match=r"not finished: resume it .*--resume"):
        MF(**SETTINGS).fit(small, checkpoints=Checkpoints(tmp_path))


def test_another_training_with_the_same_folder_is_told_who_is_there(small, tmp_path) -> None:
    with ThreadPoolExecutor(1) as pool, locked(tmp_path):
        training = pool.submit(MF(**SETTINGS).fit, small, checkpoints=Checkpoints(tmp_path))
        with pytest.raises(BusyError, match=rf"is being written by process {os.getpid()} on"):
            training.result()


def test_resume_without_a_checkpoint_starts_at_the_beginning(small, tmp_path) -> None:
    model = MF(**SETTINGS).fit(small, checkpoints=Checkpoints(tmp_path / "none", resume=True))
    assert bits(model) == bits(MF(**SETTINGS).fit(small))


def test_interrupted_after_a_resume_the_refit_gives_way_to_the_search(small, tmp_path) -> None:
    """The weights of the search are in the checkpoints of the refit."""
    counted = Dying(tmp_path / "count", "5", lives=-1)
    MF(**SETTINGS).fit(small, checkpoints=counted)
    die(MF(**SETTINGS), small, tmp_path / "c", "5", lives=-1 - counted.lives)
    documents = storage.read_folder(max((tmp_path / "c").iterdir())).documents
    assert documents["progress"]["phase"] == "final"

    def stop(epoch) -> None:
        raise KeyboardInterrupt

    model = MF(**SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        model.fit(small, on_epoch=stop, checkpoints=Checkpoints(tmp_path / "c", resume=True))
    assert bits(model) == bits(MF(**SETTINGS, refit=False).fit(small))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epoch", Every()),
        ("500", Every(500)),
        ("30s", Every(None, 30)),
        ("1.5m", Every(None, 90)),
        ("2h", Every(None, 7200)),
    ],
)
def test_when_to_write(text: str, expected: Every) -> None:
    assert Every.parse(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-5", "5 s", "often", "3d"])
def test_when_to_write_misspelt(text: str) -> None:
    with pytest.raises(ConfigError, match=r"give epoch, a number of steps \(500\), or a time"):
        Every.parse(text)


def test_a_clock_decides_where_seconds_are_asked_for(tmp_path, monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoints = Checkpoints(tmp_path, "30s")
    assert not checkpoints.due(1)
    now[0] = 130.0
    assert checkpoints.due(2)
    checkpoints.write(Checkpoint({}, {"weights": {"p": torch.ones(1)}}))
    assert not checkpoints.due(3)


class Second(Ranks):
    """The second of two, the first of which has a full disk."""

    def gather_values(self, value):
        return (
            [({}, OSError(errno.ENOSPC, "No space left on device")), value] if isinstance(value, tuple) else [2, value]
        )


def test_a_disk_that_is_full_for_one_ends_the_training_of_all(tmp_path) -> None:
    Checkpoints(tmp_path).write(Checkpoint({}, {"weights": {"p": torch.ones(1)}}))
    mine = Checkpoint({}, {"weights": {}}, {"weights": {"p": torch.ones(3)}})
    with pytest.raises(CheckpointError, match=r"No space left on device\); the last good one, .*00000001, stays"):
        Checkpoints(tmp_path).write(mine, Second(1, 2))
    assert [each.name for each in tmp_path.iterdir()] == ["00000001"]


def test_a_model_with_a_training_of_its_own_says_so(small, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"bayesfm does not support checkpoints"):
        BayesFM().fit(small, checkpoints=Checkpoints(tmp_path))


def test_command_line(tmp_path, capsys, monkeypatch) -> None:
    data = small_dataset()
    ids = {"user": [data.users.ids.ids[u] for u in data.user], "item": [data.items.ids.ids[i] for i in data.item]}
    pl.DataFrame({**ids, "rating": data.rating}).write_csv(tmp_path / "ratings.csv")
    command = ["train", str(tmp_path / "ratings.csv"), "--model", "mf", "--set", "epochs=3", "--json", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    monkeypatch.setattr(checkpoint, "Checkpoints", partial(Dying, lives=5))
    with pytest.raises(Killed):
        main([*command, str(tmp_path / "m"), "--checkpoint-every", "4"])
    monkeypatch.undo()
    assert [path.name for path in tmp_path.glob("m*")] == ["m.training"]
    capsys.readouterr()
    assert main([*command, str(tmp_path / "m"), "--checkpoint-every", "4"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "CheckpointError"
    assert main([*command, str(tmp_path / "m"), "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed_from"] == str(
        tmp_path / "m.training" / "checkpoints" / "00000005"
    )
    weights = [stored(tmp_path / name, "weights.safetensors").read_bytes() for name in ("whole", "m")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "m.training").exists()
    assert main(["train", "synthetic", "--resume", "--json"]) == 1
    assert "need --out DIR" in json.loads(capsys.readouterr().out)["error"]["message"]
