"""Prediction intervals by conformal prediction: their width follows a modelled standard deviation of the error.

    deviation(u, i)^2 = w_0 variance of the head + w_1 / (n_u + 1) + w_2 / (n_i + 1) + w_3,  w >= 0
    P(-below_c * deviation <= r - prediction <= above_c * deviation) = c, over held-out ratings

The deviation grows where the user or the item has few ratings; the quantiles make the coverage right whatever the
distribution of errors (Lei et al. 2018, "Distribution-free predictive inference for regression", section 5.2). The
ratings that an interval misses lie below and above it in the proportion that makes intervals shortest, cut off at the
ends of the scale: a high prediction has little room above. Users of the training data and users who are new to the
model have weights and quantiles of their own (Vovk et al. 2005, "Algorithmic learning in a random world", section
4.5): see `newcomers.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor, nn

LEVELS = np.linspace(0.01, 0.99, 99)


class Interval(nn.Module):
    """The standard deviation of errors, learned from held-out ratings; before that, a normal distribution's."""

    weight: Tensor
    quantile: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor([1.0, 0.0, 0.0, 0.1]))
        self.register_buffer("quantile", torch.as_tensor(np.tile(ndtri((1 + LEVELS) / 2), (2, 1))).float())

    def reach(self, coverage: float, variance: Tensor, n_user: Tensor, n_item: Tensor) -> tuple[Tensor, Tensor]:
        """How far the interval extends below and above the prediction, from what `deviation` takes."""
        deviation = self.deviation(variance, n_user, n_item)
        below, above = self.factors(coverage)
        return below * deviation, above * deviation

    def deviation(self, variance: Tensor, n_user: Tensor, n_item: Tensor) -> Tensor:
        """From the head's variance and the numbers of ratings in view, (B,) each or of shapes that broadcast."""
        return (_features(variance, n_user, n_item) @ self.weight).clamp(min=1e-6).sqrt()

    def fit(
        self,
        scale: tuple[float, float],
        truth: Tensor,
        prediction: Tensor,
        variance: Tensor,
        n_user: Tensor,
        n_item: Tensor,
    ) -> None:
        """Learns weights and quantiles from held-out ratings (n,).

        Args:
            scale: lowest and highest rating.
            truth, prediction: the ratings.
            variance, n_user, n_item: as `deviation` takes them.
        """
        from scipy.optimize import nnls  # which takes long to import, and is needed in training alone

        features, error = _features(variance, n_user, n_item), truth - prediction
        weight, _ = nnls(features.double().cpu().numpy(), error.double().square().cpu().numpy())
        if weight.sum() > 0:
            self.weight.copy_(torch.as_tensor(weight))
        deviation = self.deviation(variance, n_user, n_item)
        room = torch.stack([prediction - scale[0], scale[1] - prediction]) / deviation
        found = _shortest((error / deviation).double().cpu().numpy(), room.double().cpu().numpy(), deviation)
        self.quantile.copy_(torch.as_tensor(found))

    def factors(self, coverage: float) -> tuple[float, float]:
        """How many standard deviations the interval extends below and above the prediction.

        Beyond the last quantile it grows as a normal distribution's: held-out ratings are too few to tell.
        """
        last, quantile = LEVELS[-1], self.quantile.cpu().numpy()
        tail = ndtri((1 + max(coverage, last)) / 2) / ndtri((1 + last) / 2)
        below, above = (float(np.interp(coverage, [0, *LEVELS], [0, *side]) * tail) for side in quantile)
        return below, above


def _shortest(score: NDArray[np.float64], room: NDArray[np.float64], deviation: Tensor) -> NDArray[np.float64]:
    """Quantiles (2, L) below and above of intervals of all levels, each within the next.

    From the widest interval inwards, the next hundredth of the ratings is left out on the side where that shortens the
    intervals most.

    Args:
        score: (n,) errors in standard deviations.
        room: (2, n) how far the ends of the scale are.
        deviation: (n,) standard deviations.
    """
    weight = deviation.double().cpu().numpy()
    misses = np.linspace(0, 1, len(LEVELS) + 2)
    sides = np.stack([-score, score])
    kept = np.minimum((1 - misses) * (1 + 1 / len(score)), 1)  # the finite-sample correction of conformal prediction
    quantiles = np.maximum(np.quantile(sides, kept, axis=1).T, 0)  # (2, L + 2), by the share that is missed
    lengths = np.array(
        [[weight @ np.minimum(q, r) for q in side] for side, r in zip(quantiles, np.maximum(room, 0), strict=True)]
    )
    missed, found = [0, 0], []
    for _ in LEVELS:
        gains = [lengths[side, missed[side]] - lengths[side, missed[side] + 1] for side in (0, 1)]
        missed[int(np.argmax(gains))] += 1
        found.append([quantiles[side, missed[side]] for side in (0, 1)])
    return np.array(found[::-1]).T


def _features(variance: Tensor, n_user: Tensor, n_item: Tensor) -> Tensor:
    parts = variance, 1 / (n_user + 1), 1 / (n_item + 1), torch.ones_like(variance)
    return torch.stack(torch.broadcast_tensors(*parts), dim=-1)
