"""A weighted mean of the predictions of AANMF++ and BayesFM: the weight from held-out training ratings alone.

    python benchmarks/blend.py [--source ml-100k] [--protocol u1-u5] [--seeds 0] [--weights] [--out FILE]

With `--weights`, a tenth of the training ratings of the first two splits is held out, and the weight of BayesFM with
the least squared error on them is printed. Without, `--weight` is used; every test part is scored once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from aanmf import RatingDataset, make_model
from aanmf.data.sources import load
from aanmf.data.split import folds
from aanmf.evaluation.significance import paired_test
from aanmf.metrics import score

WEIGHT = 0.4
"""Of BayesFM; the least error on held-out training ratings of MovieLens 100K is at .40, of u1 and of u2."""
SETTINGS: dict[str, dict[str, object]] = {"aanmf++": {"match": False}, "bayesfm": {}}


def predictions(train: RatingDataset, test: RatingDataset) -> dict[str, tuple[np.ndarray, float]]:
    """Predicted ratings, and seconds to fit, of each model."""
    found = {}
    for name, settings in SETTINGS.items():
        start = time.perf_counter()
        model = make_model(name, **settings).fit(train)
        found[name] = model.predict_data(test), time.perf_counter() - start
    return found


def best_weight(train: RatingDataset) -> float:
    """The weight of BayesFM by least squares on a tenth of the training ratings."""
    order = np.random.default_rng(123).permutation(len(train))
    held, kept = (train.take(np.sort(rows)) for rows in np.split(order, [len(train) // 10]))
    first, second = (predicted for predicted, _ in predictions(kept, held).values())
    difference = second - first
    return float(difference @ (held.rating - first) / (difference @ difference))


def main() -> None:
    """Measures, and writes after every fold what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k")
    parser.add_argument("--protocol", default="u1-u5")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--weight", type=float, default=WEIGHT, help="of BayesFM")
    parser.add_argument("--weights", action="store_true", help="choose the weight on held-out training ratings")
    parser.add_argument("--out", type=Path, default=Path("docs/results/figures/ml-100k-blend.json"))
    options = parser.parse_args()
    data = load(options.source)
    runs: list[dict[str, object]] = []
    splits = folds(data, options.protocol, options.seeds)
    for number, fold in enumerate(splits):
        train, test = fold.of(data)
        if options.weights:
            if number < 2:
                sys.stdout.write(f"{fold.name}: {best_weight(train):.2f}\n")
            continue
        found = predictions(train, test)
        (first, seconds), (second, more) = found.values()
        found["blend"] = first + options.weight * (second - first), seconds + more
        for name, (predicted, fit_seconds) in found.items():
            scores = score(predicted, test.rating)
            run = {
                "model": name,
                "fold": fold.name,
                "seed": fold.seed,
                "rmse": scores.rmse,
                "mae": scores.mae,
                "seconds": fit_seconds,
            }
            runs.append(run)
            sys.stdout.write(f"{run}\n")
            sys.stdout.flush()
        options.out.write_text(json.dumps(result(runs, options.weight), indent=1) + "\n", encoding="utf-8")


def result(runs: list[dict[str, object]], weight: float) -> dict[str, object]:
    """Mean and standard deviation over the folds, and a paired test of the blend against AANMF++."""
    by_model = {name: [run for run in runs if run["model"] == name] for name in [*SETTINGS, "blend"]}
    rows: list[dict[str, object]] = []
    for name, own in by_model.items():
        row: dict[str, object] = {"model": name}
        for metric in ("rmse", "mae", "seconds"):
            values = [float(run[metric]) for run in own]  # type: ignore[arg-type]
            row[f"{metric}_mean"] = statistics.mean(values)
            row[f"{metric}_std"] = statistics.stdev(values) if len(values) > 1 else 0.0
        rows.append(row)
    if len(by_model["blend"]) > 1:
        rmse = {name: [float(run["rmse"]) for run in own] for name, own in by_model.items()}  # type: ignore[arg-type]
        rows[-1]["p_mean"] = paired_test(rmse["blend"], rmse["aanmf++"]).t_p
    return {"weight": weight, "summary": rows, "runs": runs}


if __name__ == "__main__":
    main()
