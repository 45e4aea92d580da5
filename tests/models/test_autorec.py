"""The auto-encoder against a loop over ratings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aanmf import MF, RatingDataset
from aanmf.models.autorec import AutoRecConfig, AutoRecModule


@pytest.mark.parametrize("encodes", ["items", "users"])
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "identity"])
def test_prediction_by_naive_loop(small: RatingDataset, encodes: str, activation: str) -> None:
    c = MF(epochs=1, validation=0).fit(small).fitted_.training
    torch.manual_seed(0)
    m = AutoRecModule(AutoRecConfig.of({"factors": 4, "encodes": encodes, "activation": activation}), c).eval()
    with torch.no_grad():
        for each in m.parameters():
            each.normal_()
    n = {name: p.detach().numpy().astype(float) for name, p in m.named_parameters()}
    for user, item in [(0, 3), (5, 20), (41, 0), (42, 21)]:
        total, count = np.zeros(4), 0
        for u, i, r in zip(c.train.user.tolist(), c.train.item.tolist(), c.train.rating.tolist(), strict=True):
            if encodes == "items" and i == item:
                total, count = total + (r - c.mean) * n["v"][u], count + 1
            if encodes == "users" and u == user:
                total, count = total + (r - c.mean) * n["v"][i], count + 1
        code = total / np.sqrt(max(count, 1)) + n["b"]
        code = {"sigmoid": 1 / (1 + np.exp(-code)), "relu": np.maximum(code, 0), "identity": code}[activation]
        row, out = (item, user) if encodes == "items" else (user, item)
        expected = c.mean + n["d"][row, 0] + n["c"][out, 0] + n["w"][out] @ code
        assert m(torch.tensor([user]), torch.tensor([item])).item() == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_input_is_of_training_ratings_only(small: RatingDataset) -> None:
    train, _ = small.split(test=0.5, seed=0)
    c = MF(epochs=1, validation=0).fit(train).fitted_.training
    m = AutoRecModule(AutoRecConfig(), c)
    assert int(m.ratings.count.sum()) == len(train)


def test_dropout_is_of_input_ratings(small: RatingDataset) -> None:
    c = MF(epochs=1, validation=0).fit(small).fitted_.training
    m = AutoRecModule(AutoRecConfig(factors=4, dropout=0.5), c)
    rows = torch.arange(5)
    assert not torch.equal(m.train().codes(rows), m.codes(rows))
    assert torch.equal(m.eval().codes(rows), m.codes(rows))
