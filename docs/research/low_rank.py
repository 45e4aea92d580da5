"""What the low rank of the kernel ridge costs where the whole similarity of items fits, too: no test rating is read.

    AANMF_DATA=... python docs/research/low_rank.py        writes docs/results/figures/low-rank.json

Of the training ratings of u1 (MovieLens 100K) and of the holdout with seed 0 (1M): leave-one-out RMSE of the residuals
of damped means, by the least-squares sum of the three regressions; and processor seconds of a fit.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from aanmf import make_model
from aanmf.data.sources import load
from aanmf.data.split import folds
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.equations import Equations, Ridge
from aanmf.models.aanmfpp.low_rank import LowRankRidge
from aanmf.models.aanmfpp.ridge import KernelRidge

OUT = Path(__file__).parents[1] / "results" / "figures" / "low-rank.json"
SOURCES = {"ml-100k": "u1-u5", "ml-1m": "holdout:0.1"}
RANKS = (32, 64, 128, 256)


def rmse(ridge: Ridge, left_out: Tensor, scale: Tensor) -> float:
    """Of the residuals, on the scale of the ratings, once the regressions are added up as least squares weighs them."""
    target, values = ridge.residual.double(), left_out.T.double()
    left = target - values @ torch.linalg.lstsq(values, target[:, None]).solution[:, 0]
    return float(left.square().mean().sqrt() / scale)


def trial(source: str, protocol: str) -> dict[str, dict[str, float]]:
    """RMSE and seconds of each form."""
    data = load(source)
    train, _ = folds(data, protocol, [0])[0].of(data)
    bare = make_model("aanmf++", epochs=1, members=1, cold=0.0, validation=0, l2=70.0, ridge=False, match=False)
    config = AANMFppConfig()
    module = bare.fit(train).module_
    assert isinstance(module, Equations)
    history, attributes, found = module.history, module._item_matrix(), {}
    given = history, attributes, config.ridge_strengths
    for name, rank in {"whole": None, **{f"rank-{rank}": rank for rank in RANKS}}.items():
        start = time.process_time()
        same = {"damping": config.ridge_damping, "share": config.ridge_share}
        if rank is None:
            ridge = KernelRidge(*given, **same, limit=config.ridge_ratings)
        else:
            ridge = LowRankRidge(*given, **same, rank=rank)
        error = rmse(ridge, ridge.fit(), module.scale)
        found[name] = {"rmse": round(error, 5), "seconds": round(time.process_time() - start, 1)}
        sys.stdout.write(f"{source} {name} {found[name]}\n")
        sys.stdout.flush()
    residual = history.see_all(config.ridge_damping).users.residual[0]
    none = float(residual.double().square().mean().sqrt() / module.scale)
    return {"none": {"rmse": round(none, 5), "seconds": 0.0}, **found}


def main() -> None:
    """Tries the sources one after another and writes what was found so far."""
    cells: dict[str, dict[str, float]] = {}
    for source, protocol in SOURCES.items():
        for name, figures in trial(source, protocol).items():
            cells.setdefault(name, {}).update({f"{source}-{metric}_mean": value for metric, value in figures.items()})
        summary = [{"model": name, **each} for name, each in cells.items()]
        OUT.write_text(json.dumps({"summary": summary}, indent=1) + "\n")


if __name__ == "__main__":
    main()
