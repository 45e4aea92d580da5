"""Metrics by hand; missing predictions are errors."""

from __future__ import annotations

import copy
import math
import pickle

import pytest

from aanmf.errors import ConfigError, DataError
from aanmf.metrics import Scores, score


def test_by_hand() -> None:
    found = score([1, 2, 5], [2, 2, 3])
    assert found.rmse == found["rmse"] == pytest.approx(math.sqrt(5 / 3))
    assert found.mae == pytest.approx(1)
    assert found.n == 3


def test_only_the_metrics_asked_for() -> None:
    assert score([1.0], [3.0], ["mae"]) == {"mae": 2.0, "n": 1}
    with pytest.raises(ConfigError, match=r"Unknown metric 'rsme'. Did you mean 'rmse'\? Available: rmse, mae"):
        score([1.0], [3.0], ["rsme"])


def test_scores_survive_copies_and_name_what_is_missing() -> None:
    scores = Scores(rmse=1.5, n=2)
    assert pickle.loads(pickle.dumps(scores)) == copy.deepcopy(scores) == scores
    assert repr(scores) == "Scores(rmse=1.5, n=2)"
    with pytest.raises(AttributeError, match="no score 'mae'; available: rmse, n"):
        _ = scores.mae


@pytest.mark.parametrize(
    ("predicted", "actual", "message"),
    [
        ([], [], "no ratings"),
        ([1, 2], [1], "one of each"),
        ([1, float("nan")], [1, 2], "rating 1: prediction nan"),
        ([1], [float("inf")], "rating 0: .* infinite"),
    ],
)
def test_gaps_are_errors(predicted: list[float], actual: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(predicted, actual)
