"""AANMF++ beside its peers: same splits and features, every test part scored once, each fit in a process of its own.

    python benchmarks/accuracy.py [--suite ml-100k ml-1m small] [--models aanmf++ mf myfm ...] [--out DIR]

Suites: `ml-100k` (u1-u5 and five random hold-outs of 10 %), `paper` (five of 20 %), `ml-1m` (three hold-outs of 10 %),
`small` (the restaurant tables and MovieLens-100K thinned to 1, 3 and 10 % of its ratings, five hold-outs of 20 % each).
Finished fits are kept in DIR/runs and not repeated. Writes DIR/accuracy.json and DIR/accuracy.md.
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
from functools import cache, partial
from pathlib import Path

import numpy as np

import peers
from aanmf import RatingDataset, make_model
from aanmf.data.sources import load
from aanmf.data.split import Fold, folds
from aanmf.evaluation.runs import Job, Run, RunStore, job_of
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


PARTS: dict[str, dict[str, object]] = {
    "one-member": {"members": 1},
    "uniform": {"attention": "uniform"},
    "weight-1": {"attention": False},
    "no-history": {"history": False},
    "no-item-attributes": {"item_attributes": False},
    "no-user-attributes": {"user_attributes": False},
    "no-ridge": {"ridge": False},
    "squared-error": {"ordinal": False},
}
"""AANMF++ with a part replaced or left out."""
MODELS: dict[str, Predict] = {
    "damped-means": lambda train, test, seed: peers.damped_means(train, test),
    "mf": partial(ours, "mf"),
    "aanmf": partial(ours, "aanmf"),
    "aanmf+p": partial(ours, "aanmf+p"),
    "aanmf++": partial(ours, "aanmf++"),
    "aanmf++/ids": ids_only,
    **{f"aanmf++/{name}": partial(ours, "aanmf++", match=False, **settings) for name, settings in PARTS.items()},
    "myfm/regression": peers.myfm_regression,
    "myfm/probit": peers.myfm_ordered,
    "myfm/ids": partial(peers.myfm_regression, attributes=False),
    "surprise/svd++": peers.surprise_svdpp,
}
DEFAULT = ["damped-means", "mf", "aanmf++", "myfm/regression", "myfm/probit", "surprise/svd++"]


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
    "folds": [Case("ml-100k", "u1-u5", 0, f"u{k}") for k in range(1, 6)],
    "u1-u5": [Case("ml-100k", "u1-u5", seed, f"u{k}") for seed in range(3) for k in range(1, 6)],
    "paper": [Case("ml-100k", "holdout:0.2", seed, "holdout:0.2") for seed in range(5)],
    "ml-1m": [Case("ml-1m", "holdout:0.1", seed, "holdout:0.1") for seed in range(3)],
    "small": [
        Case(data, "holdout:0.2", seed, "holdout:0.2")
        for data in ("restaurant", "ml-100k/1%", "ml-100k/3%", "ml-100k/10%")
        for seed in range(5)
    ],
}


@cache
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


def planned(case: Case, model: str) -> tuple[Job, RatingDataset, Fold]:
    """The fit of a contender, whose settings are its name, with its data and its split."""
    data = dataset(case.data, case.seed)
    fold = next(fold for fold in folds(data, case.protocol, [case.seed]) if fold.name == case.fold)
    return job_of(model, {}, data, fold, case.protocol, case.data), data, fold


def run_one(case: Case, model: str) -> Run:
    """Fits and scores in this process."""
    job, data, fold = planned(case, model)
    train, test = fold.of(data)
    start = time.perf_counter()
    predicted = MODELS[model](train, test, case.seed)
    seconds = time.perf_counter() - start
    low, high = data.scale or (float(train.rating.min()), float(train.rating.max()))
    scores = score(np.clip(predicted, low, high), test.rating)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Run.of(job, scores, n_test=len(test), fit_seconds=seconds, peak_mb=peak)


def run_apart(case: Case, model: str, store: RunStore) -> str | None:
    """The same in a process of its own, for its time and memory; returns the last line of an error, if any."""
    command = [sys.executable, __file__, "--one", json.dumps([asdict(case), model]), "--out", str(store.folder.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr.strip().splitlines() or ["failed"])[-1] if done.returncode else None


def summary(runs: list[Run]) -> list[dict[str, object]]:
    """A row per data set, protocol and model, as `figures.py` reads it; differences from AANMF++ split by split."""
    rows = []
    for data, protocol, model in dict.fromkeys((run.source, run.protocol, run.model) for run in runs):
        alike = [run for run in runs if (run.source, run.protocol) == (data, protocol)]
        own = [run for run in alike if run.model == model]
        row: dict[str, object] = {"model": f"{data}/{protocol}/{model}", "n": len(own)}
        for metric, values in (
            ("rmse", [run.rmse for run in own]),
            ("mae", [run.mae for run in own]),
            ("seconds", [run.fit_seconds for run in own]),
        ):
            row[f"{metric}_mean"] = statistics.mean(values)
            row[f"{metric}_std"] = statistics.stdev(values) if len(values) > 1 else 0.0
        base = {run.split: run.rmse for run in alike if run.model == "aanmf++"}
        pairs = [(run.rmse, base[run.split]) for run in own if run.split in base and model != "aanmf++"]
        if pairs:
            here, there = zip(*pairs, strict=True)
            row |= {"difference_mean": float(np.mean(np.subtract(here, there))), "splits_mean": len(pairs)}
            row |= {"worse_mean": sum(a > b for a, b in pairs)}
            row |= {"p_mean": float(paired_test(here, there).t_p)} if len(pairs) > 1 else {}
        rows.append(row)
    return rows


def markdown(runs: list[Run], failed: dict[tuple[str, str, str], str]) -> str:
    """A table per data set and protocol: mean and standard deviation over splits, and the difference from AANMF++."""
    lines = []
    for data, protocol in dict.fromkeys([*((run.source, run.protocol) for run in runs), *(key[:2] for key in failed)]):
        some = [run for run in runs if (run.source, run.protocol) == (data, protocol)]
        lines += [f"\n### {data}, {protocol}\n"]
        lines += ["| model | splits | RMSE | MAE | RMSE less that of AANMF++ (p) | better splits | seconds | peak MB |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
        base = {run.split: run.rmse for run in some if run.model == "aanmf++"}
        for model in dict.fromkeys(run.model for run in some):
            own = [run for run in some if run.model == model]
            pairs = [(run.rmse, base[run.split]) for run in own if run.split in base and model != "aanmf++"]
            difference = " | "
            if pairs:
                here, there = zip(*pairs, strict=True)
                p = f" (p {paired_test(here, there).t_p:.2g})" if len(pairs) > 1 else ""
                worse = sum(a > b for a, b in pairs)
                difference = f"{np.mean(np.subtract(here, there)):+.4f}{p} | {worse} of {len(pairs)}"
            cells = [
                model,
                str(len(own)),
                _mean_and_deviation([run.rmse for run in own]),
                _mean_and_deviation([run.mae for run in own]),
                difference,
                f"{statistics.median(run.fit_seconds for run in own):.0f}",
                f"{max(run.peak_mb or 0 for run in own):.0f}",
            ]
            lines += ["| " + " | ".join(cells) + " |"]
        lines += [
            f"| {key[2]} | 0 | {error} | | | | | |" for key, error in failed.items() if key[:2] == (data, protocol)
        ]
    return "\n".join(lines) + "\n"


def _mean_and_deviation(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def main() -> None:
    """Makes the fits that are missing, then writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", nargs="+", default=["ml-100k", "small"], choices=SUITES)
    parser.add_argument("--models", nargs="+", default=DEFAULT, choices=MODELS, metavar="MODEL")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/accuracy"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    store = RunStore(options.out / "runs")
    if options.one:
        case, model = json.loads(options.one)
        store.put(run_one(Case(**case), model))
        return
    runs: list[Run] = []
    failed: dict[tuple[str, str, str], str] = {}
    for case in (case for suite in options.suite for case in SUITES[suite]):
        for model in options.models:
            job, _, _ = planned(case, model)
            error = None if store.get(job) else run_apart(case, model, store)
            if error:
                failed[case.data, case.protocol, model] = error
            elif run := store.get(job):
                runs.append(run)
                sys.stdout.write(f"{job.label}: RMSE {run.rmse:.4f}, MAE {run.mae:.4f}, {run.fit_seconds:.1f} s\n")
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [{"data": run.source, **run.row(), "peak_mb": run.peak_mb} for run in runs]
    whole = {"summary": summary(runs), "runs": rows}
    (options.out / "accuracy.json").write_text(json.dumps(whole, indent=1) + "\n")
    (options.out / "accuracy.md").write_text(markdown(runs, failed))
    sys.stdout.write(markdown(runs, failed))


if __name__ == "__main__":
    main()
