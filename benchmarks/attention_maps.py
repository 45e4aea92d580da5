"""Do models trained from other seeds look at the same attributes? Attention by item attribute, across seeds.

    python benchmarks/attention_maps.py [--source ml-100k] [--by genres] [--models aanmf aanmf++] [--json]

All seeds learn from the same training part (holdout:0.2, seed 0). A map holds the mean attention over test ratings, a
row per value of the item attribute, a column per user attribute. Prints the correlation between two seeds' maps, once
as they are and once less each column's mean: the first asks whether the attributes keep their rank, the second whether
it is the same genres that look at them more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from typing import Any

import numpy as np

from aanmf import make_model
from aanmf.data.sources import load
from aanmf.data.split import folds

ENOUGH = 100
"""Test ratings that a row must rest on."""


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, over all cells."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def main() -> None:
    """Fits each model from each seed, then prints the agreement of their maps and the mean map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k")
    parser.add_argument("--by", default="genres", help="attribute of the items")
    parser.add_argument("--models", nargs="+", default=["aanmf", "aanmf++"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", default="{}", help="settings of all models, as JSON")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = load(options.source)
    (fold,) = folds(data, "holdout:0.2", [0])
    train, test = fold.of(data)
    found: dict[str, dict[str, Any]] = {}
    for name in options.models:
        maps: list[np.ndarray] = []
        rows, attributes = [], list[str]()
        for seed in options.seeds:
            model = make_model(name, seed=seed, **json.loads(options.set)).fit(train)
            table = model.attention_map(test, by=options.by).table.sort(options.by)
            table = table.filter(table["n"] >= ENOUGH)
            rows, table = table[options.by].to_list(), table.drop(options.by, "n")
            attributes = table.columns
            maps.append(table.to_numpy())
        pairs = list(itertools.combinations(maps, 2))
        mean = np.mean(maps, axis=0)
        found[name] = {
            "agreement": [correlation(a, b) for a, b in pairs],
            "agreement less column means": [correlation(a - a.mean(0), b - b.mean(0)) for a, b in pairs],
            "spread between rows": dict(zip(attributes, mean.std(0).tolist(), strict=True)),
            "spread between seeds": dict(zip(attributes, np.std(maps, axis=0).mean(0).tolist(), strict=True)),
            "map": {
                row: dict(zip(attributes, cells, strict=True)) for row, cells in zip(rows, mean.tolist(), strict=True)
            },
        }
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        return
    for name, each in found.items():
        sys.stdout.write(f"\n{name}\n")
        for key, value in each.items():
            if key != "map":
                cells = value.items() if isinstance(value, dict) else enumerate(value)
                sys.stdout.write(f"  {key}: " + "  ".join(f"{k} {v:.3f}" for k, v in cells) + "\n")
        for row, cells in each["map"].items():
            sys.stdout.write(f"  {row:14}" + "  ".join(f"{k} {v:.3f}" for k, v in cells.items()) + "\n")


if __name__ == "__main__":
    main()
