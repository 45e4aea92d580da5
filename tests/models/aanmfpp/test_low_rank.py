"""Kernel ridge of low rank: at full rank, the regressions of a naive kernel of the users of other folds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aanmf.contract import Ratings
from aanmf.models.aanmfpp.history import RatingHistory
from aanmf.models.aanmfpp.low_rank import FOLDS, LowRankRidge, inner_products, orthonormal
from tests.conftest import threads

USERS, ITEMS, STRENGTHS, SHARE = 24, 9, (1.2, 4.0), 0.3


def make(rank: int) -> tuple[LowRankRidge, Tensor]:
    """A ridge, and the attributes of its items."""
    generator = torch.Generator().manual_seed(1)
    pairs = torch.randperm(USERS * ITEMS, generator=generator)[:120]
    rating = torch.randint(1, 6, (120,), generator=generator).float()
    history = RatingHistory(Ratings(pairs // ITEMS, pairs % ITEMS, rating), (USERS, ITEMS), (0.7, 0.6))
    attributes = torch.rand(ITEMS, 3, generator=generator)
    return LowRankRidge(history, attributes, STRENGTHS, damping=(15.0, 15.0), share=SHARE, rank=rank), attributes


def kernel_without(model: LowRankRidge, attributes: Tensor, fold: int) -> Tensor:
    """G (I, I) in float64 by loops over the users of the other folds, who stand for all."""
    h = model.history
    count = torch.bincount(h.item, minlength=ITEMS).double() + 1
    rated, liked = torch.zeros(2, USERS, ITEMS, dtype=torch.float64)
    rated[h.user, h.item], liked[h.user, h.item] = 1.0, model._residual().double()
    others = [u for u in range(USERS) if u % FOLDS != fold]
    both = rated[others].T @ rated[others] + liked[others].T @ liked[others]
    unit = attributes.double() / attributes.double().norm(dim=1, keepdim=True)
    return FOLDS / (FOLDS - 1) * both / (count[:, None] * count).sqrt() + SHARE * (unit @ unit.T + 1)


def test_at_full_rank_values_are_those_of_refits() -> None:
    model, attributes = make(ITEMS)
    left_out = model.fit().double()
    assert float(model.delta.max()) < 1e-4
    for u in range(USERS):
        rows = model.history.rows_of(u)
        items, target = model.history.item[rows], model._residual()[rows].double()
        kernel = kernel_without(model, attributes, u % FOLDS)
        unrated = [i for i in range(ITEMS) if i not in items.tolist()]
        for f, strength in enumerate(STRENGTHS):
            for leave in range(len(rows)):
                rest = [k for k in range(len(rows)) if k != leave]
                gram = kernel[items[rest]][:, items[rest]] + strength * torch.eye(len(rest), dtype=torch.float64)
                expected = kernel[items[leave], items[rest]] @ torch.linalg.solve(gram, target[rest])
                assert float(left_out[f, rows[leave]]) == pytest.approx(float(expected), abs=1e-4)
            gram = kernel[items][:, items] + strength * torch.eye(len(rows), dtype=torch.float64)
            expected = kernel[unrated][:, items] @ torch.linalg.solve(gram, target)
            got = model.features(torch.full((len(unrated),), u), torch.tensor(unrated, dtype=torch.int64))[f]
            torch.testing.assert_close(got.double(), expected, atol=1e-4, rtol=1e-4)


def test_the_diagonal_is_exact_at_any_rank() -> None:
    model, attributes = make(3)
    model.fit()
    for fold in range(FOLDS):
        diagonal = model.z[fold].square().sum(1) + model.delta[fold]
        torch.testing.assert_close(
            diagonal.double(), kernel_without(model, attributes, fold).diagonal(), rtol=1e-4, atol=0
        )
        assert (model.delta[fold] > 0).any()


def test_leave_one_out_values_are_those_of_refits_at_any_rank() -> None:
    model, _ = make(3)
    left_out = model.fit()
    rows = model.history.rows_of(5)
    items = model.history.item[rows]
    for leave in range(len(rows)):
        rest = torch.tensor([k for k in range(len(rows)) if k != leave])
        again = model.of_history(5, items[rest], model._residual()[rows][rest])
        torch.testing.assert_close(again[:, items[leave]], left_out[:, rows[leave]], atol=1e-4, rtol=1e-4)


def test_all_ways_to_predict_agree() -> None:
    model, _ = make(4)
    model.fit()
    users, items = torch.tensor([5, 0, 3, 5, 6, USERS - 1]), torch.tensor([1, 2, 3, 4, 5, 0])
    pairs, every = model.features(users, items), model.of_catalogue(users)
    torch.testing.assert_close(pairs, every[:, torch.arange(6), items], atol=1e-5, rtol=1e-5)
    for at, (u, i) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        rows = model.history.rows_of(u)
        rated, residual = model.history.item[rows], model._residual()[rows]
        torch.testing.assert_close(model.of_history(u, rated, residual)[:, i], pairs[:, at], atol=1e-4, rtol=1e-4)
        for changed in (False, True):
            total = model.terms(u, i, rated, residual, changed=changed).sum(1)
            torch.testing.assert_close(total, pairs[:, at], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("users", [1, 3])
def test_products_are_those_of_each_vector(users: int) -> None:
    """The two ways round, for few vectors and for many."""
    theta, z = torch.randn(2, users, 5), torch.randn(7, 5)
    got = inner_products(theta, z)
    torch.testing.assert_close(got, torch.einsum("fbr,mr->fbm", theta, z))


def test_the_rank_matters() -> None:
    few, many = make(2)[0], make(5)[0]
    assert not torch.allclose(few.fit(), many.fit(), atol=1e-3)


def test_histories_of_new_users_are_those_of_the_unknown_user() -> None:
    model, _ = make(4)
    model.fit()
    rated, residual = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[0.5, -1.0, 0.2], [1.0, 0.0, -0.7]])
    got = model.of_new_users(torch.tensor([0, 1, 1]), torch.tensor([7, 8, 0]), rated, residual)
    for at, (row, item) in enumerate([(0, 7), (1, 8), (1, 0)]):
        expected = model.of_history(USERS - 1, rated[row], residual[row])[:, item]
        torch.testing.assert_close(got[:, at], expected, atol=1e-4, rtol=1e-4)


def test_what_is_saved_needs_no_second_fit() -> None:
    model, again = make(4)[0], make(4)[0]
    model.fit()
    again.load_state_dict(model.state_dict())
    users = torch.arange(USERS)
    assert torch.equal(model.of_catalogue(users), again.of_catalogue(users))
    before = model.alpha.clone()
    model.fit(torch.tensor([3]))  # some users, with the eigenvectors that are there
    torch.testing.assert_close(model.alpha, before)


def test_users_in_blocks_and_side_by_side_are_those_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, again = make(4)[0], make(4)[0]
    left_out = model.fit()
    monkeypatch.setattr("aanmf.models.aanmfpp.low_rank.SOLVED", 1)  # a user a block
    with threads(3):
        found = again.fit()
    torch.testing.assert_close(found, left_out)
    torch.testing.assert_close(again.alpha, model.alpha)


@pytest.mark.parametrize("size", [1, 4])
def test_columns_are_orthonormal_even_where_nothing_is_left(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 8, generator=generator)).Q
    for x in (torch.randn(12, size, generator=generator), basis[:, :size] * 1e-3, torch.zeros(12, size)):
        both = torch.cat([basis, orthonormal(x, basis)], dim=1)
        torch.testing.assert_close(both.T @ both, torch.eye(8 + size), atol=1e-5, rtol=0)


def test_the_vectors_are_those_of_the_largest_eigenvalues() -> None:
    """In a matrix with three large eigenvalues, and not only those of the first steps."""
    model, attributes = make(3)
    model.fit()
    for fold in range(FOLDS):
        values, vectors = torch.linalg.eigh(kernel_without(model, attributes, fold))
        expected = (vectors[:, -3:] * values[-3:]) @ vectors[:, -3:].T
        torch.testing.assert_close((model.z[fold] @ model.z[fold].T).double(), expected, atol=1e-4, rtol=1e-3)
