"""Lists, evaluation and cross-validation by several processes are those of one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aanmf import MF, AANMFpp, cross_validate, ranking
from aanmf.data.sources import load
from aanmf.ranking import ListOptions, Ranker
from aanmf.training.distributed import Ranks, apart
from aanmf.training.predict import predict_pairs
from tests.conftest import small_dataset
from tests.training.ranks_use import SOURCE, commands, printed
from tests.training.test_distributed import torchrun


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def both(request, tmp_path_factory) -> tuple[Path, list[dict[str, str]], Path, dict[str, str]]:
    """Of several processes and of one: the folder of what was written, and what was printed."""
    place = tmp_path_factory.mktemp(f"use{request.param}")
    MF(epochs=1, factors=4, refit=False).fit(load(SOURCE)).save(place / "model")
    several, one = place / "several", place / "one"
    several.mkdir()
    one.mkdir()
    process = torchrun("-m", "tests.training.ranks_use", *map(str, (place / "model", several)), ranks=request.param)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors[-3000:]
    reports = [json.loads((several / f"{rank}.json").read_text()) for rank in range(request.param)]
    return several, reports, one, {name: printed(each) for name, each in commands(place / "model", one).items()}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_everyones_lists_are_the_same_bytes(both, kind: str) -> None:
    several, (first, *_), one, alone = both
    assert (several / f"lists.{kind}").read_bytes() == (one / f"lists.{kind}").read_bytes()
    assert json.loads(first[kind])["rows"] == json.loads(alone[kind])["rows"] == 3 * 1400


@pytest.mark.parametrize("name", ["evaluate", "groups"])
def test_scores_are_the_same(both, name: str) -> None:
    _, (first, *_), _, alone = both
    assert first[name] == alone[name]
    assert json.loads(first[name])["rmse"] > 0


def test_runs_of_cross_validation_are_the_same(both) -> None:
    _, (first, *_), _, alone = both
    found, expected = (without_seconds(json.loads(each["cross-validate"])) for each in (first, alone))
    assert found == expected
    assert [(run["model"], run["fold"][-1]) for run in found["runs"]] == [
        (model, fold) for fold in "123" for model in ("popularity", "aanmf++", "damped-means")
    ]


def without_seconds(found: dict) -> dict:
    return {
        name: [{key: value for key, value in row.items() if key != "fit_seconds"} for row in rows]
        for name, rows in found.items()
    }


def test_the_first_one_measures_what_all_trained(both) -> None:
    _, (first, *_), _, alone = both
    found, expected = (json.loads(each["measured"])["test"] for each in (first, alone))
    assert found == expected
    assert {each["model"] for each in found["results"]} == {"mf", "damped-means", "popularity"}


def test_the_others_print_nothing(both) -> None:
    _, (_, *others), _, _ = both
    assert all(not any(other.values()) for other in others)


def test_each_makes_its_own_part_of_lists_and_predictions(small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "TABLE_USERS", 5)
    model = MF(epochs=1, factors=4).fit(small)
    ranker, users = Ranker(model.predictor_, ListOptions(3)), np.arange(42)
    made = [torch.cat([each[0] for each in ranker.ranked(users, None, Ranks(rank, 3))]).tolist() for rank in range(3)]
    assert made[0] == [*range(0, 5), *range(15, 20), *range(30, 35)]
    assert made[2] == [*range(10, 15), *range(25, 30), *range(40, 42)]
    assert sorted(each for own in made for each in own) == users.tolist()
    monkeypatch.setattr(Ranks, "add", lambda self, own: own)
    pairs = torch.arange(10), torch.arange(10)
    own = [predict_pairs(model.module_, *pairs, block=3, ranks=Ranks(rank, 2)) for rank in range(2)]
    assert own[1].nonzero().flatten().tolist() == [3, 4, 5, 9]
    assert (own[0] + own[1]).equal(predict_pairs(model.module_, *pairs, block=3))


def test_each_makes_its_own_runs_of_each_model(small, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = (small, ["popularity", "damped-means"], "kfold:3")
    kept, announced = [], list[int]()
    monkeypatch.setattr(Ranks, "gather_values", lambda self, own: kept.append(dict(own)) or [kept[0]])
    alone = cross_validate(*asked)
    made = [cross_validate(*asked, ranks=Ranks(rank, 2), on_start=announced.append) for rank in (0, 1)]
    assert [set(own) for own in kept[1:]] == [
        {("popularity", 0), ("popularity", 2), ("damped-means", 1)},
        {("popularity", 1), ("damped-means", 0), ("damped-means", 2)},
    ]
    assert announced == [3, 3]
    assert [(run.model, run.fold) for run in made[1].runs] == [(run.model, run.fold) for run in alone.runs]


def test_apart_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    assert Ranks.current() == Ranks(1, 2)
    with apart():
        assert Ranks.current().alone
        AANMFpp(epochs=1, members=1, parts=2).fit(small_dataset())  # would wait for the others
    assert Ranks.current() == Ranks(1, 2)


FAILS = """
import sys
from aanmf import Popularity, cross_validate, load_restaurants
from aanmf.training.distributed import joined

class Broken(Popularity):
    def fit(self, *given, **more):
        raise OSError("this disk is broken")

with joined() as ranks:
    cross_validate(load_restaurants(), [Broken if ranks.rank else Popularity], "kfold:2", ranks=ranks)
"""


def test_a_failure_of_one_ends_all(tmp_path) -> None:
    (tmp_path / "fails.py").write_text(FAILS)
    process = torchrun(str(tmp_path / "fails.py"), ranks=2)
    _, errors = process.communicate(timeout=100)
    assert process.returncode != 0
    assert "OSError: this disk is broken" in errors
