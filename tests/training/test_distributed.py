"""Several processes that train together end with the model of one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from aanmf import MF, AANMFpp, load_model
from aanmf.contract import DRAWN_ROWS, Ratings, drawing, embedding
from aanmf.data.sources import load
from aanmf.storage import read_folder
from aanmf.training.checkpoint import Checkpoints
from aanmf.training.distributed import Ranks
from tests.conftest import small_dataset
from tests.training.ranks import LARGE, MEMBERS, RESUMED, SETTINGS, TRAININGS

FREE = "cell.out.bias"
"""The softmax ignores it, so its gradient is rounding, of which Adam makes whole steps."""
ROOT = Path(__file__).parents[2]


def torchrun(*command: str, ranks: int, restarts: int = 0) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    start += [f"--max-restarts={restarts}", "--monitor-interval=0.1"]
    return subprocess.Popen(
        [*start, *command], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def train_together(out: Path, ranks: int, *more: str) -> list[dict]:
    process = torchrun("-m", "tests.training.ranks", str(out), *more, ranks=ranks)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors[-3000:]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(ranks)]


def train_alone(name: str):
    kind, settings, _ = TRAININGS[name]
    return kind(**{**SETTINGS, **settings}).fit(small_dataset())


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def together(request, tmp_path_factory) -> tuple[Path, list[dict]]:
    """The folder and the reports of a run with so many processes."""
    out = tmp_path_factory.mktemp(f"ranks{request.param}")
    return out, train_together(out, request.param)


@pytest.mark.parametrize("name", [name for name in TRAININGS if "dropout" not in name])
def test_the_same_curve_and_weights_as_alone(together, name: str) -> None:
    _, reports = together
    alone = train_alone(name)
    for report in reports:
        epochs = alone.fitted_.training_log.epochs
        assert [tuple(e[:2]) for e in report[name]["epochs"]] == [(e.phase, e.epoch) for e in epochs]
        for one, (_, _, train, valid) in zip(epochs, report[name]["epochs"], strict=True):
            assert train == pytest.approx(one.train_mse, rel=1e-4)
            assert valid == (None if one.valid_mse is None else pytest.approx(one.valid_mse, rel=1e-4))
        for key, each in alone.module_.state_dict().items():
            if key != FREE:
                np.testing.assert_allclose(report[name]["weights"][key], each.numpy(), atol=2e-4)


@pytest.mark.parametrize("name", [name for name in TRAININGS if "sharded" in name])
def test_sharded_tables_give_what_whole_ones_give(together, name: str) -> None:
    """Up to rounding: Adam's kernel rounds the last numbers of a table, if not a multiple of eight, another way."""
    _, (report, *_) = together
    for key, each in report[name.split(" sharded")[0]]["weights"].items():
        if key != FREE:
            np.testing.assert_allclose(report[name]["weights"][key], each, atol=1e-5)


def test_tables_and_moments_of_a_process_are_its_share(together) -> None:
    _, reports = together
    whole = 3 * 4 * (LARGE["n_users"] + 1 + LARGE["n_items"] + 1) * (4 + 1)  # table and two moments, 4 bytes, K + 1
    assert sum(report["held"] for report in reports) == whole
    block = sum(-(-(n + 1) // len(reports)) for n in LARGE.values())
    assert max(report["held"] for report in reports) == 3 * 4 * block * (4 + 1)


@pytest.mark.parametrize("name", list(TRAININGS))
def test_all_processes_hold_the_same_weights(together, name: str) -> None:
    _, (first, *others) = together
    for other in others:
        assert other[name] == first[name]


def test_the_members_of_several_are_those_of_one(together) -> None:
    out, (first, *others) = together
    alone = AANMFpp(**MEMBERS).fit(small_dataset())
    weights = {key: each.tolist() for key, each in alone.module_.state_dict().items()}
    assert first["members"]["weights"] == weights
    assert sorted(first["members"]["errors"]) == sorted(e.train_mse for e in alone.fitted_.training_log.epochs)
    for other in others:
        assert other["members"] == first["members"]
    for place in sorted((out / "checkpoints" / "members").glob("0*")):  # the last ones of several, taken up by one
        shutil.copytree(place, out / "one" / place.name / place.name)
        resumed = AANMFpp(**MEMBERS).fit(
            small_dataset(), checkpoints=Checkpoints(out / "one" / place.name, resume=True)
        )
        assert {key: each.tolist() for key, each in resumed.module_.state_dict().items()} == weights


def test_dropout_differs_by_process_and_hurts_no_one(together) -> None:
    _, (report, *_) = together
    alone = train_alone("aanmf dropout").fitted_.training_log.epochs
    *_, (_, _, train, valid) = report["aanmf dropout"]["epochs"]
    assert train == pytest.approx(alone[-1].train_mse, rel=0.1)
    assert train != alone[-1].train_mse
    assert valid == pytest.approx(alone[-1].valid_mse, rel=0.1)


@pytest.mark.parametrize("name", RESUMED)
def test_a_checkpoint_of_several_is_taken_up_by_one(together, name: str) -> None:
    out, reports = together
    kind, settings, _ = TRAININGS[name]
    place = out / "checkpoints" / name
    _, documents, tensors, _ = read_folder(min(place.glob("0*")))
    for group, key, n in (("weights", "p", 43), ("adam", "p.exp_avg", 43), ("weights", "q", 22), ("adam", "q.step", 1)):
        if name != "mf" and n > 1:
            assert key not in tensors[group]
            rows = [len(tensors[f"{group}-{rank}"][key]) for rank in range(len(reports))]
            assert sum(rows) == n
            assert max(rows) == -(-n // len(reports))
        else:
            assert tensors[group][key].numel() == (n * 4 if n > 1 else 1)
    assert documents["progress"]["phase"] == "final"
    model = kind(**{**SETTINGS, **settings}).fit(small_dataset(), checkpoints=Checkpoints(place, resume=True))
    for key, each in train_alone(name).module_.state_dict().items():
        if key != FREE:
            torch.testing.assert_close(model.module_.state_dict()[key], each, atol=2e-4, rtol=0)


def test_a_checkpoint_of_several_is_taken_up_by_another_number(together, tmp_path) -> None:
    """Whole tables and those sharded by two or four, both by three who shard them."""
    out, _ = together
    for name in RESUMED:
        first = min((out / "checkpoints" / name).glob("0*"))
        shutil.copytree(first, tmp_path / "checkpoints" / name / first.name)
    reports = train_together(tmp_path, 3, "--resume")
    for name in RESUMED:
        for key, each in train_alone(name).module_.state_dict().items():
            if key != FREE:
                np.testing.assert_allclose(reports[0][name][key], each.numpy(), atol=2e-4)
        assert all(report[name] == reports[0][name] for report in reports)


@pytest.mark.parametrize("factors", [1, 3, 4])
@pytest.mark.parametrize("rows", [1, 7, 2 * DRAWN_ROWS - 1, 2 * DRAWN_ROWS, 3 * DRAWN_ROWS + 1])
def test_the_rows_that_are_drawn_have_the_bits_of_the_whole_table(rows: int, factors: int) -> None:
    torch.manual_seed(1)
    whole, after = torch.empty(rows, factors).normal_(0, 0.1), torch.rand(3)
    for needed in (range(rows), range(rows // 2, rows), range(0, rows // 3), range(rows, rows)):
        torch.manual_seed(1)
        with drawing(lambda n, needed=needed: needed):
            table = embedding(rows, factors)
        assert torch.equal(table, whole[needed.start : needed.stop])
        assert torch.equal(torch.rand(3), after)


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")
def test_rows_of_others_take_no_memory_while_a_table_is_built() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    rows = 1 << 20
    before = resident()
    with drawing(lambda n: range(0, n // 8)):
        table = embedding(rows, 64)
    share = resident() - before
    before = resident()
    whole = embedding(rows, 64)
    assert 8 * table.nbytes == whole.nbytes
    assert share < (resident() - before) / 4


def test_a_model_whose_batches_cannot_be_parted_is_refused(together) -> None:
    _, reports = together
    assert all("svd++ does not support torchrun" in report["refused"] for report in reports)


def test_the_parts_of_a_batch_are_the_batch() -> None:
    batch = Ratings(torch.arange(7), torch.arange(7), torch.arange(7.0))
    for count in (1, 2, 3, 7, 9):
        parts = [Ranks(rank, count).part(batch) for rank in range(count)]
        assert torch.cat([part.user for part in parts]).tolist() == list(range(7))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes to kill in /proc")
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_one_is_killed_and_torchrun_starts_them_again(tmp_path, ranks: int) -> None:
    command = ["train", "synthetic:20000", "--model", "mf", "--set", "epochs=20", "--set", "patience=20", "--json"]
    process = torchrun(
        *["-m", "aanmf", *command, "--out", str(tmp_path / "m"), "--checkpoint-every", "40", "--resume"],
        ranks=ranks,
        restarts=2,
    )
    checkpoints = tmp_path / "m.training" / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("0*3")):  # the third has been written
        time.sleep(0.01)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    out, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors[-3000:]
    found = json.loads(out[out.rfind("\n{") + 1 :])  # the first start may have said that it failed
    assert found["resumed_from"] is not None
    assert not (tmp_path / "m.training").exists()
    alone = MF(epochs=20, patience=20).fit(load("synthetic:20000"))
    assert found["epochs"] == alone.fitted_.training_log.best_epoch
    weights = load_model(tmp_path / "m").module_.state_dict()
    for key, each in alone.module_.state_dict().items():
        torch.testing.assert_close(weights[key], each, atol=2e-4, rtol=1e-3)
