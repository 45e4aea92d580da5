"""RMSE, MAE (Eq 8, with the outer root that the paper leaves out) and coverage of intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aanmf.errors import DataError


@dataclass(frozen=True)
class Scores:
    """Errors over `n` ratings, on the scale of the ratings."""

    rmse: float
    mae: float
    n: int


def rmse(predicted: ArrayLike, actual: ArrayLike) -> float:
    """Root mean squared error: sqrt(mean((y^ - y)^2)) over all ratings."""
    return score(predicted, actual).rmse


def mae(predicted: ArrayLike, actual: ArrayLike) -> float:
    """Mean absolute error: mean of abs(y^ - y) over all ratings."""
    return score(predicted, actual).mae


def score(predicted: ArrayLike, actual: ArrayLike) -> Scores:
    """RMSE and MAE of n predictions.

    Raises:
        DataError: no ratings, different lengths, or a prediction that is missing: a rating that a model cannot score
            is an error, not a gap.
    """
    guess, truth = _checked(predicted, actual)
    error = guess - truth
    return Scores(float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error))), len(error))


def interval_coverage(lower: ArrayLike, upper: ArrayLike, actual: ArrayLike) -> float:
    """Share of ratings within their predicted interval, ends included.

    Raises:
        DataError: as in `score`, or an interval whose lower end lies above its upper end.
    """
    low, truth = _checked(lower, actual)
    high, _ = _checked(upper, actual)
    if (low > high).any():
        raise DataError(f"interval {int(np.argmax(low > high))} ends below where it starts")
    return float(np.mean((low <= truth) & (truth <= high)))


def _checked(predicted: ArrayLike, actual: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    guess, truth = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if guess.shape != truth.shape or guess.ndim != 1:
        raise DataError(f"{guess.shape} predictions for {truth.shape} ratings: one of each is needed")
    if len(guess) == 0:
        raise DataError("no ratings to score")
    if not np.isfinite(guess).all() or not np.isfinite(truth).all():
        bad = int(np.argmin(np.isfinite(guess) & np.isfinite(truth)))
        raise DataError(
            f"rating {bad}: prediction {guess[bad]}, actual {truth[bad]}; a missing score is an error, not a gap"
        )
    return guess, truth
