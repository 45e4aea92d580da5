"""Shapley values against games whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aanmf.account import DRAWS, EXACT, Account, mean_of, shapley


def additive(joined: np.ndarray) -> np.ndarray:
    return joined @ np.arange(1.0, joined.shape[1] + 1)


def product(joined: np.ndarray) -> np.ndarray:
    return 3.0 + 2.0 * (joined[:, 0] & joined[:, 1]) + 4.0 * joined[:, 2]


def test_players_of_an_additive_game_get_what_they_add() -> None:
    assert shapley(additive, 4) == pytest.approx([1, 2, 3, 4])


def test_two_who_need_each_other_share() -> None:
    assert shapley(product, 3) == pytest.approx([1, 1, 4])


def test_many_players_share_the_whole_gain() -> None:
    players = EXACT + 2
    rng = np.random.default_rng(3)
    table = rng.normal(size=players)

    def curved(joined: np.ndarray) -> np.ndarray:
        return np.tanh(joined @ table)

    found = shapley(curved, players)
    assert sum(found) == pytest.approx(float(np.tanh(table.sum())))
    assert 2 * players < DRAWS
    assert np.corrcoef(found, table)[0, 1] > 0.9


def test_no_players() -> None:
    assert shapley(additive, 0) == []


def test_mean_of_accounts() -> None:
    one, two = (
        Account(*map(torch.tensor, (n, [n, 0.0], n, [n], n, n, [n], [n])), items=torch.arange(2)) for n in (1.0, 3.0)
    )
    mean = mean_of([one, two], [torch.tensor(0.5), torch.tensor(0.5)])
    assert float(mean.total()) == pytest.approx(16.0)
    assert mean.rated.tolist() == [2.0, 0.0]
    assert float(one.scaled(torch.tensor(2.0), torch.tensor(5.0)).total()) == pytest.approx(19.0)
