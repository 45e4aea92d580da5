"""All users against all items, the best n of each: seconds, ours and (from some users) the peers'.

    python benchmarks/catalogue.py [--source ml-1m] [-n 100] [--rounds 3] [--users 50] [--peers myfm surprise] [--json]

Models are trained for one epoch: the time to score does not depend on how well they fit. The peers score `--users`
users, and the time is scaled up to all of them.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace

import numpy as np
import torch

import peers
from aanmf import RatingDataset, Recommender, make_model
from aanmf.data.sources import load

OURS = {"AANMF": "aanmf", "AANMF++": "aanmf++", "MF": "mf"}


def trained(name: str, data: RatingDataset) -> Recommender:
    """One epoch with the default settings; what is chosen on held-out ratings elsewhere is given here."""
    given = {"l2": 70.0} if name == "aanmf++" else {}
    return make_model(name, epochs=1, validation=0.0, **given).fit(data)


def lists_seconds(model: Recommender, n: int, rounds: int) -> float:
    """The shortest time for the lists of everyone."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        rows = sum(len(table) for table in model.recommend_all(n))
        found.append(time.perf_counter() - start)
        assert rows > 0
    return min(found)


def best(scores: np.ndarray, n: int) -> np.ndarray:
    """Positions of the n highest scores of each row."""
    return torch.topk(torch.as_tensor(scores), n).indices.numpy()


def myfm_seconds(data: RatingDataset, users: np.ndarray, n: int) -> float:
    """One sample of myFM (a posterior mean takes as many times as it has samples)."""
    from myfm import MyFMRegressor

    design = peers.Design(data, attributes=True)
    model = MyFMRegressor(rank=peers.MYFM_RANK, random_seed=0)
    model.fit(design.none(data), data.rating, design.relations(data), n_iter=1, n_kept_samples=1)
    n_items = len(data.items)
    user, item = np.repeat(users, n_items), np.tile(np.arange(n_items), len(users))
    pairs = replace(data, user=user, item=item, rating=np.zeros(len(user), np.float32), time=None)
    start = time.perf_counter()
    best(model.predict(design.none(pairs), design.relations(pairs)).reshape(len(users), -1), n)
    return time.perf_counter() - start


def surprise_seconds(data: RatingDataset, users: np.ndarray, n: int) -> float:
    """Surprise predicts a pair at a time."""
    some = np.sort(np.random.default_rng(0).permutation(len(data))[:50_000])
    model = peers.surprise_fit(data.take(some), 0, n_epochs=1)
    start = time.perf_counter()
    best(np.array([[model.predict(u, i).est for i in range(len(data.items))] for u in users.tolist()]), n)
    return time.perf_counter() - start


PEERS = {"myfm": myfm_seconds, "surprise": surprise_seconds}


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m")
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    data = load(args.source)
    seconds = {label: lists_seconds(trained(name, data), args.n, args.rounds) for label, name in OURS.items()}
    users = np.arange(min(args.users, len(data.users)))
    for name in args.peers:
        try:
            seconds[name] = PEERS[name](data, users, args.n) * len(data.users) / len(users)
        except ImportError as error:
            sys.stderr.write(f"{name} is left out: {error}\n")
    if args.json:
        shared = {"source": args.source, "users": len(data.users), "items": len(data.items), "n": args.n}
        json.dump(shared | {"threads": torch.get_num_threads(), "seconds": seconds}, sys.stdout, indent=1)
        return
    sys.stdout.write(f"{len(data.users):,} users x {len(data.items):,} items, {args.n} each\n")
    sys.stdout.write("".join(f"{name:>10} {value:10.2f} s\n" for name, value in seconds.items()))


if __name__ == "__main__":
    main()
