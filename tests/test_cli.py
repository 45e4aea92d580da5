"""The command line as a person and as a program use it: results, JSON, exit codes, errors, Ctrl-C."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from aanmf.cli import main
from aanmf.cli.output import program
from aanmf.cli.parse import read_attributes, read_settings, toml_value
from aanmf.cli.validate import read_seeds
from aanmf.data.attribute_tables import stated_uses
from aanmf.data.options import ReadOptions
from aanmf.data.schema import Kind
from aanmf.data.sources import load
from aanmf.data.synthetic import ATTENTION
from aanmf.data.tables import Table
from aanmf.errors import ConfigError, SchemaError
from aanmf.locks import locked
from aanmf.metrics import METRICS, Metric
from aanmf.models.catalog import CATALOG
from aanmf.recommender import load_model, make_model

QUICK = ["--set", "epochs=2", "--set", "factors=4"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def aanmf(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process; returns exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("AANMF_DEBUG", raising=False)
    monkeypatch.setattr(sys, "argv", ["aanmf"])

    def run(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(each) for each in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def ask(aanmf: Run) -> Callable[..., Any]:
    """Runs a command with --json, which must succeed, and returns the document."""

    def run(*args: object) -> Any:
        code, out, err = aanmf(*args, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ratings.csv, users.csv and items.csv."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    pairs = rng.choice(30 * 20, 400, replace=False)
    ratings = {"user": pairs // 20 + 1, "item": pairs % 20 + 1, "rating": rng.integers(1, 6, 400)}
    pl.DataFrame(ratings).write_csv(folder / "ratings.csv")
    ages, jobs = ["under 18", "18-24", "25-34"], ["artist", "sales/marketing", "retired, happy"]
    users = {
        "user": range(1, 31),
        "gender": ["F", "M"] * 15,
        "age": ages * 10,
        "job": jobs * 10,
        "income": rng.integers(0, 9999, 30),
    }
    pl.DataFrame(users).write_csv(folder / "users.csv")
    pl.DataFrame({"item": range(1, 21), "genres": ["war|drama", "comedy"] * 10}).write_csv(folder / "items.csv")
    return folder


@pytest.fixture(scope="session")
def source(tables: Path) -> list[str]:
    """What the commands take to read the tables."""
    return [str(tables / "ratings.csv"), "--users", str(tables / "users.csv"), "--items", str(tables / "items.csv")]


@pytest.fixture(scope="session")
def model(tables: Path, source: list[str]) -> Path:
    """A model learned from the tables."""
    assert main(["train", *source, "--model", "aanmf", *QUICK, "--out", str(tables / "model")]) == 0
    return tables / "model"


# -------------------- data, train


def test_data(aanmf: Run, ask: Callable[..., Any], source: list[str]) -> None:
    found = ask("data", *source)
    assert (found["ratings"], found["users"], found["items"]) == (400, 30, 20)
    kinds = {each["name"]: each["kind"] for side in ("users", "items") for each in found["attributes"][side]}
    assert kinds["gender"] == "categorical"
    assert kinds["genres"] == "multi-valued"
    code, out, _ = aanmf("data", *source)
    assert code == 0
    for text in ("400", "gender", "genres", "multi-valued"):
        assert text in out


def test_data_with_a_stated_kind(ask: Callable[..., Any], source: list[str]) -> None:
    found = ask("data", *source, "--attribute", "income=numeric:3", "--attribute", "items.genres=categorical")
    kinds = {each["name"]: each["kind"] for side in ("users", "items") for each in found["attributes"][side]}
    assert kinds["income"] == "numeric"
    assert kinds["genres"] == "categorical"


def test_train_writes_a_model_that_loads(ask: Callable[..., Any], source: list[str], tmp_path: Path) -> None:
    found = ask("train", *source, *QUICK, "--model", "aanmf+p", "--seed", 3, "--out", tmp_path / "m")
    assert found["ratings"] == 400
    assert found["epochs"] in (1, 2)
    assert found["validation_rmse"] > 0
    assert found["interrupted"] is False
    loaded = load_model(tmp_path / "m")
    expected = {"factors": 4, "epochs": 2, "seed": 3, "pooling": "pairwise"}
    assert {name: loaded.get_params()[name] for name in expected} == expected


def test_train_says_what_came_of_it(aanmf: Run, source: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "m"
    code, out, _ = aanmf("train", *source, *QUICK, "--out", folder)
    assert code == 0
    for text in ("AANMFpp", "l2=", "epochs", "saved in", "gender, age, job", "400 ratings of 20 items by 30 users"):
        assert text in out
    (following,) = [line.removeprefix("Next: aanmf ") for line in out.splitlines() if line.startswith("Next: ")]
    assert aanmf(*shlex.split(following))[0] == 0


def test_train_measures_beside_the_simplest_models(ask: Callable[..., Any], source: list[str]) -> None:
    measured = ask("train", *source, "--model", "mf", *QUICK, "--seed", 3)["test"]
    assert (measured["share"], measured["ratings"]) == (0.1, 40)
    train, test = load(source[0], users=source[2], items=source[4]).split(test=0.1, seed=3)
    for row, settings in zip(
        measured["results"],
        ({"model": "mf", "epochs": 2, "factors": 4, "seed": 3}, {"model": "damped-means"}, {"model": "popularity"}),
        strict=True,
    ):
        name = settings.pop("model")
        expected = make_model(str(name), **settings).fit(train).evaluate(test, ["rmse", "mae", "ndcg@10"])
        assert row["model"] == name
        for metric in ("rmse", "mae", "ndcg@10"):
            wanted = expected[metric]
            assert row[metric] == (None if wanted is None else pytest.approx(wanted, abs=1e-6))


def test_train_can_go_without_measuring(ask: Callable[..., Any], source: list[str], tmp_path: Path) -> None:
    assert ask("train", *source, "--model", "mf", *QUICK, "--test", 0)["test"] is None
    long = ["--checkpoint-every", "epoch", "--out", tmp_path / "m"]
    assert ask("train", *source, "--model", "mf", *QUICK, *long)["test"] is None


def test_users_and_items_without_ratings_are_not_counted(ask: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user,item,rating\n" + "".join(f"u{n % 9},i{n % 7},{n % 5}\n" for n in range(63)))
    (tmp_path / "u.csv").write_text("user,gender\n" + "".join(f"u{n},{'FM'[n % 2]}\n" for n in range(20)))
    found = ask("train", tmp_path / "r.csv", "--users", tmp_path / "u.csv", "--model", "damped-means")
    assert (found["users"], found["items"]) == (9, 7)


def test_ratings_that_are_all_alike_are_choices(aanmf: Run, ask: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user,item,rating\n" + "".join(f"u{n % 90},i{n % 7},3\n" for n in range(600)))
    code, _, err = aanmf("train", tmp_path / "r.csv", "--model", "damped-means")
    assert code == 1
    assert "damped-means learns from ratings, and r has none. Available for choices" in err
    found = ask("train", tmp_path / "r.csv", "--model", "popularity")
    assert found["has_ratings"] is False
    assert found["test"]["results"][0].keys() == {"model", "ndcg@7", "recall@7"}
    assert found["test"]["results"][0]["recall@7"] == 1  # everyone chose all 7
    (notice,) = found["notices"]
    assert "all 600 ratings are 3: each row is read as a choice" in notice


def test_settings_come_from_a_file_and_set_goes_before_it(
    ask: Callable[..., Any], source: list[str], tmp_path: Path
) -> None:
    config = tmp_path / "c.toml"
    config.write_text('factors = 3\nlayers = [5]\nepochs = 1\n[aanmf]\ninteraction = "product"\n')
    ask("train", *source, "--model", "aanmf", "--config", config, "--set", "factors=6", "--out", tmp_path / "m")
    params = load_model(tmp_path / "m").get_params()
    assert (params["factors"], params["layers"], params["interaction"]) == (6, (5,), "product")


def test_synthetic_source(ask: Callable[..., Any]) -> None:
    assert ask("train", "synthetic:2000", *QUICK)["ratings"] == 2000


# -------------------- evaluate, cross-validate


def test_evaluate(
    aanmf: Run, ask: Callable[..., Any], model: Path, source: list[str], tables: Path, tmp_path: Path
) -> None:
    found = ask("evaluate", model, *source)
    assert found["n"] == 400
    assert found["trained_on_these"] is True
    part = tmp_path / "part.csv"
    pl.read_csv(tables / "ratings.csv").head(50).write_csv(part)
    code, out, err = aanmf("evaluate", model, part, *source[1:])
    assert code == 0
    assert "RMSE" in out
    assert "50" in out
    assert "trained" not in err
    for name in ("damped-means", "popularity", "NDCG@10"):
        assert name in out
    beside = ask("evaluate", model, part, *source[1:])["baselines"]
    fitted = make_model("damped-means").fit(load(source[0], users=source[2], items=source[4]))
    expected = fitted.evaluate(load(str(part), users=source[2], items=source[4]))
    assert beside[0]["rmse"] == pytest.approx(expected["rmse"], abs=1e-6)


def test_cross_validate_json(ask: Callable[..., Any], source: list[str]) -> None:
    args = [
        "--model",
        "mf",
        "--model",
        "aanmf",
        "--protocol",
        "kfold:2",
        "--seeds",
        "0,1",
        *QUICK,
        "--set",
        "aanmf.layers=[4]",
    ]
    found = ask("cross-validate", *source, *args)
    assert len(found["runs"]) == 8
    keys = {"model", "protocol", "seed", "fold", "rmse", "mae", "n_test", "epochs", "fit_seconds"}
    assert keys | set(METRICS) == set(found["runs"][0])
    assert [each["model"] for each in found["summary"]] == ["mf", "aanmf"]


def test_cross_validate_table(aanmf: Run, source: list[str]) -> None:
    code, out, err = aanmf(
        "cross-validate", *source, "--model", "mf", "--model", "aanmf", "--protocol", "kfold:2", *QUICK
    )
    assert code == 0
    for text in ("kfold:2/1", "±", "mf - aanmf", "paired t-test"):
        assert text in out
    assert err.count("RMSE") == 4  # one line per run


def test_cross_validate_by_group_and_by_many_metrics(aanmf: Run, source: list[str]) -> None:
    names = "ndcg@5,recall@5,mrr@5,hit@5,coverage@5,gini@5"
    args = ("--model", "popularity", "--model", "ease", "--seeds", "0,1", "--metrics", names, "--group-by", "gender")
    code, out, _ = aanmf("cross-validate", *source, *args)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if "±" in line][1:] == [
        "NDCG@5", "recall@5", "MRR@5", "hit", "coverage@5", "Gini@5",
    ]  # fmt: skip
    by_gender = out.partition("By gender")[2]
    assert by_gender.count("popularity") == by_gender.count("ease") == 2


def test_a_model_without_epochs_is_trained_and_lists(
    aanmf: Run, ask: Callable[..., Any], source: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "ease"
    code, out, err = aanmf("train", *source, "--model", "ease", "--out", folder)
    assert code == 0, err
    assert not any(line.startswith("epochs") for line in out.splitlines())
    rated = ask("recommend", folder, "--attributes", "gender=F", "--rating", "1=5", "--rating", "2", "-n", 3)
    assert rated["ratings"] == {"1": 5.0, "2": None}
    assert not {"1", "2"} & {row["item"] for row in rated["items"]}


def test_training_on_choices_says_so(aanmf: Run, ask: Callable[..., Any], tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.csv"
    clicks.write_text("user,item\n" + "".join(f"u{n % 9},i{n % 7}\n" for n in range(63)))
    code, out, _ = aanmf("train", clicks, "--model", "aanmf++", "--out", tmp_path / "model")
    assert code == 0
    assert "63 choices (there is no rating column)" in " ".join(out.split())
    assert "chosen by fit" not in out
    assert ask("train", clicks, "--model", "popularity")["has_ratings"] is False


def test_every_metric_is_shown(
    aanmf: Run, model: Path, source: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worst = Metric("worst error", "ratings", lambda predicted, actual: float(np.abs(predicted - actual).max()))
    monkeypatch.setitem(METRICS, "worst", worst)
    code, out, err = aanmf(
        "cross-validate", *source, "--model", "mf", "--model", "aanmf", "--protocol", "kfold:2", *QUICK
    )
    assert code == 0
    assert out.count("worst error") == 3, "runs, means, differences"
    assert err.count("worst error") == 4
    assert "worst error" in aanmf("evaluate", model, *source)[1]
    assert "worst error" in aanmf("demo", "--quick", "--out", tmp_path / "demo")[1]
    tuning = ["--model", "mf", "--trials", 1, "--metric", "worst", "--out", tmp_path / "mf.toml"]
    assert "worst error, validation" in aanmf("tune", "synthetic:1000", *tuning, *QUICK)[1]
    assert json.loads(aanmf("evaluate", model, *source, "--json")[1])["worst"] > 1


def test_seeds() -> None:
    assert read_seeds("0, 1,22") == [0, 1, 22]
    for text in ("", "1,", "-1", "a", "1,1"):
        with pytest.raises(ConfigError):
            read_seeds(text)


# -------------------- predict, recommend, explain


def test_predict_one(aanmf: Run, ask: Callable[..., Any], model: Path) -> None:
    (row,) = ask("predict", model, "--user", 1, "--item", 2)["predictions"]
    expected = load_model(model).predict("1", "2")["rating"][0]
    assert row == {"user": "1", "item": "2", "rating": pytest.approx(expected), "fallback": None}
    code, out, _ = aanmf("predict", model, "--user", 1, "--item", 2)
    assert code == 0
    assert f"{expected:.4f}" in out


def test_predict_for_the_unknown_is_flagged(aanmf: Run, ask: Callable[..., Any], model: Path) -> None:
    found = ask("predict", model, "--user", "nobody", "--item", "nothing")
    assert found["fallbacks"] == 1
    assert found["predictions"][0]["fallback"] == "unknown user, unknown item"
    code, out, err = aanmf("predict", model, "--user", "nobody", "--item", 2)
    assert code == 0
    assert "unknown user" in out
    assert "unknown user" in err


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_predict_a_file_of_pairs(ask: Callable[..., Any], model: Path, tmp_path: Path, ending: str) -> None:
    pairs, out = tmp_path / "pairs.csv", tmp_path / f"out.{ending}"
    pairs.write_text("movieId,userId,x\n2,1,a\n3,01,b\n2,9,c\n")
    found = ask("predict", model, "--pairs", pairs, "--out", out)
    assert (found["n"], found["fallbacks"], found["out"]) == (3, 1, str(out))
    written = pl.read_csv(out, infer_schema=False) if ending == "csv" else pl.read_parquet(out)
    assert written["user"].to_list() == ["1", "01", "9"]  # ids are text: 01 is another id than 1
    assert written["fallback"].to_list() == [None, "unknown user", None]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"out.{ending}", "pairs.csv"]


def test_recommend(aanmf: Run, ask: Callable[..., Any], model: Path, tables: Path) -> None:
    items = ask("recommend", model, "--user", 1, "-n", 3)["items"]
    rated = pl.read_csv(tables / "ratings.csv", infer_schema=False).filter(user="1")["item"].to_list()
    assert len(items) == 3
    assert not {each["item"] for each in items} & set(rated)
    assert [each["rating"] for each in items] == sorted((each["rating"] for each in items), reverse=True)
    code, out, _ = aanmf("recommend", model, "--user", 1)
    assert code == 0
    assert "For user 1" in out


@pytest.mark.parametrize("name", ["lists.parquet", "lists.csv"])
def test_recommend_to_everyone(ask: Callable[..., Any], model: Path, tmp_path: Path, name: str) -> None:
    found = ask("recommend", model, "--all", "-n", 2, "--out", tmp_path / name)
    lists = pl.read_parquet(tmp_path / name) if name.endswith("parquet") else pl.read_csv(tmp_path / name)
    assert found["rows"] == len(lists) == 60
    assert lists.columns == ["user", "item", "rating"]
    assert not (tmp_path / f".{name}.part").exists()


def test_recommend_counts_new_ratings_at_once(ask: Callable[..., Any], model: Path) -> None:
    before = ask("recommend", model, "--user", 1, "-n", 3)["items"]
    best = before[0]["item"]
    found = ask("recommend", model, "--user", 1, "-n", 3, "--rating", f"{best}=1")
    assert found["ratings"] == {best: 1.0}
    assert best not in [row["item"] for row in found["items"]]


def test_recommend_to_a_new_user(ask: Callable[..., Any], model: Path) -> None:
    found = ask("recommend", model, "--attributes", 'gender=F,age=under 18,job="retired, happy"', "-n", 2)
    assert found["attributes"] == {"gender": "F", "age": "under 18", "job": "retired, happy"}
    expected = load_model(model).recommend_for(found["attributes"], n=2)
    assert found["items"] == expected.to_dicts()


def test_explain(aanmf: Run, ask: Callable[..., Any], model: Path) -> None:
    found = ask("explain", model, "--user", 1, "--item", 2)
    own = [each for each in found["parts"] if each["kind"] == "user attribute"]
    values = {each["name"]: each["value"] for each in own}
    assert values["gender"] == "F"
    assert values["age"] == "under 18"
    assert sum(each["attention"] for each in own) == pytest.approx(1.0, abs=1e-5)
    added = sum(each["contribution"] for each in found["parts"])
    assert found["base"] + added == pytest.approx(found["prediction"], abs=1e-4)
    code, out, _ = aanmf("explain", model, "--user", 1, "--item", 2)
    assert code == 0
    for text in ("predicted rating", "attention", "adds to the rating", "under 18"):
        assert text in out


def test_explain_a_match_against_another_item(aanmf: Run, source: list[str], tables: Path) -> None:
    folder = tables / "lists"
    assert main(["train", *source, "--model", "ease", "--out", str(folder)]) == 0
    found = json.loads(aanmf("explain", folder, "--user", 1, "--item", 2, "--against", 3, "--json")[1])
    assert (found["of"], found["against"]) == ("match", "3")
    ease = load_model(folder)
    apart = [ease.explain("1", item, of="match").prediction for item in (2, 3)]
    assert found["prediction"] == pytest.approx(apart[0] - apart[1], abs=1e-4)
    rated = ease.explain("1", 2, top=1000).parts.filter(pl.col("kind") == "rated item")["name"].to_list()
    without = json.loads(aanmf("explain", folder, "--user", 1, "--item", 2, "--without", rated[0], "--json")[1])
    assert rated[0] not in [each["name"] for each in without["parts"]]
    code, out, _ = aanmf("explain", folder, "--user", 1, "--item", 2, "--of", "match")
    assert code == 0
    assert "adds to the match" in out
    code, _, err = aanmf("explain", folder, "--user", 1, "--item", 2, "--of", "stars")
    assert code == 1
    assert "rating, match" in err
    listed = json.loads(aanmf("recommend", folder, "--user", 1, "--without", rated[0], "--json")[1])
    assert listed["items"] == ease.recommend("1", without=rated[:1]).to_dicts()


def test_explain_for_a_new_user(aanmf: Run, ask: Callable[..., Any], model: Path) -> None:
    found = ask("explain", model, "--attributes", "gender=F", "--item", 2)
    assert found["user"] is None
    own = [(each["name"], each["value"]) for each in found["parts"] if each["kind"] == "user attribute"]
    assert own == [("gender", "F")]
    expected = load_model(model).predict_for({"gender": "F"}, "2")["rating"][0]
    assert found["prediction"] == pytest.approx(expected, abs=1e-5)
    _, out, _ = aanmf("explain", model, "--attributes", "gender=F", "--item", 2)
    assert "A new user (gender F)" in out


# -------------------- demo, doctor


def test_quick_demo(ask: Callable[..., Any], tmp_path: Path) -> None:
    found = ask("demo", "--quick", "--out", tmp_path / "demo")
    assert (found["source"], found["ratings"]) == ("restaurants", 1161)
    assert [each["model"] for each in found["results"]] == ["damped-means", "popularity", "aanmf++"]
    train, test = load("restaurants").split(test=0.2, seed=0)
    for each in found["results"]:
        scores = load_model(each["folder"]).evaluate(test, ["rmse", "ndcg@10"])
        assert scores["rmse"] == (each["rmse"] if each["rmse"] is None else pytest.approx(each["rmse"], abs=1e-6))
        assert scores["ndcg@10"] == pytest.approx(each["ndcg@10"], abs=1e-6)
    model, listed = load_model(tmp_path / "demo" / "aanmf++"), found["recommendation"]
    assert [row["item"] for row in listed["items"]] == model.recommend(listed["user"])["item"].to_list()
    assert any(row["because"] for row in listed["items"])
    assert len(listed["bestsellers"]) == 10
    assert found["explanation"]["item"] == listed["items"][0]["item"]
    new = found["new_user"]
    assert new["items"] == model.recommend_for(new["attributes"], n=5).to_dicts()
    assert len(model.fitted_.training.train) == len(train)
    assert json.loads((tmp_path / "demo" / "results.json").read_text()) == found
    assert {row["cuisine"] for row in found["attention"]} > {"Mexican", "Chinese"}
    for name in ("attention.png", "attention.svg"):
        assert (tmp_path / "demo" / name).stat().st_size > 1000


def test_demo_of_synthetic_ratings_compares_attention_with_the_planted_one(
    ask: Callable[..., Any], tmp_path: Path
) -> None:
    found = ask("demo", "synthetic:20000", "--quick", "--out", tmp_path / "demo")
    assert set(found["attention_correlation"]) == {"aanmf", "aanmf++"}
    learned = {row["genres"]: [row["gender"], row["age"], row["occupation"]] for row in found["attention"]}
    planted, fitted = np.array([ATTENTION[genre] for genre in learned]), np.array(list(learned.values()))
    expected = np.corrcoef(planted.ravel(), fitted.ravel())[0, 1]
    assert found["attention_correlation"]["aanmf++"] == pytest.approx(expected)
    assert "Planted" in (tmp_path / "demo" / "attention.svg").read_text()
    assert found["new_user"]["attributes"].keys() == {"gender", "age", "occupation"}


def test_demo_of_own_ratings_without_attributes(aanmf: Run, tables: Path, tmp_path: Path) -> None:
    code, out, err = aanmf("demo", tables / "ratings.csv", "--quick", "--out", tmp_path / "demo")
    assert code == 0, err
    assert "only their ids are known" in out
    assert "For a new user (nothing is known)" in out
    assert "no heat map" in err


def test_demo_to_read(aanmf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = aanmf("demo", "--quick")
    assert code == 0
    for text in (
        "1,161 ratings from 0 to 2",
        "RMSE",
        "NDCG@10",
        "damped-means",
        "recommends to user",
        "bestsellers",
        "For a new user (city Cuernavaca, likes Mexican, budget low)",
        "adds to the rating",
        "attention.png",
    ):
        assert text in out
    assert (tmp_path / "aanmf-demo" / "results.json").exists()
    commands = [shlex.split(line) for line in out.splitlines() if line.startswith("  aanmf ")]
    assert [words[1] for words in commands] == ["serve", "recommend", "recommend", "train"]
    for words in commands[1:3]:
        assert aanmf(*words[1:])[0] == 0


def test_the_command_is_named_as_it_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "my bin" / "aanmf"
    script.parent.mkdir()
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert shlex.split(program()) == [str(script)]
    monkeypatch.setenv("PATH", str(script.parent))
    assert program() == "aanmf"
    monkeypatch.setattr(sys, "argv", ["/x/aanmf/__main__.py"])
    assert shlex.split(program()) == [sys.executable, "-m", "aanmf"]


def test_doctor(aanmf: Run, ask: Callable[..., Any]) -> None:
    found = ask("doctor")
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(found["data"]["found"]) == {"ml-100k", "ml-1m"}
    assert all(isinstance(each, bool) for each in found["extras"].values())
    assert not {"test", "check"} & set(found["extras"])
    code, out, _ = aanmf("doctor")
    assert code == 0
    assert "torch" in out


# -------------------- failures


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["data", "nowhere.csv"], "nowhere.csv"),
        (["train", "synthetic:2000", "--model", "nope"], "Available: aanmf++"),
        (["train", "synthetic:2000", "--set", "factors=many"], "factors"),
        (["train", "synthetic:2000", "--set", "factorz=1"], "factorz"),
        (["train", "synthetic:2000", "--set", "factors"], "name=value"),
        (["train", "synthetic:2000", "--config", "nowhere.toml"], "nowhere.toml"),
        (["train", "synthetic:2000", "--schema", "nowhere.toml"], "nowhere.toml"),
        (["cross-validate", "synthetic:2000", "--model", "mf", "--protocol", "u1"], "u1"),
        (["cross-validate", "synthetic:2000", "--model", "mf", "--seeds", "x"], "--seeds"),
        (["predict", "nowhere", "--user", "1", "--item", "1"], "no such folder"),
        (["predict", "MODEL", "--user", "1"], "--pairs"),
        (["predict", "MODEL", "--user", "1", "--item", "2", "--pairs", "x.csv"], "either"),
        (["predict", "MODEL", "--pairs", "nowhere.csv"], "no such file"),
        (["recommend", "MODEL"], "--attributes"),
        (["recommend", "MODEL", "--all"], "--out"),
        (["recommend", "MODEL", "--user", "1", "--rating", "1=five"], "ITEM=NUMBER"),
        (["recommend", "MODEL", "--user", "1", "--rank-by", "low"], "aanmf++"),
        (["recommend", "MODEL", "--user", "nobody"], "'nobody'"),
        (["recommend", "MODEL", "--attributes", "gender=X"], "allowed: 'F', 'M'"),
        (["recommend", "MODEL", "--attributes", "shoe=42"], "shoe"),
        (["explain", "MODEL", "--user", "1", "--item", "nothing"], "'nothing'"),
        (["explain", "MODEL", "--item", "1"], "--attributes"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_failure_is_one_clear_line(aanmf: Run, model: Path, args: list[str], words: str, as_json: bool) -> None:
    code, out, err = aanmf(
        *[str(model) if each == "MODEL" else each for each in args], *(["--json"] if as_json else [])
    )
    assert code == 1
    (line,) = [each for each in err.splitlines() if each.strip()]
    assert line.startswith("error: ")
    assert words in line
    if as_json:
        assert f"error: {json.loads(out)['error']['message']}" == line
    else:
        assert out == ""


def test_wrong_usage(aanmf: Run) -> None:
    code, out, err = aanmf("train", "synthetic:2000", "--seed", "x")
    assert (code, out) == (2, "")
    assert "--seed" in err
    code, out, _ = aanmf("train", "synthetic:2000", "--seed", "x", "--json")
    assert code == 2
    assert "--seed" in json.loads(out)["error"]["message"]


def test_a_fault_of_ours_is_no_traceback_either(aanmf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("something [odd]")

    monkeypatch.setattr("aanmf.cli.doctor.examine", broken)
    code, _, err = aanmf("doctor")
    assert code == 1
    assert "something [odd]" in err
    assert "AANMF_DEBUG=1" in err
    monkeypatch.setenv("AANMF_DEBUG", "1")
    with pytest.raises(RuntimeError):
        main(["doctor"])


def test_what_is_not_a_model_is_not_replaced(aanmf: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, err = aanmf("train", "synthetic:2000", *QUICK, "--out", tmp_path)
    assert code == 1
    assert "not a model folder" in err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("content", "words"), [("a,b\n1,2\n", "no column 'user'"), ("user,item\n1,\n", "row 2"), ("", "pairs.csv")]
)
def test_bad_pairs(aanmf: Run, model: Path, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "pairs.csv").write_text(content)
    code, _, err = aanmf("predict", model, "--pairs", tmp_path / "pairs.csv")
    assert code == 1
    assert words in err


def interrupt_training(tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Starts `aanmf train` as a process of its own, and presses Ctrl-C once the first epoch is done."""
    epoch_done = tmp_path / "epoch"
    program = (
        "import sys, pathlib, aanmf.training.trainer as t\n"
        "from aanmf.cli import main\n"
        "old = t.Phase._record_epoch\n"
        f"def record_epoch(*a):\n    r = old(*a); pathlib.Path({str(epoch_done)!r}).touch(); return r\n"
        "t.Phase._record_epoch = record_epoch\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            program,
            "train",
            "synthetic:20000",
            "--model",
            "aanmf",
            "--set",
            "epochs=100000",
            "--set",
            "patience=100000",
            *args,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 120
        while not epoch_done.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)  # into the next epochs
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.skipif(os.name == "nt", reason="SIGINT")
def test_ctrl_c_keeps_what_was_learned(tmp_path: Path) -> None:
    done = interrupt_training(tmp_path, "--out", str(tmp_path / "m"), "--json")
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "what was learned so far is in" in done.stderr
    found = json.loads(done.stdout)
    assert found["interrupted"] is True
    model = load_model(tmp_path / "m")
    assert model.fitted_.training_log.interrupted
    assert model.predict("1", "1")["rating"].is_between(1, 5).all()


# -------------------- reading options


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("[32, 16]", [32, 16]),
        ("[]", []),
        ('"16"', "16"),
        ("pairwise", "pairwise"),
        ("cuda:1", "cuda:1"),
        ("", ""),
        ("1\nb = 2", "1\nb = 2"),
    ],
)
def test_values_of_set(text: str, value: object) -> None:
    assert toml_value(text) == value


def test_set_with_a_model_in_front() -> None:
    settings = read_settings(["factors=8", "aanmf+p.dropout=0.1", "aanmf+p.factors=4"], None)
    assert settings == {"factors": 8, "aanmf+p": {"dropout": 0.1, "factors": 4}}


def test_attributes_of_a_new_user() -> None:
    assert read_attributes('gender=F, age=25-34,job="a, b",x=y=z') == {
        "gender": "F",
        "age": "25-34",
        "job": "a, b",
        "x": "y=z",
    }
    for text in ("gender", "=F", "a=1,a=2", 'a="b'):
        with pytest.raises(SchemaError):
            read_attributes(text)


def test_an_attribute_goes_to_the_side_that_has_the_column(tables: Path) -> None:
    users, items = [Table.read(tables / "users.csv")], [Table.read(tables / "items.csv")]
    uses = {"income": "numeric", "genres": "categorical", "users.x": "numeric"}
    schema = stated_uses({"users": users, "items": items}, ReadOptions(attributes=uses))
    assert {name: each.kind for name, each in schema.stated("users").items()} == {
        "income": Kind.NUMERIC,
        "x": Kind.NUMERIC,
    }
    assert list(schema.stated("items")) == ["genres"]
    with pytest.raises(SchemaError, match="no table has a column 'shoe'"):
        stated_uses({"users": users, "items": items}, ReadOptions(attributes={"shoe": "numeric"}))
    with pytest.raises(SchemaError, match="the tables of users and items have a column 'gender'"):
        stated_uses({"users": users, "items": users}, ReadOptions(attributes={"gender": "categorical"}))


def test_help_is_quick_and_names_every_model() -> None:
    heavy = "{'torch', 'polars', 'numpy'} & set(sys.modules)"
    program = f"import sys; from aanmf.cli import main; main(['train', '--help']); sys.exit(bool({heavy}))"
    wide = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=wide)
    assert done.returncode == 0
    assert ", ".join(CATALOG) in done.stdout


def test_python_m_and_version() -> None:
    done = subprocess.run([sys.executable, "-m", "aanmf", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("aanmf ")


def test_two_trainings_with_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second is told who is at work there, before it has read anything."""
    with ThreadPoolExecutor(1) as pool, locked(tmp_path / "m"):
        command = ["train", "synthetic", "--model", "mf", "--set", "epochs=1", "--out", str(tmp_path / "m"), "--json"]
        assert pool.submit(main, command).result() == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "BusyError"
    assert f"is being written by process {os.getpid()} on" in error["message"]
    assert not (tmp_path / "m").exists()
