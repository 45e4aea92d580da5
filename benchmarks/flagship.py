"""How a fit of AANMF++ grows with the ratings: time by stage and peak memory, 1 M to 25 M ratings.

    python benchmarks/flagship.py [--millions 1 4 10 25] [--model aanmf++] [--set epochs=1 members=1 ...] [--ranks 1]
        [--users N] [--items N] [--spread-rows N] [--lists [N]] [--out FILE.json]

Synthetic ratings, about 156 a user on average: users' numbers of ratings are log-normal, items' popularity falls with
the rank to the power of -0.9, so a tenth of the items has most of the ratings. Planted are attention (the weights of
`aanmf.data.synthetic`, by genre), vectors of users and items, and histories: every user has a favourite genre, which
the ratings do not name, rates it more often, and a little better. Each size is fitted in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.data.schema import Attribute, Kind
from aanmf.data.synthetic import ATTENTION, VALUES
from aanmf.estimator import Estimator
from aanmf.ranking import ListOptions, Ranker
from aanmf.training.distributed import joined

RESET = Path("/proc/self/clear_refs")
"""Where Linux is told to measure the peak of memory anew."""
USERS, ITEMS, RATINGS = 160_000, 60_000, 25_000_000
"""The largest size; with fewer ratings users are fewer in proportion, items with the square root."""
FACTORS, NOISE, FAVOURITE = 8, 0.7, 0.5
"""Planted factors, the standard deviation of the noise, and the share of a user's ratings in the favourite genre."""


def heavy_tailed(n: int, n_users: int | None = None, n_items: int | None = None, seed: int = 0) -> RatingDataset:
    """About n ratings on a scale of 1 to 5 (a little fewer: repeated pairs are dropped)."""
    rng, share = np.random.default_rng(seed), n / RATINGS
    n_users, n_items = n_users or max(100, round(USERS * share)), n_items or max(100, round(ITEMS * share**0.5))
    genre, favourite = rng.integers(len(ATTENTION), size=n_items), rng.integers(len(ATTENTION), size=n_users)
    user, item = _pairs(rng, n, genre, favourite)
    values = {name: rng.choice(len(freq), size=n_users, p=_shares(freq)) for name, freq in VALUES.items()}
    attention = np.array(list(ATTENTION.values()), dtype="f4")
    rating = np.full(len(user), 3.4, dtype="f4")
    rating += rng.normal(size=n_users).astype("f4")[user] * 0.35 + rng.normal(size=n_items).astype("f4")[item] * 0.4
    rating += 0.3 * (genre[item] == favourite[user])
    for j, name in enumerate(VALUES):
        effect = rng.normal(size=(len(VALUES[name]), len(ATTENTION))).astype("f4")
        rating += 0.8 * attention[genre[item], j] * effect[values[name][user], genre[item]]
    p, q = (rng.normal(size=(size, FACTORS)).astype("f4") for size in (n_users, n_items))
    for k in range(FACTORS):  # column by column, to need little memory
        rating += 0.18 * p[user, k] * q[item, k]
    rating += NOISE * rng.standard_normal(len(rating), dtype="f4")
    np.clip(np.rint(rating, out=rating), 1, 5, out=rating)
    return RatingDataset(
        _users(values), _items(genre), user, item, rating, scale=(1.0, 5.0), name=f"heavy-tailed-{n / 1e6:g}M"
    )


def _pairs(
    rng: np.random.Generator, n: int, genre: NDArray[np.int64], favourite: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct pairs in random order."""
    n_users, n_items = len(favourite), len(genre)
    activity = np.minimum(rng.lognormal(0, 1.1, n_users), 60)
    popularity = rng.permutation((np.arange(n_items) + 20.0) ** -0.9)
    user = rng.permutation(np.repeat(np.arange(n_users), rng.poisson(1.15 * n * activity / activity.sum())))
    of_favourite = rng.random(len(user)) < FAVOURITE
    item = np.empty(len(user), np.int64)
    chosen = [(~of_favourite, np.arange(n_items))]
    chosen += [(of_favourite & (favourite[user] == g), (genre == g).nonzero()[0]) for g in range(len(ATTENTION))]
    for rows, among in chosen:
        bounds = popularity[among].cumsum()
        place = np.searchsorted(bounds, bounds[-1] * rng.random(int(rows.sum())))
        item[rows] = among[np.minimum(place, len(among) - 1)]
    keys = np.unique(user * n_items + item)
    keys = rng.permutation(keys)[:n]
    return keys // n_items, keys % n_items


def _users(values: dict[str, NDArray[np.int64]]) -> EntityTable:
    columns = {name: np.array(list(VALUES[name]))[value] for name, value in values.items()}
    attributes = tuple(Attribute(name=name, kind=Kind.CATEGORICAL) for name in VALUES)
    n = len(next(iter(values.values())))
    return EntityTable(Vocabulary(str(u + 1) for u in range(n)), pl.DataFrame(columns), attributes)


def _items(genre: NDArray[np.int64]) -> EntityTable:
    names = list(ATTENTION)
    column = pl.Series("genres", [[names[g]] for g in genre], dtype=pl.List(pl.String))
    attribute = Attribute(name="genres", kind=Kind.MULTIVALUED)
    return EntityTable(Vocabulary(str(i + 1) for i in range(len(genre))), column.to_frame(), (attribute,))


def _shares(frequencies: dict[str, float]) -> NDArray[np.float64]:
    share = np.array(list(frequencies.values()))
    return share / share.sum()


class Clock:
    """Processor and wall seconds, and peak memory in GB, by stage, of functions that it wraps until it is closed."""

    def __init__(self) -> None:
        self.wrapped: list[tuple[object, str, object]] = []
        self.wall: dict[str, float] = defaultdict(float)
        self.processor: dict[str, float] = defaultdict(float)
        self.peak: dict[str, float] = defaultdict(float)
        self.begun = ["all"]

    def watch(self, owner: object, name: str, stage: str) -> None:
        """Wraps a function of a class or a module."""
        function = getattr(owner, name)

        def timed(*args: object, **kwargs: object) -> object:
            self.mark()
            self.begun.append(stage)
            wall, processor = time.perf_counter(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.wall[stage] += time.perf_counter() - wall
                self.processor[stage] += time.process_time() - processor
                self.mark()
                self.begun.remove(stage)

        self.wrapped.append((owner, name, function))
        setattr(owner, name, timed)

    def mark(self) -> None:
        """Adds the peak of memory since the last mark to the stages that have begun, and starts anew."""
        for stage in self.begun:
            self.peak[stage] = max(self.peak[stage], _peak())
        if RESET.exists():
            RESET.write_text("5")

    def close(self) -> None:
        """Puts the functions back."""
        self.mark()
        for owner, name, function in self.wrapped:
            setattr(owner, name, function)


def measure(
    size: tuple[int, int | None, int | None],
    model_name: str,
    settings: dict[str, object],
    lists: int,
    spread_rows: int | None,
) -> dict[str, object]:
    """One fit in this process: RMSE of held-out ratings, seconds by stage, peak memory; and lists of so many users."""
    from aanmf import make_model
    from aanmf.data.split import folds
    from aanmf.models.aanmfpp import fit, trainer
    from aanmf.models.aanmfpp.choice import ChoiceHead
    from aanmf.models.aanmfpp.low_rank import LowRankRidge
    from aanmf.models.aanmfpp.ridge import KernelRidge

    data = heavy_tailed(*size)
    train, test = folds(data, "holdout:0.02")[0].of(data)
    sizes = {"ratings": len(train), "users": len(data.users), "items": len(data.items)}
    del data
    before, clock = _peak(), Clock()
    for owner, name, stage in [
        (trainer.Trainer, "train", "training"),
        (fit, "select", "search in all"),
        (KernelRidge, "__init__", "ridge: similarity"),
        (KernelRidge, "fit", "ridge: regressions"),
        (LowRankRidge, "fit", "ridge: regressions"),
        (LowRankRidge, "_decompose", "ridge: eigenvectors, of these"),
        (fit, "learn_weights", "choice: weights"),
        (fit.AANMFppModule, "state", "state"),
        (ChoiceHead, "fit", "choice: regressions"),
    ]:
        clock.watch(owner, name, stage)
    wall, processor = time.perf_counter(), time.process_time()
    model = make_model(model_name, **settings).fit(train, shard_rows=spread_rows)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    clock.close()
    epochs = model.fitted_.training_log.epochs
    return {
        **sizes,
        "wall": wall,
        "processor": processor,
        "epoch": min(each.seconds for each in epochs) if epochs else None,
        "stages_wall": dict(clock.wall),
        "stages_processor": dict(clock.processor),
        "data_gb": before,
        "peak_gb": max(clock.peak.values()),
        "stages_peak_gb": dict(clock.peak),
        "rmse": model.evaluate(test).rmse,
        "chosen": model.chosen_,
        "lists": first_lists(model, lists) if lists else None,
    }


def first_lists(model: Estimator, users: int) -> dict[str, float]:
    """The first ten items for so many users, from the first one on."""
    wall, listed = time.perf_counter(), 0
    for table in Ranker(model.predictor_, ListOptions(n=10)).everyone():
        listed += len(table)
        if listed >= 10 * users:
            break
    return {"seconds": time.perf_counter() - wall, "listed": listed}


def _peak() -> float:
    """Peak memory of this process in GB: so far, or where Linux can start anew, since it did."""
    if RESET.exists():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


def result_of(command: list[str], about: str) -> dict[str, object] | None:
    """What a process writes as JSON, shown in a line; None, and the last line of its errors, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(f"{about}: {(done.stderr.strip().splitlines() or ['killed'])[-1]}\n")
        return None
    result = json.loads(done.stdout)
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    return result


def main() -> None:
    """Runs every size in a process of its own, writes each result as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 4, 10, 25])
    parser.add_argument("--model", default="aanmf++")
    parser.add_argument("--ranks", type=int, default=1, help="processes that train together, by torchrun")
    parser.add_argument("--spread-rows", type=int, help="tables with at least so many rows are divided among them")
    parser.add_argument("--users", type=int, help="in place of so many in proportion to the ratings")
    parser.add_argument("--items", type=int)
    parser.add_argument(
        "--lists", type=int, nargs="?", const=sys.maxsize, default=0, help="for so many users, or for all"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the model")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    settings = {name: json.loads(value) for name, value in (each.split("=", 1) for each in args.set)}
    if args.one:
        with joined() as ranks:
            size = round(args.one * 1e6), args.users, args.items
            one = measure(size, args.model, settings, args.lists, args.spread_rows)
            if ranks.first:
                json.dump(one, sys.stdout)
        return
    found = []
    for millions in args.millions:
        command = [__file__, "--one", str(millions), "--model", args.model, "--set", *args.set]
        for name in ("users", "items", "lists", "spread_rows"):
            value = getattr(args, name)
            command += [f"--{name.replace('_', '-')}", str(value)] if value else []
        if args.ranks > 1:
            command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={args.ranks}", *command]
        result = result_of([sys.executable, *command], f"{millions:g} M ratings")
        if result is None:
            break
        found.append(result)
        if args.out:
            args.out.write_text(
                json.dumps({"settings": settings, "ranks": args.ranks, "sizes": found}, indent=1) + "\n"
            )


if __name__ == "__main__":
    main()
