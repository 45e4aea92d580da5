"""Seconds of fitting until a test RMSE is reached: AANMF++ in a hurry, myFM and Surprise SVD++, in one run.

    python benchmarks/time_to_rmse.py [--target .8322] [--source ml-1m] [--protocol holdout:0.1] [--seed 0]
        [--contenders ours myfm surprise] [--set NAME=VALUE ...] [--rounds 3] [--minutes 20] [--json]

Ours trains for a number of steps fixed beforehand (`HURRY`, chosen on a validation part of the training ratings of
seed 0) and is scored once. The others get the benefit of hindsight: myFM is scored after every iteration, with the
burn-in that suits the test part best, and its clock stands still meanwhile; it has ids, attributes and histories of
both sides. Surprise SVD++ runs its default 20 epochs. Each fit has a process of its own; data are in memory, and
libraries loaded, when the clock starts.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

import peers
from aanmf import RatingDataset, make_model
from aanmf.data.sources import load
from aanmf.data.split import folds

HURRY = {
    "members": 1,
    "cold": 0.0,
    "validation": 0.0,
    "ridge": False,
    "user_attributes": False,
    "item_attributes": False,
    "factors": 31,
    "l2": 40.0,
    "epochs": 2,
    "parts": 20,
    "steps": 3,
    "learning_rate": 0.01,
    "match": False,
}
"""One member without attributes, which weigh little where users have a hundred ratings each, and without lists."""

Found = dict[str, Any]


def ours(train: RatingDataset, test: RatingDataset, args: argparse.Namespace) -> Found:
    """One fit with fixed settings."""
    settings = HURRY | {name: json.loads(value) for name, _, value in (each.partition("=") for each in args.set)}
    make_model("aanmf++", **settings).fit(load("synthetic:1000"))  # loads what is imported on first use
    start = time.perf_counter()
    model = make_model("aanmf++", seed=args.seed, **settings).fit(train)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "rmse": model.evaluate(test).rmse}


def myfm(train: RatingDataset, test: RatingDataset, args: argparse.Namespace) -> Found:
    """Gibbs sampling until the mean over the best stretch of samples is as good as the target."""
    from myfm import MyFMRegressor

    away, samples = 0.0, []
    start = time.perf_counter()
    design = peers.Design(train, attributes=True)
    found: Found = {}

    def after(iteration: int, machine: Any, *_: object) -> tuple[bool, str | None]:
        nonlocal away
        now = time.perf_counter()
        samples.append(np.asarray(machine.predict_score(nothing, pairs)))
        means = (np.mean(samples[burned:], axis=0) for burned in range(len(samples)))
        best = min(rmse(mean, test) for mean in means)
        found.update(seconds=now - start - away, rmse=best, iterations=iteration + 1)
        away += time.perf_counter() - now
        return bool(best <= args.target), None

    before = time.perf_counter()
    nothing, pairs = design.none(test), design.relations(test)
    away += time.perf_counter() - before
    MyFMRegressor(rank=peers.MYFM_RANK, random_seed=args.seed).fit(
        design.none(train),
        train.rating,
        design.relations(train),
        n_iter=peers.MYFM_ITERATIONS,
        n_kept_samples=1,
        group_shapes=design.group_shapes,
        callback=after,
    )
    return found


def surprise(train: RatingDataset, test: RatingDataset, args: argparse.Namespace) -> Found:
    """SVD++ with its defaults."""
    start = time.perf_counter()
    model = peers.surprise_fit(train, args.seed)
    seconds = time.perf_counter() - start
    predicted = np.array(
        [model.predict(*pair).est for pair in zip(test.user.tolist(), test.item.tolist(), strict=True)]
    )
    return {"seconds": seconds, "rmse": rmse(predicted, test)}


def rmse(predicted: np.ndarray, test: RatingDataset) -> float:
    """Of clipped predictions."""
    low, high = test.scale or (float(test.rating.min()), float(test.rating.max()))
    return float(np.sqrt(np.mean((np.clip(predicted, low, high) - test.rating) ** 2)))


CONTENDERS = {"ours": ours, "myfm": myfm, "surprise": surprise}


def run_one(name: str, args: argparse.Namespace) -> Found:
    """In this process."""
    data = load(args.source)
    train, test = folds(data, args.protocol, [args.seed])[0].of(data)
    found = CONTENDERS[name](train, test, args)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {"peak_gb": peak * (1 if sys.platform == "darwin" else 1024) / 2**30}


def run_apart(name: str, args: argparse.Namespace) -> Found:
    """In a process of its own, for so many minutes at most."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", name]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60 * args.minutes)
    except subprocess.TimeoutExpired:
        return {"error": f"not within {args.minutes:g} minutes"}
    except subprocess.CalledProcessError as error:
        return {"error": (error.stderr.strip().splitlines() or ["failed"])[-1]}
    return json.loads(done.stdout)


def main() -> None:
    """Runs and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=float, default=0.8322)
    parser.add_argument("--source", default="ml-1m")
    parser.add_argument("--protocol", default="holdout:0.1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another setting of ours")
    parser.add_argument("--rounds", type=int, default=3, help="fits of ours; the median counts")
    parser.add_argument("--minutes", type=float, default=20, help="at most, for each fit")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        json.dump(run_one(args.one, args), sys.stdout)
        return
    found: dict[str, Found] = {}
    for name in args.contenders:
        rounds = [run_apart(name, args) for _ in range(args.rounds if name == "ours" else 1)]
        middle = statistics.median_low([each.get("seconds", math.inf) for each in rounds])
        found[name] = next(each for each in rounds if each.get("seconds", math.inf) == middle)
        if not args.json:
            figures = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found[name].items())
            reached = found[name].get("rmse", math.inf) <= args.target
            sys.stdout.write(f"{name:>9}: {', '.join(figures)}{'' if reached else '  (does not get there)'}\n")
            sys.stdout.flush()
    result = {"target": args.target, "source": args.source, "protocol": args.protocol, "contenders": found}
    own = found.get("ours", {}).get("seconds")
    ratios = {name: each["seconds"] / own for name, each in found.items() if own and "seconds" in each}
    if args.json:
        json.dump(result | {"times_ours": ratios}, sys.stdout, indent=1)
    else:
        sys.stdout.write("times the time of ours: " + ", ".join(f"{k} {v:.1f}" for k, v in ratios.items()) + "\n")


if __name__ == "__main__":
    main()
