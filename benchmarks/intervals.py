"""Do 90 % intervals hold 90 % of the test ratings? In all, and by how much is known of the user and of the item.

    python benchmarks/intervals.py [--source ml-100k] [--protocol u1-u5] [--level 0.9] [--set '{"members": 2}'] [--json]

A model per fold, its settings and its intervals from training ratings alone; the test part is looked at once. The test
ratings are put into ten groups of equal size by the number of training ratings of their user, and again of their item.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np

from aanmf import make_model
from aanmf.data.sources import load
from aanmf.data.split import folds

GROUPS = 10


def by_count(count: np.ndarray, inside: np.ndarray) -> list[dict[str, float]]:
    """Coverage in groups of equal size, few ratings first."""
    order = np.argsort(count, kind="stable")
    parts = np.array_split(order, GROUPS)
    return [
        {"from": int(count[part].min()), "to": int(count[part].max()), "coverage": float(inside[part].mean())}
        for part in parts
    ]


def summary(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows `all` (coverage, width and coverage per fold), `user` and `item` (coverage per group, from 1)."""
    folds = {f"{name}_mean": share for name, share in table["folds"].items()}
    groups = {side: enumerate(table[f"by ratings of the {side}"], start=1) for side in ("user", "item")}
    return [
        {"model": "all", "coverage_mean": table["coverage"], "width_mean": table["width"], **folds},
        *({"model": side, **{f"{n}_mean": each["coverage"] for n, each in of}} for side, of in groups.items()),
    ]


def main() -> None:
    """Prints coverage and mean width, in all and by group."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k")
    parser.add_argument("--protocol", default="u1-u5")
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="aanmf++")
    parser.add_argument("--set", default="{}", help="settings of the model, as JSON")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = load(options.source)
    inside, width, of_user, of_item, each = [], [], [], [], {}
    for fold in folds(data, options.protocol, [options.seed]):
        train, test = fold.of(data)
        model = make_model(options.model, seed=options.seed, **json.loads(options.set)).fit(train)
        users, items = (np.array(side.ids.ids) for side in (test.users, test.items))
        found = model.predict(users[test.user].tolist(), items[test.item].tolist(), interval=options.level)
        low, high = found["low"].to_numpy(), found["high"].to_numpy()
        hit = (test.rating >= low) & (test.rating <= high)
        each[fold.name] = float(hit.mean())
        inside.append(hit)
        width.append(high - low)
        of_user.append(np.bincount(train.user, minlength=len(data.users))[test.user])
        of_item.append(np.bincount(train.item, minlength=len(data.items))[test.item])
    hits = np.concatenate(inside)
    table: dict[str, Any] = {
        "coverage": float(hits.mean()),
        "width": float(np.concatenate(width).mean()),
        "folds": each,
        "by ratings of the user": by_count(np.concatenate(of_user), hits),
        "by ratings of the item": by_count(np.concatenate(of_item), hits),
    }
    table["summary"] = summary(table)
    if options.json:
        sys.stdout.write(json.dumps(table, indent=1) + "\n")
        return
    sys.stdout.write(f"coverage {table['coverage']:.3f}, mean width {table['width']:.2f}\n")
    sys.stdout.write("".join(f"  {name}: {share:.3f}\n" for name, share in each.items()))
    for side in ("user", "item"):
        sys.stdout.write(f"by training ratings of the {side}:\n")
        for group in table[f"by ratings of the {side}"]:
            sys.stdout.write(f"  {group['from']:6.0f} - {group['to']:6.0f}: {group['coverage']:.3f}\n")


if __name__ == "__main__":
    main()
