"""AANMF++ beside its peers: same splits and features, every test part scored once, each fit in a process of its own.

    python benchmarks/accuracy.py [--suite ml-100k ml-1m small] [--models aanmf++ mf myfm ...] [--out DIR]

Suites: `ml-100k` (u1-u5 and five random hold-outs of 10 %), `ml-1m` (one hold-out of 10 %), `small` (the restaurant
tables and MovieLens-100K thinned to 1, 3 and 10 % of its ratings, five hold-outs of 20 % each). Finished fits are kept
in DIR/runs.jsonl and not repeated. Writes DIR/accuracy.json and DIR/accuracy.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

import peers
from aanmf import RatingDataset, make_model
from aanmf.data.sources import load
from aanmf.data.split import folds
from aanmf.evaluation.significance import paired_test
from aanmf.metrics import score

Predict = Callable[[RatingDataset, RatingDataset, int], np.ndarray]


def ours(name: str, train: RatingDataset, test: RatingDataset, seed: int, **settings: object) -> np.ndarray:
    """Fits one of the library's models with its defaults."""
    return make_model(name, seed=seed, **settings).fit(train).predict_data(test)


def ids_only(train: RatingDataset, test: RatingDataset, seed: int) -> np.ndarray:
    """AANMF++ that knows no attributes."""
    bare = [each.with_attributes(users=[], items=[]) for each in (train, test)]
    return ours("aanmf++", bare[0], bare[1], seed)


MODELS: dict[str, Predict] = {
    "damped means": lambda train, test, seed: peers.damped_means(train, test),
    "mf": partial(ours, "mf"),
    "aanmf": partial(ours, "aanmf"),
    "aanmf++": partial(ours, "aanmf++"),
    "aanmf++ ids only": ids_only,
    "aanmf++ one member": partial(ours, "aanmf++", members=1),
    "aanmf++ weight 1": partial(ours, "aanmf++", attention=False),
    "aanmf++ no history": partial(ours, "aanmf++", history=False),
    "aanmf++ no item attributes": partial(ours, "aanmf++", item_attributes=False),
    "aanmf++ no ridge": partial(ours, "aanmf++", ridge=False),
    "aanmf++ squared error": partial(ours, "aanmf++", ordinal=False),
    "myfm regression": peers.myfm_regression,
    "myfm ordered": peers.myfm_ordered,
    "myfm regression, ids": partial(peers.myfm_regression, attributes=False),
    "surprise svd++": peers.surprise_svdpp,
}
DEFAULT = ["damped means", "mf", "aanmf++", "myfm regression", "myfm ordered", "surprise svd++"]


@dataclass(frozen=True)
class Case:
    """One split of one data set."""

    data: str
    protocol: str
    seed: int
    fold: str


SUITES = {
    "ml-100k": [Case("ml-100k", "u1-u5", 0, f"u{k}") for k in range(1, 6)]
    + [Case("ml-100k", "holdout:0.1", seed, "holdout:0.1") for seed in range(5)],
    "holdout": [Case("ml-100k", "holdout:0.1", seed, "holdout:0.1") for seed in range(5)],
    "u1-u5": [Case("ml-100k", "u1-u5", seed, f"u{k}") for seed in range(3) for k in range(1, 6)],
    "ml-1m": [Case("ml-1m", "holdout:0.1", 0, "holdout:0.1")],
    "small": [
        Case(data, "holdout:0.2", seed, "holdout:0.2")
        for data in ("restaurant", "ml-100k/1%", "ml-100k/3%", "ml-100k/10%")
        for seed in range(5)
    ],
}


def dataset(name: str, seed: int) -> RatingDataset:
    """A source by name; `NAME/3%` is a random 3 % of its ratings."""
    if name == "restaurant":
        folder = Path(os.environ.get("AANMF_DATA", ".")) / "restaurant"
        return RatingDataset.read(
            folder / "rating_final.csv",
            users=[folder / f for f in ("userprofile.csv", "usercuisine.csv", "userpayment.csv")],
            items=[folder / f for f in ("geoplaces2.csv", "chefmozcuisine.csv", "chefmozparking.csv")],
        )
    source, _, share = name.partition("/")
    data = load(source)
    if not share:
        return data
    size = round(len(data) * float(share.rstrip("%")) / 100)
    return data.take(np.sort(np.random.default_rng([seed, 7]).permutation(len(data))[:size]))


def run_one(case: Case, model: str) -> dict[str, object]:
    """Fits and scores in this process."""
    data = dataset(case.data, case.seed)
    fold = next(each for each in folds(data, case.protocol, [case.seed]) if each.name == case.fold)
    train, test = fold.of(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    predicted = MODELS[model](train, test, case.seed)
    seconds = time.perf_counter() - start
    low, high = data.scale or (float(train.rating.min()), float(train.rating.max()))
    scores = score(np.clip(predicted, low, high), test.rating)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {"rmse": scores.rmse, "mae": scores.mae, "n_train": len(train), "n_test": scores.n}
    return figures | {"seconds": seconds, "peak_mb": peak / 1024, "data_mb": before / 1024}


def run_apart(case: Case, model: str) -> dict[str, object]:
    """The same in a process of its own, for its time and memory; an error becomes a row that says so."""
    command = [sys.executable, __file__, "--one", json.dumps([asdict(case), model])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def markdown(runs: list[dict]) -> str:
    """A table per data set and protocol: mean and spread over splits, and the difference from AANMF++."""
    lines = []
    for data, protocol in dict.fromkeys((run["data"], run["protocol"]) for run in runs):
        some = [run for run in runs if (run["data"], run["protocol"]) == (data, protocol)]
        lines += [f"\n### {data}, {protocol}\n"]
        lines += ["| model | splits | RMSE | MAE | RMSE less that of AANMF++ (p) | better splits | seconds | peak MB |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        base = {(run["fold"], run["seed"]): run["rmse"] for run in some if run["model"] == "aanmf++" and "rmse" in run}
        for model in dict.fromkeys(run["model"] for run in some):
            good = [run for run in some if run["model"] == model and "rmse" in run]
            if not good:
                lines += [f"| {model} | 0 | {next(r['error'] for r in some if r['model'] == model)} | | | | | |"]
                continue
            both = [run for run in good if (run["fold"], run["seed"]) in base]
            here = [run["rmse"] for run in both]
            there = [base[run["fold"], run["seed"]] for run in both]
            difference = ""
            if model != "aanmf++" and both:
                change = statistics.mean(a - b for a, b in zip(here, there, strict=True))
                p = f" (p {paired_test(here, there).t_p:.2g})" if len(both) > 1 else ""
                difference = f"{change:+.4f}{p} | {sum(a > b for a, b in zip(here, there, strict=True))} of {len(both)}"
            cells = [
                model,
                str(len(good)),
                _spread([run["rmse"] for run in good]),
                _spread([run["mae"] for run in good]),
                difference or " | ",
                f"{statistics.median(run['seconds'] for run in good):.0f}",
                f"{max(run['peak_mb'] for run in good):.0f}",
            ]
            lines += ["| " + " | ".join(cells) + " |"]
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def main() -> None:
    """Runs what is not there yet, then writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", nargs="+", default=["ml-100k", "small"], choices=SUITES)
    parser.add_argument("--models", nargs="+", default=DEFAULT, choices=MODELS, metavar="MODEL")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/accuracy"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        case, model = json.loads(options.one)
        sys.stdout.write(json.dumps(run_one(Case(**case), model)) + "\n")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "runs.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(run["data"], run["protocol"], run["seed"], run["fold"], run["model"]) for run in runs if "rmse" in run}
    runs = [run for run in runs if "rmse" in run]
    for case in (case for suite in options.suite for case in SUITES[suite]):
        for model in options.models:
            if (case.data, case.protocol, case.seed, case.fold, model) in done:
                continue
            run = {**asdict(case), "model": model, **run_apart(case, model)}
            runs.append(run)
            with log.open("a") as file:
                file.write(json.dumps(run) + "\n")
            sys.stdout.write(
                " ".join(f"{k}={v:.4f}" if isinstance(v, float) else f"{k}={v}" for k, v in run.items()) + "\n"
            )
    (options.out / "accuracy.json").write_text(json.dumps(runs, indent=1))
    (options.out / "accuracy.md").write_text(markdown(runs))
    sys.stdout.write(markdown(runs))


if __name__ == "__main__":
    main()
