"""Models that rank: against loops that follow the formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from aanmf.contract import TrainingData
from aanmf.fitted import Fitted
from aanmf.models.catalog import load_object, spec_of
from aanmf.models.closed_form import ListModule
from aanmf.models.histories import Histories, choice_weights
from tests.conftest import small_dataset

TRAINING = Fitted.of(small_dataset()).training
USERS = torch.arange(TRAINING.n_users + 1)


def fit(name: str, training: TrainingData = TRAINING, **settings: object) -> ListModule:
    spec = spec_of(name)
    return load_object(spec.trainer)(spec.module_type, training, spec.config_type.of(settings))[0]


@torch.no_grad()
def scores(module: ListModule) -> np.ndarray:
    return torch.cat([rows for _, rows, _ in module.match(USERS)]).double().numpy()


def matrix(kind: str, training: TrainingData = TRAINING) -> np.ndarray:
    """X, cell by cell: the weight of every rating, on a scale of 1 to 5."""
    x = np.zeros((training.n_users + 1, training.n_items))
    train = training.train
    for u, i, r in zip(train.user.tolist(), train.item.tolist(), train.rating.tolist(), strict=True):
        x[u, i] = {"ones": 1, "rating": r / 5, "liked": min(max((r - 2) / 3, 0.1), 1)}[kind]
    return x


def without_history(x: np.ndarray) -> np.ndarray:
    return x.sum(axis=1) == 0


@pytest.mark.parametrize("kind", ["ones", "rating", "liked"])
def test_weights(kind: str) -> None:
    found = choice_weights(torch.tensor([1.0, 2, 3, 4, 5]), kind, (1, 5))  # type: ignore[arg-type]
    expected = {"ones": [1] * 5, "rating": [0.2, 0.4, 0.6, 0.8, 1], "liked": [0.1, 0.1, 1 / 3, 2 / 3, 1]}[kind]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert choice_weights(torch.full((3,), 2.0), kind, (2, 2)).tolist() == [1, 1, 1]  # type: ignore[arg-type]


def test_histories_are_the_rows_of_the_matrix() -> None:
    x = torch.from_numpy(matrix("liked")).float()
    train = TRAINING.train
    every = Histories.of(train.user, train.item, choice_weights(train.rating, "liked", (1, 5)), len(x))
    some, table = torch.tensor([41, 3, 0, 3]), torch.randn(x.shape[1], 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(every.rows(some).dense(x.shape[1]), x[some])
    torch.testing.assert_close(every.rows(some).times(table), x[some] @ table)
    torch.testing.assert_close(every.transposed(x.shape[1]).dense(len(x)), x.T)
    torch.testing.assert_close(torch.cat([rows for _, rows in every.gram(x.shape[1])]), x.T @ x)
    assert every.rows(some[:0]).dense(x.shape[1]).shape == (0, x.shape[1])


def test_popularity_counts() -> None:
    x = matrix("rating")
    np.testing.assert_allclose(
        scores(fit("popularity", weights="rating")), np.tile(x.sum(axis=0), (len(x), 1)), rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["ones", "liked"])
@pytest.mark.parametrize(("dropout", "alpha"), [(0.0, 0.0), (0.4, 0.0), (0.4, 0.5)])
def test_ease_is_a_ridge_regression_of_every_item_on_the_others(kind: str, dropout: float, alpha: float) -> None:
    x = matrix(kind)
    count = np.maximum((x > 0).sum(axis=1), 1)
    gram = (x.T / count**alpha) @ x
    b = np.zeros_like(gram)
    for j in range(len(gram)):
        others = [i for i in range(len(gram)) if i != j]
        penalty = np.diag(dropout / (1 - dropout) * gram.diagonal()[others] + 7.0)
        b[others, j] = np.linalg.solve(gram[np.ix_(others, others)] + penalty, gram[others, j])
    expected = x @ b
    expected[without_history(x)] = (x > 0).sum(axis=0)
    module = fit("ease", weights=kind, l2=7.0, dropout=dropout, normalisation=alpha)
    np.testing.assert_allclose(scores(module), expected, atol=2e-5)


def test_dropout_in_expectation() -> None:
    """EDLAE's matrix is a better denoiser of histories with items dropped at random than matrices around it."""
    x, rng, p = matrix("ones"), np.random.default_rng(0), 0.3
    b = fit("ease", weights="ones", l2=1e-3, dropout=p).state_dict()["b"].double().numpy()
    masks = [rng.random(x.shape) > p for _ in range(300)]

    def error(b: np.ndarray) -> float:
        return float(np.mean([((x - (x * mask / (1 - p)) @ b) ** 2).sum() for mask in masks]))

    for _ in range(5):
        step = 0.02 * rng.normal(size=b.shape) * (1 - np.eye(len(b)))
        assert error(b) < min(error(b + step), error(b - step))


def test_ease_covers_the_items_with_most_ratings() -> None:
    x = matrix("liked")
    most = np.sort(np.argsort(-(x > 0).sum(axis=0), kind="stable")[:8])
    found = scores(fit("ease", max_items=8))
    train, place = TRAINING.train, {int(i): at for at, i in enumerate(most)}
    kept = torch.tensor([int(i) in place for i in train.item])
    part = replace(
        train,
        user=train.user[kept],
        item=torch.tensor([place[int(i)] for i in train.item[kept]]),
        rating=train.rating[kept],
    )
    fewer = replace(TRAINING, train=part, items=TRAINING.items.rows(torch.arange(9)))
    known = ~without_history(x)
    np.testing.assert_allclose(found[known][:, most], scores(fit("ease", fewer))[known], atol=1e-5)
    rest = np.setdiff1d(np.arange(x.shape[1]), most)
    assert (found[known][:, rest].max(axis=1) < found[known][:, most].min(axis=1)).all()


@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
def test_item_knn(shrinkage: float) -> None:
    x = matrix("liked")
    norm = np.sqrt((x**2).sum(axis=0))
    cosine = (x.T @ x) / np.maximum(np.outer(norm, norm) + shrinkage, 1e-12)
    np.fill_diagonal(cosine, 0)
    expected = np.zeros_like(x)
    for i in range(len(cosine)):
        nearest = np.argsort(-cosine[i], kind="stable")[:5]
        expected[:, i] = x[:, nearest] @ cosine[i, nearest]
    expected[without_history(x)] = (x > 0).sum(axis=0)
    np.testing.assert_allclose(scores(fit("item-knn", neighbours=5, shrinkage=shrinkage)), expected, atol=1e-5)


def test_ials_solves_users_and_items_in_turn() -> None:
    x, l2, alpha, k = matrix("rating"), 0.05, 0.2, 3
    start = torch.randn(x.shape[1], k, generator=torch.Generator().manual_seed(4)) * 0.1 / k**0.5
    q, p = start.double().numpy(), np.zeros((len(x), k))
    for sweep in range(3):
        for u in range(len(x)):
            own = np.flatnonzero(x[u])
            a = alpha * q.T @ q + l2 * (len(own) + alpha * len(q)) * np.eye(k)
            for i in own:
                a += x[u, i] * np.outer(q[i], q[i])
            p[u] = np.linalg.solve(a, (x[u, own, None] * q[own]).sum(axis=0)) if len(own) else 0
        if sweep == 2:
            break
        for i in range(len(q)):
            own = np.flatnonzero(x[:, i])
            a = alpha * p.T @ p + l2 * (len(own) + alpha * len(p)) * np.eye(k)
            for u in own:
                a += x[u, i] * np.outer(p[u], p[u])
            q[i] = np.linalg.solve(a, (x[own, i, None] * p[own]).sum(axis=0)) if len(own) else 0
    expected = p @ q.T
    expected[without_history(x)] = (x > 0).sum(axis=0)
    settings = {"weights": "rating", "l2": l2, "unobserved": alpha, "factors": k, "sweeps": 2, "seed": 4}
    np.testing.assert_allclose(scores(fit("ials", **settings)), expected, atol=1e-4)


def test_bpr_ranks_items_of_the_own_group_first() -> None:
    """Two groups of users, each of which rates its own half of the items."""
    rng = np.random.default_rng(0)
    rows = [(u, int(i)) for u in range(42) for i in rng.permutation(10)[:6] + 10 * (u % 2)]
    user, item = (torch.tensor(side) for side in zip(*rows, strict=True))
    train = replace(TRAINING.train, user=user, item=item, rating=torch.ones(len(rows)))
    planted = replace(TRAINING, train=train, has_ratings=False)
    found = scores(fit("bpr", planted, factors=4, epochs=60, batch_size=32))
    for u in range(42):
        own = found[u, 10 * (u % 2) : 10 * (u % 2) + 10]
        other = found[u, 10 * (1 - u % 2) : 10 * (1 - u % 2) + 10]
        assert (own[:, None] > other).mean() > 0.95


def test_bpr_folds_in_at_the_minimum_of_its_loss() -> None:
    module, l2 = fit("bpr", factors=4, epochs=5, l2=0.05), 0.05
    learned = {name: each.double().numpy() for name, each in module.state_dict().items()}
    items, q, b = [0, 3, 7], learned["q"], learned["b"][:, 0]
    others = [i for i in range(21) if i not in items]

    def loss(p: np.ndarray) -> float:
        s = q @ p + b
        pairs = [np.logaddexp(0, s[j] - s[i]) for i in items for j in others]
        return float(np.mean(pairs) + l2 * p @ p)

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8})
    with torch.no_grad():
        found = module.match_folded_in(42, None, torch.tensor(items), torch.tensor([5.0, 4.0, 5.0]))[0]
    np.testing.assert_allclose(found, q @ best.x + b, atol=1e-3)


@pytest.mark.parametrize("name", ["popularity", "ease", "item-knn", "ials"])
def test_the_own_history_folded_in_gives_the_own_scores(name: str) -> None:
    module, train = fit(name), TRAINING.train
    for user in (0, 7):
        own = train.user == user
        found = module.match_folded_in(TRAINING.n_users, None, train.item[own], train.rating[own])[0]
        np.testing.assert_allclose(found, scores(module)[user], atol=1e-5)


@pytest.mark.parametrize("name", ["ease", "item-knn", "ials"])
def test_a_new_rating_replaces_the_old_one(name: str) -> None:
    module, train = fit(name), TRAINING.train
    own = train.user == 3
    changed = train.rating.clone()
    changed[own] = 6 - changed[own]
    found = module.match_folded_in(3, None, train.item[own], changed[own])[0]
    alone = module.match_folded_in(TRAINING.n_users, None, train.item[own], changed[own])[0]
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert np.abs(found.numpy() - scores(module)[3]).max() > 1e-3


def test_choices_without_ratings_all_count_one() -> None:
    clicks = replace(TRAINING, train=replace(TRAINING.train, rating=torch.ones(len(TRAINING.train))), has_ratings=False)
    np.testing.assert_array_equal(scores(fit("ease", clicks)), scores(fit("ease", weights="ones")))


def test_damped_means() -> None:
    module = fit("damped-means", damping_items=3.0, damping_users=2.0)
    rows = list(
        zip(TRAINING.train.user.tolist(), TRAINING.train.item.tolist(), TRAINING.train.rating.tolist(), strict=True)
    )
    mu = sum(r for *_, r in rows) / len(rows)
    b_i = [sum(r - mu for _, i, r in rows if i == at) / (sum(i == at for _, i, _ in rows) + 3) for at in range(22)]
    b_u = [
        sum(r - mu - b_i[i] for u, i, r in rows if u == at) / (sum(u == at for u, *_ in rows) + 2) for at in range(43)
    ]
    for user, item in ((0, 0), (5, 7), (42, 3), (1, 21), (42, 21)):
        assert float(module(torch.tensor([user]), torch.tensor([item]))) == pytest.approx(
            mu + b_u[user] + b_i[item], abs=1e-5
        )
