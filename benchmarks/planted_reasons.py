"""Does `explain` find the reasons that were planted? Contributions of user attributes against the planted ones.

    python benchmarks/planted_reasons.py [--seeds 0 1 2] [--pairs 1000] > docs/results/figures/synthetic-reasons.json
    python benchmarks/figures.py

In synthetic ratings (`aanmf.data.synthetic`) attribute j of a user adds lambda_j(genre) a_j . q_i to the rating of item
i. A model learns from 80 % of them and explains test pairs. Pearson's correlation over pairs and attributes, with

- `shared`: the Shapley values of the planted rating. Attribute and item make its effect together and get half of it
  each, above what the attribute adds to items on average: half the effect on this item and half its mean over all
  items. The reference of an absent attribute is no effect, that of an absent item the mean over items. This is how
  AANMF is accounted for.
- `whole`: the effect itself, which is how AANMF++ accounts for it.

`aanmf++/new` explains the same pairs for a new user with these attributes, without ratings. Also `attention`, the
correlation of the attention map with the planted one, and the standard deviations of what was said and planted (stars).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aanmf import Recommender, make_model, make_synthetic
from aanmf.data.dataset import RatingDataset, Rows
from aanmf.data.synthetic import VALUES, SyntheticDataset
from aanmf.experiments.figures import correlation

Floats = NDArray[np.float64]


def planted(made: SyntheticDataset, user: Rows, item: Rows) -> tuple[Floats, Floats]:
    """Planted contributions of each attribute to the ratings of n pairs, `shared` and `whole`: (n, A) each."""
    shared, whole = [], []
    for name, effect in made.effects.items():
        value = np.array([list(VALUES[name]).index(each) for each in made.data.users.columns[name]])[user]
        whole.append(effect[value, item])
        shared.append((effect[value, item] + effect.mean(axis=1)[value]) / 2)
    return np.stack(shared, axis=1), np.stack(whole, axis=1)


def said(model: Recommender, data: RatingDataset, user: Rows, item: Rows, new: bool = False) -> Floats:
    """What the model's account gives to each attribute (n, A); with `new`, for users known by attributes alone."""
    contributions = []
    attributes, names = data.users.columns.to_dicts(), data.users.names
    for u, i in zip(user.tolist(), item.tolist(), strict=True):
        who = attributes[u] if new else data.users.ids.ids[u]
        parts = model.explain(who, data.items.ids.ids[i], top=len(data)).parts
        of = {part["name"]: part["contribution"] for part in parts.to_dicts() if part["kind"] == "user attribute"}
        contributions.append([of[name] for name in names])
    return np.array(contributions)


def agreement(made: SyntheticDataset, user: Rows, item: Rows, contributions: Floats) -> dict[str, float]:
    """Correlations with what was planted, over all pairs and attributes, and standard deviations."""
    shared, whole = planted(made, user, item)
    return {
        "shared": float(np.corrcoef(contributions.ravel(), shared.ravel())[0, 1]),
        "whole": float(np.corrcoef(contributions.ravel(), whole.ravel())[0, 1]),
        "deviation_said": float(contributions.std()),
        "deviation_shared": float(shared.std()),
        "deviation_whole": float(whole.std()),
    }


def runs_of(name: str, seed: int, pairs: int, made: SyntheticDataset, **settings: Any) -> list[dict[str, Any]]:
    """One model and seed; AANMF++ also for new users."""
    train, test = made.data.split(test=0.2, seed=seed)
    model = make_model(name, seed=seed, **settings).fit(train)
    rows = np.random.default_rng(seed).choice(len(test), min(pairs, len(test)), replace=False)
    user, item = test.user[rows], test.item[rows]
    about = {"seed": seed, "pairs": len(rows), "rmse": model.evaluate(test).rmse, "noise_rmse": made.noise_rmse}
    attention = correlation(made.attention, model.attention_map(test).table)
    found = agreement(made, user, item, said(model, test, user, item))
    runs = [{"model": name, **about, "attention": attention, **found}]
    if model.spec.new_items:
        found = agreement(made, user, item, said(model, test, user, item, new=True))
        runs.append({"model": f"{name}/new", **about, **found})
    return runs


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds."""
    rows = []
    for model in dict.fromkeys(run["model"] for run in runs):
        own, row = [run for run in runs if run["model"] == model], {"model": model}
        for key in (key for key in own[0] if key not in ("model", "seed", "pairs")):
            values = [run[key] for run in own]
            row |= {
                f"{key}_mean": statistics.fmean(values),
                f"{key}_std": statistics.stdev(values) if len(own) > 1 else 0.0,
            }
        rows.append(row)
    return rows


def main() -> None:
    """Prints runs and their summary as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["aanmf", "aanmf++"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--pairs", type=int, default=1000)
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for seed in options.seeds:
        made = make_synthetic(seed=seed)
        for name in options.models:
            runs += runs_of(name, seed, options.pairs, made)
    sys.stdout.write(json.dumps({"runs": runs, "summary": summary(runs)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
