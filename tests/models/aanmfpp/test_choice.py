"""Choice: closed forms against naive loops, lists of new users and items, and what held-out ratings decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from aanmf import AANMFpp, RatingDataset, load_model
from aanmf.contract import Ratings, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.errors import ConfigError
from aanmf.models.aanmfpp import choice as of_choice
from aanmf.models.aanmfpp import stack
from aanmf.models.aanmfpp.attribute_matrix import attribute_matrix
from aanmf.models.aanmfpp.choice import WEIGHTS, ChoiceHead
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.module import AANMFppModule
from tests.conftest import small_dataset

DATA = replace(small_dataset(), rating=small_dataset().rating.round())
N_USERS, N_ITEMS = len(DATA.users), len(DATA.items)
QUICK: dict[str, object] = {"factors": 4, "epochs": 2, "members": 1, "parts": 2, "l2": 5.0}


def fit(data: RatingDataset = DATA, **settings: object) -> AANMFpp:
    return AANMFpp(**{**QUICK, "validation": 0, **settings}).fit(data)


def head_of(model: AANMFpp) -> ChoiceHead:
    assert isinstance(model.module_, AANMFppModule)
    assert model.module_.choice is not None
    return model.module_.choice


@pytest.fixture(scope="module")
def model() -> AANMFpp:
    return fit(match_ratings=1)


@pytest.fixture(scope="module")
def head(model: AANMFpp) -> ChoiceHead:
    return head_of(model)


@pytest.fixture(scope="module")
def tables() -> tuple[np.ndarray, np.ndarray]:
    """Ones and weights (U, I) of the training ratings, from the definition."""
    ones, weights = np.zeros((2, N_USERS, N_ITEMS))
    for u, i, r in zip(DATA.user, DATA.item, DATA.rating, strict=True):
        ones[u, i], weights[u, i] = 1, min(1, max(0.1, (r - 2) / 3))
    return ones, weights


def training_of(n_users: int, n_items: int, rows: list[tuple[int, int, float]]) -> TrainingData:
    """Without attributes."""
    none = (
        AttributeSet(torch.zeros(n + 1, 0).long(), torch.zeros(n + 1, 0), torch.zeros(n + 1, 0) > 0)
        for n in (n_users, n_items)
    )
    user, item, rating = zip(*rows, strict=True)
    train = Ratings(torch.tensor(user), torch.tensor(item), torch.tensor(rating))
    return TrainingData(*none, scale=(min(rating), max(rating)), train=train)


def all_matches(model: AANMFpp, users: Tensor | None = None) -> Tensor:
    users = torch.arange(N_USERS) if users is None else users
    return torch.cat([scores for _, scores, _ in model.module_.match(users)])


# ---------------------------------------------------------------- closed forms


def test_choice_is_the_regression_of_every_item_on_the_others(head: ChoiceHead, tables) -> None:
    ones, _ = tables
    rows = [u for u in range(N_USERS) if ones[u].any()]
    near = head.near.tolist()
    gram = np.zeros((len(near), len(near)))
    for u in rows:
        gram += np.outer(ones[u, near], ones[u, near]) / np.sqrt(ones[u].sum())
    strength = 3 * np.sqrt(len(rows)) * np.trace(gram) / ones[:, near].sum()
    for j in range(len(near)):
        others = [i for i in range(len(near)) if i != j]
        penalised = gram + np.diag(gram.diagonal() + strength)
        expected = np.linalg.solve(penalised[np.ix_(others, others)], gram[others, j])
        np.testing.assert_allclose(head.choice[others, j].float(), expected, atol=2e-4)
    assert (head.choice.diagonal() == 0).all()


def test_taste_is_the_kernel_regression_of_every_item_on_the_others(head: ChoiceHead, tables) -> None:
    ones, weights = tables
    scaled = weights * np.maximum(ones.sum(1, keepdims=True), 1) ** -0.15
    near = head.near.tolist()
    kernel = np.zeros((len(near), len(near)))
    for a, i in enumerate(near):
        for b, j in enumerate(near):
            cos = scaled[:, i] @ scaled[:, j] / np.linalg.norm(scaled[:, i]) / np.linalg.norm(scaled[:, j])
            kernel[a, b] = np.exp(3 * (cos - 1))
    for j in range(len(near)):
        others = [i for i in range(len(near)) if i != j]
        expected = np.linalg.solve(kernel[np.ix_(others, others)] + 0.1 * np.eye(len(others)), kernel[others, j])
        np.testing.assert_allclose(head.taste[others, j].float(), expected, atol=2e-3)


def user_kernel(weights: np.ndarray, left: list[int], right: list[int]) -> np.ndarray:
    damped = weights * np.maximum((weights > 0).sum(0), 1) ** -0.2
    unit = damped / np.maximum(np.linalg.norm(damped, axis=1, keepdims=True), 1e-9)
    return np.array([[np.exp(4 * (unit[u] @ unit[v] - 1)) - np.exp(-4) for v in right] for u in left])


@pytest.mark.parametrize("landmarks", [1000, 12])
def test_alike_is_kernel_ridge_regression(landmarks: int, tables) -> None:
    _, weights = tables
    head = head_of(fit(match_landmarks=landmarks))
    users, marks = head.active.tolist(), head.active[:landmarks].tolist()
    near, own = user_kernel(weights, users, marks), user_kernel(weights, marks, marks)
    if landmarks > len(users):  # then the Nystroem method changes nothing
        expected = near @ np.linalg.solve(own + 0.3 * np.eye(len(marks)), weights[marks])
    else:
        expected = near @ np.linalg.solve(near.T @ near + 0.3 * own, near.T @ weights[users])
    found = head.near_users(head.histories(head.active)) @ head.alike.float()
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_group_is_ridge_regression_on_user_attributes(head: ChoiceHead, tables) -> None:
    _, weights = tables
    users = head.active.tolist()
    a = head.users[users].double().numpy()
    centred, mean = a - a.mean(0), weights[users].mean(0)
    slope = np.linalg.solve(centred.T @ centred + 100 * np.eye(a.shape[1]), centred.T @ (weights[users] - mean))
    found = head.group[0] + head.users @ head.group[1:]
    np.testing.assert_allclose(found[users], mean + centred @ slope, atol=1e-5)


def test_content_leaves_the_item_itself_out(head: ChoiceHead, tables) -> None:
    _, weights = tables
    rated = head.count.nonzero()[:, 0].tolist()
    g = head.items[:, :-1].double().numpy()
    h = head.histories(torch.arange(N_USERS))
    found = (head.read(h, head.users).content @ head.content.T).clamp(min=0)
    for u in range(4):
        for i in (each for each in rated if weights[u, each] == 0):
            hat = 1 / len(rated) + g[rated] @ np.linalg.solve(g[rated].T @ g[rated] + 50 * np.eye(g.shape[1]), g[i])
            expected = hat @ weights[u, rated] / (1 - hat[rated.index(i)])
            assert found[u, i] == pytest.approx(max(0, expected), abs=1e-5)


def check_match(head: ChoiceHead, tables: tuple[np.ndarray, np.ndarray]) -> None:
    ones, weights = tables
    users = torch.tensor([0, 7, N_USERS - 1])
    rating = torch.linspace(1, 5, 3 * N_ITEMS).view(3, N_ITEMS)
    h = head.histories(users)
    found = head(h, head.users[users], rating)
    group = np.maximum(0, (head.group[0] + head.users[users] @ head.group[1:]).numpy())
    popular = weights.sum(0) / len(head.active)
    floor = 0.05 * (group + popular.mean())
    for row, u in enumerate(users.tolist()):
        n = ones[u].sum()
        choice, taste, alike = np.zeros((3, N_ITEMS))
        choice[head.near] = ones[u, head.near] @ head.choice.double().numpy()
        taste[head.near] = weights[u, head.near] @ head.taste.double().numpy()
        like = 1 / (1 + np.exp(-(rating[row].numpy() - DATA.rating.mean()) / (0.5 * DATA.rating.std())))
        alike[head.common] = (head.near_users(h) @ head.alike.float())[row]
        scores = [np.log(np.maximum(0, each) + floor[row]) for each in (choice, taste, alike)]
        small = 0.05 * popular.mean()
        content = (head.read(h, head.users[users]).content @ head.content.T).clamp(min=0)[row].numpy()
        scores += [np.log(each + small) for each in (group[row], content, popular)] + [np.log(like)]
        new, known = np.array(list(WEIGHTS.values())).T
        total = ((5 * new + n * known) / (5 + n)) @ np.array(scores)
        rated = head.count.numpy() > 0
        expected = total[rated] - np.log(np.exp(total[rated]).sum())
        np.testing.assert_allclose(found[row, rated], expected, atol=1e-3)


def test_match_is_the_weighted_sum_of_log_scores(head: ChoiceHead, tables) -> None:
    check_match(head, tables)


@pytest.fixture
def of_many_items(monkeypatch: pytest.MonkeyPatch) -> AANMFpp:
    """As where items are so many that only some of them are compared by users who are alike."""
    monkeypatch.setattr(of_choice, "TABLE", 12 * (N_ITEMS // 3))
    return fit(match_ratings=1, match_landmarks=12)


def test_of_many_items_only_the_most_rated_are_compared_by_users_alike(
    of_many_items: AANMFpp, tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = head_of(of_many_items)
    assert head.alike.shape == (12, N_ITEMS // 3)
    rest = torch.ones(N_ITEMS, dtype=torch.bool).index_fill_(0, head.common, False)
    assert head.count[head.common].min() >= head.count[rest].max()
    monkeypatch.undo()
    whole = head_of(fit(match_ratings=1, match_landmarks=12))
    torch.testing.assert_close(head.alike.float(), whole.alike[:, head.common].float(), atol=1e-3, rtol=1e-3)
    check_match(head, tables)


def test_accounts_of_many_items_are_complete(of_many_items: AANMFpp) -> None:
    head = head_of(of_many_items)
    user = DATA.users.ids.ids[3]
    listed = all_matches(of_many_items, torch.tensor([3]))[0]
    others = [item for item in range(N_ITEMS) if item not in head.common.tolist() and head.count[item] > 0]
    for item in (int(head.common[0]), others[0], others[-1]):
        found = of_many_items.explain(user, DATA.items.ids.ids[item], of="match")
        assert found.base + found.parts["contribution"].sum() == pytest.approx(float(listed[item]), abs=1e-3)


# ---------------------------------------------------------------- lists


def test_users_without_a_history_get_what_their_group_chooses(model: AANMFpp, head: ChoiceHead) -> None:
    new = N_USERS - 1
    assert head.ratings.count[new] == 0
    scores = all_matches(model, torch.tensor([new, new - 1, N_USERS]))
    assert scores.isfinite().all()
    assert not torch.allclose(scores[0], scores[1])  # whose attributes differ
    group = head.group[0] + head.users[new] @ head.group[1:]
    rated = head.count.nonzero()[:, 0]
    assert scores[0, rated].argsort().tolist() == group[rated].argsort().tolist()


def test_folding_in_a_history_gives_the_scores_of_that_user(model: AANMFpp, head: ChoiceHead) -> None:
    user = torch.tensor([3])
    known = head.histories(user)
    rows = model.fitted_.training.train.user == 3
    train = model.fitted_.training.train.take(rows)
    folded = head.history(train.item, train.rating)
    torch.testing.assert_close(head(folded, head.users[user]), head(known, head.users[user]))
    nothing = torch.tensor([]), torch.tensor([])
    again = model.module_.match_folded_in(3, None, nothing[0].long(), nothing[1])[0]
    torch.testing.assert_close(again, all_matches(model, user)[0], atol=0.02, rtol=0)
    of_a_stranger = model.module_.match_folded_in(
        N_USERS, model.fitted_.training.users.rows(user), train.item, train.rating
    )[0]
    torch.testing.assert_close(of_a_stranger, again, atol=0.3, rtol=0)  # the predicted ratings differ


def test_new_ratings_move_the_list(model: AANMFpp) -> None:
    sets = model.fitted_.training.users.rows(torch.tensor([N_USERS]))
    first, second = (
        model.module_.match_folded_in(N_USERS, sets, torch.tensor(items), torch.full((3,), 5.0))[0]
        for items in ([0, 2, 4], [1, 3, 5])
    )
    assert not torch.allclose(first, second, atol=0.01)


def test_items_without_ratings_are_ranked_by_their_attributes() -> None:
    rng = np.random.default_rng(0)
    kinds = np.arange(24) % 2  # item attribute; users of even position choose items of kind 0
    rows = [(u, i) for u in range(30) for i in range(20) if rng.random() < (0.8 if u % 2 == kinds[i] else 0.1)]
    base = training_of(30, 24, [(u, i, 1.0) for u, i in rows])
    sets = AttributeSet(torch.tensor([*kinds, 0])[:, None], torch.ones(25, 1), torch.arange(25)[:, None] < 24, (), 2)
    head = ChoiceHead(AANMFppConfig(), replace(base, items=sets)).fit()
    scores = head(head.histories(torch.arange(30)), head.users[:30])
    assert scores.isfinite().all()
    assert (head.count[20:] == 0).all()
    for u in range(30):
        own, other = scores[u, 20:][kinds[20:] == u % 2], scores[u, 20:][kinds[20:] != u % 2]
        assert own.min() > other.max()
        assert scores[u, 20:].max() < scores[u, :20].max()


@pytest.mark.parametrize("limit", ["match_items", "match_ratings"])
def test_items_beyond_the_limit_are_scored_by_the_other_parts(limit: str) -> None:
    other = head_of(fit(**{limit: 8 if limit == "match_items" else 31}))
    assert 0 < len(other.near) < N_ITEMS
    assert set(other.near.tolist()) == set(other.count.topk(len(other.near)).indices.tolist())
    scores = other(other.histories(torch.arange(N_USERS)), other.users[:N_USERS])
    assert scores.isfinite().all()
    outside = np.setdiff1d(other.count.nonzero()[:, 0].numpy(), other.near.numpy())
    assert scores[:5, outside].std(0).min() > 0  # still personal


def test_without_differences_between_ratings_every_row_is_a_choice() -> None:
    flat = replace(DATA, rating=np.full(len(DATA), 3.0, np.float32), scale=None)
    model = fit(flat, validation=0.2)
    assert (head_of(model).ratings.value == 1).all()
    scores = all_matches(model)
    assert scores.isfinite().all()
    assert scores.exp().sum(1).max() < 1.1


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_twenty_ratings_will_do(validation: float) -> None:
    tiny = DATA.take(np.arange(20))
    assert all_matches(fit(tiny, validation=validation)).isfinite().all()


def test_without_choice_the_ratings_are_the_same() -> None:
    with_, without = (fit(validation=0.2, l2=None, match=match) for match in (True, False))
    np.testing.assert_array_equal(with_.predict_data(DATA), without.predict_data(DATA))
    with pytest.raises(ConfigError, match="match=True"):
        next(without.module_.match(torch.tensor([0])))


def test_saved_and_loaded_lists_are_the_same(model: AANMFpp, tmp_path) -> None:
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert isinstance(again, AANMFpp)
    assert torch.equal(all_matches(again), all_matches(model))


def test_attributes_are_left_out_where_the_settings_say_so() -> None:
    without = head_of(fit(user_attributes=False, item_attributes=False))
    assert without.users.shape == (N_USERS + 1, 0)
    assert without.items.shape == (N_ITEMS, 1)
    scores = without(without.histories(torch.tensor([N_USERS - 1, N_USERS - 2])), without.users[:2])
    torch.testing.assert_close(scores[0], scores[1])


def test_lists_do_not_depend_on_how_much_of_a_table_is_read_at_a_time(model: AANMFpp, monkeypatch) -> None:
    expected = all_matches(model)
    monkeypatch.setattr(of_choice, "CACHE", 3)
    torch.testing.assert_close(all_matches(model), expected, atol=1e-5, rtol=1e-5)


def test_attribute_matrix_holds_values_and_vectors() -> None:
    sets = AttributeSet(
        value=torch.tensor([[0, 3], [2, 4]]),
        weight=torch.tensor([[0.5, 1.0], [1.0, 1.0]]),
        mask=torch.tensor([[True, True], [True, False]]),
        vectors=(torch.tensor([[7.0, 8.0], [9.0, 9.0]]),),
        n_values=3,
    )
    expected = torch.tensor([[0.5, 0, 0, 7, 8], [0, 0, 1, 0, 0]])
    torch.testing.assert_close(attribute_matrix(sets), expected)
    torch.testing.assert_close(attribute_matrix(sets.rows(torch.tensor([1, 0]))), expected[[1, 0]])


# ---------------------------------------------------------------- weights


def candidates_of(training: TrainingData, rows: Tensor) -> Iterator[stack.Candidates]:
    return stack.held_out(AANMFppConfig(), training, rows, None, torch.Generator().manual_seed(0))


def test_held_out_ratings_are_not_seen(monkeypatch, model: AANMFpp) -> None:
    monkeypatch.setattr(stack, "NEW", 0)  # new users show a few of their held-out ratings
    training, rows = model.fitted_.training, torch.arange(0, 120)
    rating = training.train.rating
    liked = rows[rating[rows] > training.mean]
    changed = rating.index_put((liked,), rating[liked.flip(0)])
    assert not torch.equal(changed, rating)
    other = training.with_train(replace(training.train, rating=changed))
    pairs = zip(candidates_of(training, rows), candidates_of(other, rows), strict=True)
    assert all(torch.equal(a.features, b.features) and torch.equal(a.wanted, b.wanted) for a, b in pairs)
    in_view = torch.where(torch.arange(len(rating)) < len(rows), rating, rating.clamp(min=4))
    other = training.with_train(replace(training.train, rating=in_view))
    assert not torch.equal(next(candidates_of(other, rows)).features, next(candidates_of(training, rows)).features)


def test_candidates_are_new_to_their_user(model: AANMFpp) -> None:
    training = model.fitted_.training
    parts = list(candidates_of(training, torch.arange(0, 600, 10)))
    counts = torch.cat([part.count for part in parts])
    assert (counts == 0).any()
    assert ((counts > 0) & (counts < 10)).any()
    for part in parts:
        assert part.features.shape == (len(part.count), N_ITEMS, len(WEIGHTS))
        assert not (part.wanted & ~part.listed).any()
        hidden = (~part.listed).sum(1)
        assert (hidden >= part.count).all()  # what is in view is not listed


def test_planted_weights_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    size = (3000, 40, len(WEIGHTS))
    features = torch.randn(size, generator=generator) * torch.linspace(0.5, 2, len(WEIGHTS))
    start = torch.tensor(list(WEIGHTS.values())).T
    planted = torch.where(start != 0, start + 0.3 * torch.randn(start.shape, generator=generator), 0)
    count = torch.randint(0, 30, (size[0],), generator=generator)
    new = (5 / (5 + count))[:, None, None]
    scores = (features * (new * planted[0] + (1 - new) * planted[1])).sum(2)
    chosen = torch.multinomial(scores.softmax(1), 1, generator=generator)
    wanted = torch.zeros(size[:2], dtype=torch.bool).scatter_(1, chosen, True)
    found = stack.maximise([stack.Candidates(features, count, torch.ones(size[:2]) > 0, wanted)])
    assert (found - planted).abs().max() < 0.12
    assert (start - planted).abs().max() > 0.3
    assert ((found == 0) == (start == 0)).all()


def test_without_held_out_ratings_weights_stay() -> None:
    expected = torch.tensor(list(WEIGHTS.values())).T
    torch.testing.assert_close(stack.maximise([]), expected)
    torch.testing.assert_close(head_of(fit(validation=0)).omega, expected)
    assert not torch.allclose(head_of(fit(validation=0.2)).omega, expected)


def test_lists_are_better_than_the_most_rated_items() -> None:
    rng = np.random.default_rng(1)
    users, items = rng.normal(size=(300, 4)), rng.normal(size=(80, 4))
    score = 1.5 * users @ items.T - np.log(np.arange(80) + 5.0) + rng.gumbel(size=(300, 80))
    chosen = np.argsort(-score, axis=1)[:, :16]
    rows = [(u, int(i), 1.0) for u in range(300) for i in chosen[u, 4:]]
    head = ChoiceHead(AANMFppConfig(), training_of(300, 80, rows)).fit()
    scores = head(head.histories(torch.arange(300)), head.users[:300])
    popular = head.count.float().expand(300, -1)
    seen = torch.zeros(300, 80).index_put_(tuple(torch.tensor(rows)[:, :2].long().T), torch.ones(1)) > 0
    hits = [
        np.mean([np.isin(top, chosen[u, :4]).mean() for u, top in enumerate(lists.masked_fill(seen, -99).topk(10)[1])])
        for lists in (scores, popular)
    ]
    assert hits[0] > 1.3 * hits[1]


@pytest.mark.parametrize("items", [1000, 8])
def test_sparse_products_fit_the_same_tables(items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fit(match_items=items)
    training, config = model.fitted_.training, model.config
    assert isinstance(config, AANMFppConfig)
    dense = ChoiceHead(config, training).fit()
    monkeypatch.setattr("aanmf.models.aanmfpp.choice.SPARSE", 0)
    monkeypatch.setattr("aanmf.models.aanmfpp.choice.gram", lambda *_: pytest.fail("not sparse"))
    sparse = ChoiceHead(config, training).fit()
    for name in ("choice", "taste"):
        torch.testing.assert_close(getattr(sparse, name), getattr(dense, name), atol=1e-3, rtol=1e-2)
