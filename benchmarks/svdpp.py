"""Our SVD++ and Surprise's with the same settings on the same split: are they the same model?

    python benchmarks/svdpp.py [--source ml-100k] [--seeds 0 1 2] [--json]      (`make peers` installs Surprise)

Surprise takes a step of stochastic gradient descent per rating; every step also shrinks the vectors that it read, those
of the user's whole history among them. The library trains with Adam and l2 on whole tables, which ends elsewhere
(better). To compare the models and not the trainers, ours is trained here as Surprise does: its objective, learning
rate, penalty, epochs and initial spread, in shuffled batches whose gradients are summed. Both are scored on the same
test part (holdout:0.2). The library's own training, at its defaults, is printed beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import peers
from aanmf import RatingDataset, make_model
from aanmf.data.sources import load
from aanmf.data.split import folds
from aanmf.metrics import score
from aanmf.models.svdpp import SVDppModule

FACTORS, EPOCHS, RATE, PENALTY, SPREAD = 20, 20, 0.007, 0.02, 0.1
"""Surprise's defaults."""
BATCH = 100


def as_surprise_trains(train: RatingDataset, test: RatingDataset, seed: int) -> np.ndarray:
    """1/2 sum [e^2 + penalty (b_u^2 + b_i^2 + |p_u|^2 + |q_i|^2 + sum_{k in N(u)} |y_k|^2)], plain gradient descent."""
    module = make_model("svd++", factors=FACTORS, epochs=1, validation=0, seed=seed).fit(train).module_
    assert isinstance(module, SVDppModule)
    torch.manual_seed(seed)
    with torch.no_grad():
        for table in (module.p, module.q, module.y):
            table.normal_(0.0, SPREAD)
        module.b_u.zero_()
        module.b_i.zero_()
    user, item, rating = (torch.as_tensor(side) for side in (train.user, train.item, train.rating))
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(rating)).split(BATCH):
            error = module(user[rows], item[rows]) - rating[rows]
            loss = 0.5 * (error.square().sum() + PENALTY * read(module, user[rows], item[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        predicted = module.eval()(torch.as_tensor(test.user), torch.as_tensor(test.item))
    return predicted.numpy()


def read(module: SVDppModule, users: Tensor, items: Tensor) -> Tensor:
    """Sum of the squares of everything that these ratings read, as often as they read it."""
    own = sum(table[users].square().sum() for table in (module.p, module.b_u))
    others = sum(table[items].square().sum() for table in (module.q, module.b_i))
    lengths = module.y.square().sum(1, keepdim=True)
    ones = torch.ones_like(module.history.value)
    return own + others + module.history(lengths, users, ones).sum()


def ours(train: RatingDataset, test: RatingDataset, seed: int) -> np.ndarray:
    """The library's SVD++ at its defaults."""
    return make_model("svd++", seed=seed).fit(train).predict_data(test)


def main() -> None:
    """Prints RMSE and seconds of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = load(options.source)
    low, high = data.scale or (float(data.rating.min()), float(data.rating.max()))
    contenders: dict[str, Callable[[RatingDataset, RatingDataset, int], np.ndarray]] = {
        "Surprise": peers.surprise_svdpp,
        "ours, trained as Surprise trains": as_surprise_trains,
        "ours": ours,
    }
    table: dict[str, dict[str, list[float]]] = {name: {"rmse": [], "seconds": []} for name in contenders}
    for seed in options.seeds:
        (fold,) = folds(data, "holdout:0.2", [seed])
        train, test = fold.of(data)
        for name, contender in contenders.items():
            start = time.perf_counter()
            predicted = np.clip(contender(train, test, seed), low, high)
            table[name]["rmse"].append(score(predicted, test.rating).rmse)
            table[name]["seconds"].append(time.perf_counter() - start)
    if options.json:
        sys.stdout.write(json.dumps(table, indent=1) + "\n")
        return
    for name, each in table.items():
        cells = "  ".join(f"{rmse:.4f}" for rmse in each["rmse"])
        sys.stdout.write(f"{name:34} {cells}  mean {statistics.mean(each['rmse']):.4f}")
        sys.stdout.write(f"  {statistics.median(each['seconds']):.0f} s\n")


if __name__ == "__main__":
    main()
