"""Tuning: validation only, resumable, within its space, edges named, files that training reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aanmf.cli import main
from aanmf.data.split import folds
from aanmf.errors import ConfigError
from aanmf.evaluation.runs import fit_to_validate
from aanmf.experiments.jobs import dataset
from aanmf.experiments.plan import MODELS as COMPARED
from aanmf.experiments.tune import Trial, tune
from aanmf.experiments.tuned import FOLDER, Tuned, tuned_settings
from aanmf.metrics import METRICS, Metric
from aanmf.models.catalog import CATALOG, spec_of
from aanmf.models.space import Choice, Range, edges, read_space
from aanmf.recommender import make_model

pytest.importorskip("optuna")
FIXED = {"epochs": 3, "factors": 4}
SPACE = {"l2": Range(1.0, 100.0), "learning_rate": Range(1e-3, 1e-1)}


@pytest.mark.parametrize("model", CATALOG)
def test_every_model_has_a_space_of_settings_that_it_has_with_its_defaults_inside(model: str) -> None:
    spec, params = CATALOG[model], make_model(model).get_params()
    assert spec.space or not any(isinstance(value, float) for value in params.values()), "numbers could be searched"
    for name, each in spec.space.items():
        if isinstance(each, Choice):
            tried = each.values
        else:
            tried = [type(params[name])((each.low * each.high) ** 0.5 if each.log else each.high / 2)]
        for value in tried:
            make_model(model, **{name: value})
        assert each.holds(params[name])
    assert spec.edges(params) == {}


def test_edges() -> None:
    each = Range(1, 100)
    assert [each.edge(value) for value in (1.0, 1.1, 10.0, 95.0)] == ["low", "low", None, "high"]
    assert Range(0, 0.7, log=False, natural=True).edge(0.0) is None
    assert Range(0, 0.7, log=False, natural=True).edge(0.7) == "high"
    spec = spec_of("mf")
    assert spec.edges({"l2": 100.0, "factors": 32, "seed": 0}) == {"l2": "high"}
    assert edges({"layers": Choice(((), (8,)))}, {"layers": (8,)}) == {}


def test_a_space_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        "l2 = {low = 1, high = 100}\ndropout = {low = 0, high = 0.5, log = false}\n"
        "factors = {low = 4, high = 8, whole = true}\nlayers = [[], [8, 4]]\n"
    )
    assert read_space(path) == {
        "l2": Range(1, 100),
        "dropout": Range(0, 0.5, log=False),
        "factors": Range(4, 8, whole=True),
        "layers": Choice(((), (8, 4))),
    }
    with pytest.raises(ConfigError, match="no.toml: No such file"):
        read_space(tmp_path / "no.toml")
    for text, fault in {
        "l2 = ": "not readable as TOML",
        "l2 = 3": "l2: write { low = 1, high = 100 }",
        "l2 = {low = 1}": "l2: write",
        "l2 = {low = 1, high = 2, step = 1}": "l2: write",
        "l2 = [3]": "two or more",
        "l2 = {low = 2, high = 1}": "low below high",
        "l2 = {low = 'a', high = 1}": "low below high",
        "l2 = {low = 0, high = 1}": "log = false",
        "l2 = {low = 1, high = 2, log = 'no'}": "true or false",
        "l2 = {low = 1, high = 2.5, whole = true}": "whole numbers",
    }.items():
        path.write_text(text)
        with pytest.raises(ConfigError, match=fault):
            read_space(path)


def test_choices_are_tried_and_kept_as_the_model_takes_them(tmp_path: Path) -> None:
    train = dataset("synthetic:2000").take(np.arange(1500))
    space = {"layers": Choice(((8,), (4, 4))), "batch_size": Choice((None, 50)), "interaction": Choice(("product",))}
    seen: list[Trial] = []
    found = tune(train, "aanmf", 8, tmp_path / "j", fixed=FIXED, space=space, pruner="none", on_trial=seen.append)
    assert {tuple(trial.settings["layers"]) for trial in seen} == {(8,), (4, 4)}
    assert {trial.settings["batch_size"] for trial in seen} == {None, 50}
    assert found.tuning["searched"] == ["batch_size", "interaction", "layers"]
    assert "validation_rmse_of_defaults" not in Tuned.read(found.write(tmp_path / "f.toml")).tuning, "not in the space"
    model = make_model("aanmf", **{**FIXED, **Tuned.read(tmp_path / "f.toml").settings, "seed": 0})
    best = min(trial.score or 9 for trial in seen)
    assert fit_to_validate(model, train)[1].rmse == pytest.approx(best)
    with pytest.raises(ConfigError, match="Unknown setting 'l3'"):
        tune(train, "mf", 1, tmp_path / "j", space={"l3": Range(1, 2)})


def test_halving_stops_what_is_not_among_the_best_third(tmp_path: Path) -> None:
    train = dataset("synthetic:2000").take(np.arange(1500))
    seen: list[Trial] = []
    fixed = {"epochs": 10, "factors": 4, "patience": 10}
    found = tune(train, "mf", 12, tmp_path / "j", fixed=fixed, space=SPACE, on_trial=seen.append)
    pruned = [trial for trial in seen if trial.state == "pruned"]
    assert found.tuning["pruner"] == "halving"
    assert found.tuning["pruned"] == len(pruned) >= 4
    first: list[float] = []  # the best error of each in a fifth of its epochs, found without the pruner
    for trial in seen:
        model = make_model("mf", **{**fixed, **trial.settings, "seed": 0, "refit": False}).fit(train)
        first.append(min(epoch.valid_mse or 9 for epoch in model.fitted_.training_log.epochs[:2]))
        among_best = first[-1] <= sorted(first)[max(0, len(first) // 3 - 1)]
        assert among_best or trial.state == "pruned"
    with pytest.raises(ConfigError, match="Unknown pruner 'half'. Available: halving"):
        tune(train, "mf", 1, tmp_path / "j", fixed=fixed, space=SPACE, pruner="half")  # pyright: ignore[reportArgumentType]


def test_tuning_resumes_and_keeps_the_best(tmp_path: Path) -> None:
    train = dataset("synthetic:2000").take(np.arange(1500))
    journal, first, second = tmp_path / "mf.trials", list[Trial](), list[Trial]()
    tune(train, "mf", 3, journal, fixed=FIXED, space=SPACE, on_trial=first.append)
    found = tune(train, "mf", 5, journal, fixed=FIXED, space=SPACE, on_trial=second.append)
    assert [trial.number for trial in first + second] == [0, 1, 2, 3, 4]
    assert first[0].settings == {"l2": 10.0, "learning_rate": 0.01}  # the defaults
    assert len({json.dumps(trial.settings) for trial in first + second}) == 5
    best = min((t for t in first + second if t.state == "complete"), key=lambda t: t.score or 9)
    assert found.settings == best.settings
    assert all(
        SPACE[name].low <= value <= SPACE[name].high for t in first + second for name, value in t.settings.items()
    )
    # what the file says is what was tried, to the last digit
    model = make_model("mf", **{**FIXED, **found.settings, "seed": 0})
    assert fit_to_validate(model, train)[1].rmse == pytest.approx(best.score)
    assert found.tuning["validation_rmse"] == pytest.approx(best.score, abs=1e-5)
    assert found.tuning["validation_rmse_of_defaults"] == pytest.approx(first[0].score, abs=1e-5)
    assert found.tuning["trials"] == 5


def test_the_same_seed_searches_alike(tmp_path: Path) -> None:
    train = dataset("synthetic:2000").take(np.arange(1500))
    one = tune(train, "mf", 3, tmp_path / "a", fixed=FIXED, space=SPACE, seed=1)
    other = tune(train, "mf", 3, tmp_path / "b", fixed=FIXED, space=SPACE, seed=1)
    assert one == other


def test_any_metric_can_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = dataset("synthetic:2000").take(np.arange(1500))
    near = Metric("near", "ratings", lambda predicted, actual: float((abs(predicted - actual) < 0.5).mean()), True)
    monkeypatch.setitem(METRICS, "near", near)
    seen: list[Trial] = []
    found = tune(train, "mf", 3, tmp_path / "j", fixed=FIXED, space=SPACE, metric="near", on_trial=seen.append)
    scores = [trial.score or 0 for trial in seen]
    assert found.tuning["validation_near"] == pytest.approx(max(scores), abs=1e-5)
    assert [trial.best for trial in seen] == [max(scores[: at + 1]) for at in range(3)]
    assert found.settings == seen[int(np.argmax(scores))].settings
    with pytest.raises(ConfigError, match="Unknown metric 'far'"):
        tune(train, "mf", 1, tmp_path / "j", fixed=FIXED, space=SPACE, metric="far")
    with pytest.raises(ConfigError, match="no setting to search"):
        tune(train, "mf", 1, tmp_path / "j", fixed=FIXED, space={"epochs": Range(1, 2)})


def test_trials_are_judged_on_the_split_asked_for(tmp_path: Path) -> None:
    data = dataset("synthetic:2000")
    fold = folds(data, "cold-user:0.2+3", [0])[0]
    train, test = fold.of(data)
    found = tune(data, "ease", 1, tmp_path / "trials", metric="ndcg@10", protocol="cold-user:0.2+3")
    expected = make_model("ease").fit(train).evaluate(test, ["ndcg@10"], given=fold.given_of(data))["ndcg@10"]
    assert found.tuning["validation_ndcg@10"] == round(expected, 5)
    assert Tuned.read(found.write(tmp_path / "ease.toml")) == found


def test_a_stopped_trial_is_tried_again(tmp_path: Path) -> None:
    train = dataset("synthetic:2000").take(np.arange(1500))
    seen: list[Trial] = []

    def stop(trial: Trial) -> None:
        seen.append(trial)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(train, "mf", 3, tmp_path / "j", fixed=FIXED, space=SPACE, on_trial=stop)
    found = tune(train, "mf", 3, tmp_path / "j", fixed=FIXED, space=SPACE)
    assert found.tuning["trials"] == 3


def test_settings_survive_the_disk(tmp_path: Path) -> None:
    tuned = Tuned({"layers": [32, 16], "l2": 24.0, "batch_norm": True, "interaction": "concat"}, {"trials": 12})
    path = tuned.write(tmp_path / "ml-100k" / "nfm.toml")
    assert Tuned.read(path) == tuned
    assert tuned_settings("ml-100k", "nfm", tmp_path) == tuned
    assert tuned_settings("ml-1m", "nfm", tmp_path) == Tuned()
    path.write_text("l2 = ")
    with pytest.raises(ConfigError, match="not TOML"):
        Tuned.read(path)
    with pytest.raises(ConfigError, match="aanmf tune"):
        Tuned.read(tmp_path / "no.toml")


def test_the_settings_that_come_with_the_library_are_valid_and_not_at_an_edge() -> None:
    for path in FOLDER.glob("*/*.toml"):
        tuned = Tuned.read(path)
        make_model(path.stem, **tuned.settings)
        if path.parent.name == "ml-100k":
            assert spec_of(path.stem).edges(tuned.settings) == {}, path


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mf.toml"
    tuning = ["tune", "synthetic:1000", "--model", "mf", "--trials", "2", "--set", "epochs=2", "--set", "factors=4"]
    assert main([*tuning, "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert "mf trial 2/2" in captured.err
    assert document["settings"]["epochs"] == 2
    assert document["tuning"]["training_ratings"] == 800
    assert document["tuning"]["split"] == "holdout:0.2, seed 0"
    assert main(["train", "synthetic:1000", "--model", "mf", "--config", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"].startswith("MF(factors=4")
    assert main(["tune", "synthetic:1000", "--model", "gbm", "--out", str(out)]) == 1
    assert "gbm" in capsys.readouterr().err
    space = tmp_path / "space.toml"
    space.write_text("l2 = [1, 2]")
    assert main([*tuning, "--out", str(out), "--space", str(space), "--pruner", "median", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["settings"]["l2"] in (1, 2)
    assert (document["tuning"]["searched"], document["tuning"]["pruner"]) == (["l2"], "median")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.toml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_settings_suit_their_model_and_lie_at_no_edge(path: Path) -> None:
    found = Tuned.read(path)
    settings = make_model(path.stem, **found.settings).get_params()
    assert json.loads(json.dumps({name: settings[name] for name in found.settings})) == found.settings
    if found.tuning:
        assert found.tuning["at_edge"] == sorted(spec_of(path.stem).edges(found.settings)) == []


@pytest.mark.parametrize("source", ["ml-100k", "ml-1m"])
def test_every_model_that_is_tuned_got_the_same_number_of_trials(source: str) -> None:
    trials = {each.stem: Tuned.read(each).tuning["trials"] for each in (FOLDER / source).glob("*.toml")}
    assert set(trials) <= set(COMPARED) - {"aanmf++"}, "AANMF++ sets itself inside fit"
    assert {"mf", "svd++", "nfm", "acmf", "aesr", "aanmf", "aanmf+p"} <= set(trials), "a new baseline may have defaults"
    assert len(set(trials.values())) == 1
