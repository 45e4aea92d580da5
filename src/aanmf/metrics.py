"""Every metric of the library, once. A new one is a function here and an entry in `METRICS`: evaluation,
cross-validation, tuning, the report and the tables of the command line then show it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aanmf.errors import ConfigError, DataError

Floats = NDArray[np.float64]


def rmse(predicted: Floats, actual: Floats) -> float:
    """Root mean squared error, sqrt(mean((y^ - y)^2)): Eq 8, with the outer root that the paper leaves out."""
    return float(np.sqrt(np.mean((predicted - actual) ** 2)))


def mae(predicted: Floats, actual: Floats) -> float:
    """Mean absolute error, mean(abs(y^ - y))."""
    return float(np.mean(np.abs(predicted - actual)))


@dataclass(frozen=True)
class Metric:
    """A measure of quality.

    Attributes:
        label: its name in tables.
        of: what it is computed from: `ratings`, the predictions (n,) and ratings (n,) of a test part.
        function: of these arrays.
        higher_is_better: how two values compare.
    """

    label: str
    of: Literal["ratings"]
    function: Callable[[Floats, Floats], float]
    higher_is_better: bool = False


METRICS: dict[str, Metric] = {"rmse": Metric("RMSE", "ratings", rmse), "mae": Metric("MAE", "ratings", mae)}
"""By name, the one that models are trained for first."""


class Scores(dict[str, float]):
    """Values of metrics by name, and `n`, the number of ratings they rest on: `scores["rmse"]` or `scores.rmse`."""

    def __getattr__(self, name: str) -> float:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no score {name!r}; available: {', '.join(self)}") from None

    def __repr__(self) -> str:
        return f"Scores({', '.join(f'{name}={value!r}' for name, value in self.items())})"


def metric_of(name: str) -> Metric:
    """A metric by name.

    Raises:
        ConfigError: there is none of this name.
    """
    if name in METRICS:
        return METRICS[name]
    near = difflib.get_close_matches(name, METRICS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"unknown metric {name!r}.{hint} Available: {', '.join(METRICS)}")


def score(predicted: ArrayLike, actual: ArrayLike, metrics: Sequence[str] | None = None) -> Scores:
    """Scores of n predictions.

    Args:
        predicted: (n,), on the scale of the ratings.
        actual: ratings (n,).
        metrics: names of metrics; None: all.

    Raises:
        ConfigError: an unknown metric.
        DataError: no ratings, different lengths, or a prediction that is NaN or infinite.
    """
    chosen = {name: metric_of(name) for name in (METRICS if metrics is None else metrics)}
    guess, truth = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if guess.shape != truth.shape or guess.ndim != 1:
        raise DataError(f"{guess.shape} predictions for {truth.shape} ratings: one of each is needed")
    if len(guess) == 0:
        raise DataError("no ratings to score")
    if len(bad := np.flatnonzero(~(np.isfinite(guess) & np.isfinite(truth)))):
        at = bad[0]
        raise DataError(
            f"rating {at}: prediction {guess[at]}, actual {truth[at]}; neither may be missing, NaN or infinite"
        )
    return Scores({name: metric.function(guess, truth) for name, metric in chosen.items()}, n=len(guess))
