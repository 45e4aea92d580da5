"""The models of the paper's Table 4: tuned alike on one training part, then every test part scored once.

    python benchmarks/paper.py [--source ml-100k] [--models aanmf mf ...] [--trials 60] [--seeds 10] [--out DIR]

Tunes each model on the training part of `holdout:0.2`, seed 0, with as many trials and the same pruner for all (as
`aanmf tune` does; `FIXED` is not searched), then fits it on every split. What is finished is kept in OUT and not
repeated: OUT/settings/SOURCE/MODEL.toml, OUT/runs. `--trials 0` takes the settings that come with the library. Writes
OUT/SOURCE-table-4.json: a row per model with the mean and the standard deviation over splits, the paper's figures, and
the difference from AANMF with the p-value of Wilcoxon's signed-rank test on paired splits, corrected by Holm's method.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aanmf.data.split import folds
from aanmf.evaluation.runs import Run, RunStore
from aanmf.evaluation.significance import contrasts
from aanmf.experiments.jobs import dataset, jobs_of, perform
from aanmf.experiments.paper import METRICS, TABLE_4
from aanmf.experiments.tune import tune
from aanmf.experiments.tuned import Tuned, tuned_settings

MODELS = ("aanmf", "aanmf+p", "nfm", "svd++", "mf", "acmf", "autorec", "aesr")
FIXED: dict[str, dict[str, Any]] = {"svd++": {"attributes": True}}
"""Settings that are not searched: SVD++ knows the attributes that AANMF and NFM know."""
PROTOCOL = "holdout:0.2"
FIRST = 5
"""The first splits, whose mean stands in a column of its own: earlier figures of AANMF are theirs."""


def summary(source: str, runs: dict[str, list[Run]], tuned: dict[str, Tuned]) -> list[dict[str, Any]]:
    """A row per model."""
    errors = {model: [run.rmse for run in own] for model, own in runs.items()}
    compared = len(errors) > 1 and len(errors.get("aanmf", ())) > 1
    against = {each.other: each for each in contrasts(errors, "aanmf")} if compared else {}
    rows: list[dict[str, Any]] = []
    for model, own in runs.items():
        row: dict[str, Any] = {"model": model, "splits": len(own), "settings": tuned[model].settings}
        for metric in METRICS:
            row |= _mean(metric, [run.score(metric) for run in own])
            if stated := TABLE_4.get(source, {}).get(model):
                row[f"paper_{metric}_mean"] = stated[metric]
        row |= _mean("rmse_of_first", errors[model][:FIRST]) | _mean("seconds", [run.fit_seconds for run in own])
        row |= {f"{name}_mean": tuned[model].tuning.get(name) for name in ("trials", "validation_rmse")}
        if found := against.get(model):
            row |= {"less_aanmf_mean": -found.difference, "p_mean": found.p, "p_holm_mean": found.p_holm}
        rows.append(row)
    return rows


def _mean(name: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{name}_mean": float(np.mean(values)), f"{name}_std": float(np.std(values, ddof=len(values) > 1))}


def main() -> None:
    """Makes the fits that are missing, then writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, metavar="MODEL")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--fixed", type=json.loads, default={}, help="settings of all models that are not searched")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/paper"))
    options = parser.parse_args()
    folder = options.out / "settings" if options.trials else None
    if options.trials:
        for model in options.models:
            search(options.source, model, options.trials, options.fixed, options.out / "settings")
    store, runs = RunStore(options.out / "runs"), {model: list[Run]() for model in options.models}
    tuned = {model: tuned_settings(options.source, model, folder) for model in options.models}
    settings = {model: found.settings for model, found in tuned.items()}
    for job in jobs_of(options.source, options.models, PROTOCOL, range(options.seeds), settings):
        if (run := store.get(job)) is None:
            store.put(run := perform(job))
        runs[job.model].append(run)
        say(f"{job.label}: RMSE {run.rmse:.4f}, MAE {run.mae:.4f}, {run.fit_seconds:.1f} s")
        if job.model == options.models[-1]:  # whenever a split is complete
            write(options.out / f"{options.source}-table-4.json", options.source, runs, tuned)


def search(source: str, model: str, trials: int, fixed: dict[str, Any], folder: Path) -> None:
    """Tunes a model, unless that is done."""
    target = folder / source.partition(":")[0] / f"{model}.toml"
    if target.exists():
        return
    fold = folds(dataset(source), PROTOCOL, [0])[0]
    train, _ = fold.of(dataset(source))
    fixed = {**fixed, **FIXED.get(model, {})}
    found = tune(train, model, trials, target.with_suffix(".trials"), fixed=fixed)
    found.settings.update(fixed)
    found.tuning["split"] = f"{fold.name}, seed 0"
    found.write(target)
    say(f"{model}: RMSE {found.tuning['validation_rmse']} on validation ratings, {found.settings}")


def write(path: Path, source: str, runs: dict[str, list[Run]], tuned: dict[str, Tuned]) -> None:
    """The file of results."""
    document = {
        "data": source,
        "protocol": PROTOCOL,
        "runs": [run.row() for own in runs.values() for run in own],
        "summary": summary(source, runs, tuned),
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    say(str(path))


def say(text: str) -> None:
    """A line of progress."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
