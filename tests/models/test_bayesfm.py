"""The Bayesian factorisation machine on ratings whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from aanmf import BayesFM, RatingDataset
from aanmf.data.dataset import EntityTable, Vocabulary
from aanmf.data.schema import Attribute, Kind
from aanmf.models.bayesfm import BayesFMConfig, BayesFMModule

NOISE = 0.3


def known_truth(levels: bool) -> tuple[RatingDataset, np.ndarray]:
    """Ratings of 120 users and 60 items: biases, two factors, and a kind of user that likes a kind of item."""
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(120, 2)), rng.normal(size=(60, 2)) * 0.6
    kind_u, kind_i = np.arange(120) % 2, np.arange(60) % 3 == 0
    truth = 3 + 0.4 * rng.normal(size=120)[:, None] + 0.4 * rng.normal(size=60) + p @ q.T
    truth = truth + 1.5 * np.outer(kind_u - 0.5, kind_i - 0.33)
    user, item = (rng.random((120, 60)) < 0.5).nonzero()
    rating = truth[user, item] + NOISE * rng.normal(size=len(user))
    rating = rating.round().clip(1, 5) if levels else rating
    users, items = (
        EntityTable(
            Vocabulary(f"{name}{k}" for k in range(len(kind))),
            pl.DataFrame({"kind": [str(int(each)) for each in kind]}),
            (Attribute(name="kind", kind=Kind.CATEGORICAL),),
        )
        for name, kind in (("u", kind_u), ("i", kind_i))
    )
    return RatingDataset(users, items, user, item, rating.astype(np.float32)), truth


@pytest.mark.parametrize("levels", [False, True])
def test_it_finds_the_truth_behind_noise(levels: bool) -> None:
    """Whole ratings carry the noise of rounding, 1 / sqrt 12, too, and cut off the ends of the scale."""
    data, truth = known_truth(levels)
    train, test = data.split(test=0.2, seed=0)
    model = BayesFM(factors=6, sweeps=80, burn_in=20).fit(train)
    assert model.module_.ordinal == levels
    expected = truth[test.user, test.item]
    error = model.predict_data(test) - (expected.clip(1, 5) if levels else expected)
    assert np.sqrt(np.mean(error**2)) < (0.3 if levels else 0.2)
    assert model.evaluate(test).rmse < (0.48 if levels else 0.36)


def test_new_users_are_known_by_their_attributes() -> None:
    """Users of kind 1 rate items of the first kind 1.5 above those of kind 0, others the same, but for their means."""
    data, _ = known_truth(False)
    model = BayesFM(factors=6, sweeps=80, burn_in=20).fit(data)
    liked, others = [f"i{k}" for k in range(60) if k % 3 == 0], [f"i{k}" for k in range(60) if k % 3]

    def gap(items: list[str]) -> float:
        one, zero = (model.predict_for({"kind": kind}, items)["rating"].mean() for kind in ("1", "0"))
        assert isinstance(one, float) and isinstance(zero, float)
        return one - zero

    assert gap(liked) - gap(others) == pytest.approx(1.5, abs=0.3)


def test_the_expected_rating_by_hand(small: RatingDataset) -> None:
    training = BayesFM(factors=2, sweeps=2).fit(replace(small, rating=small.rating.round())).fitted_.training
    module = BayesFMModule(BayesFMConfig(), training)
    assert module.levels.tolist() == [1, 2, 3, 4, 5]
    module.theta.copy_(torch.tensor([-1.0, 0.0, 1.0, 2.0]))
    module.sigma.fill_(2.0)
    # P(r > 1..4) at f = 0.5: Phi(.75), Phi(.25), Phi(-.25), Phi(-.75) sum to 2
    assert float(module.expected(torch.tensor(0.5))) == pytest.approx(3.0, abs=1e-6)
    # at f = 2: Phi(1.5) + Phi(1) + Phi(.5) + Phi(0) = .93319 + .84134 + .69146 + .5
    assert float(module.expected(torch.tensor(2.0))) == pytest.approx(3.96600, abs=1e-4)
