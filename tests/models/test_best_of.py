"""The highest numbers of long rows are those that `torch.topk` finds."""

from __future__ import annotations

import pytest
import torch

from aanmf.models.kernels import LONG, best_of


@pytest.mark.parametrize("n", [0, 1, 10, 100, 5000])
@pytest.mark.parametrize("more", [0, 1, 777])
def test_the_best_of_long_rows(n: int, more: int) -> None:
    scores = torch.randn(3, LONG + more, generator=torch.Generator().manual_seed(n + more))
    scores[1, : LONG // 2] = -torch.inf  # items that may not be listed
    scores[2, -1] = 9.0  # in the last, shorter block
    values, places = best_of(scores, n)
    assert torch.equal(values, scores.topk(n).values)
    assert torch.equal(values, scores.gather(1, places))
    assert all(len(set(row)) == n for row in places.tolist())


def test_fewer_are_left_than_asked() -> None:
    scores = torch.full((1, LONG), -torch.inf)
    scores[0, [5, LONG - 1]] = torch.tensor([1.0, 2.0])
    values, places = best_of(scores, 4)
    assert values[0, :2].tolist() == [2.0, 1.0]
    assert places[0, :2].tolist() == [LONG - 1, 5]
    assert (values[0, 2:] == -torch.inf).all()
    assert len(set(places[0].tolist())) == 4


def test_equal_scores_are_different_items() -> None:
    values, places = best_of(torch.ones(1, LONG), 50)
    assert (values == 1).all()
    assert len(set(places[0].tolist())) == 50
