"""The benchmark of one GPU runs as a whole on the CPU, and what it counts is counted by hand here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.scripts import ROOT, script

FEW = ["members=1", "epochs=1", "parts=2", "l2=40.0", "validation_cuts=1"]
ARGUMENTS = ["--device", "cpu", "--source", "synthetic:1500", "--batch-sizes", "64", "256", "--users", "3"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("bandwidth", "work", "time_to_rmse", "peers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = script("benchmarks/gpu.py", monkeypatch)
    triad = module.triad
    monkeypatch.setattr(module, "triad", lambda device, numbers: triad(device, numbers // 64))
    return module


def run(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path, *more: str) -> dict:
    settings = [part for each in FEW for part in ("--set", each)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *ARGUMENTS, *settings, "--out", str(out), *more])
    gpu.main()
    return json.loads(out.read_text())


def shares(found: object) -> list[float]:
    """Every `share` in a document."""
    if not isinstance(found, dict):
        return []
    own = [found["share"]] if "share" in found else []
    return own + [share for each in found.values() for share in shares(each)]


def test_every_section_is_measured_beside_its_roofline(gpu, monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    found = run(gpu, monkeypatch, tmp_path / "gpu.json", "--json")
    assert json.loads(capsys.readouterr().out) == found
    assert list(found)[4:] == list(gpu.SECTIONS)
    assert not [each["error"] for each in found.values() if isinstance(each, dict) and "error" in each]
    assert found["limits"]["products_gflops"] > 0.1
    assert set(found["aanmf"]) == {"64", "256", "section_seconds"}
    assert all(share > 0 for share in shares(found))
    assert len(shares(found)) == 2 + 1 + 2 + 1 + 1 + 1
    assert found["flagship"]["step"]["seconds"] > 0
    assert found["loading"]["megabytes"] > 0.1


def test_a_section_that_fails_leaves_the_others(gpu, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    fits = []

    def fit(*_: object) -> None:
        fits.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu, "make_model", lambda *_, **__: type("Model", (), {"fit": fit})())
    found = run(gpu, monkeypatch, tmp_path / "gpu.json", "--sections", "flagship", "one list", "aanmf")
    assert "OutOfMemoryError: CUDA out of memory" in found["flagship"]["error"]
    assert "error" in found["one list"]
    assert found["aanmf"]["64"]["ratings_per_second"] > 0
    assert len(fits) == 1  # not tried again


def test_work_is_counted_by_hand(gpu) -> None:
    work = sys.modules["work"]
    shapes = work.Shapes(users=10, items=4, ratings=20, slots=1, factors=2, members=3, strengths=2)
    step = work.member_step(shapes, fitted=5)
    table = 4 * 3 * 14  # (K + 1) numbers for each of 14 users and items
    assert step.moved == 8 * (20 * 8 + table) + 5 * (20 + 24 * 3) + 7 * table
    assert step.operations == 2 * (8 * 20 * 3 + 3 * 5 * 3 * 2)
    lists = work.flagship_lists(shapes, users=5)  # who have ten ratings
    assert lists.operations == 2 * (5 * 4 * 2 * 3 + 10 * 4 * 2)
    assert lists.moved == 4 * 2 * 9 * 3 + 4 * 4 * 4 + 2 * 4 * 5 * 4
    assert work.newcomer(shapes, 3).operations == pytest.approx(2 * (4 * 2 * 3 + 3 * 4 * 2) + 2 * 2 * 27 / 3)
    assert work.aanmf_lists(shapes, 5, layer=8).operations == 20 * 2 * (2 * 1 + 2 * 8 + 8)
    machine = work.Machine(bandwidth=100.0, flops=10.0, copying=1.0)
    assert work.Work(moved=200, operations=10).seconds(machine) == 2
    assert work.Work(moved=200, operations=30).seconds(machine) == 3
    assert work.loading(7).seconds(machine) == 7


def test_without_a_gpu_it_says_so(gpu, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--json"])
    gpu.main()
    assert json.loads(capsys.readouterr().out) == {"device": None}
