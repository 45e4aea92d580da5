"""Do intervals for new users hold what they say, and how wide are they? By the number of ratings that users tell.

    python benchmarks/newcomer_intervals.py [--source ml-1m] [--seeds 0] [--level 0.9] [--validation] \
        > docs/results/figures/ml-1m-newcomer-intervals.json

A tenth of the users is held out whole (`cold-user:0.1`). Each tells 0, 1, 3, 5 and 10 of their ratings, drawn at
random; the others, but for those ten, are to be covered, the same ones every time. Beside AANMF++, with its defaults,
stands what takes no model: the item's mean rating plus and minus the quantile of absolute residuals of a tenth of the
training users, whose ratings that mean has not seen. All intervals are cut off at the ends of the scale.

`--validation` holds out a tenth of the training users instead, and leaves the test users alone. Fitted models
and finished seeds are kept in OUT (`--out`) and not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aanmf import RatingDataset, Recommender, load_model, make_model
from aanmf.data.sources import load
from aanmf.data.split import folds

TOLD = (0, 1, 3, 5, 10)
PROTOCOL = "cold-user:0.1"
OURS, BASELINE = "aanmf++", "item-mean"
Ends = tuple[NDArray[np.float64], NDArray[np.float64]]


def attributes_of(data: RatingDataset, user: int) -> dict[str, object]:
    """What is known of a user."""
    row = data.users.columns.row(user, named=True)
    return {a.name: row[a.name] for a in data.users.attributes if row[a.name] is not None}


def item_means(data: RatingDataset, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean rating of every item, of all items for one without a rating."""
    item, rating = data.item[rows], data.rating[rows].astype(np.float64)
    count = np.bincount(item, minlength=len(data.items))
    total = np.bincount(item, rating, minlength=len(data.items))
    return np.where(count > 0, total / np.maximum(count, 1), rating.mean())


class ItemMeans:
    """The item's mean rating, plus and minus a quantile of residuals of users whom it has not seen."""

    def __init__(self, train: RatingDataset, level: float, seed: int) -> None:
        (fold,) = folds(train, PROTOCOL, [seed])
        kept = np.isin(np.arange(len(train)), fold.train)
        residual = np.abs(train.rating[~kept] - item_means(train, kept)[train.item[~kept]])
        self.mean = item_means(train, np.ones(len(train), bool))
        self.quantile = float(np.quantile(residual, min(1.0, level * (1 + 1 / len(residual)))))

    def ends(self, items: NDArray[np.int64]) -> Ends:
        """Low and high (n,), not cut off."""
        return self.mean[items] - self.quantile, self.mean[items] + self.quantile


def fitted(train: RatingDataset, seed: int, folder: Path) -> Recommender:
    """The model, kept in a folder for the next time."""
    if not folder.exists():
        make_model(OURS, seed=seed).fit(train).save(folder)
    return load_model(folder)


def measure(data: RatingDataset, seed: int, level: float, validation: bool, folder: Path) -> list[dict[str, object]]:
    """Coverage and mean width of both, by number of ratings told."""
    train, test = folds(data, PROTOCOL, [seed])[0].of(data)
    if validation:
        train, test = folds(train, PROTOCOL, [seed])[0].of(train)
    model, means = fitted(train, seed, folder), ItemMeans(train, level, seed)
    generator, ids = np.random.default_rng(seed), np.array(data.items.ids.ids)
    lowest, highest = data.scale or (float(train.rating.min()), float(train.rating.max()))
    found: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
    for user in np.unique(test.user):
        rows = generator.permutation(np.flatnonzero(test.user == user))
        asked, attributes = rows[TOLD[-1] :], attributes_of(test, int(user))
        if not len(asked):
            continue
        rating, base = test.rating[asked].astype(np.float64), means.ends(test.item[asked])
        for told in TOLD:
            given = dict(zip(ids[test.item[rows[:told]]].tolist(), test.rating[rows[:told]].tolist(), strict=True))
            of_model = model.predict_for(attributes, ids[test.item[asked]].tolist(), given, interval=level)
            ends = (of_model["low"].to_numpy(), of_model["high"].to_numpy())
            for name, (low, high) in ((OURS, ends), (BASELINE, base)):
                low, high = np.clip(low, lowest, highest), np.clip(high, lowest, highest)
                inside = (low - 1e-6 <= rating) & (rating <= high + 1e-6)
                found.setdefault((name, told), []).append(np.stack([inside.astype(np.float64), high - low]))
    runs = []
    for name in (OURS, BASELINE):
        run: dict[str, object] = {"model": name, "protocol": PROTOCOL, "seed": seed}
        for told in TOLD:
            inside, width = np.concatenate(found[name, told], axis=1)
            run |= {f"coverage@{told}": float(inside.mean()), f"width@{told}": float(width.mean())}
            run["n_test"] = len(inside)
        runs.append(run)
    return runs


def summary(runs: list[dict[str, object]]) -> list[dict[str, object]]:
    """Mean and standard deviation over the seeds, as `benchmarks/figures.py` reads them."""
    rows = []
    for name in (OURS, BASELINE):
        row: dict[str, object] = {"model": name}
        for metric in (f"{kind}@{told}" for told in TOLD for kind in ("coverage", "width")):
            values = [float(str(run[metric])) for run in runs if run["model"] == name]
            row |= {f"{metric}_mean": statistics.fmean(values), f"{metric}_std": statistics.pstdev(values)}
        rows.append(row)
    return rows


def main() -> None:
    """Prints runs and their summary as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("newcomer-intervals"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data, runs = load(options.source), []
    for seed in options.seeds:
        part = "validation" if options.validation else "test"
        kept = options.out / f"{options.source}-{part}-{options.level}-{seed}.json"
        if not kept.exists():
            folder = options.out / f"{options.source}-{part}-{seed}"
            measured = measure(data, seed, options.level, options.validation, folder)
            kept.write_text(json.dumps(measured, indent=1), encoding="utf-8")
        runs += json.loads(kept.read_text(encoding="utf-8"))
    sys.stdout.write(json.dumps({"runs": runs, "summary": summary(runs)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
