"""What an epoch costs: AANMF against MF, and against a straightforward per-row implementation, in one run.

    python benchmarks/epoch.py [--source ml-1m] [--factors 32] [--batch-size 8192] [--rounds 5] [--json]

The contenders alternate, so that a machine that speeds up or slows down treats them alike; ratios are of medians.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from aanmf import AANMF, MF, RatingDataset, Recommender
from aanmf.data.sources import load


class RowDataset(Dataset[tuple[int, int, Tensor, float]]):
    """One rating at a time, as tutorials write it."""

    def __init__(self, data: RatingDataset, values: np.ndarray) -> None:
        self.rows = list(zip(data.user.tolist(), data.item.tolist(), data.rating.tolist(), strict=True))
        self.values = values.tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[int, int, Tensor, float]:
        user, item, rating = self.rows[index]
        return user, item, torch.tensor(self.values[user]), rating


class StraightforwardAANMF(nn.Module):
    """The paper's model as one would write it first: [a ; q] concatenated for every rating and attribute."""

    def __init__(self, n_users: int, n_items: int, n_values: int, factors: int, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.p = nn.Embedding(n_users, factors)
        self.q = nn.Embedding(n_items, factors)
        self.a = nn.Embedding(n_values, factors)
        self.attention = nn.Sequential(nn.Linear(2 * factors, factors), nn.Tanh(), nn.Linear(factors, 1), nn.ReLU())
        widths = [2 * factors, *layers]
        stack = [part for w in itertools.pairwise(widths) for part in (nn.Linear(*w), nn.ReLU())]
        self.dense = nn.Sequential(*stack, nn.Linear(widths[-1], 1))

    def forward(self, user: Tensor, item: Tensor, values: Tensor) -> Tensor:
        """(B,), (B,), (B, J) -> (B,)."""
        q, a = self.q(item), self.a(values)
        pairs = torch.cat([a, q[:, None, :].expand(-1, a.shape[1], -1)], dim=2)
        lam = torch.softmax(self.attention(pairs).squeeze(-1), dim=1)
        x = self.p(user) + (lam[..., None] * a).sum(1)
        return self.dense(torch.cat([x, q], dim=1)).squeeze(-1)


def straightforward_rate(model: Recommender, data: RatingDataset, batch_size: int, seconds: float) -> float:
    """Ratings per second of the straightforward loop, over at least `seconds`."""
    training, config = model.fitted_.training, model.get_params()
    module = StraightforwardAANMF(
        training.n_users, training.n_items, training.users.n_values, config["factors"], config["layers"]
    )
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    loader = DataLoader(RowDataset(data, training.users.value), batch_size=batch_size, shuffle=True)
    done, start = 0, time.perf_counter()
    for user, item, values, rating in loader:
        loss = ((module(user, item, values) - rating.float()) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done += len(rating)
        if time.perf_counter() - start > seconds:
            break
    return done / (time.perf_counter() - start)


def epoch_rate(make: Recommender, data: RatingDataset) -> tuple[float, Recommender]:
    """Ratings per second of the second epoch of a fit (the first one warms up)."""
    model = make.fit(data)
    return model.fitted_.training_log.epochs[-1].ratings_per_second, model


@torch.no_grad()
def catalogue_rate(model: Recommender) -> float:
    """(user, item) pairs scored per second, every user against the whole catalogue."""
    module, n_users = model.module_, len(model.fitted_.users)
    pairs, start = 0, time.perf_counter()
    for _, scores in module.catalogue(torch.arange(n_users)):
        pairs += scores.numel()
    return pairs / (time.perf_counter() - start)


def main() -> None:
    """Runs and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m")
    parser.add_argument("--factors", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--naive-seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = load(options.source)
    shared = {"factors": options.factors, "batch_size": options.batch_size, "epochs": 2, "validation": 0.0}
    makers = {
        "MF": lambda: MF(**shared),
        "AANMF": lambda: AANMF(**shared),
        "AANMF+P": lambda: AANMF(**shared, pooling="pairwise"),
    }
    rates: dict[str, list[float]] = {name: [] for name in [*makers, "straightforward"]}
    scoring: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(options.rounds):
        for name, make in makers.items():
            rate, model = epoch_rate(make(), data)
            rates[name].append(rate)
            scoring[name].append(catalogue_rate(model))
            if name == "AANMF":
                rates["straightforward"].append(
                    straightforward_rate(model, data, options.batch_size, options.naive_seconds / options.rounds)
                )
    median = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "source": options.source,
        "ratings": len(data),
        "threads": torch.get_num_threads(),
        "factors": options.factors,
        "batch_size": options.batch_size,
        "ratings_per_second": median,
        "catalogue_pairs_per_second": {name: statistics.median(values) for name, values in scoring.items()},
        "aanmf_epoch_over_mf_epoch": median["MF"] / median["AANMF"],
        "aanmf_p_epoch_over_mf_epoch": median["MF"] / median["AANMF+P"],
        "straightforward_epoch_over_aanmf_epoch": median["AANMF"] / median["straightforward"],
    }
    if options.json:
        json.dump(result, sys.stdout, indent=1)
        return
    lines = [f"{len(data):,} ratings, K={options.factors}, batch {options.batch_size}, {result['threads']} threads"]
    for name, rate in median.items():
        scored = f"{statistics.median(scoring[name]):>14,.0f}" if name in scoring else " " * 14
        lines.append(
            f"{name:>16} {rate:>14,.0f} ratings/s  epoch {len(data) / rate:8.3f} s  catalogue {scored} pairs/s"
        )
    lines.append(f"AANMF epoch / MF epoch: {result['aanmf_epoch_over_mf_epoch']:.2f}")
    lines.append(f"AANMF+P epoch / MF epoch: {result['aanmf_p_epoch_over_mf_epoch']:.2f}")
    lines.append(f"straightforward epoch / AANMF epoch: {result['straightforward_epoch_over_aanmf_epoch']:.1f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
