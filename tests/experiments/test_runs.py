"""Fits on disk: the key, the file, resuming, the curve and what is measured when."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from aanmf.data.dataset import RatingDataset
from aanmf.data.split import holdout
from aanmf.errors import ConfigError, DataError
from aanmf.evaluation.runs import Job, Measure, Run, RunStore, fit_and_score, fit_to_validate
from aanmf.experiments import queue
from aanmf.experiments.jobs import dataset, jobs_of, perform
from aanmf.experiments.queue import Progress, run_all, seconds_left
from aanmf.metrics import Scores
from aanmf.recommender import make_model

SOURCE = "synthetic:2000"
SMALL = {"epochs": 3, "factors": 4}


def jobs(*models: str, seeds: tuple[int, ...] = (0,), measure: Measure = "test", **settings: object) -> list[Job]:
    chosen = {model: {**SMALL, **settings} for model in models}
    return jobs_of(SOURCE, models, "holdout:0.2", seeds, chosen, measure)


def test_the_key_changes_with_everything_that_determines_a_fit() -> None:
    (job,) = jobs("mf")
    changed = [
        *jobs("aanmf"),
        *jobs("mf", seeds=(1,)),
        *jobs("mf", l2=3.0),
        *jobs("mf", measure="validation"),
        *jobs_of(SOURCE, ["mf"], "kfold:5", [0], {"mf": SMALL})[:1],
        *jobs_of("synthetic:2500", ["mf"], "holdout:0.2", [0], {"mf": SMALL}),
        dataclasses.replace(job, fingerprint="0"),
        dataclasses.replace(job, split="0"),
    ]
    assert len({job.key, *(each.key for each in changed)}) == 1 + len(changed)
    assert jobs("mf")[0].key == job.key
    assert jobs("mf", l2=10.0)[0].key == job.key  # the default, written out


def test_an_unknown_setting_is_found_before_anything_is_fitted() -> None:
    with pytest.raises(ConfigError, match="layers"):
        jobs("mf", layers=[3])


def test_a_run_equals_the_estimators_own_figures() -> None:
    (job,) = jobs("aanmf")
    run = perform(job)
    data = dataset(SOURCE)
    fold = holdout(len(data), 0.2, 0)
    model = make_model("aanmf", **SMALL).fit(data.take(fold.train))
    scores = model.evaluate(data.take(fold.test))
    assert (run.rmse, run.mae, run.n_test) == (scores.rmse, scores.mae, 400)
    assert run.epochs == model.fitted_.training_log.best_epoch
    assert run.validation_rmse == pytest.approx(
        math.sqrt(min(e.valid_mse for e in model.fitted_.training_log.epochs if e.valid_mse is not None))
    )
    assert sum(row["n"] for row in run.attention) == 400  # an item of the synthetic set has one genre
    assert all(row["gender"] + row["age"] + row["occupation"] == pytest.approx(1) for row in run.attention)


@pytest.mark.parametrize("model", ["mf", "aanmf++"])
def test_validation_does_not_read_the_test_part(model: str) -> None:
    (job,) = jobs(model, measure="validation")
    data, untrained = dataset(SOURCE), make_model(job.model, **job.settings)
    train = data.take(holdout(len(data), 0.2, 0).train)
    unreadable = cast("RatingDataset", [None] * 400)  # has a length, and nothing that could be read
    run = fit_and_score(job, untrained, train, unreadable)
    assert (run.scores, run.n_test) == ({}, 400)
    assert run.validation_rmse is not None
    assert model != "mf" or {epoch["phase"] for epoch in run.training_log} == {"search"}
    with pytest.raises(DataError, match="not scored"):
        _ = run.rmse


def test_the_curve_ends_in_the_error_of_the_fitted_model() -> None:
    (job,) = jobs("svd++", measure="curve")
    run = perform(job)
    data = dataset(SOURCE)
    fold = holdout(len(data), 0.2, 0)
    model = make_model("svd++", **SMALL, validation=0).fit(data.take(fold.train))
    assert [point["epoch"] for point in run.curve] == [1, 2, 3]
    assert run.curve[-1]["test_mse"] == pytest.approx(model.evaluate(data.take(fold.test)).rmse ** 2, rel=1e-6)
    assert run.curve[-1]["train_mse"] == pytest.approx(model.evaluate(data.take(fold.train)).rmse ** 2, rel=1e-6)
    assert run.curve[0]["train_mse"] > run.curve[-1]["train_mse"]
    assert run.scores == {}
    assert run.epochs == 3


def test_a_model_without_epochs_of_its_own_has_no_curve() -> None:
    (job,) = jobs("aanmf++", measure="curve")
    with pytest.raises(ConfigError, match="mini-batches"):
        perform(job)


def test_a_run_survives_the_disk(tmp_path: Path) -> None:
    (job,) = jobs("mf")
    store, run = RunStore(tmp_path / "runs"), perform(job)
    path = store.put(run)
    assert store.get(job) == run
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    document = json.loads(path.read_text())
    assert (document["job"]["model"], document["rmse"], document["mae"]) == ("mf", run.rmse, run.mae)
    assert {"torch", "numpy", "python", "aanmf"} <= set(document["versions"])
    path.write_text("{")
    with pytest.raises(DataError, match="remove it"):
        store.get(job)


def test_finished_fits_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, made = RunStore(tmp_path), []

    def stop_at_the_third(job: Job) -> Run:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(job.key)
        return perform(job)

    wanted = jobs("mf", seeds=(0, 1, 2)) + jobs("mf", seeds=(0,))  # one of them twice
    monkeypatch.setattr(queue, "perform", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_all(wanted, store)
    assert [job.key for job in store.missing(wanted)] == [wanted[2].key]

    def again(job: Job) -> Run:
        made.append(job.key)
        return perform(job)

    monkeypatch.setattr(queue, "perform", again)
    seen: list[Progress] = []
    found = run_all(wanted, store, on_progress=seen.append)
    assert sorted(made) == sorted({job.key for job in wanted})
    assert [run.key for run in found] == [job.key for job in wanted]
    assert [(p.done, len(p.running), p.to_come) for p in seen] == [(2, 0, 1), (2, 1, 0), (3, 0, 0)]
    assert seen[-1].seconds_left == 0


@pytest.mark.slow
def test_processes_give_the_same_runs(tmp_path: Path) -> None:
    wanted = jobs("mf", "aanmf")
    here, there = run_all(wanted, RunStore(tmp_path / "a")), run_all(wanted, RunStore(tmp_path / "b"), workers=2)
    for one, other in zip(here, there, strict=True):
        assert one.rmse == pytest.approx(other.rmse, abs=1e-5)  # threads may change the last digits


def test_time_left_goes_by_kind() -> None:
    (job,), (other,), (third,) = jobs("mf"), jobs("aanmf"), jobs("svd++")
    runs = [Run.of(job, Scores(), n_test=0, fit_seconds=10.0), Run.of(other, Scores(), n_test=0, fit_seconds=30.0)]
    assert seconds_left([], [job], 0, workers=2) is None
    assert seconds_left(runs, [job, job, other], 0, workers=2) == pytest.approx((10 + 10 + 30) / 2)
    assert seconds_left(runs, [third], 0, workers=2) == pytest.approx(20)  # unknown: the average; one fit is not shared
    assert seconds_left(runs, [job], 2, workers=2) == pytest.approx((10 + 20 + 20) / 2)
    assert seconds_left(runs, [], 0, workers=2) == 0


def test_changed_data_or_splits_are_refused() -> None:
    (job,) = jobs("mf")
    with pytest.raises(DataError, match="changed"):
        perform(dataclasses.replace(job, fingerprint="0"))
    with pytest.raises(DataError, match="split"):
        perform(dataclasses.replace(job, split="0"))


def test_divergence_names_the_fit() -> None:
    (job,) = jobs("mf", learning_rate=1e30)
    with pytest.raises(ConfigError, match=r"mf on synthetic:2000.*diverged"):
        perform(job)


def test_rows_of_validation_are_part_of_the_training_part() -> None:
    data = dataset(SOURCE)
    train = data.take(np.arange(500))
    model, scores = fit_to_validate(make_model("aanmf++", **{**SMALL, "members": 1}), train)
    assert model.fitted_.data["ratings"] == 450
    assert scores.n == 50
    assert 0 < scores.rmse < 2
