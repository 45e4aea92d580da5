"""How training from disk grows with the ratings: time per epoch and peak memory, 1 M to 30 M ratings.

    python benchmarks/growth.py [--millions 1 3 10 30] [--model aanmf] [--epochs 2] [--folder DIR] [--json]

Synthetic ratings of 30,000 items by 300,000 users with three attributes are written as Parquet shards, sorted by user
(the worst order for a shuffle in a window). Each size is trained in a process of its own, by what `aanmf train
'shards/*.parquet' --users ...` calls. The exponent is the slope of log time on log ratings.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

N_USERS, N_ITEMS, SHARD = 300_000, 30_000, 1_000_000


def write_shards(folder: Path, n: int) -> None:
    """About n ratings in shards of a million, sorted by user: a block of users each, made on its own."""
    (folder / "ratings").mkdir(parents=True)
    rng = np.random.default_rng(0)
    taste, style = rng.normal(size=(N_USERS, 8)).astype("f4"), rng.normal(size=(N_ITEMS, 8)).astype("f4")
    popularity = rng.permutation(N_ITEMS)
    n_shards = max(1, n // SHARD)
    for shard, users in enumerate(np.array_split(np.arange(N_USERS), n_shards)):
        rng = np.random.default_rng([1, shard])
        rows = n // n_shards
        user = np.sort(rng.choice(users, rows))
        item = popularity[(N_ITEMS * rng.random(rows) ** 2).astype("i8")]
        liking = 3.5 + 0.25 * (taste[user] * style[item]).sum(1) + 0.7 * rng.normal(size=rows)
        frame = pl.DataFrame({"user": user, "item": item, "rating": np.clip(np.round(liking), 1, 5).astype("f4")})
        frame.write_parquet(folder / "ratings" / f"{shard:04d}.parquet")
    ids = np.arange(N_USERS)
    attributes = {"gender": ids % 2, "age": ids // 7 % 7, "occupation": ids // 49 % 21}
    letters = {
        name: pl.Series([f"{name[0]}{value}" for value in values.tolist()]) for name, values in attributes.items()
    }
    pl.DataFrame({"user": ids, **letters}).write_csv(folder / "users.csv")


def train(folder: Path, model: str, epochs: int) -> dict[str, float]:
    """Prepares and trains; what it took."""
    from aanmf.data.stream import stream_dataset
    from aanmf.recommender import make_model

    start = time.perf_counter()
    data = stream_dataset(folder / "ratings", folder / "work", users=folder / "users.csv")
    prepared = time.perf_counter()
    fitted = make_model(model, epochs=epochs, refit=False).fit(data).fitted_
    fit = time.perf_counter() - prepared
    per_epoch = [epoch.seconds for epoch in fitted.training_log.epochs]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "ratings": len(data),
        "prepare_seconds": prepared - start,
        "fit_seconds": fit,
        "epoch_seconds": min(per_epoch),
        "peak_gb": peak * (1 if sys.platform == "darwin" else 1024) / 2**30,
        "validation_rmse": math.sqrt(fitted.training_log.epochs[-1].valid_mse or math.nan),
    }


def exponent(found: list[dict[str, float]], measure: str) -> float:
    """Slope of log(measure) on log(ratings)."""
    x, y = (np.log([each[name] for each in found]) for name in ("ratings", measure))
    return float(np.polyfit(x, y, 1)[0])


def say(line: str) -> None:
    """At once, so that a long run can be watched."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 3, 10, 30])
    parser.add_argument("--model", default="aanmf")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the shards go; a temporary folder if not given")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        say(json.dumps(train(args.one, args.model, args.epochs)))
        return
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        for millions in args.millions:
            folder = Path(place) / f"{millions}m"
            write_shards(folder, millions * 1_000_000)
            command = [sys.executable, __file__, "--one", str(folder), "--model", args.model]
            done = subprocess.run([*command, "--epochs", str(args.epochs)], check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout))
            if not args.json:
                line = "  ".join(f"{name} {value:,.3g}" for name, value in found[-1].items() if name != "ratings")
                say(f"{millions:>4} M ratings: {line}")
    growth = {name: exponent(found, name) for name in ("epoch_seconds", "prepare_seconds", "peak_gb")}
    if args.json:
        say(json.dumps({"model": args.model, "sizes": found, "exponents": growth}, indent=2))
    else:
        say("exponents: " + ", ".join(f"{name} {value:.3f}" for name, value in growth.items()))


if __name__ == "__main__":
    main()
