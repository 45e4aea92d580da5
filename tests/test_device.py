"""Everything that a model does on the CPU, it does on another device: no tensor is made, or left, at the wrong place.

No GPU is needed: see `tests/pretend_device.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.on_device import CASES, SLOW

ROOT = Path(__file__).parents[1]
MIXES = """
import torch
from tests.pretend_device import pretended

with pretended():
    there = torch.zeros(3, device="pretend")
    print(there.device, (there + 1).cpu().tolist(), (there + torch.tensor(2.0)).tolist(), there[torch.arange(2)].device)
    for wrong in (lambda: there + torch.ones(3), lambda: there.numpy(), lambda: torch.ones(3)[there.long()]):
        try:
            wrong()
            print("allowed")
        except (RuntimeError, TypeError):
            print("refused")
"""


def run(*command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_pretended_device_refuses_what_a_gpu_refuses() -> None:
    found = run("-c", MIXES).split("\n")
    assert found == ["pretend:0 [1.0, 1.0, 1.0] [2.0, 2.0, 2.0] pretend:0", "refused", "refused", "refused", ""]


@cache
def report(*cases: str) -> dict[str, dict[str, dict]]:
    """Of several models, from one process."""
    return json.loads(run("-m", "tests.on_device", *cases))


@pytest.mark.parametrize("case", [*CASES, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)])
def test_a_model_on_another_device_is_that_of_the_cpu(case: str) -> None:
    found = report(*(CASES if case in CASES else SLOW))[case]
    cpu, device = dict(found["cpu"]), found["device"]
    assert device.get("device") == "pretend", device.get("fit")
    assert cpu.pop("device") == "cpu"
    failed = [text for text in cpu.values() if isinstance(text, str)]
    assert not failed, failed[0]
    for use, expected in cpu.items():
        assert not isinstance(device[use], str), f"{use}: {device[use]}"
        assert near(device[use], expected), f"{use}: {device[use]} is not {expected}"


def near(found: Any, expected: Any) -> bool:
    """Whether numbers agree but for rounding, and everything else is the same."""
    if isinstance(expected, dict):
        same = isinstance(found, dict) and found.keys() == expected.keys()
        return same and near([*found.values()], [*expected.values()])
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(near, found, expected))
    return found == (pytest.approx(expected, abs=1e-3) if isinstance(expected, float) else expected)
