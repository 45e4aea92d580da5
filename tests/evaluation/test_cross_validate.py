"""Cross-validation: the JSON of reports, hand-checked means, no look at the test part."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import aanmf.evaluation.cross_validate as module
from aanmf import MF
from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.data.schema import Attribute, Kind
from aanmf.data.split import holdout
from aanmf.errors import ConfigError, DataError
from aanmf.evaluation.cross_validate import CrossValidation, cross_validate, settings_for
from aanmf.evaluation.runs import Job, Run, fit_and_score
from aanmf.metrics import METRICS, Metric, Scores
from aanmf.predictor import Predictor
from aanmf.recommender import make_model
from aanmf.training.distributed import Ranks

QUICK = {"epochs": 2, "factors": 4}


@pytest.fixture
def data() -> RatingDataset:
    rng = np.random.default_rng(0)
    pairs = rng.choice(20 * 15, 200, replace=False)
    gender = Attribute(name="gender", kind=Kind.CATEGORICAL)
    users = EntityTable(Vocabulary(map(str, range(20))), pl.DataFrame({"gender": ["F", "M"] * 10}), (gender,))
    ratings = rng.integers(1, 6, 200).astype(np.float32)
    items = EntityTable(Vocabulary(map(str, range(15))))
    return RatingDataset(users, items, pairs // 15, pairs % 15, ratings, scale=(1.0, 5.0))


def run(model: str, rmse: float, mae: float, seed: int = 0, seconds: float = 1.0) -> Run:
    job = Job(model, {}, "s", "f", "holdout:0.2", seed, "holdout:0.2", "0")
    return Run.of(job, Scores(rmse=rmse, mae=mae), n_test=10, epochs=3, fit_seconds=seconds)


def test_summary_by_hand() -> None:
    runs = (
        run("mf", 1.0, 0.8, 0, 2.0),
        run("aanmf", 0.9, 0.7),
        run("mf", 1.2, 0.9, 1, 4.0),
        run("mf", 1.4, 1.0, 2, 6.0),
    )
    mf, aanmf = CrossValidation(runs).summary
    assert (mf.model, aanmf.model) == ("mf", "aanmf")
    assert mf.rmse_mean == pytest.approx(1.2)
    assert mf.rmse_std == pytest.approx(0.2)  # squares .04 + 0 + .04, divided by n - 1 = 2
    assert mf.mae_mean == pytest.approx(0.9)
    assert mf.mae_std == pytest.approx(0.1)
    assert mf.fit_seconds == pytest.approx(4.0)
    assert (aanmf.rmse_std, aanmf.mae_std) == (0.0, 0.0)


def test_json_has_the_keys_of_reports(data: RatingDataset) -> None:
    found = json.loads(json.dumps(cross_validate(data, ["mf", "aanmf"], "kfold:2", settings=QUICK).to_json()))
    assert list(found) == ["runs", "summary", "comparisons"]
    keys = ["model", "protocol", "seed", "fold", *METRICS, "n_test", "epochs", "fit_seconds"]
    assert [list(each) for each in found["runs"]] == [keys] * 4
    keys = ["model", *(f"{name}_{part}" for name in METRICS for part in ("mean", "std")), "fit_seconds"]
    assert [list(each) for each in found["summary"]] == [keys] * 2
    assert [each["model"] for each in found["runs"]] == ["mf", "aanmf", "mf", "aanmf"]
    assert [each["fold"] for each in found["runs"]] == ["kfold:2/1"] * 2 + ["kfold:2/2"] * 2
    keys = ["metric", "model", "other", "difference", "p_value", "folds"]
    assert [list(each) for each in found["comparisons"]] == [keys] * len(METRICS)


def test_comparison_is_the_paired_t_test() -> None:
    one, two = [1.0, 1.2, 1.1], [0.9, 1.0, 1.05]
    runs = [run("a", value, 1.0, seed) for seed, value in enumerate(one)]
    runs += [run("b", value, 1.0, seed) for seed, value in enumerate(two)]
    found, of_mae = CrossValidation(tuple(runs)).comparisons
    differences = np.subtract(one, two)  # .1, .2, .05
    t = differences.mean() / (differences.std(ddof=1) / np.sqrt(3))
    # with two degrees of freedom Student's distribution has a closed form
    assert found.p_value == pytest.approx(1 - t / np.sqrt(2 + t**2))
    assert found.difference == pytest.approx(0.35 / 3)
    assert (found.metric, found.model, found.other, found.folds) == ("rmse", "a", "b", 3)
    assert (of_mae.metric, of_mae.difference, of_mae.p_value) == ("mae", 0, 1)


def test_one_fold_is_not_compared(data: RatingDataset) -> None:
    assert cross_validate(data, ["mf", "aanmf"], "holdout:0.2", settings=QUICK).comparisons == []


def test_the_figures_are_those_of_fit_and_evaluate(data: RatingDataset) -> None:
    (found,) = cross_validate(data, [MF], "holdout:0.25", seeds=(3,), settings=QUICK).runs
    train, test = holdout(len(data), 0.25, 3).of(data)
    model = MF(**QUICK, seed=3).fit(train)
    assert (found.rmse, found.mae) == (model.evaluate(test).rmse, model.evaluate(test).mae)
    assert (found.model, found.seed, found.n_test) == ("mf", 3, 50)
    assert found.epochs == model.fitted_.training_log.best_epoch


@pytest.mark.parametrize("name", ["mf", "aanmf"])
def test_test_ratings_do_not_change_what_is_learned(
    data: RatingDataset, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other ratings in the test part: the predictions, seen through a spy, stay the same to the bit."""
    test = holdout(len(data), 0.2, 0).test
    planted = data.rating.copy()
    planted[test] = 6 - planted[test]
    seen: list[np.ndarray] = []

    predict_data = Predictor.predict_data

    def spy(self: Predictor, data: RatingDataset, ranks: Ranks) -> np.ndarray:
        seen.append(predict_data(self, data, ranks))
        return seen[-1]

    monkeypatch.setattr(Predictor, "predict_data", spy)
    first = cross_validate(data, [name], "holdout:0.2", settings=QUICK).runs[0]
    second = cross_validate(replace(data, rating=planted), [name], "holdout:0.2", settings=QUICK).runs[0]
    assert len(seen) == 2, "each test part is scored once"
    assert np.array_equal(seen[0], seen[1])
    assert first.epochs == second.epochs
    assert first.rmse != second.rmse


def test_seeds_reach_folds_and_models(data: RatingDataset) -> None:
    seen: list[int] = []

    def factory(**settings: int) -> MF:
        seen.append(settings["seed"])
        return MF(**settings)

    found = cross_validate(data, [factory], "holdout:0.2", seeds=(5, 7), settings=QUICK)
    assert seen[1:] == [5, 7]  # the first is the check of the settings
    assert [each.seed for each in found.runs] == [5, 7]
    assert found.runs[0].rmse != found.runs[1].rmse


def test_on_run_and_table(data: RatingDataset) -> None:
    told: list[Run] = []
    found = cross_validate(data, ["mf"], "kfold:3", settings=QUICK, on_run=told.append)
    assert tuple(told) == found.runs
    assert found.table()["rmse"].to_list() == [each.rmse for each in told]
    assert sum(found.table()["n_test"]) == len(data)


def test_settings_of_one_model_go_over_the_shared_ones() -> None:
    settings = {"factors": 8, "aanmf": {"factors": 4, "pooling": "pairwise"}}
    assert settings_for("mf", settings, ["mf", "aanmf"]) == {"factors": 8}
    assert settings_for("aanmf", settings, ["mf", "aanmf"]) == {"factors": 4, "pooling": "pairwise"}
    with pytest.raises(ConfigError, match="aanmf"):
        settings_for("mf", settings, ["mf"])


def test_faults_are_told_before_anything_is_trained(data: RatingDataset) -> None:
    ran: list[Run] = []
    with pytest.raises(ConfigError, match="factorz"):
        cross_validate(data, ["mf", "aanmf"], "kfold:2", settings={"aanmf": {"factorz": 1}}, on_run=ran.append)
    with pytest.raises(ConfigError, match="Available: aanmf++"):
        cross_validate(data, ["mf", "nope"], "kfold:2", on_run=ran.append)
    with pytest.raises(ConfigError, match="duplicate model 'mf'"):
        cross_validate(data, ["mf", "mf"], "kfold:2", on_run=ran.append)
    with pytest.raises(ConfigError, match="no model"):
        cross_validate(data, [], "kfold:2", on_run=ran.append)
    with pytest.raises(DataError, match="u1"):
        cross_validate(data, ["mf"], "u1", on_run=ran.append)
    assert ran == []


def test_a_metric_is_an_entry_of_one_table(data: RatingDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    worst = Metric("worst", "ratings", lambda predicted, actual: float(np.abs(predicted - actual).max()))
    monkeypatch.setitem(METRICS, "worst", worst)
    found = cross_validate(data, ["mf", "aanmf"], "kfold:2", settings=QUICK)
    train, test = holdout(len(data), 0.25, 3).of(data)
    model = MF(**QUICK).fit(train)
    assert model.evaluate(test).worst == np.abs(model.predict_data(test) - test.rating).max()
    assert all(run.scores.worst > run.mae for run in found.runs)
    assert found.summary[0].worst_mean == np.mean([run.scores.worst for run in found.runs if run.model == "mf"])
    document = found.to_json()
    assert {"worst"} <= set(document["runs"][0])
    assert {"worst_mean", "worst_std"} <= set(document["summary"][0])
    assert [each["metric"] for each in document["comparisons"]] == ["rmse", "mae", *list(METRICS)[2:]]
    assert "worst" in found.table().columns


def test_runs_in_a_folder_are_not_repeated(
    data: RatingDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cross_validate(data, ["mf", "aanmf"], "kfold:2", settings=QUICK, folder=tmp_path)
    made: list[str] = []

    def count(job: Job, *rest: Any, **more: Any) -> Run:
        made.append(job.model)
        return fit_and_score(job, *rest, **more)

    monkeypatch.setattr(module, "fit_and_score", count)
    assert cross_validate(data, ["mf", "aanmf"], "kfold:2", settings=QUICK, folder=tmp_path) == first
    assert made == []
    cross_validate(data.with_attributes(users=[]), ["mf"], "kfold:2", settings=QUICK, folder=tmp_path)
    assert made == ["mf", "mf"], "other attributes are other data"
    cross_validate(data, ["mf"], "kfold:2", settings={**QUICK, "l2": 3.0}, folder=tmp_path)
    assert len(made) == 4


def test_models_of_ratings_and_of_lists_side_by_side(small: RatingDataset) -> None:
    """By default all have the metrics of ratings; a model without ratings has none of them."""
    found = cross_validate(small, ["mf", "popularity"], "holdout:0.2", settings={"mf": QUICK})
    assert found.metrics == ["rmse", "mae"]
    mf, popularity = found.summary
    assert mf.scores["rmse_mean"] > 0 and popularity.scores["rmse_mean"] is None


def test_groups_are_those_of_evaluate(data: RatingDataset) -> None:
    options = {"metrics": ["rmse", "ndcg@5"], "relevant": 4, "group_by": "gender"}
    found = cross_validate(data, ["popularity", "mf"], "holdout:0.2", settings={"mf": QUICK}, **options)
    train, test = data.split(test=0.2, seed=0)
    expected = make_model("mf", seed=0, **QUICK).fit(train).evaluate(test, **options).groups
    assert [(row["model"], row["group"]) for row in found.groups] == [
        (model, group) for model in ("popularity", "mf") for group in ("F", "M")
    ]
    assert [row["ndcg@5"] for row in found.groups[2:]] == [expected[group]["ndcg@5"] for group in ("F", "M")]
    assert found.groups[0]["rmse"] is None
    assert found.to_json()["groups"] == found.groups
    with pytest.raises(DataError, match="shoe"):
        cross_validate(data, ["popularity"], "holdout:0.2", group_by="shoe")
