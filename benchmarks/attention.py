"""Is learned attention better than its controls? For known users, for new ones, and for those with five ratings.

    python benchmarks/attention.py movielens|planted [--models aanmf aanmf++] [--arms attention] [--folds u1]
                                                     [--seeds 0] [--out FILE]

movielens: u1-u5 of MovieLens 100K. In each fold a tenth of the users is taken out of the training part as well. Known
users are scored on the test part of the fold. The users taken out are scored twice on the same ratings, all but five of
theirs: by their attributes alone, and after those five were told to the model.
planted: synthetic ratings whose attention is known. RMSE, and the correlation of the learned map with the planted one.

Attention is compared with its controls: weights 1/J, weight 1, and no attributes. Every test part is scored once.
Finished fits are kept in FILE and not repeated; its `summary` is made of all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aanmf import RatingDataset, Recommender, make_model, make_synthetic
from aanmf.data.sources import load
from aanmf.data.split import folds
from aanmf.data.synthetic import planted
from aanmf.evaluation.significance import holm, paired_test
from aanmf.experiments.figures import correlation
from cold_users import attributes_of, of_model

Settings = dict[str, object]
ATTENTION: dict[str, Settings] = {"attention": {}, "uniform": {"attention": "uniform"}}
WEIGHTS: dict[str, Settings] = {**ATTENTION, "weight-1": {"attention": False}}
MOVIELENS: dict[str, dict[str, Settings]] = {
    "aanmf": {**WEIGHTS, "no-attributes": {}},
    "aanmf++": {**WEIGHTS, "no-attributes": {}},
    "acf": {**WEIGHTS, "no-components": {"item_attributes": False}},
    "afm": {**WEIGHTS, "fm": {"name": "fm"}},
}
"""By model: what is compared with `attention`, and the settings that make it so."""
PLANTED: dict[str, dict[str, Settings]] = {"aanmf": ATTENTION, "aanmf++": {**ATTENTION, "whole": {"simplify_up_to": 0}}}
"""The same on synthetic ratings; `whole`: no search for parts to leave out."""
ALWAYS: dict[str, Settings] = {"aanmf++": {"match": False}}
"""Lists are not measured here."""
SHARE, TOLD = 0.1, 5
"""Share of the users that are taken out of training, and how many of their ratings are told afterwards."""


def fit(model: str, settings: Settings, train: RatingDataset, seed: int) -> tuple[Recommender, float]:
    """A model, and the processor time of its fit in seconds."""
    made = make_model(**{"name": model, "seed": seed, **ALWAYS.get(model, {}), **settings})
    start = time.process_time()
    return made.fit(train), time.process_time() - start


def movielens(model: str, arm: str, fold: str, seed: int) -> dict[str, Any]:
    """RMSE of the groups of users over all their ratings, and mean squared errors user by user."""
    data = load("ml-100k")
    data = data.with_attributes(users=[]) if arm == "no-attributes" else data
    split = folds(data, fold)[0]
    (cold,) = folds(data, f"cold-user:{SHARE}+{TOLD}", [int(fold.removeprefix("u")) - 1])
    taken = np.isin(data.user, data.user[cold.test])
    train, known, new = (
        data.take(rows) for rows in (split.train[~taken[split.train]], split.test[~taken[split.test]], cold.test)
    )
    fitted, seconds = fit(model, MOVIELENS[model][arm], train, seed)
    squares = {"known": (known.user, (fitted.predict_data(known) - known.rating) ** 2)}
    squares["new"], squares["few"] = newcomers(fitted, new, data.take(cold.given))
    scores = {f"{group}_rmse": float(np.sqrt(each.mean())) for group, (_, each) in squares.items()}
    by_user = {group: _by_user(user, each) for group, (user, each) in squares.items()}
    return {**scores, "seconds": seconds, "by_user": by_user, "chosen": fitted.chosen_}


Squares = tuple[NDArray[np.int64], NDArray[np.float64]]


def newcomers(model: Recommender, asked: RatingDataset, told: RatingDataset) -> tuple[Squares, Squares]:
    """Users (n,) and squared errors (n,) of `asked`: by attributes alone, and after `told`."""
    ids, predict = np.array(asked.items.ids.ids), of_model(model)
    users, errors = list[NDArray[np.int64]](), ([], [])
    for user in np.unique(asked.user):
        rows, own = np.flatnonzero(asked.user == user), told.user == user
        given = dict(zip(ids[told.item[own]].tolist(), told.rating[own].tolist(), strict=True))
        users.append(asked.user[rows])
        for kept, ratings in zip(errors, ({}, given), strict=True):
            attributes = attributes_of(asked, int(user)) if asked.users.names else {}
            predicted = predict(attributes, ids[asked.item[rows]].tolist(), ratings)
            kept.append((predicted - asked.rating[rows]) ** 2)
    user = np.concatenate(users)
    return (user, np.concatenate(errors[0])), (user, np.concatenate(errors[1]))


def _by_user(user: NDArray[np.int64], squares: NDArray[np.float64]) -> dict[str, float]:
    """Mean squared error of each user."""
    return {str(each): round(float(squares[user == each].mean()), 4) for each in np.unique(user)}


def of_planted(model: str, arm: str, fold: str, seed: int) -> dict[str, Any]:
    """RMSE on ratings whose attention is known, and the correlation of the two maps of attention."""
    made = make_synthetic(seed=seed)
    train, test = folds(made.data, fold, [seed])[0].of(made.data)
    fitted, seconds = fit(model, PLANTED[model][arm], train, seed)
    found = {"seconds": seconds, "rmse": fitted.evaluate(test).rmse, "noise": made.noise_rmse}
    if arm == "attention":
        found["correlation"] = correlation(planted(), fitted.attention_map(made.data).table)
    return found


Measure = Callable[[str, str, str, int], dict[str, Any]]
SUITES: dict[str, tuple[Measure, dict[str, dict[str, Settings]], list[str], list[int]]] = {
    "movielens": (movielens, MOVIELENS, [f"u{k}" for k in range(1, 6)], [0]),
    "planted": (of_planted, PLANTED, ["holdout:0.2"], list(range(5))),
}
"""By name: what measures a fit, the models and what is compared, the splits and the seeds."""


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per model and arm: means and deviations over splits, and how far attention is ahead of each control.

    A difference is that of attention, less that of the control: below 0, attention is better. p is that of a paired
    t test over splits, and for groups of users over users (mean squared errors, a user's mean over the folds), with
    Holm's correction over all tests of the file.
    """
    rows: dict[str, dict[str, Any]] = {}
    tests: list[tuple[dict[str, Any], str, float]] = []
    for name in dict.fromkeys((run["model"], run["arm"]) for run in runs):
        own = {(run["fold"], run["seed"]): run for run in runs if (run["model"], run["arm"]) == name}
        base = {(run["fold"], run["seed"]): run for run in runs if (run["model"], run["arm"]) == (name[0], "attention")}
        row: dict[str, Any] = {"model": "/".join(name), "splits": len(own)}
        for metric in (key for key, value in next(iter(own.values())).items() if isinstance(value, float)):
            values = [run[metric] for run in own.values()]
            row |= {
                f"{metric}_mean": float(np.mean(values)),
                f"{metric}_std": float(np.std(values, ddof=len(values) > 1)),
            }
            both = [key for key in own if key in base]
            if metric.endswith("rmse") and name[1] != "attention" and len(both) > 1:
                found = paired_test([base[key][metric] for key in both], [own[key][metric] for key in both])
                row |= {f"{metric}_less_mean": found.difference, f"{metric}_p_mean": found.t_p}
                if "by_user" in own[both[0]]:
                    group = metric.removesuffix("_rmse")
                    means = [_over_folds([part[key]["by_user"][group] for key in both]) for part in (base, own)]
                    tested = paired_test(*means)
                    row[f"{group}_user_p_mean"] = tested.t_p
                    tests.append((row, f"{group}_holm_mean", tested.t_p))
        rows[row["model"]] = row
    for (row, name, _), p in zip(tests, holm([p for *_, p in tests]), strict=True):
        row[name] = p
    return list(rows.values())


def beside_the_parent(runs: list[dict[str, Any]]) -> dict[str, float]:
    """RMSE of AANMF++ less that of AANMF on the same ratings, and what the search for parts costs, as a factor."""
    of = {(run["model"], run["arm"], run["seed"]): run for run in runs}
    own = {seed: run for (model, arm, seed), run in of.items() if (model, arm) == ("aanmf++", "attention")}
    less = [
        run["rmse"] - of["aanmf", "attention", s]["rmse"] for s, run in own.items() if ("aanmf", "attention", s) in of
    ]
    cost = [
        run["seconds"] / of["aanmf++", "whole", s]["seconds"] for s, run in own.items() if ("aanmf++", "whole", s) in of
    ]
    found = {} if not less else {"rmse_less_aanmf_mean": float(np.mean(less)), "rmse_less_aanmf_most_mean": max(less)}
    return found | ({} if not cost else {"cost_of_search_mean": float(np.mean(cost))})


def _over_folds(parts: list[dict[str, float]]) -> list[float]:
    """The mean of each user, users in the order of their names."""
    found: dict[str, list[float]] = {}
    for part in parts:
        for user, value in part.items():
            found.setdefault(user, []).append(value)
    return [float(np.mean(found[user])) for user in sorted(found)]


def main() -> None:
    """Makes the fits that are missing, then writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--models", nargs="+", metavar="MODEL")
    parser.add_argument("--arms", nargs="+", metavar="ARM")
    parser.add_argument("--folds", nargs="+", metavar="FOLD")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    measure, arms, all_folds, all_seeds = SUITES[options.suite]
    out = options.out or Path(f"docs/results/figures/attention-{options.suite}.json")
    runs = json.loads(out.read_text(encoding="utf-8"))["runs"] if out.exists() else []
    done = {(run["model"], run["arm"], run["fold"], run["seed"]) for run in runs}
    for fold in options.folds or all_folds:
        for seed in options.seeds or all_seeds:
            for model in options.models or arms:
                for arm in arms[model]:
                    if (model, arm, fold, seed) in done or arm not in (options.arms or arms[model]):
                        continue
                    found = measure(model, arm, fold, seed)
                    runs.append({"model": model, "arm": arm, "fold": fold, "seed": seed, **found})
                    write(out, options.suite, runs)
                    scores = {name: round(value, 4) for name, value in found.items() if isinstance(value, float)}
                    sys.stdout.write(f"{model} {arm} {fold} {seed}: {scores}\n")
                    sys.stdout.flush()
    write(out, options.suite, runs)


def write(out: Path, suite: str, runs: list[dict[str, Any]]) -> None:
    """The file of results, put in its place whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    rows = summary(runs)
    for row in rows:
        if suite == "planted" and row["model"] == "aanmf++/attention":
            row |= beside_the_parent(runs)
    part.write_text(json.dumps({"suite": suite, "summary": rows, "runs": runs}) + "\n", encoding="utf-8")
    part.replace(out)


if __name__ == "__main__":
    main()
