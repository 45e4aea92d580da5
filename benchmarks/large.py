"""A model of a gigabyte: seconds to load it, to the first answer, and of a list out of a million items in the service.

    python benchmarks/large.py [--model mf] [--users 1000000] [--items 1000000] [--factors 110] [--epochs 1] [--index]
        [--folder DIR]

It is trained on synthetic ratings for one epoch: how good it is does not matter. One client asks for lists, each of
another user, so that none comes from the service's cache. With `--index`, the service finds them by an index of items.
How many of the ten items the exact search lists as well is measured in one process, for 300 users.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from load import _server

LOAD = """
import sys, time
start = time.perf_counter(); import torch, aanmf.recommender
imported = time.perf_counter(); model = aanmf.recommender.load_model(sys.argv[1])
loaded = time.perf_counter(); model.recommend(model.fitted_.users.ids[0], n=10)
print(imported - start, loaded - imported, time.perf_counter() - loaded)
"""


def write_model(folder: Path, name: str, users: int, items: int, factors: int, epochs: int) -> None:
    """Trains on two million ratings, in which every item occurs."""
    from aanmf import RatingDataset, make_model

    n, rng = max(2_000_000, items), np.random.default_rng(0)
    columns = {
        "user": rng.integers(users, size=n),
        "item": np.concatenate([np.arange(items), (items * rng.random(n - items) ** 3).astype(np.int64)]),
        "rating": rng.integers(1, 6, size=n).astype(float),
    }
    data = RatingDataset.from_frames(pl.DataFrame(columns).unique(["user", "item"]))
    short = {"batch_size": 200_000} if name != "aanmf++" else {"members": 1, "cold": 0.0}
    make_model(name, factors=factors, epochs=epochs, validation=0.0, **short).fit(data).save(folder)


def recall(folder: Path, users: int) -> dict[str, float]:
    """The share of the exact ten that the index finds, and how many different items that is among."""
    from aanmf import load_model

    model, asked = load_model(folder), np.random.default_rng(2).permutation(users)[:300]
    known = [str(user) for user in asked.tolist() if str(user) in model.fitted_.users.table.ids]
    exact = [set(model.recommend(user)["item"]) for user in known]
    start = time.perf_counter()
    model.build_index()
    built = time.perf_counter() - start
    found = [len(one & set(model.recommend(user)["item"])) / len(one) for one, user in zip(exact, known, strict=True)]
    return {"index_built_s": built, "recall": float(np.mean(found)), "different": len(set.union(*exact))}


def ask(folder: Path, users: int, requests: int, *more: str) -> dict[str, float]:
    """Lists from the service: until it is ready, and what each takes, in milliseconds."""
    asked = np.random.default_rng(1).permutation(users)[: 2 * requests]
    start, times = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as scratch, _server(folder, 1, Path(scratch) / "log", *more) as (port, _):
        while more and "index built" not in (Path(scratch) / "log").read_text():
            time.sleep(0.1)
        ready = time.perf_counter() - start
        client = http.client.HTTPConnection("127.0.0.1", port)
        for user in asked.tolist():
            begun, body = time.perf_counter(), json.dumps({"user": str(user)})
            client.request("POST", "/v1/recommend", body, {"content-type": "application/json"})
            answer = client.getresponse()
            answer.read()
            if answer.status == 200:  # 404: without a rating
                times.append(1000 * (time.perf_counter() - begun))
    first, *rest = times[: requests + 1]
    p50, p99 = np.percentile(rest, [50, 99])
    return {"ready_s": ready, "first_ms": first, "lists": len(rest), "p50_ms": p50, "p99_ms": p99}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mf")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--factors", type=int, default=110)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--index", action="store_true")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where the model is kept; one that is there is used")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aanmf-large-") as scratch:
        folder = args.folder or Path(scratch) / "model"
        if not folder.exists():
            write_model(folder, args.model, args.users, args.items, args.factors, args.epochs)
        size = sum(path.stat().st_size for path in folder.iterdir())
        out = subprocess.run([sys.executable, "-c", LOAD, str(folder)], capture_output=True, check=True, text=True)
        imported, loaded, first = map(float, out.stdout.split())
        found = {"model": args.model, "gb": size / 1e9, "import_s": imported, "load_s": loaded, "first_list_s": first}
        found |= ask(folder, args.users, args.requests)
        if args.index:
            by_index = ask(folder, args.users, args.requests, "--index")
            found |= {f"index_{name}": value for name, value in by_index.items()} | recall(folder, args.users)
    text = json.dumps(found, indent=1) + "\n"
    if args.json:
        args.json.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
