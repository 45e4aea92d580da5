"""Are explanations faithful, and how long do they take?

    python benchmarks/explanations.py --out docs/results/figures/ml-100k-explanations.json
    python benchmarks/explanations.py --service MODEL

Complete: do base and parts sum to the prediction, over 1,000 pairs? Faithful: the five rated items that an account
names first are left out one at a time (`without=[item]`), and the prediction is compared with what the account said of
that item: Spearman's correlation over all deletions; beside it that of five random rated items. With `--service`, how
long `/v1/explain` takes over HTTP, one request after the other.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.stats import rankdata

from aanmf import AANMFpp
from aanmf.data.sources import load
from aanmf.data.split import folds
from aanmf.explanation import Explanation
from aanmf.recommender import Recommender, load_model

PAIRS, DELETED, CHECKED = 500, 5, 1000
FEW = 10
"""Users with fewer ratings are passed over: of five deletions, the last would leave nothing."""


def added(parts: pl.DataFrame) -> float:
    """What parts add together."""
    return float(parts["contribution"].to_numpy().sum())


def unclipped(found: Explanation) -> float:
    """The prediction before it is clipped."""
    return found.prediction - added(found.parts.filter(pl.col("kind") == "clip"))


def gap(model: Recommender, of: Any, rng: np.random.Generator) -> float:
    """The largest difference between a prediction and the sum of its account."""
    users, items = model.fitted_.users.ids, model.fitted_.items.ids
    worst, predictor = 0.0, model.predictor_
    for _ in range(CHECKED):
        user, item = int(rng.integers(len(users))), int(rng.integers(len(items)))
        found = model.explain(users[user], items[item], of=of)
        ((_, scores, _),) = predictor.scores(torch.tensor([user]), of)
        expected = float(scores[0, item].clamp(*predictor.scale) if of == "rating" else scores[0, item])
        worst = max(worst, abs(found.base + added(found.parts) - expected))
    return worst


def correlation(pairs: np.ndarray) -> float:
    """Spearman's, of the two columns."""
    ranks = np.stack([rankdata(column) for column in pairs.T])
    return float(np.corrcoef(ranks)[0, 1])


def deletions(model: Recommender, of: Any, rng: np.random.Generator) -> dict[str, float]:
    """Said and actual changes of a prediction, of items that the account names first and of random ones."""
    predictor, ids = model.predictor_, model.fitted_.items.ids
    changes: dict[str, list[tuple[float, float]]] = {"named": [], "random": []}
    seconds: list[float] = []
    while len(seconds) < PAIRS:
        user, item = int(rng.integers(len(model.fitted_.users))), int(rng.integers(len(ids)))
        rated, _ = model.fitted_.ratings_of(user)
        if len(rated) < FEW or item in rated:
            continue
        who, what = model.fitted_.users.ids[user], ids[item]
        start = time.perf_counter()
        whole = model.explain(who, what, top=10_000, of=of)
        seconds.append(time.perf_counter() - start)
        said = whole.parts.filter(pl.col("kind") == "rated item")
        names = {predictor.items.label(at) or ids[at]: ids[at] for at in rated}
        rows = [(names[row["name"]], row["contribution"]) for row in said.iter_rows(named=True)]
        picked = rng.permutation(len(rows))[:DELETED]
        for kind, some in (("named", rows[:DELETED]), ("random", [rows[at] for at in picked])):
            for gone, contribution in some:
                without = model.explain(who, what, of=of, without=[gone])
                changes[kind].append((contribution, unclipped(whole) - unclipped(without)))
    found = {kind: correlation(np.array(pairs)) for kind, pairs in changes.items()}
    size = {f"{kind}_change": float(np.abs([moved for _, moved in pairs]).mean()) for kind, pairs in changes.items()}
    return {**found, **size, "milliseconds": 1000 * float(np.median(seconds))}


def in_service(folder: Path, requests: int = 1000) -> dict[str, float]:
    """Milliseconds of `/v1/explain` in a service of its own process's thread: median and 99th percentile."""
    import threading

    import httpx
    import uvicorn

    from aanmf.serving.app import create_app

    server = uvicorn.Server(uvicorn.Config(create_app(folder, store=None), port=0, log_level="warning"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    fitted = load_model(folder).fitted_
    rng, taken = np.random.default_rng(0), {"rating": [], "match": []}
    with httpx.Client(base_url=f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}") as client:
        for of, seconds in taken.items():
            for _ in range(requests):
                user, item = rng.integers(len(fitted.users)), rng.integers(len(fitted.items))
                start = time.perf_counter()
                body = {"user": fitted.users.ids[user], "item": fitted.items.ids[item], "of": of}
                client.post("/v1/explain", json=body).raise_for_status()
                seconds.append(1000 * (time.perf_counter() - start))
    server.should_exit = True
    quantiles = {"p50": 0.5, "p99": 0.99}
    return {f"{of}_{name}": float(np.quantile(s[10:], q)) for of, s in taken.items() for name, q in quantiles.items()}


def main() -> None:
    """Measures, and writes a summary over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--service", type=Path, metavar="MODEL")
    asked = parser.parse_args()
    if asked.service:
        sys.stdout.write(json.dumps(in_service(asked.service), indent=1) + "\n")
        return
    data, runs = load(asked.source), []
    for fold in folds(data, "holdout:0.2", [int(seed) for seed in asked.seeds.split(",")]):
        model = AANMFpp(seed=fold.seed).fit(fold.of(data)[0])
        for of in ("rating", "match"):
            rng = np.random.default_rng(fold.seed)
            runs.append({"model": of, "seed": fold.seed, "gap": gap(model, of, rng), **deletions(model, of, rng)})
            sys.stdout.write(json.dumps(runs[-1]) + "\n")
            sys.stdout.flush()
    summary = []
    for of in ("rating", "match"):
        own = pl.DataFrame([run for run in runs if run["model"] == of]).drop("model", "seed")
        stats = {f"{name}_mean": own[name].mean() for name in own.columns}
        summary.append({"model": of, **stats, **{f"{name}_std": own[name].std() for name in own.columns}})
    if asked.out:
        asked.out.write_text(json.dumps({"runs": runs, "summary": summary}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
