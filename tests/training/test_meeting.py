"""A rank that never comes, or is gone in the middle: the others name it, in bounded time, and nothing is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from aanmf.cli import main
from aanmf.errors import ConfigError
from aanmf.training.meeting import join_time, wait_time

ROOT = Path(__file__).parents[2]


def start(command: Sequence[str], ranks: Sequence[int], count: int, **variables: str) -> list[subprocess.Popen[str]]:
    """Processes of some ranks, without torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1", **variables}
    environment |= {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**environment, "RANK": str(rank)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in ranks
    ]


def ends(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and stderr of each."""
    told = [process.communicate(timeout=100)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, told, strict=True)]


def unwrapped(text: str) -> str:
    return " ".join(text.split())


TRAIN = ["aanmf", "train", "restaurants", "--model", "mf", "--set", "epochs=1", "--out"]


def test_a_rank_that_never_comes_is_named_and_the_model_stays(tmp_path: Path) -> None:
    assert main([*TRAIN[1:], str(tmp_path / "m")]) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    command, begun = [*TRAIN, str(tmp_path / "m")], time.monotonic()
    (code, told), _ = ends(start(command, [0, 1], 3, AANMF_JOIN_MINUTES="0.1"))
    assert code == 1
    assert "rank 2 of 3 did not come within 0.1 minutes. Start all of them" in unwrapped(told)
    assert time.monotonic() - begun < 60
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before
    assert [code for code, _ in ends(start(command, [0, 1], 2))] == [0, 0]  # once all come


def test_the_first_rank_never_comes(tmp_path: Path) -> None:
    ((code, told),) = ends(start([*TRAIN, str(tmp_path / "m")], [1], 2, AANMF_JOIN_MINUTES="0.03"))
    assert code == 1
    assert "rank 0 of 2 did not come: nobody answers at 127.0.0.1:" in unwrapped(told)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        pytest.param("killed", "rank 2 of 3 does not answer: it was killed", marks=pytest.mark.slow),
        pytest.param("hanging", "rank 2 of 3 does not answer: it was killed", marks=pytest.mark.slow),
        ("raising", "rank 2 has stopped: DataError: users.csv: no such file"),
    ],
)
def test_a_rank_that_is_gone_in_the_middle_is_named(how: str, message: str) -> None:
    """All are told which one it was, also those that only hear from others that something is wrong."""
    processes = start(["tests.training.lost", how], [0, 1, 2], 3, AANMF_WAIT_MINUTES="0.05")
    ended = ends(processes[:2])
    processes[2].kill()
    processes[2].communicate()
    for code, told in ended:
        assert code == 1
        assert message in unwrapped(told)
        assert "with --resume it continues from the last checkpoint" in unwrapped(told)


@pytest.mark.slow
def test_ratings_that_the_first_cannot_prepare(tmp_path: Path) -> None:
    """The others do not wait for them."""
    (tmp_path / "shards").mkdir()
    pairs = np.arange(3000)
    table = pl.DataFrame({"user": pairs % 60, "item": pairs // 60, "rating": 1 + pairs % 5})
    table.write_parquet(tmp_path / "shards" / "a.parquet")
    table.drop("rating").write_parquet(tmp_path / "shards" / "b.parquet")
    command = [part.replace("restaurants", str(tmp_path / "shards")) for part in TRAIN] + [str(tmp_path / "m")]
    first, other = ends(start(command, [0, 1], 2))
    assert (first[0], other[0]) == (1, 1)
    assert "b.parquet: no column 'rating'" in unwrapped(first[1])
    assert "rank 0 has" in unwrapped(other[1])  # ended, or stopped: it holds the notes
    table.write_parquet(tmp_path / "shards" / "b.parquet")
    assert [code for code, _ in ends(start(command, [0, 1], 2))] == [0, 0]


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_a_time_that_is_none(monkeypatch, text: str) -> None:
    monkeypatch.setenv("AANMF_JOIN_MINUTES", text)
    with pytest.raises(ConfigError, match=f"AANMF_JOIN_MINUTES='{text}': give a number of minutes above 0, such as 5"):
        join_time()


def test_times_are_stated(monkeypatch) -> None:
    for name in ("AANMF_JOIN_MINUTES", "AANMF_WAIT_MINUTES"):
        monkeypatch.delenv(name, raising=False)
    assert (join_time().total_seconds(), wait_time().total_seconds()) == (300, 7200)
    monkeypatch.setenv("AANMF_WAIT_MINUTES", "1.5")
    assert wait_time().total_seconds() == 90


def test_an_environment_without_a_place_to_meet(monkeypatch, capsys) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "restaurants"]) == 1
    assert "WORLD_SIZE is 2, and RANK is ''" in " ".join(capsys.readouterr().err.split())
