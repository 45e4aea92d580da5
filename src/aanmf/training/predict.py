"""Predictions of many pairs, in blocks, and their error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aanmf.contract import RatingModule, Ratings
from aanmf.data.attributes import AttributeSet
from aanmf.training.distributed import ALONE, Ranks

BLOCK = 65_536


@torch.no_grad()
def predict_pairs(
    module: RatingModule,
    user: Tensor,
    item: Tensor,
    sets: AttributeSet | None = None,
    block: int = BLOCK,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Predictions (n,) of many pairs, in blocks, not clipped; `sets` as in `RatingModule.forward`.

    The blocks are divided among `ranks`, which all call this and get all predictions.
    """
    module.eval()
    found = torch.zeros(len(user), dtype=next(module.parameters()).dtype, device=user.device)
    for r in torch.arange(len(user), device=user.device).split(block)[ranks.rank :: ranks.count]:
        found[r] = module(user[r], item[r], None if sets is None else sets.rows(r))
    return ranks.add(found)


def mean_squared_error(module: RatingModule, ratings: Ratings, scale: tuple[float, float]) -> float:
    """Mean squared error of clipped predictions."""
    module.eval()
    return float(squared_error(lambda block: module(block.user, block.item), ratings, scale)) / len(ratings)


@torch.no_grad()
def squared_error(
    predict: Callable[[Ratings], Tensor],
    ratings: Ratings,
    scale: tuple[float, float],
    part: Callable[[Ratings], Ratings] = lambda block: block,
) -> Tensor:
    """The sum of squared errors of clipped predictions, a double.

    `predict` takes a block of ratings, and predicts what `part` says of it: by default all.
    """
    total = torch.zeros((), dtype=torch.float64, device=ratings.rating.device)
    for start in range(0, len(ratings), BLOCK):
        block = ratings.take(slice(start, start + BLOCK))
        total += (predict(block).clamp(*scale) - part(block).rating).double().square().sum()
    return total


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
