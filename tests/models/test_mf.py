"""Biased matrix factorisation against a loop over its equation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from aanmf.contract import Ratings, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.errors import ConfigError
from aanmf.models.mf import MFConfig, MFModule

N_USERS, N_ITEMS, K = 7, 5, 3


def training() -> TrainingData:
    def bare(n: int) -> AttributeSet:
        return AttributeSet(
            torch.zeros(n, 0, dtype=torch.int64), torch.zeros(n, 0), torch.zeros(n, 0, dtype=torch.bool)
        )

    train = Ratings.of(np.array([0, 1, 1]), np.array([0, 0, 4]), np.array([1.0, 2.0, 4.5], np.float32))
    return TrainingData(bare(N_USERS + 1), bare(N_ITEMS + 1), (1, 5), train)


@pytest.fixture
def module() -> MFModule:
    torch.manual_seed(0)
    built = MFModule(MFConfig(factors=K), training()).double().eval()
    with torch.no_grad():
        for table in built.parameters():
            table.normal_()
    return built


def naive(m: MFModule, user: int, item: int) -> float:
    """mu + b_u + b_i + sum_k p_uk q_ik, with mu the mean of 1, 2 and 4.5."""
    n = {name: p.detach().numpy() for name, p in m.named_parameters()}
    total = 2.5 + n["b_u"][user, 0] + n["b_i"][item, 0]
    for k in range(K):
        total += n["p"][user, k] * n["q"][item, k]
    return total


def test_forward_is_the_equation(module: MFModule) -> None:
    pairs = list(itertools.product(range(N_USERS + 1), range(N_ITEMS + 1)))
    users, items = (torch.tensor(side) for side in zip(*pairs, strict=True))
    expected = [naive(module, u, i) for u, i in pairs]
    np.testing.assert_allclose(module(users, items).detach().numpy(), expected, atol=1e-10)
    np.testing.assert_allclose(module(users[5:6], items[5:6]).detach().numpy(), expected[5:6], atol=1e-10)
    assert module(users[:0], items[:0]).shape == (0,)


@pytest.mark.parametrize("times", [0, 1, 300])  # 300 x 3 users are more than a block
def test_catalogue_is_every_pair(module: MFModule, times: int) -> None:
    users = torch.tensor([6, 0, N_USERS]).repeat(times)
    seen = torch.full((len(users), N_ITEMS), torch.nan, dtype=torch.float64)
    with torch.no_grad():
        for part, scores in module.catalogue(users):
            seen[part] = scores
    expected = np.array([[naive(module, u, i) for i in range(N_ITEMS)] for u in (6, 0, N_USERS)])
    np.testing.assert_allclose(seen.numpy(), np.tile(expected, (times, 1)), atol=1e-10)


def test_untrained_biases_leave_the_mean() -> None:
    torch.manual_seed(0)
    built = MFModule(MFConfig(factors=K), training())
    with torch.no_grad():
        built.p.zero_()
        assert built(torch.tensor([3]), torch.tensor([2])).tolist() == [2.5]


def test_attributes_are_not_used(module: MFModule) -> None:
    sets = AttributeSet(torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2), torch.ones(1, 2) > 0)
    with pytest.raises(ConfigError, match="MFModule has no attention"):
        module.attention(torch.tensor([1]), torch.tensor([1]), sets)
    with pytest.raises(ConfigError, match="MFModule has no prediction intervals"):
        module.interval(torch.tensor([1]), torch.tensor([1]), 0.9)
    with torch.no_grad():
        assert float(module(torch.tensor([1]), torch.tensor([1]), sets)) == pytest.approx(
            naive(module, 1, 1), abs=1e-10
        )


def test_settle_gives_those_without_ratings_the_mean(module: MFModule) -> None:
    rated_users, rated_items = torch.ones(N_USERS + 1) > 0, torch.ones(N_ITEMS + 1) > 0
    rated_users[[4, N_USERS]], rated_items[2] = False, False
    sides = ((rated_users, [module.p, module.b_u]), (rated_items, [module.q, module.b_i]))
    expected = [[table[rated].mean(0).detach().numpy() for table in tables] for rated, tables in sides]
    module.settle(rated_users, rated_items)
    for (rated, tables), means in zip(sides, expected, strict=True):
        for table, mean in zip(tables, means, strict=True):
            for row in table[~rated].detach().numpy():
                np.testing.assert_allclose(row, mean, atol=1e-12)


def test_every_parameter_is_regularised() -> None:
    built = MFModule(MFConfig(factors=K, l2=3.0, l2_bias=0.5), training())
    of = {id(table): l2 for l2, tables in built.l2_groups() for table in tables}
    assert [of[id(table)] for table in (built.p, built.q, built.b_u, built.b_i)] == [3.0, 3.0, 0.5, 0.5]
