"""Kernel ridge per user: leave-one-out values against refits, predictions against naive loops."""

from __future__ import annotations

import pytest
import torch

from aanmf.contract import Ratings
from aanmf.models.aanmfpp.history import RatingHistory
from aanmf.models.aanmfpp.ridge import KernelRidge
from tests.conftest import threads

USERS, ITEMS, STRENGTHS, SHARE = 7, 9, (1.2, 4.0), 0.3


@pytest.fixture
def model() -> KernelRidge:
    generator = torch.Generator().manual_seed(1)
    pairs = torch.randperm(USERS * ITEMS, generator=generator)[:40]
    rating = torch.randint(1, 6, (40,), generator=generator).float()
    history = RatingHistory(Ratings(pairs // ITEMS, pairs % ITEMS, rating), (USERS, ITEMS), (0.7, 0.6))
    attributes = torch.rand(ITEMS, 3, generator=generator)
    return KernelRidge(history, attributes, STRENGTHS, damping=(15.0, 15.0), share=SHARE, limit=3000)


def naive_kernel(model: KernelRidge, without: int) -> torch.Tensor:
    """G (I, I) in float64 from the ratings of all users but one."""
    h = model.history
    kernel = torch.zeros(ITEMS, ITEMS, dtype=torch.float64)
    count = [sum(int(i) == j for i in h.item) + 1 for j in range(ITEMS)]
    residual = {(int(h.user[e]), int(h.item[e])): float(model.residual[e]) for e in range(len(h))}
    for i in range(ITEMS):
        for j in range(ITEMS):
            for v in range(USERS):
                if v != without and (v, i) in residual and (v, j) in residual:
                    kernel[i, j] += (residual[v, i] * residual[v, j] + 1) / (count[i] * count[j]) ** 0.5
    cosine = torch.zeros(ITEMS, ITEMS, dtype=torch.float64)
    return kernel + cosine + SHARE


def attribute_part(model: KernelRidge, attributes: torch.Tensor) -> torch.Tensor:
    unit = attributes.double() / attributes.double().norm(dim=1, keepdim=True)
    return SHARE * unit @ unit.T


def test_leave_one_out_values_and_predictions_are_those_of_refits(model: KernelRidge) -> None:
    generator = torch.Generator().manual_seed(1)
    torch.randperm(USERS * ITEMS, generator=generator)
    torch.randint(1, 6, (40,), generator=generator)
    cosine = attribute_part(model, torch.rand(ITEMS, 3, generator=generator))
    left_out = model.fit().double()
    h = model.history
    for u in range(USERS):
        rows = h.rows_of(u)
        items, target = h.item[rows], model.residual[rows].double()
        kernel = naive_kernel(model, without=u) + cosine
        for f, strength in enumerate(STRENGTHS):
            for leave in range(len(rows)):
                rest = [k for k in range(len(rows)) if k != leave]
                gram = kernel[items[rest]][:, items[rest]] + strength * torch.eye(len(rest), dtype=torch.float64)
                alpha = torch.linalg.solve(gram, target[rest])
                expected = kernel[items[leave], items[rest]] @ alpha
                assert float(left_out[f, rows[leave]]) == pytest.approx(float(expected), abs=1e-4)
            unrated = [i for i in range(ITEMS) if i not in items.tolist()]
            gram = kernel[items][:, items] + strength * torch.eye(len(rows), dtype=torch.float64)
            expected = kernel[unrated][:, items] @ torch.linalg.solve(gram, target)
            got = model.features(torch.full((len(unrated),), u), torch.tensor(unrated))[f]
            torch.testing.assert_close(got.double(), expected, atol=1e-4, rtol=1e-4)


def test_a_history_given_anew_predicts_the_same(model: KernelRidge) -> None:
    model.fit()
    rows = model.history.rows_of(3)
    items = model.history.item[rows]
    unrated = [i for i in range(ITEMS) if i not in items.tolist()]
    again = model.of_history(3, items, model.residual[rows])
    torch.testing.assert_close(
        again[:, unrated], model.of_catalogue(torch.tensor([3]))[:, 0, unrated], atol=1e-4, rtol=1e-4
    )


def test_users_beyond_the_limit_get_nothing(model: KernelRidge) -> None:
    model.limit = 2
    assert float(model.fit().abs().max()) == 0.0


def test_blocks_of_users_change_nothing(model: KernelRidge, monkeypatch: pytest.MonkeyPatch) -> None:
    model.fit()
    users, items = torch.tensor([5, 0, 3, 5, 6]), torch.tensor([1, 2, 3, 4, 5])
    whole = model.features(users, items)
    monkeypatch.setattr("aanmf.models.aanmfpp.ridge.BLOCK", 20)  # two users at a time in the sum, one in the prediction
    torch.testing.assert_close(model.features(users, items), whole)
    given = {"damping": (15.0, 15.0), "share": 0.0, "limit": 3000}
    again = KernelRidge(model.history, torch.zeros(ITEMS, 1), STRENGTHS, **given)
    monkeypatch.setattr("aanmf.models.aanmfpp.ridge.BLOCK", 10**9)
    once = KernelRidge(model.history, torch.zeros(ITEMS, 1), STRENGTHS, **given)
    torch.testing.assert_close(again.similarity, once.similarity)


def test_users_side_by_side_are_those_one_by_one(model: KernelRidge) -> None:
    left_out = model.fit()
    alpha = model.alpha.clone()
    model.limit = 5  # of ratings in a block, too
    few = model.history.matrix.count <= 5
    with threads(3):
        found = model.fit()
    own = few[model.history.user]
    assert 0 < int(few.sum()) < USERS
    torch.testing.assert_close(found[:, own], left_out[:, own])
    torch.testing.assert_close(model.alpha[:, own], alpha[:, own])
    assert not found[:, ~own].any()
