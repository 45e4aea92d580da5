"""`benchmarks/attention.py`: users taken out of training stay out, attention is compared pair by pair, runs resume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from aanmf import RatingDataset
from aanmf.data.split import folds
from tests import scripts

QUICK = {"epochs": 2, "factors": 4}


@pytest.fixture
def attention(small: RatingDataset, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = scripts.script("benchmarks/attention.py", monkeypatch)
    rows = np.random.default_rng(1).permutation(len(small))
    data = replace(small, folds={"u1": np.sort(rows[:200]), "u2": np.sort(rows[200:400])})
    monkeypatch.setattr(made, "load", lambda _: data)
    monkeypatch.setattr(made, "ALWAYS", {"aanmf": QUICK, "afm": QUICK})
    return made


def test_users_taken_out_of_training_are_scored_on_the_same_ratings_with_and_without_five(
    attention: ModuleType, small: RatingDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RatingDataset] = []
    fit = attention.fit
    monkeypatch.setattr(attention, "fit", lambda *given: (seen.append(given[2]), fit(*given))[1])
    found = attention.movielens("aanmf", "attention", "u1", 0)
    (cold,) = folds(small, "cold-user:0.1+5", [0])
    new = set(small.user[cold.test].tolist())
    assert not new & set(seen[0].user.tolist()), "users taken out of training are in it"
    assert set(map(int, found["by_user"]["new"])) == set(map(int, found["by_user"]["few"])) == new
    assert not new & set(map(int, found["by_user"]["known"]))
    assert found["few_rmse"] != found["new_rmse"]
    squares = np.array([found["by_user"]["new"][str(user)] for user in small.user[cold.test]])
    assert found["new_rmse"] == pytest.approx(np.sqrt(squares.mean()), abs=1e-5)


def test_without_attributes_new_users_are_alike(attention: ModuleType) -> None:
    assert "by_user" in attention.movielens("aanmf", "no-attributes", "u2", 0)
    assert attention.fit("afm", attention.MOVIELENS["afm"]["fm"], attention.load(""), 0)[0].spec.name == "fm"


def test_differences_are_those_of_the_same_split_and_of_the_same_user(attention: ModuleType) -> None:
    def run(arm: str, fold: str, rmse: float, **by_user: float) -> dict[str, Any]:
        return {"model": "m", "arm": arm, "fold": fold, "seed": 0, "known_rmse": rmse, "by_user": {"known": by_user}}

    runs = [
        run("attention", "u1", 0.9, a=0.7, b=0.9),
        run("uniform", "u1", 1.0, a=0.8, b=1.0),
        run("attention", "u2", 0.8, a=0.5, c=0.6),
        run("uniform", "u2", 0.7, a=0.3, c=0.6),
        run("uniform", "u3", 9.0, d=1.0),  # attention has not been fitted there yet
    ]
    rows = {row["model"]: row for row in attention.summary(runs)}
    assert rows["m/attention"]["known_rmse_mean"] == pytest.approx(0.85)
    assert "known_rmse_less_mean" not in rows["m/attention"]
    assert rows["m/uniform"]["known_rmse_less_mean"] == pytest.approx(((0.9 - 1.0) + (0.8 - 0.7)) / 2)
    # by user, attention less uniform: a (.7 + .5) / 2 - (.8 + .3) / 2 = .05, b -.1, c 0: t = -.378
    # and with 2 degrees of freedom p = 1 - |t| / sqrt(2 + t^2)
    assert rows["m/uniform"]["known_user_p_mean"] == pytest.approx(1 - 0.378 / np.sqrt(2 + 0.378**2), abs=1e-4)
    assert rows["m/uniform"]["known_holm_mean"] == rows["m/uniform"]["known_user_p_mean"]


def test_finished_fits_are_not_repeated(attention: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "found.json"
    monkeypatch.setattr(
        "sys.argv", ["attention.py", "movielens", "--models", "aanmf", "--folds", "u1", "--out", str(out)]
    )
    attention.main()
    first = json.loads(out.read_text())
    assert [run["arm"] for run in first["runs"]] == list(attention.MOVIELENS["aanmf"])
    monkeypatch.setattr(attention, "fit", lambda *_: pytest.fail("a finished fit is not repeated"))
    attention.main()
    assert json.loads(out.read_text()) == first


def test_synthetic_ratings_compare_the_two_models_seed_by_seed(
    attention: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmse = {"aanmf": [0.5, 0.6], "aanmf++": [0.48, 0.601]}

    def measured(model: str, arm: str, fold: str, seed: int) -> dict[str, Any]:
        return {"rmse": rmse[model][seed], "seconds": 13.0 if arm == "attention" else 10.0}

    _, arms, splits, _ = attention.SUITES["planted"]
    monkeypatch.setattr(attention, "SUITES", {"planted": (measured, arms, splits, [0, 1])})
    out = tmp_path / "found.json"
    command = ["attention.py", "planted", "--arms", "attention", "whole", "--out", str(out)]
    monkeypatch.setattr("sys.argv", command)
    attention.main()
    document = json.loads(out.read_text())
    assert {run["arm"] for run in document["runs"]} == {"attention", "whole"}
    (row,) = [row for row in document["summary"] if row["model"] == "aanmf++/attention"]
    assert row["rmse_less_aanmf_mean"] == pytest.approx((-0.02 + 0.001) / 2)
    assert row["rmse_less_aanmf_most_mean"] == pytest.approx(0.001)
    assert row["cost_of_search_mean"] == pytest.approx(1.3)
