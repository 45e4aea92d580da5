"""What the context and the time of ratings are worth to AANMF++, and to myFM with the same features.

    python benchmarks/context.py planted|time|by-time|categories [--models aanmf++ myfm] [--seeds 0 1 2] [--out FILE]

planted: context of known effect in synthetic ratings, with empty cells or permuted.
time: time stamps on u1-u5 of MovieLens 100K; `past` counts earlier ratings only, `any` also later ones.
by-time: the last 20 % of each user's ratings, or of all, are the test part. MovieLens 100K and 1M.
categories: hour and weekday alone, as attributes of the rating.

Every test part is scored once. Finished fits are kept in FILE and not repeated; its `summary` is made of all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import peers
from aanmf import AANMFpp, RatingDataset, make_synthetic
from aanmf.data.sources import load
from aanmf.data.split import folds
from aanmf.evaluation.significance import paired_test

SIZE = {"n_users": 400, "n_items": 200, "n_ratings": 20_000}
"""Of the synthetic sets."""
GROUPS, LEVEL = 10, 0.9
Parts = tuple[RatingDataset, RatingDataset]


@dataclass(frozen=True)
class Case:
    """One split, and what is tried on it.

    Attributes:
        name: of what is tried, as in the tables.
        split: which ratings: cases of the same split are compared pair by pair.
        parts: reads training and test ratings.
        settings: of AANMF++.
    """

    name: str
    split: str
    seed: int
    parts: Callable[[], Parts]
    settings: dict[str, object]


def planted(seeds: list[int]) -> Iterator[Case]:
    """Strength, share of empty cells, and a permutation."""
    for seed in seeds:
        for strength in (0.0, 0.5, 1.0):
            yield Case(f"{strength:g}/without", f"{strength:g} {seed}", seed, _synthetic(seed, strength, 0.0, []), {})
            for missing in (0.0, 0.5, 0.9):
                parts = _synthetic(seed, strength, missing)
                yield Case(f"{strength:g}/{100 * missing:.0f}", f"{strength:g} {seed}", seed, parts, {})
        parts = _synthetic(seed, 1.0, 0.0, permuted=True)
        yield Case("1/permuted", f"1 {seed}", seed, parts, {})


def timed(seeds: list[int]) -> Iterator[Case]:
    """u1-u5 of MovieLens 100K."""
    for seed in seeds:
        for k in range(5):
            for name, context, future in (("without", [], False), ("past", ["timestamp"], False)):
                yield Case(name, f"u{k + 1} {seed}", seed, _movielens("u1-u5", k, context), {"future": future})
            yield Case("any", f"u{k + 1} {seed}", seed, _movielens("u1-u5", k, ["timestamp"]), {"future": True})


def by_time(seeds: list[int]) -> Iterator[Case]:
    """The last 20 % of each user, or of all ratings."""
    for source, protocol in (("ml-100k", "time"), ("ml-100k", "time-global"), ("ml-1m", "time")):
        for seed in seeds:
            for name, context in (("without", []), ("past", ["timestamp"])):
                parts, split = _movielens(f"{protocol}:0.2", 0, context, source), f"{source}-{protocol}"
                yield Case(f"{split}/{name}", f"{split} {seed}", seed, parts, {})


def categories(seeds: list[int]) -> Iterator[Case]:
    """Hour and weekday, without what the time itself says."""
    for seed in seeds:
        for k in range(5):
            for name, context in (("without", []), ("hour and weekday", ["timestamp"])):
                yield Case(name, f"u{k + 1} {seed}", seed, _movielens("u1-u5", k, context), {"drift": False})


SUITES = {"planted": planted, "time": timed, "by-time": by_time, "categories": categories}


def _movielens(protocol: str, k: int, context: list[str], source: str = "ml-100k") -> Callable[[], Parts]:
    def read() -> Parts:
        data = load(source).with_context(context)
        return folds(data, protocol)[k].of(data)

    return read


def _synthetic(
    seed: int, strength: float, missing: float, context: list[str] | None = None, permuted: bool = False
) -> Callable[[], Parts]:
    def make() -> Parts:
        data = make_synthetic(**SIZE, seed=seed, context_strength=strength, context_missing=missing).data
        if permuted:
            order = np.random.default_rng([seed, 2]).permutation(len(data))
            data = replace(data, context=data.context.take(order))
        data = data if context is None else data.with_context(context)
        return folds(data, "holdout:0.2", [seed])[0].of(data)

    return make


def ours(case: Case) -> dict[str, Any]:
    """RMSE of AANMF++, squared errors, and the coverage of its intervals by number of ratings."""
    train, test = case.parts()
    start = time.process_time()
    model = AANMFpp(seed=case.seed, match=False, **case.settings).fit(train)
    seconds, predictor = time.process_time() - start, model.predictor_
    context = predictor.profiles.context_of(test)
    own = None if context is None else predictor.in_context(test.user, context)
    found = predictor.bounds(test.user, test.item, LEVEL, own)
    hit = (test.rating >= found["low"]) & (test.rating <= found["high"])
    coverage = {
        side: _by_count(np.bincount(of_train, minlength=n)[of_test], hit)
        for side, of_train, of_test, n in (
            ("user", train.user, test.user, len(train.users)),
            ("item", train.item, test.item, len(train.items)),
        )
    }
    squares = (found["rating"].astype(np.float64) - test.rating) ** 2
    return {
        **_scored(squares),
        "seconds": seconds,
        "chosen": model.chosen_,
        "covered": hit.mean(),
        "coverage": coverage,
    }


def myfm(case: Case) -> dict[str, Any]:
    """RMSE of myFM's ordered probit with the context as attributes of the rating, and the day where there is a time."""
    train, test = case.parts()
    start = time.process_time()
    predicted = peers.myfm_in_context(train, test, case.seed)
    seconds, (low, high) = time.process_time() - start, train.scale or (1.0, 5.0)
    return {**_scored((np.clip(predicted, low, high) - test.rating) ** 2), "seconds": seconds}


MODELS = {"aanmf++": ours, "myfm": myfm}


def _scored(squares: np.ndarray) -> dict[str, Any]:
    return {"rmse": float(np.sqrt(squares.mean()))}


def _by_count(count: np.ndarray, hit: np.ndarray) -> list[float]:
    parts = np.array_split(np.argsort(count, kind="stable"), GROUPS)
    return [float(hit[part].mean()) for part in parts]


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per model and case: RMSE, and of AANMF++ the difference from the case without context, split by split."""
    rows = []
    for model, name in dict.fromkeys((run["model"], run["name"]) for run in runs):
        own = {run["split"]: run for run in runs if (run["model"], run["name"]) == (model, name)}
        rmse = np.array([run["rmse"] for run in own.values()])
        row: dict[str, Any] = {"model": f"{model}/{name}", "n": len(own), "rmse_mean": rmse.mean()}
        row["rmse_std"] = float(rmse.std(ddof=1)) if len(own) > 1 else 0.0
        usual = f"{name.rpartition('/')[0]}/without" if "/" in name else "without"
        base = {run["split"]: run["rmse"] for run in runs if (run["model"], run["name"]) == (model, usual)}
        both = [split for split in own if split in base]
        if both and name != usual:
            gain = np.array([own[split]["rmse"] - base[split] for split in both])
            row |= {"difference_mean": gain.mean(), "difference_std": float(gain.std(ddof=1)) if len(gain) > 1 else 0.0}
            if len(gain) > 2:
                pair = [own[split]["rmse"] for split in both], [base[split] for split in both]
                row["p_mean"] = float(paired_test(*pair).t_p)
        if all("coverage" in run for run in own.values()):
            for side in ("user", "item"):
                deciles = np.mean([run["coverage"][side] for run in own.values()], axis=0)
                row |= {f"{side}_low_mean": float(deciles.min()), f"{side}_high_mean": float(deciles.max())}
            row["covered_mean"] = float(np.mean([run["covered"] for run in own.values()]))
            row["seconds_mean"] = float(np.mean([run["seconds"] for run in own.values()]))
        rows.append(row)
    return rows


def main() -> None:
    """Runs what is not in the file yet, and writes the file after every fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cases", nargs="+", help="names of cases; all of the suite, if it is left out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out or Path(f"context-{options.suite}.json")
    runs: list[dict[str, Any]] = json.loads(out.read_text())["runs"] if out.exists() else []
    cases = [case for case in SUITES[options.suite](options.seeds) if case.name in (options.cases or [case.name])]
    for case in cases:
        for model in options.models:
            key = {"model": model, "name": case.name, "split": case.split}
            if any(key.items() <= run.items() for run in runs):
                continue
            runs.append({**key, **MODELS[model](case)})
            out.write_text(json.dumps({"runs": runs, "summary": summary(runs)}, indent=1, default=float) + "\n")
    for row in summary(runs):
        numbers = (f"{name.removesuffix('_mean')} {value:.4f}" for name, value in row.items() if name.endswith("_mean"))
        sys.stdout.write(f"{row['model']:28s} {row['n']:3d}  {', '.join(numbers)}\n")


if __name__ == "__main__":
    main()
