"""Prediction intervals by conformal prediction: their width follows a modelled standard deviation of the error.

    deviation(u, i)^2 = w_0 variance of the head + w_1 / (n_u + 1) + w_2 / (n_i + 1) + w_3,  w >= 0
    P(|r - prediction| <= quantile_c * deviation) = c, the quantile taken over held-out ratings

The deviation grows where the user or the item has few ratings; the quantile makes the coverage right whatever the
distribution of errors (Lei et al. 2018, "Distribution-free predictive inference for regression", section 5.2). Users of
the training data and users who are new to the model have weights and quantiles of their own (Vovk et al. 2005,
"Algorithmic learning in a random world", section 4.5): see `newcomers.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import nnls
from scipy.stats import norm
from torch import Tensor, nn

LEVELS = np.linspace(0.01, 0.99, 99)


class Interval(nn.Module):
    """The standard deviation of errors, learned from held-out ratings; before that, a normal distribution's."""

    weight: Tensor
    quantile: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor([1.0, 0.0, 0.0, 0.1]))
        self.register_buffer("quantile", torch.as_tensor(norm.ppf((1 + LEVELS) / 2), dtype=torch.float32))

    def half_width(self, coverage: float, variance: Tensor, n_user: Tensor, n_item: Tensor) -> Tensor:
        """How far the interval extends to either side of the prediction, from what `deviation` takes."""
        return self.factor(coverage) * self.deviation(variance, n_user, n_item)

    def deviation(self, variance: Tensor, n_user: Tensor, n_item: Tensor) -> Tensor:
        """From the head's variance and the numbers of ratings in view, (B,) each or of shapes that broadcast."""
        return (_features(variance, n_user, n_item) @ self.weight).clamp(min=1e-6).sqrt()

    def fit(self, error: Tensor, variance: Tensor, n_user: Tensor, n_item: Tensor) -> None:
        """Learns weights and quantiles from errors (n,) of held-out ratings."""
        features = _features(variance, n_user, n_item)
        weight, _ = nnls(features.double().cpu().numpy(), error.double().square().cpu().numpy())
        if weight.sum() > 0:
            self.weight.copy_(torch.as_tensor(weight))
        score = (error.abs() / self.deviation(variance, n_user, n_item)).double().cpu().numpy()
        level = np.minimum(LEVELS * (1 + 1 / len(score)), 1)  # the finite-sample correction of conformal prediction
        self.quantile.copy_(torch.as_tensor(np.quantile(score, level)))

    def factor(self, coverage: float) -> float:
        """How many standard deviations the interval extends to either side.

        Beyond the last quantile it grows as a normal distribution's: held-out ratings are too few to tell.
        """
        last, quantile = LEVELS[-1], self.quantile.cpu().numpy()
        tail = norm.ppf((1 + max(coverage, last)) / 2) / norm.ppf((1 + last) / 2)
        return float(np.interp(coverage, [0, *LEVELS], [0, *quantile]) * tail)


def _features(variance: Tensor, n_user: Tensor, n_item: Tensor) -> Tensor:
    parts = variance, 1 / (n_user + 1), 1 / (n_item + 1), torch.ones_like(variance)
    return torch.stack(torch.broadcast_tensors(*parts), dim=-1)
