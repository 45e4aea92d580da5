"""AFM against its definition: a double loop over features, and attention over their pairs."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
import torch

from aanmf import AFM, RatingDataset
from aanmf.models.afm import AFMConfig, AFMModule
from aanmf.models.layers import equal_weights
from tests.models.test_fm import features, naive, randomised, training

Attention = bool | Literal["uniform"]


def built(data: RatingDataset, attention: Attention = True) -> AFMModule:
    module = AFMModule(AFMConfig(factors=4, attention_factors=3, attention=attention), training(data)).eval()
    randomised(module)
    return module


def expected(m: AFMModule, user: int, item: int, attention: Attention) -> float:
    n = {name: each.detach().numpy().astype(float) for name, each in m.state_dict().items()}
    every = features(m.user, m.sets, user) + features(m.item, m.item_sets, item)
    pairs = [x * v * y * u for (_, v, x), (_, u, y) in itertools.combinations(every, 2)]
    scores = []
    for e in pairs:
        hidden = np.maximum(n["hidden.weight"] @ e + n["hidden.bias"], 0)
        scores.append(float(n["score.weight"][0] @ hidden))
    weight = np.exp(scores) / np.exp(scores).sum()
    if attention is not True:
        weight = np.full(len(pairs), 1.0 if attention is False else 1 / len(pairs))
    return naive(m, user, item)[0] + float(n["h.weight"][0] @ sum(w * e for w, e in zip(weight, pairs, strict=True)))


@pytest.mark.parametrize("attention", [True, "uniform", False])
def test_prediction_by_naive_loop(small: RatingDataset, attention: Attention) -> None:
    m = built(small, attention)
    for user, item in [(0, 3), (5, 20), (41, 0), (42, 21)]:
        predicted = m(torch.tensor([user]), torch.tensor([item])).item()
        assert predicted == pytest.approx(expected(m, user, item, attention), rel=1e-4, abs=1e-4)


def test_pairs_added_with_weight_one_are_a_factorisation_machine(small: RatingDataset) -> None:
    m = built(small, False)
    with torch.no_grad():
        m.h.weight.fill_(1)
    linear, pooled = naive(m, 3, 5)
    assert m(torch.tensor([3]), torch.tensor([5])).item() == pytest.approx(linear + pooled.sum(), rel=1e-4)


def test_weights_add_up_to_one_over_the_features_that_are_there(small: RatingDataset) -> None:
    m = built(small)
    users, items = torch.arange(43), torch.arange(43) % 22
    e, mask = m.pairs(users, items)
    weights = m.weights(e, mask)
    torch.testing.assert_close(weights.sum(1), torch.ones(43))
    assert (weights[~mask] == 0).all()
    assert (weights[mask] > 0).all()


def test_gradients(small: RatingDataset) -> None:
    m = built(small).double()
    e, mask = m.pairs(torch.tensor([0, 5]), torch.tensor([3, 20]))
    assert torch.autograd.gradcheck(lambda x: (m.weights(x, mask)[..., None] * x).sum(1), e.detach().requires_grad_())


def test_a_penalty_on_the_network_brings_the_weights_together(small: RatingDataset) -> None:
    spread = []
    for l2_attention in (0.0, 1e5):
        m = AFM(factors=4, epochs=40, validation=0, l2=1.0, learning_rate=0.02, l2_attention=l2_attention).fit(small)
        assert isinstance(m.module_, AFMModule)
        with torch.no_grad():
            e, mask = m.module_.pairs(torch.arange(40), torch.arange(40) % 20)
            spread.append(float((m.module_.weights(e, mask) - equal_weights(mask, summed=False)).abs().max()))
    assert spread[1] < 0.5 * spread[0]
