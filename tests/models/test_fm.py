"""The factorisation machine against its definition: a double loop over features."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from aanmf import MF, RatingDataset
from aanmf.contract import TrainingData
from aanmf.models.fm import Features, FMConfig, FMModule


def training(data: RatingDataset) -> TrainingData:
    return MF(epochs=1, validation=0).fit(data).fitted_.training


def randomised(module: torch.nn.Module) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for each in module.parameters():
            each.normal_()


def features(side: Features, sets, row: int) -> list[tuple[float, np.ndarray, float]]:
    """(w, v, x) of every feature of a user (item)."""
    found = [(side.w[row].item(), side.v[row].detach().numpy().astype(float), 1.0)]
    if side.v_a is not None and side.w_a is not None:
        v, w = (table(sets.vectors).detach().numpy() for table in (side.v_a, side.w_a))
        value, weight, mask = (each[row].numpy() for each in (sets.value, sets.weight, sets.mask))
        found += [
            (float(w[i, 0]), v[i].astype(float), float(x)) for i, x, on in zip(value, weight, mask, strict=True) if on
        ]
    return found


def naive(m: FMModule, user: int, item: int) -> tuple[float, np.ndarray]:
    every = features(m.user, m.sets, user) + features(m.item, m.item_sets, item)
    linear = m.w_0.item() + sum(w * x for w, _, x in every)
    pooled = sum((x * v * y * u for (_, v, x), (_, u, y) in itertools.combinations(every, 2)), np.zeros(4))
    return linear, pooled


@pytest.mark.parametrize("user_attributes", [True, False])
@pytest.mark.parametrize("item_attributes", [True, False])
def test_terms_and_prediction_by_double_loop(
    small: RatingDataset, user_attributes: bool, item_attributes: bool
) -> None:
    m = FMModule(FMConfig(factors=4, user_attributes=user_attributes, item_attributes=item_attributes), training(small))
    randomised(m)
    users, items = torch.tensor([0, 1, 4, 5, 41, 42]), torch.tensor([3, 2, 19, 20, 0, 21])
    linear, pooled = m.terms(users, items)
    expected = [naive(m, int(u), int(i)) for u, i in zip(users, items, strict=True)]
    np.testing.assert_allclose(linear.detach(), [each[0] for each in expected], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(pooled.detach(), [each[1] for each in expected], rtol=1e-4, atol=1e-4)
    totals = [first + second.sum() for first, second in expected]
    np.testing.assert_allclose(m(users, items).detach(), totals, rtol=1e-4, atol=1e-4)
