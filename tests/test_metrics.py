"""Metrics by hand; gaps are errors."""

from __future__ import annotations

import math

import pytest

from aanmf.errors import DataError
from aanmf.metrics import interval_coverage, mae, rmse, score


def test_by_hand() -> None:
    assert rmse([1, 2, 5], [2, 2, 3]) == pytest.approx(math.sqrt(5 / 3))
    assert mae([1, 2, 5], [2, 2, 3]) == pytest.approx(1)
    assert score([1.0], [3.0]).n == 1


@pytest.mark.parametrize(
    ("predicted", "actual", "message"),
    [([], [], "no ratings"), ([1, 2], [1], "one of each"), ([1, float("nan")], [1, 2], "rating 1: .* not a gap")],
)
def test_gaps_are_errors(predicted: list[float], actual: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(predicted, actual)


def test_coverage() -> None:
    assert interval_coverage([0, 0, 0], [1, 1, 1], [0.5, 1, 2]) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="ends below"):
        interval_coverage([2], [1], [1])
