"""`benchmarks/paper.py` tunes and fits each model once, and compares them on the same splits."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from aanmf.experiments.tuned import Tuned
from tests import scripts

pytest.importorskip("optuna")


def test_models_are_tuned_alike_and_compared_on_the_same_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = scripts.script("benchmarks/paper.py", monkeypatch)
    arguments = [
        "paper.py",
        "--source",
        "synthetic:1000",
        "--models",
        "aanmf",
        "svd++",
        "--seeds",
        "2",
        "--trials",
        "2",
    ]
    fixed = {"epochs": 2, "factors": 4}
    monkeypatch.setattr("sys.argv", [*arguments, "--fixed", json.dumps(fixed), "--out", str(tmp_path)])
    script.main()
    found = {path.stem: Tuned.read(path) for path in (tmp_path / "settings" / "synthetic").glob("*.toml")}
    assert {model: tuned.tuning["trials"] for model, tuned in found.items()} == {"aanmf": 2, "svd++": 2}
    assert found["svd++"].settings["attributes"], "what AANMF knows"
    assert {**found["aanmf"].settings, **fixed} == found["aanmf"].settings
    document = json.loads((tmp_path / "synthetic:1000-table-4.json").read_text())
    errors = {m: [run["rmse"] for run in document["runs"] if run["model"] == m] for m in ("aanmf", "svd++")}
    rows = {row["model"]: row for row in document["summary"]}
    for model, each in errors.items():
        assert len(each) == rows[model]["splits"] == 2
        assert rows[model]["rmse_mean"] == pytest.approx(statistics.mean(each))
        assert rows[model]["rmse_std"] == pytest.approx(statistics.stdev(each))
        assert rows[model]["settings"] == found[model].settings
    difference = statistics.mean(errors["svd++"]) - statistics.mean(errors["aanmf"])
    assert rows["svd++"]["less_aanmf_mean"] == pytest.approx(difference)
    assert "less_aanmf_mean" not in rows["aanmf"]

    monkeypatch.setattr(script, "perform", lambda job: pytest.fail("a finished fit is not repeated"))
    monkeypatch.setattr(script, "tune", lambda *_, **__: pytest.fail("a finished search is not repeated"))
    script.main()
