"""SVD++ against a loop over each user's history."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aanmf import MF, RatingDataset
from aanmf.contract import TrainingData
from aanmf.models.svdpp import SVDppConfig, SVDppModule


def training(data: RatingDataset) -> TrainingData:
    return MF(epochs=1, validation=0).fit(data).fitted_.training


def module(training: TrainingData, **settings) -> SVDppModule:
    torch.manual_seed(0)
    built = SVDppModule(SVDppConfig(factors=4, **settings), training).eval()
    with torch.no_grad():
        for each in built.parameters():
            each.normal_()
    return built


def naive(m: SVDppModule, c: TrainingData, user: int, item: int) -> float:
    n = {name: p.detach().numpy().astype(float) for name, p in m.named_parameters()}
    history = [int(k) for u, k in zip(c.train.user, c.train.item, strict=True) if u == user]
    x = n["p"][user] + sum((n["y"][k] for k in history), np.zeros(4)) / np.sqrt(max(len(history), 1))
    if m.a is not None:
        values = m.a(m.sets.vectors).detach().numpy()
        for j in range(c.users.value.shape[1]):
            if c.users.mask[user, j]:
                x = x + float(c.users.weight[user, j]) * values[int(c.users.value[user, j])]
    return c.mean + n["b_u"][user, 0] + n["b_i"][item, 0] + n["q"][item] @ x


@pytest.mark.parametrize("attributes", [False, True])
def test_prediction_by_naive_loop(small: RatingDataset, attributes: bool) -> None:
    c = training(small)
    m = module(c, attributes=attributes)
    users, items = torch.tensor([0, 1, 5, 33, 41, 42]), torch.tensor([3, 2, 19, 20, 0, 21])
    expected = [naive(m, c, int(u), int(i)) for u, i in zip(users, items, strict=True)]
    np.testing.assert_allclose(m(users, items).detach(), expected, rtol=1e-4, atol=1e-4)


def test_attributes_of_a_new_user_count_when_asked_for(small: RatingDataset) -> None:
    c = training(small)
    user, item = torch.tensor([42, 42]), torch.tensor([1, 1])
    for attributes in (False, True):
        m = module(c, attributes=attributes)
        sets = m.sets.rows(torch.tensor([0, 1]))
        first, second = m(user, item, sets).tolist()
        assert (first != second) == attributes


def test_history_is_of_training_ratings_only(small: RatingDataset) -> None:
    train, test = small.split(test=0.5, seed=0)
    m = module(training(train))
    assert int(m.history.count.sum()) == len(train)
    for u, i in zip(m.history.row, m.history.col, strict=True):
        assert ((train.user == int(u)) & (train.item == int(i))).any()
    unseen = [u for u in test.user if u not in set(train.user)]
    assert m.history.count[unseen].sum() == 0
