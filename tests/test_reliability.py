"""The counts of docs/reliability.md are those of the raw results, and the scripts that count see what they look for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from aanmf import MF, load_model
from aanmf.errors import ModelFolderError
from tests import scripts
from tests.conftest import small_dataset, stored


def test_the_summary_is_that_of_the_raw_results(monkeypatch: pytest.MonkeyPatch) -> None:
    made = scripts.script("benchmarks/reliability.py", monkeypatch)
    written = json.loads((made.FIGURES / "reliability.json").read_text(encoding="utf-8"))["summary"]
    assert written == json.loads(json.dumps(made.summary())), "run benchmarks/reliability.py and make figures"
    failed = {row["model"]: row["failed_mean"] for row in written if "failed_mean" in row}
    assert failed == dict.fromkeys(failed, 0)


def test_a_killed_model_is_compared_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = scripts.script("benchmarks/kills.py", monkeypatch)
    assert kills.model_state(tmp_path) is None
    states = []
    for factors in (2, 2, 3):  # the second differs from the first in its times alone
        MF(epochs=1, factors=factors).fit(small_dataset()).save(tmp_path / "model")
        states.append(kills.model_state(tmp_path))
    assert states[0] == states[1] != states[2]
    weights = stored(tmp_path / "model", "weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(AssertionError):
        kills.model_state(tmp_path)


def test_every_bad_model_is_bad_and_the_good_one_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swaps = scripts.script("benchmarks/swaps.py", monkeypatch)
    MF(epochs=1, factors=2).fit(small_dataset()).save(tmp_path / "good")
    shutil.copytree(tmp_path / "good", tmp_path / "model")
    for kind in swaps.BAD:
        swaps.put_bad(tmp_path / "model", kind)
        with pytest.raises(ModelFolderError):
            load_model(tmp_path / "model")
        swaps.put_good(tmp_path / "model", tmp_path / "good")
        assert load_model(tmp_path / "model").is_fitted
