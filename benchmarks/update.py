"""What an update costs and what it costs in accuracy, beside a full fit on the same ratings.

    python benchmarks/update.py ml-1m --new 100 1000 10000 100000 --folders DIR \
        > docs/results/figures/ml-1m-updates.json

The last tenth of all ratings is the test part, and only that: by time, or with `--order user` by time within each user
(the last tenth of everyone's ratings). A model is fitted to all ratings before it, less the last N, of whose users and
items it knows nothing where they are new. It then learns these N ratings, with the attributes of new users and items,
in each of three ways: `histories` (no training), `quarter` and `half` of the epochs of a fit; `full` is a fit on all.
An update takes the folder of the old model and leaves one of the new model.

Seconds are of the clock and, where other work runs on the same machine, better of the processor (`cpu`), on one thread.
`coverage` is that of intervals of 90 %. Fitted models are kept in DIR and not fitted again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from aanmf import AANMFpp, RatingDataset, load_model, updates
from aanmf.additions import Additions, ratings_by_id
from aanmf.data.dataset import EntityTable, Vocabulary
from aanmf.data.sources import load
from aanmf.recommender import Recommender

TEST, LEVEL = 0.1, 0.9
WAYS = {"histories": (1.0, 1.0), "quarter": (0.0, 1.0), "half": (0.0, 0.0)}
"""Thresholds of `aanmf.updates` that make every update one of these."""


def in_order(data: RatingDataset, order: str) -> RatingDataset:
    """The ratings by time, or by their place between the first and the last rating of their user."""
    assert data.time is not None
    if order == "time":
        return data.take(np.argsort(data.time, kind="stable"))
    by_user = np.lexsort((data.time, data.user))
    count = np.bincount(data.user)
    place = np.empty(len(data))
    place[by_user] = (np.arange(len(data)) - np.repeat(count.cumsum() - count, count) + 0.5) / np.repeat(count, count)
    return data.take(np.argsort(place, kind="stable"))


def part_of(table: EntityTable, rows: NDArray[np.int64]) -> EntityTable:
    """Some users (items)."""
    labels = None if table.labels is None else tuple(table.labels[row] for row in rows)
    ids = Vocabulary(table.ids.ids[row] for row in rows)
    return replace(table, ids=ids, columns=table.columns[rows], labels=labels)


def without_unrated(data: RatingDataset) -> RatingDataset:
    """The ratings with their users and items, and no others."""
    (users, user), (items, item) = (np.unique(each, return_inverse=True) for each in (data.user, data.item))
    return replace(data, users=part_of(data.users, users), items=part_of(data.items, items), user=user, item=item)


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of the clock and of the processor."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - clock, "cpu": time.process_time() - cpu}


def scores(model: Recommender, test: RatingDataset) -> dict[str, float | None]:
    """RMSE of all test ratings, new users by their attributes; coverage of those by users whom the model knows."""
    known = np.flatnonzero(np.array([each in model.fitted_.users.table.ids for each in test.users.ids.ids])[test.user])
    users, items = (
        [side.ids.ids[i] for i in at[known]] for side, at in ((test.users, test.user), (test.items, test.item))
    )
    found = model.predict(users, items, interval=LEVEL)
    truth = pl.Series(test.rating[known])
    inside = ((found["low"] - 1e-6 <= truth) & (truth <= found["high"] + 1e-6)).to_numpy()
    return {"rmse": model.evaluate(test).rmse, "coverage": float(inside.mean())}


def fitted(train: RatingDataset, folder: Path) -> dict[str, float]:
    """Fits and saves a model, unless it is there; what that took."""
    record = folder.with_name(f"{folder.name}.json")
    if not record.exists():
        took = timed(lambda: AANMFpp().fit(train).save(folder))
        record.write_text(json.dumps(took))
    return json.loads(record.read_text())


def update(base: Path, new: RatingDataset, way: str) -> tuple[Recommender, dict[str, object]]:
    """The model in a folder after an update in one of the ways, and what that took."""
    users, items = (part_of(table, np.unique(at)) for table, at in ((new.users, new.user), (new.items, new.item)))
    additions, kept = Additions(ratings_by_id(new), users, items), list[Recommender]()
    with tempfile.TemporaryDirectory() as place:

        def work() -> None:
            model, _ = AANMFpp.load_with(base, lambda _: additions)
            model.save(Path(place) / "m")
            kept.append(model)

        histories, quarter = WAYS[way]
        with mock.patch.multiple(updates, HISTORIES=histories, QUARTER=quarter, FULL=1.0):
            took = timed(work)
    return kept[0], {"way": way, **took}


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per number of new ratings, with RMSE and processor seconds of every way, `METRIC@WAY`."""
    whole = [run for run in runs if run["new"] is None]
    return [
        {"model": str(size)}
        | {
            f"{metric}@{run['way']}_mean": run[metric]
            for run in [*whole, *(run for run in runs if run["new"] == size)]
            for metric in ("rmse", "cpu")
            if metric in run
        }
        for size in sorted({run["new"] for run in runs} - {None})
    ]


def main() -> None:
    """Prints all runs as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=["ml-100k", "ml-1m"])
    parser.add_argument("--order", choices=["time", "user"], default="time")
    parser.add_argument("--new", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--folders", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = in_order(load(asked.source), asked.order)
    n = len(data) - round(len(data) * TEST)
    train, test = data.take(np.arange(n)), data.take(np.arange(n, len(data)))
    place = asked.folders / f"{asked.source}-{asked.order}"
    full = fitted(without_unrated(train), place / "full")
    runs: list[dict[str, Any]] = [{"new": None, "way": "full", **full, **scores(load_model(place / "full"), test)}]
    for size in asked.new:
        base, new = place / f"before-{size}", train.take(np.arange(n - size, n))
        fitted(without_unrated(train.take(np.arange(n - size))), base)
        runs.append({"new": size, "way": "none", **scores(load_model(base), test)})
        for way in asked.ways:
            model, run = update(base, new, way)
            runs.append({"new": size, "share": size / n, **run, **scores(model, test)})
    about = {"source": asked.source, "order": asked.order, "ratings": n, "test": len(test)}
    sys.stdout.write(json.dumps({**about, "runs": runs, "summary": summary(runs)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
