"""Histories against naive loops, and that held-out ratings have no say in them."""

from __future__ import annotations

import pytest
import torch

from aanmf.contract import Ratings
from aanmf.models.aanmfpp.history import RatingHistory, Sampling, Seen, shrinkage

USERS, ITEMS = 6, 5
DAMPING = (3.0, 2.0)


@pytest.fixture
def history() -> RatingHistory:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randperm(USERS * ITEMS, generator=generator)[:17]
    rating = torch.randint(1, 6, (17,), generator=generator).float()
    ratings = Ratings(pairs // ITEMS, pairs % ITEMS, rating)
    return RatingHistory(ratings, (USERS, ITEMS), exponents=(0.7, 0.6))


def naive_offsets(history: RatingHistory, held_out: list[int]) -> tuple[float, list[float], list[float]]:
    rows = [e for e in range(len(history)) if e not in held_out]
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
    held_out = [2, 3, 11]
    seen = history.see(torch.tensor(held_out), DAMPING)
    mu, b_u, b_i = naive_offsets(history, held_out)
    assert float(seen.mean) == pytest.approx(mu, abs=1e-5)
    assert seen.users.offset.tolist() == pytest.approx(b_u, abs=1e-5)
    assert seen.items.offset.tolist() == pytest.approx(b_i, abs=1e-5)
    kept = [e for e in range(17) if e not in held_out]
    assert seen.users.count.tolist() == [sum(int(history.user[e]) == u for e in kept) for u in range(USERS)]
    assert seen.items.count.tolist() == [sum(int(history.item[e]) == i for e in kept) for i in range(ITEMS)]
    for e in range(17):
        left = history.rating[e] - mu - b_u[history.user[e]] - b_i[history.item[e]] if e not in held_out else 0.0
        assert float(seen.users.residual[0][e]) == pytest.approx(float(left), abs=1e-5)


def test_sums_over_histories_are_those_of_a_loop(history: RatingHistory) -> None:
    seen = history.see(torch.tensor([0, 7]), DAMPING)
    rated_items, liked_items, rated_users, liked_users = (torch.randn(n, 3) for n in (ITEMS, ITEMS, USERS, USERS))
    of_users, of_items = torch.zeros(USERS, 3), torch.zeros(ITEMS, 3)
    for e in set(range(17)) - {0, 7}:
        u, i, residual = history.user[e], history.item[e], seen.users.residual[0][e]
        of_users[u] += seen.users.scale[u] * (rated_items[i] + residual * liked_items[i])
        of_items[i] += seen.items.scale[i] * (rated_users[u] + residual * liked_users[u])
    torch.testing.assert_close(seen.users.sum(rated_items, liked_items), of_users)
    torch.testing.assert_close(seen.items.sum(rated_users, liked_users), of_items)


def test_gradients_reach_the_tables(history: RatingHistory) -> None:
    seen = history.see_all(DAMPING)
    table = torch.randn(ITEMS, 3, requires_grad=True)
    seen.users.sum(torch.zeros(ITEMS, 3), table)[2].sum().backward()
    expected = torch.zeros(ITEMS, 3)
    for e in range(17):
        if history.user[e] == 2:
            expected[history.item[e]] += seen.users.scale[2] * seen.users.residual[0][e]
    assert table.grad is not None
    torch.testing.assert_close(table.grad, expected)


def test_held_out_ratings_have_no_say(history: RatingHistory) -> None:
    held = torch.tensor([1, 8, 16])
    before = history.see(held, DAMPING)
    history.rating[held] = torch.tensor([99.0, -50.0, 7.0])  # a leak planted: whoever reads these is caught
    after = history.see(held, DAMPING)
    assert torch.equal(before.mean, after.mean)
    for one, other in ((before.users, after.users), (before.items, after.items)):
        for name in ("offset", "count", "scale"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert all(map(torch.equal, one.residual, other.residual))
    assert not torch.equal(before.mean, history.see_all(DAMPING).mean)


def test_one_user_alone(history: RatingHistory) -> None:
    seen = history.see_all(DAMPING)
    rows = history.rows_of(4)
    assert set(rows.tolist()) == {e for e in range(17) if history.user[e] == 4}
    alone = history.fold_in(seen, history.item[rows], history.rating[rows])
    torch.testing.assert_close(alone.offset, seen.users.offset[4:5])
    torch.testing.assert_close(alone.residual[0], seen.users.residual[0][rows])
    rated, liked = torch.randn(ITEMS, 3), torch.randn(ITEMS, 3)
    torch.testing.assert_close(alone.sum(rated, liked), seen.users.sum(rated, liked)[4:5])


def test_a_new_rating_replaces_the_old_one(history: RatingHistory) -> None:
    rows = history.rows_of(4)
    old, new = int(history.item[rows[0]]), next(i for i in range(ITEMS) if i not in history.item[rows].tolist())
    items, ratings = history.changed(4, torch.tensor([old, new]), torch.tensor([9.0, 8.0]))
    kept = dict(zip(history.item[rows[1:]].tolist(), history.rating[rows[1:]].tolist(), strict=True))
    assert dict(zip(items.tolist(), ratings.tolist(), strict=True)) == {**kept, old: 9.0, new: 8.0}
    assert len(items) == len(rows) + 1


def test_shrinkage_is_one_over_the_root_at_fifty() -> None:
    scale = shrinkage(torch.tensor([0, 49, 199]), 0.7)[:, 0]
    assert float(scale[1]) == pytest.approx(50**-0.5, rel=1e-6)
    assert float(scale[2] / scale[1]) == pytest.approx(4**-0.7, rel=1e-6)


def sums(seen: Seen, tables: list[torch.Tensor]) -> list[torch.Tensor]:
    """Sums over histories and audiences, and their gradients to the tables."""
    y, c, w, d = tables
    x, z = seen.users.sum(y, c), seen.items.sum(w, d)
    return [x.detach(), z.detach(), *torch.autograd.grad((x * torch.arange(1.0, 4)).sum() + z.sum(), tables)]


def test_a_sample_has_the_right_mean_and_leaves_short_histories_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    row = torch.arange(120)
    user = torch.where(row < 100, row // 25, row % 6)  # users 4 and 5 have few ratings
    history = RatingHistory(Ratings(user, row % 5, torch.randn(120, generator=generator)), (6, 5), (0.7, 0.6))
    tables = [torch.randn(n, 3, generator=generator, requires_grad=True) for n in (5, 5, 6, 6)]
    held_out = torch.tensor([0, 1, 2])
    whole = history.see(held_out, DAMPING)
    expected, sampling = sums(whole, tables), Sampling((10, 9), generator)
    assert sampling.pays(whole.users.count, 10)
    assert not sampling.pays(whole.users.count, 20)
    seen, many = whole, []
    for _ in range(600):
        seen = history.see(held_out, DAMPING, sampling)
        assert max(len(seen.items.residual[0]), len(seen.users.residual[0])) < 100
        assert torch.equal(seen.items.count, whole.items.count)
        assert torch.equal(seen.users.offset, whole.users.offset)
        many.append(sums(seen, tables))
    for got, want in zip(zip(*many, strict=True), expected, strict=True):
        mean, error = torch.stack(got).mean(0), torch.stack(got).std(0) / 600**0.5
        assert ((mean - want).abs() < 5 * error + 0.01 * want.abs() + 1e-4).all()
    few = torch.tensor([4, 5])
    torch.testing.assert_close(seen.users.sum(*tables[:2])[few], expected[0][few])
