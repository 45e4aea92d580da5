"""New users: known by attributes alone, and by attributes and five ratings, without retraining.

    python benchmarks/cold_users.py [--source ml-1m] [--given 5] [--seed 0] [--json]

A tenth of the users is held out whole. Of each, `--given` random ratings may be told to the model; all others are to be
predicted, by every contender the same ones. Settings come from the training users alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

import numpy as np

from aanmf import RatingDataset, Recommender, make_model
from aanmf.data.sources import load
from aanmf.data.split import folds

ForUser = Callable[[dict[str, object], list[str], dict[str, float]], np.ndarray]


def attributes_of(data: RatingDataset, user: int) -> dict[str, object]:
    """What is known of a user."""
    row = data.users.columns.row(user, named=True)
    return {a.name: row[a.name] for a in data.users.attributes if row[a.name] is not None}


def item_means(train: RatingDataset, damping: float = 5.0) -> ForUser:
    """mu + b_i, and the damped mean of what the given ratings leave over."""
    mu = float(train.rating.astype(np.float64).mean())
    count = np.bincount(train.item, minlength=len(train.items))
    b_i = np.bincount(train.item, train.rating - mu, len(train.items)) / (count + damping)

    def predict(_: dict[str, object], items: list[str], given: dict[str, float]) -> np.ndarray:
        told = train.items.ids.index(list(given))
        bias = (np.array(list(given.values())) - mu - b_i[told]).sum() / (len(given) + damping)
        return mu + bias + b_i[train.items.ids.index(items)]

    return predict


def of_model(model: Recommender) -> ForUser:
    """A fitted model's `predict_for`."""
    return lambda attributes, items, given: model.predict_for(attributes, items, given)["rating"].to_numpy()


def main() -> None:
    """Prints RMSE of every contender with and without the given ratings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m")
    parser.add_argument("--given", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", nargs="+", default=["mf", "aanmf", "aanmf++"])
    parser.add_argument("--set", default="{}", help="settings of all models, as JSON")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = load(options.source)
    (fold,) = folds(data, "cold-user:0.1", [options.seed])
    train, test = fold.of(data)
    contenders = {"item mean + bias": item_means(train)}
    for name in options.models:
        contenders[name] = of_model(make_model(name, seed=options.seed, **json.loads(options.set)).fit(train))
    generator = np.random.default_rng(options.seed)
    errors: dict[tuple[str, str], list[np.ndarray]] = {}
    ids = np.array(data.items.ids.ids)
    low, high = data.scale or (float(train.rating.min()), float(train.rating.max()))
    for user in np.unique(test.user):
        rows = generator.permutation(np.flatnonzero(test.user == user))
        told, asked = rows[: options.given], rows[options.given :]
        given = dict(zip(ids[test.item[told]].tolist(), test.rating[told].tolist(), strict=True))
        for name, predict in contenders.items():
            for known, ratings in (("attributes", {}), (f"+ {options.given} ratings", given)):
                predicted = predict(attributes_of(data, int(user)), ids[test.item[asked]].tolist(), ratings)
                errors.setdefault((name, known), []).append(np.clip(predicted, low, high) - test.rating[asked])
    table = [
        {"model": name, "known": known, "rmse": float(np.sqrt(np.square(np.concatenate(each)).mean()))}
        for (name, known), each in errors.items()
    ]
    if options.json:
        sys.stdout.write(json.dumps(table, indent=1) + "\n")
    else:
        sys.stdout.write("".join(f"{row['model']:20} {row['known']:14} {row['rmse']:.4f}\n" for row in table))


if __name__ == "__main__":
    main()
