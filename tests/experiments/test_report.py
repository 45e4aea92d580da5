"""The whole way: plan, fits, report; a second start repeats nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from aanmf.cli import main
from aanmf.errors import ConfigError, DataError
from aanmf.evaluation.runs import RunStore
from aanmf.experiments import queue
from aanmf.experiments.jobs import dataset, perform
from aanmf.experiments.paper import CURVES
from aanmf.experiments.plan import ITEMS, MODELS, QUICK, Found, Plan, profile_for, read_items
from aanmf.experiments.report import Report, reproduce
from aanmf.experiments.sections import compared_in
from aanmf.experiments.tables import accuracy_table
from aanmf.experiments.tuned import Tuned
from aanmf.metrics import METRICS, Metric
from aanmf.models.catalog import with_capability

SOURCE = "synthetic:1000"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings that make every fit quick."""
    folder = tmp_path_factory.mktemp("settings")
    for model in MODELS:
        fewer = {"parts": 2, "l2": 50.0} if model == "aanmf++" else {}
        Tuned({"epochs": 1, "factors": 5, **fewer}, {"trials": 7}).write(folder / "synthetic" / f"{model}.toml")
    return folder


@pytest.fixture(scope="module")
def report(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return reproduce([SOURCE], tmp_path_factory.mktemp("report"), quick=True, settings=settings)


def test_everything_is_there(report: Report) -> None:
    document = json.loads((report.folder / "report.json").read_text())
    assert document["data"] == {SOURCE: dataset(SOURCE).fingerprint}
    names = {name.removesuffix(f"-{SOURCE}") for name in document["tables"]}
    expected = {"table1", "table2", "table3", "table4", "table5-paper", "table5-ours", "claims"}
    assert expected <= names
    assert report.runs == 2 * len(MODELS) + len(CURVES) + 3 * len(CURVES) == len(document["runs"])
    assert len(list((report.folder / "runs").glob("*.json"))) == report.runs
    figures = {path.name for path in (report.folder / "figures").iterdir()}
    slug = "synthetic-1000"
    stems = (f"fig4-{slug}", f"fig5-{slug}", "fig6", f"fig7-{slug}")
    assert figures == {f"{stem}.{ending}" for stem in stems for ending in ("svg", "png")}
    page, text = (report.folder / "index.html").read_text(), (report.folder / "report.md").read_text()
    for stem in stems:
        assert f"figures/{stem}.svg" in page and f"figures/{stem}.svg" in text
    assert "quick report" in page


def test_the_report_compares_the_models_that_the_catalogue_says() -> None:
    ours = ["mf", "svd++", "nfm", "acmf", "aesr", "aanmf", "aanmf+p", "aanmf++"]
    assert [model for model in MODELS if model in ours] == ours
    assert MODELS[-1] == "aanmf++"
    assert sorted(MODELS) == sorted(with_capability("in_report"))


def test_table_4_is_the_mean_of_the_runs(report: Report) -> None:
    runs = [json.loads(path.read_text()) for path in (report.folder / "runs").glob("*_test_*.json")]
    for row in report.tables[f"table4-{SOURCE}"]:
        own = [
            run["rmse"]
            for run in runs
            if run["job"]["model"] == row["model"] and run["job"]["settings"]["factors"] == 5
        ]
        own = own[:2] if row["model"] not in CURVES else own
        assert min(own) - 1e-9 <= row["rmse"] <= max(own) + 1e-9
        assert row["trials"] == 7


def test_table_4_shows_every_metric(report: Report, settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worst = Metric("worst error", "ratings", lambda predicted, actual: float(abs(predicted - actual).max()))
    monkeypatch.setitem(METRICS, "worst", worst)
    plan = Plan(SOURCE, QUICK, ["table4"], settings)
    runs = [perform(job) for job in plan.split_jobs() if job.model == "mf"]
    table = accuracy_table(Found(plan, runs, [], [], []), "synthetic")
    assert table.caption.startswith("Table 4. MAE and RMSE") and "and worst error" in table.caption
    assert table.records()[0]["worst"] == pytest.approx(sum(run.scores.worst for run in runs) / 2)
    assert len(table.rows[0]) == len(table.columns)


def test_the_papers_ranks_stand_in_the_report(report: Report) -> None:
    last = report.tables["table5-paper"][4]
    assert list(last.values()) == ["average rank", "", "2.625, 2.375, 1.000", "2.500, 2.500, 1.000"]


def test_a_second_start_repeats_no_fit_and_writes_the_same(
    report: Report, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in report.folder.rglob("*") if path.is_file()}

    def refuse(job: Any) -> Any:
        raise AssertionError(f"{job.label} was made again")

    monkeypatch.setattr(queue, "perform", refuse)
    reproduce([SOURCE], report.folder, quick=True, settings=settings)
    after = {path.name: path.read_bytes() for path in report.folder.rglob("*") if path.is_file()}
    assert after == before


def test_figure_5_takes_the_strength_with_the_lowest_validation_error(settings: Path, tmp_path: Path) -> None:
    import dataclasses

    profile = dataclasses.replace(QUICK, factors=(2, 3), strengths=(0.5, 1.0, 2.0))
    plan = Plan(SOURCE, profile, ["fig5"], settings)
    jobs = plan.candidate_jobs()
    assert len(jobs) == 2 * 3 * len(CURVES)
    assert {job.measure for job in jobs} == {"validation"}
    runs = queue.run_all(jobs, RunStore(tmp_path))
    chosen = plan.factor_jobs(runs)
    assert [(job.settings["factors"], job.model) for job in chosen] == [(k, m) for k in (2, 3) for m in CURVES]
    for job in chosen:
        tried = {
            run.settings["l2"]: run.validation_rmse
            for run in runs
            if (run.model, run.settings["factors"]) == (job.model, job.settings["factors"])
        }
        assert len(tried) == 3
        assert job.settings["l2"] == min(tried, key=lambda l2: tried[l2] or 9)
    with pytest.raises(DataError, match="every strength"):
        plan.factor_jobs(runs[:-1])


def test_profiles() -> None:
    assert profile_for("ml-100k").splits >= 5
    assert profile_for("ml-1m").splits == 3
    assert profile_for("ml-1m", splits=4).splits == 4
    assert profile_for("ml-1m", quick=True) == QUICK
    with pytest.raises(ConfigError, match="2 or more"):
        profile_for("ml-100k", splits=1)
    assert Plan(SOURCE, QUICK).settings("aanmf++") == {"epochs": 8, "factors": 16, "members": 1}


def test_the_report_says_what_the_models_of_rq1_know(tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    plan = Plan(SOURCE, QUICK, folder=settings)
    assert "SVD++ ids alone; NFM ids and user attributes, dense layers of 32; AANMF ids and user" in compared_in(plan)
    Tuned({"attributes": True}).write(settings / "synthetic" / "svd++.toml")
    Tuned({"layers": [64, 32]}).write(settings / "synthetic" / "nfm.toml")
    assert "SVD++ ids and user attributes; NFM ids and user attributes, dense layers of 64, 32;" in compared_in(plan)


def test_items() -> None:
    assert read_items(None) == list(ITEMS)
    assert read_items("fig7, table4") == ["table4", "fig7"]
    with pytest.raises(ConfigError, match="table9"):
        read_items("table9")


@pytest.mark.real_data
def test_movielens_is_planned_with_the_synthetic_set_beside_it(real_data: Path) -> None:
    plan = Plan("ml-100k", profile_for("ml-100k"), ["fig7"])
    assert {job.model for job in plan.split_jobs()} == {"aanmf", "aanmf++"}
    assert {(job.source, job.model) for job in plan.planted_jobs()} == {("synthetic", "aanmf")}
    assert plan.curve_jobs() == plan.candidate_jobs() == plan.factor_jobs([]) == []


def test_command(tmp_path: Path, settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reproduce", SOURCE, "--quick", "--only", "table1,fig7", "--jobs", "1"]
    arguments += ["--settings", str(settings), "--out", str(tmp_path / "r")]
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["runs"] == 4
    assert {"table1", "claims"} == set(document["tables"])
    log = re.findall(r"(\d)/4 (\S+) on", captured.err)
    assert [done for done, _ in log] == ["1", "2", "3", "4"]
    assert "left" in captured.err
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "The paper's claims" in shown and "(4 fits)" in shown
    assert main(["reproduce", "netflix", "--out", str(tmp_path / "n")]) == 1
    assert "no experiment for 'netflix'" in capsys.readouterr().err
    assert main(["reproduce", SOURCE, "--only", "fig9"]) == 1
