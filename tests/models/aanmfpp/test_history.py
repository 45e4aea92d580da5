"""Histories against naive loops, and that held-out ratings have no say in them."""

from __future__ import annotations

import pytest
import torch

from aanmf.contract import Ratings
from aanmf.models.aanmfpp.history import RatingHistory, shrinkage

USERS, ITEMS = 6, 5


@pytest.fixture
def history() -> RatingHistory:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randperm(USERS * ITEMS, generator=generator)[:17]
    rating = torch.randint(1, 6, (17,), generator=generator).float()
    ratings = Ratings(pairs // ITEMS, pairs % ITEMS, rating)
    return RatingHistory(ratings, (USERS, ITEMS), damping=(3.0, 2.0), power=(0.7, 0.6))


def naive_offsets(history: RatingHistory, weight: torch.Tensor) -> tuple[float, list[float], list[float]]:
    rows = [e for e in range(len(history)) if weight[e] == 1]
    user, item, rating = history.user.tolist(), history.item.tolist(), history.rating.tolist()
    mu = sum(rating[e] for e in rows) / len(rows)
    b_i = []
    for i in range(ITEMS):
        own = [rating[e] - mu for e in rows if item[e] == i]
        b_i.append(sum(own) / (len(own) + 2.0))
    b_u = []
    for u in range(USERS):
        own = [rating[e] - mu - b_i[item[e]] for e in rows if user[e] == u]
        b_u.append(sum(own) / (len(own) + 3.0))
    return mu, b_u, b_i


def test_offsets_and_residuals_are_those_of_a_loop(history: RatingHistory) -> None:
    weight = torch.ones(17).index_fill_(0, torch.tensor([2, 3, 11]), 0)
    seen = history.see(weight)
    mu, b_u, b_i = naive_offsets(history, weight)
    assert float(seen.mean) == pytest.approx(mu, abs=1e-5)
    assert seen.user_offset.tolist() == pytest.approx(b_u, abs=1e-5)
    assert seen.item_offset.tolist() == pytest.approx(b_i, abs=1e-5)
    for e in range(17):
        left = history.rating[e] - mu - b_u[history.user[e]] - b_i[history.item[e]] if weight[e] else 0.0
        assert float(seen.residual.by_user[e]) == pytest.approx(float(left), abs=1e-5)


def test_sums_over_histories_are_those_of_a_loop(history: RatingHistory) -> None:
    seen = history.see(torch.ones(17).index_fill_(0, torch.tensor([0, 7]), 0))
    items, users = torch.randn(ITEMS, 3), torch.randn(USERS, 3)
    of_users, of_items = torch.zeros(USERS, 3), torch.zeros(ITEMS, 3)
    for e in range(17):
        of_users[history.user[e]] += seen.residual.by_user[e] * items[history.item[e]]
        of_items[history.item[e]] += seen.residual.by_user[e] * users[history.user[e]]
    torch.testing.assert_close(history.of_users(items, seen.residual), of_users)
    torch.testing.assert_close(history.of_items(users, seen.residual), of_items)


def test_gradients_reach_the_tables(history: RatingHistory) -> None:
    seen = history.see(torch.ones(17))
    table = torch.randn(ITEMS, 3, requires_grad=True)
    history.of_users(table, seen.residual)[2].sum().backward()
    expected = torch.zeros(ITEMS, 3)
    for e in range(17):
        if history.user[e] == 2:
            expected[history.item[e]] += seen.residual.by_user[e]
    assert table.grad is not None
    torch.testing.assert_close(table.grad, expected)


def test_held_out_ratings_have_no_say(history: RatingHistory) -> None:
    held = torch.tensor([1, 8, 16])
    weight = torch.ones(17).index_fill_(0, held, 0)
    before = history.see(weight)
    history.rating[held] = torch.tensor([99.0, -50.0, 7.0])  # a leak planted: whoever reads these is caught
    after = history.see(weight)
    for name in ("mean", "user_offset", "item_offset", "user_scale", "item_scale"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name
    assert torch.equal(before.residual.by_user, after.residual.by_user)
    assert torch.equal(before.residual.by_item, after.residual.by_item)
    assert not torch.equal(before.mean, history.see(torch.ones(17)).mean)


def test_one_user_alone(history: RatingHistory) -> None:
    seen = history.see(torch.ones(17))
    rows = history.rows_of(4)
    assert set(rows.tolist()) == {e for e in range(17) if history.user[e] == 4}
    offset, residual = history.offset_of(seen, history.item[rows], history.rating[rows], history.damping)
    torch.testing.assert_close(offset, seen.user_offset[4])
    torch.testing.assert_close(residual, seen.residual.by_user[rows])


def test_shrinkage_is_one_over_the_root_at_fifty() -> None:
    scale = shrinkage(torch.tensor([0, 49, 199]), 0.7)[:, 0]
    assert float(scale[1]) == pytest.approx(50**-0.5, rel=1e-6)
    assert float(scale[2] / scale[1]) == pytest.approx(4**-0.7, rel=1e-6)
