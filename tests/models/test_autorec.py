"""The auto-encoder against a loop over ratings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aanmf import MF, RatingDataset
from aanmf.models.autorec import AutoRecConfig, AutoRecModule


@pytest.mark.parametrize("encodes", ["items", "users"])
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_prediction_by_naive_loop(small: RatingDataset, encodes: str, activation: str) -> None:
    c = MF(epochs=1, validation=0).fit(small).fitted_.context
    torch.manual_seed(0)
    m = AutoRecModule(AutoRecConfig.of({"factors": 4, "encodes": encodes, "activation": activation}), c).eval()
    with torch.no_grad():
        for each in m.parameters():
            each.normal_()
    n = {name: p.detach().numpy().astype(float) for name, p in m.named_parameters()}
    for user, item in [(0, 3), (5, 20), (41, 0), (42, 21)]:
        code = n["b"].copy()
        for u, i, r in zip(c.train.user.tolist(), c.train.item.tolist(), c.train.rating.tolist(), strict=True):
            if encodes == "items" and i == item:
                code += (r - c.mean) * n["v"][u]
            if encodes == "users" and u == user:
                code += (r - c.mean) * n["v"][i]
        code = 1 / (1 + np.exp(-code)) if activation == "sigmoid" else np.maximum(code, 0)
        out = user if encodes == "items" else item
        expected = c.mean + n["c"][out, 0] + n["w"][out] @ code
        assert m(torch.tensor([user]), torch.tensor([item])).item() == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_input_is_of_training_ratings_only(small: RatingDataset) -> None:
    train, _ = small.split(test=0.5, seed=0)
    c = MF(epochs=1, validation=0).fit(train).fitted_.context
    m = AutoRecModule(AutoRecConfig(), c)
    assert int(m.ratings.count.sum()) == len(train)


def test_dropout_is_of_input_ratings(small: RatingDataset) -> None:
    c = MF(epochs=1, validation=0).fit(small).fitted_.context
    m = AutoRecModule(AutoRecConfig(factors=4, dropout=0.5), c)
    rows = torch.arange(5)
    assert not torch.equal(m.train().codes(rows), m.codes(rows))
    assert torch.equal(m.eval().codes(rows), m.codes(rows))
