"""The whole forward pass of AANMF, and its catalogue scores, against a per-rating loop."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from aanmf.contract import Ratings, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.models.aanmf import AANMFConfig, AANMFModule
from aanmf.models.mf import MFConfig, MFModule

N_USERS, N_ITEMS, N_VALUES, K = 9, 6, 8, 4


def training(vectors: bool = False) -> TrainingData:
    rng = np.random.default_rng(1)
    mask = rng.random((N_USERS + 1, 3)) < 0.7
    mask[-1] = False
    value = np.where(mask, rng.integers(N_VALUES, size=mask.shape), 0)
    value[3], mask[3] = value[2], mask[2]  # two users share their attributes
    weight = np.where(mask, 1 / np.sqrt(2), 0).astype(np.float32)
    extra: tuple[torch.Tensor, ...] = ()
    if vectors:
        own = N_VALUES + np.arange(N_USERS + 1)[:, None]
        own[-1] = 0
        present = np.ones((N_USERS + 1, 1), bool)
        present[-1] = False
        value, mask = np.concatenate([value, own], 1), np.concatenate([mask, present], 1)
        weight = np.concatenate([weight, present.astype(np.float32)], 1)
        extra = (torch.from_numpy(rng.normal(size=(N_USERS, 2)).astype(np.float32)),)
    users = AttributeSet(torch.from_numpy(value), torch.from_numpy(weight), torch.from_numpy(mask), extra, N_VALUES)
    items = AttributeSet(
        torch.zeros(N_ITEMS + 1, 0, dtype=torch.int64),
        torch.zeros(N_ITEMS + 1, 0),
        torch.zeros(N_ITEMS + 1, 0, dtype=torch.bool),
    )
    user, item = rng.integers(N_USERS, size=30), rng.integers(N_ITEMS, size=30)
    train = Ratings.of(user, item, rng.uniform(1, 5, size=30).astype(np.float32))
    return TrainingData(users, items, (1, 5), train)


def module(vectors: bool = False, **settings) -> AANMFModule:
    torch.manual_seed(0)
    built = (
        AANMFModule(AANMFConfig(factors=K, init_std=1.0, dropout=0.0, **settings), training(vectors)).double().eval()
    )
    return built


def naive(m: AANMFModule, user: int, item: int, vectors: bool) -> float:
    """The spec, step by step, in numpy."""
    n = {name: p.detach().numpy() for name, p in m.named_parameters()}
    p, q = n["p"][user], n["q"][item]
    values = n["a.weight"]
    if vectors:
        values = np.concatenate([values, m.sets.vectors[0].numpy() @ n["a.projections.0"]])
    index, weight, mask = (t[user].numpy() for t in (m.sets.value, m.sets.weight, m.sets.mask))
    a = [values[index[j]] for j in range(len(index)) if mask[j]]
    w = [weight[j] for j in range(len(index)) if mask[j]]
    lam = naive_attention(m, n, a, q)
    weighted = [lam_j * wj * v for lam_j, wj, v in zip(lam, w, a, strict=True)] if a else []
    if m.config.pooling == "sum":
        x = p + sum(weighted, np.zeros(K))
    else:
        x = sum((p * v for v in weighted), np.zeros(K))
        x = x + sum((v * u for v, u in itertools.combinations(weighted, 2)), np.zeros(K))
    if m.config.interaction == "concat":
        first = np.concatenate([n["first.weight"], n["from_q.weight"]], axis=1)
        z = first @ np.concatenate([x, q]) + n["first.bias"]
    else:
        z = n["first.weight"] @ (x * q) + n["first.bias"]
    for layer in range(len(m.upper)):
        z = n[f"upper.{layer}.weight"] @ np.maximum(z, 0) + n[f"upper.{layer}.bias"]
    return float(z[0])


def naive_attention(m: AANMFModule, n: dict[str, np.ndarray], a: list[np.ndarray], q: np.ndarray) -> np.ndarray:
    """lambda of the attributes that a user has, by Algorithm 1, or as its controls."""
    if m.config.attention is not True:
        return np.ones(len(a)) / (len(a) if m.config.attention == "uniform" else 1)
    w1 = np.concatenate([n["cell.value.weight"], n["cell.item.weight"]], axis=1)
    s = [
        max(
            0.0,
            (
                n["cell.out.weight"] @ np.tanh(w1 @ np.concatenate([v, q]) + n["cell.item.bias"]) + n["cell.out.bias"]
            ).item(),
        )
        for v in a
    ]
    e = np.exp(s)
    return e / e.sum()


@pytest.mark.parametrize("attention", ["uniform", False])
@pytest.mark.parametrize("pooling", ["sum", "pairwise"])
def test_controls_of_attention_are_the_spec_with_equal_weights(pooling: str, attention: bool | str) -> None:
    m = module(pooling=pooling, attention=attention)
    pairs = list(itertools.product(range(N_USERS + 1), range(N_ITEMS)))
    users, items = (torch.tensor(side) for side in zip(*pairs, strict=True))
    expected = np.array([naive(m, u, i, False) for u, i in pairs])
    with torch.no_grad():
        np.testing.assert_allclose(m(users, items).numpy(), expected, atol=1e-6, rtol=0)
        scores = torch.empty(N_USERS + 1, N_ITEMS, dtype=torch.float64)
        for part, found in m.catalogue(torch.arange(N_USERS + 1)):
            scores[part] = found
        np.testing.assert_allclose(scores.reshape(-1).numpy(), expected, atol=1e-6, rtol=0)
        total = m.attention(users, items).sum(1).numpy()
    count = m.sets.mask[users].sum(1).numpy()
    np.testing.assert_allclose(total, np.minimum(count, 1) if attention == "uniform" else count, atol=1e-6)


SHAPES = list(itertools.product(["sum", "pairwise"], ["concat", "product"], [(), (5,), (6, 3)], [False, True]))


@pytest.mark.parametrize(("pooling", "interaction", "layers", "vectors"), SHAPES)
def test_forward_is_the_spec(pooling: str, interaction: str, layers: tuple[int, ...], vectors: bool) -> None:
    m = module(vectors, pooling=pooling, interaction=interaction, layers=layers)
    pairs = list(itertools.product(range(N_USERS + 1), range(N_ITEMS)))
    users, items = (torch.tensor(side) for side in zip(*pairs, strict=True))
    expected = [naive(m, u, i, vectors) for u, i in pairs]
    np.testing.assert_allclose(m(users, items).detach().numpy(), expected, atol=1e-10, rtol=0)
    np.testing.assert_allclose(m(users[7:8], items[7:8]).detach().numpy(), expected[7:8], atol=1e-10, rtol=0)
    assert m(users[:0], items[:0]).shape == (0,)


@pytest.mark.parametrize(("pooling", "interaction", "layers", "vectors"), SHAPES)
def test_catalogue_equals_forward(pooling: str, interaction: str, layers: tuple[int, ...], vectors: bool) -> None:
    m = module(vectors, pooling=pooling, interaction=interaction, layers=layers)
    users = torch.tensor([2, 0, 3, N_USERS, 2])
    seen = torch.full((5, N_ITEMS), torch.nan, dtype=torch.float64)
    with torch.no_grad():
        for part, scores in m.catalogue(users):
            seen[part] = scores
        for row, user in enumerate(users):
            expected = m(user.expand(N_ITEMS), torch.arange(N_ITEMS))
            np.testing.assert_allclose(seen[row].numpy(), expected.numpy(), atol=1e-10)


def test_catalogue_of_a_new_user_by_his_attributes() -> None:
    m = module()
    sets = AttributeSet(torch.tensor([[1, 5]]), torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 2) > 0)
    with torch.no_grad():
        (_, scores), *_ = m.catalogue(torch.tensor([N_USERS]), sets)
        expected = m(
            torch.full((N_ITEMS,), N_USERS), torch.arange(N_ITEMS), sets.rows(torch.zeros(N_ITEMS, dtype=torch.int64))
        )
    np.testing.assert_allclose(scores[0].numpy(), expected.numpy(), atol=1e-10)
    assert not np.allclose(
        scores[0].numpy(), m(torch.full((N_ITEMS,), N_USERS), torch.arange(N_ITEMS)).detach().numpy()
    )


@pytest.mark.parametrize(
    ("pooling", "interaction"), list(itertools.product(["sum", "pairwise"], ["concat", "product"]))
)
def test_gradients_of_the_whole_model(pooling: str, interaction: str) -> None:
    m = module(pooling=pooling, interaction=interaction, layers=(3,))
    names, weights = zip(*[(n, p.detach().clone().requires_grad_()) for n, p in m.named_parameters()], strict=True)
    users, items = torch.tensor([0, 2, 5]), torch.tensor([1, 4, 4])

    def f(*weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(m, dict(zip(names, weights, strict=True)), (users, items))

    assert torch.autograd.gradcheck(f, weights)


def test_dropout_acts_in_training_only() -> None:
    m = AANMFModule(AANMFConfig(factors=K, dropout=0.5, init_std=1.0), training())
    users, items = torch.arange(5), torch.arange(5)
    assert not torch.equal(m.train()(users, items), m(users, items))
    assert torch.equal(m.eval()(users, items), m(users, items))


def test_settle_gives_the_mean_to_those_without_ratings() -> None:
    m = module()
    rated_users, rated_items = torch.ones(N_USERS + 1) > 0, torch.ones(N_ITEMS + 1) > 0
    rated_users[[2, N_USERS]], rated_items[N_ITEMS] = False, False
    mean = m.p[rated_users].mean(0)
    m.settle(rated_users, rated_items)
    np.testing.assert_allclose(m.p[2].detach().numpy(), mean.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(m.p[N_USERS].detach().numpy(), mean.detach().numpy(), atol=1e-12)


def test_every_weight_is_regularised_once_and_no_bias() -> None:
    m = module()
    groups = list(m.l2_groups())
    named = [id(p) for _, params in groups for p in params]
    assert len(named) == len(set(named))
    left = {n for n, p in m.named_parameters() if id(p) not in named}
    assert left == {"cell.item.bias", "cell.out.bias", "first.bias", "upper.0.bias"}


def test_mf_by_hand() -> None:
    m = MFModule(MFConfig(factors=2), training())
    with torch.no_grad():
        m.p[3], m.q[1] = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0])
        m.b_u[3], m.b_i[1] = 0.25, -0.5
        expected = float(m.mu) + 0.25 - 0.5 + 0.5 - 2.0
        assert float(m(torch.tensor([3]), torch.tensor([1]))) == pytest.approx(expected, abs=1e-6)
        (_, scores), *_ = m.catalogue(torch.tensor([3]))
        pairs = m(torch.full((N_ITEMS,), 3), torch.arange(N_ITEMS))
    np.testing.assert_allclose(scores[0].numpy(), pairs.numpy(), atol=1e-6)


@pytest.mark.parametrize(("pooling", "interaction", "layers", "vectors"), SHAPES)
def test_catalogue_of_new_users_in_every_shape(
    pooling: str, interaction: str, layers: tuple[int, ...], vectors: bool
) -> None:
    m = module(vectors, pooling=pooling, interaction=interaction, layers=layers)
    users, sets = torch.tensor([N_USERS, 1, N_USERS, N_USERS]), m.sets.rows(torch.tensor([0, 2, 4, N_USERS]))
    seen = torch.full((4, N_ITEMS), torch.nan, dtype=torch.float64)
    with torch.no_grad():
        for part, scores in m.catalogue(users, sets):
            seen[part] = scores
        for row in range(4):
            every = torch.full((N_ITEMS,), row)
            expected = m(users[every], torch.arange(N_ITEMS), sets.rows(every))
            np.testing.assert_allclose(seen[row].numpy(), expected.numpy(), atol=1e-10)


def test_catalogue_of_a_group_larger_than_a_block() -> None:
    m = module(pooling="pairwise")
    users = torch.tensor([2, 3]).repeat(1000)  # they share their attributes
    seen = torch.full((2000, N_ITEMS), torch.nan, dtype=torch.float64)
    with torch.no_grad():
        blocks = list(m.catalogue(users))
        for part, scores in blocks:
            seen[part] = scores
        expected = torch.stack([m(torch.full((N_ITEMS,), user), torch.arange(N_ITEMS)) for user in (2, 3)])
    assert len(blocks) > 1
    np.testing.assert_allclose(seen.numpy(), expected.repeat(1000, 1).numpy(), atol=1e-10)


@pytest.mark.parametrize(
    ("weight", "taken"),
    [
        ([[1.0, 1.0], [1.0, 0.5]], [[True, True], [True, True]]),  # equal values, other weights
        ([[0.0, 1.0], [0.0, 1.0]], [[True, True], [False, True]]),  # a number at its mean is not a missing one
    ],
)
def test_catalogue_tells_sets_apart_that_share_their_values(weight, taken) -> None:
    m = module()
    sets = AttributeSet(torch.tensor([[0, 5], [0, 5]]), torch.tensor(weight, dtype=torch.float64), torch.tensor(taken))
    users = torch.tensor([N_USERS, N_USERS])
    with torch.no_grad():
        seen = torch.zeros(2, N_ITEMS, dtype=torch.float64)
        for part, scores in m.catalogue(users, sets):
            seen[part] = scores
        for row in range(2):
            every = torch.full((N_ITEMS,), row)
            expected = m(users[every], torch.arange(N_ITEMS), sets.rows(every))
            np.testing.assert_allclose(seen[row].numpy(), expected.numpy(), atol=1e-10)
    assert not np.allclose(seen[0].numpy(), seen[1].numpy())


@pytest.mark.parametrize(
    ("pooling", "interaction"), list(itertools.product(["sum", "pairwise"], ["concat", "product"]))
)
def test_without_any_attribute_column(
    pooling: Literal["sum", "pairwise"], interaction: Literal["concat", "product"]
) -> None:
    none = AttributeSet(
        torch.zeros(N_USERS + 1, 0, dtype=torch.int64),
        torch.zeros(N_USERS + 1, 0),
        torch.zeros(N_USERS + 1, 0, dtype=torch.bool),
    )
    torch.manual_seed(0)
    config = AANMFConfig(factors=K, init_std=1.0, pooling=pooling, interaction=interaction)
    m = AANMFModule(config, replace(training(), users=none)).double().eval()
    users, items = (torch.tensor(side) for side in zip(*itertools.product([0, 3], range(N_ITEMS)), strict=True))
    expected = [naive(m, u, i, False) for u, i in zip(users.tolist(), items.tolist(), strict=True)]
    with torch.no_grad():
        np.testing.assert_allclose(m(users, items).numpy(), expected, atol=1e-10)
        (_, scores), *_ = m.catalogue(torch.tensor([0, 3]))
    np.testing.assert_allclose(scores.flatten().numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("place", ["x", "q", "hidden"])
def test_dropout_acts_in_front_of_every_layer(place: str) -> None:
    m = AANMFModule(AANMFConfig(factors=K, dropout=0.5, init_std=1.0, layers=(20,)), training()).train()
    assert m.from_q is not None
    with torch.no_grad():  # shut the other ways from input to output
        m.first.bias.fill_(1.0)
        if place != "x":
            m.first.weight.zero_()
        if place != "q":
            m.from_q.weight.zero_()
        if place != "hidden":
            hidden, upper = 20, m.upper[0]
            m.dropout.register_forward_hook(
                lambda _, args, out: upper(args[0].relu()) if args[0].shape[-1] == hidden else out
            )
        outputs = {float(m(torch.tensor([1]), torch.tensor([2]))) for _ in range(20)}
    assert len(outputs) > 1


def test_attention_of_a_pair_is_algorithm_1() -> None:
    m = module(vectors=True)
    users, items = torch.tensor([2, 5, N_USERS]), torch.tensor([3, 0, 1])
    lam = m.attention(users, items).detach().numpy()
    n = {name: p.detach().numpy() for name, p in m.named_parameters()}
    values = np.concatenate([n["a.weight"], m.sets.vectors[0].numpy() @ n["a.projections.0"]])
    for row, (user, item) in enumerate(zip(users, items, strict=True)):
        q = n["q"][item]
        scores = {}
        for j in np.flatnonzero(m.sets.mask[user].numpy()):
            a = values[m.sets.value[user, j]]
            hidden = np.tanh(n["cell.value.weight"] @ a + n["cell.item.weight"] @ q + n["cell.item.bias"])
            scores[j] = np.exp(max(0.0, (n["cell.out.weight"] @ hidden + n["cell.out.bias"]).item()))
        expected = [scores.get(j, 0.0) / sum(scores.values()) if scores else 0.0 for j in range(lam.shape[1])]
        np.testing.assert_allclose(lam[row], expected, atol=1e-10)


def test_settle_gives_items_without_ratings_the_mean() -> None:
    m = module()
    rated_users, rated_items = torch.ones(N_USERS + 1) > 0, torch.ones(N_ITEMS + 1) > 0
    rated_items[[1, N_ITEMS]] = False
    before, mean = m.q.detach().clone(), m.q[rated_items].mean(0).detach()
    m.settle(rated_users, rated_items)
    after = m.q.detach()
    np.testing.assert_allclose(after[[1, N_ITEMS]].numpy(), np.tile(mean.numpy(), (2, 1)), atol=1e-12)
    np.testing.assert_array_equal(after[rated_items].numpy(), before[rated_items].numpy())


def test_starts_at_the_mean_with_embeddings_of_the_stated_spread() -> None:
    torch.manual_seed(0)
    data = training()
    m = AANMFModule(AANMFConfig(factors=50, init_std=3.0), data)
    assert m.state_dict()[f"upper.{len(m.upper) - 1}.bias"].item() == pytest.approx(data.train.mean, abs=1e-6)
    for table in (m.p, m.q, m.a.weight):
        assert float(table.detach().std()) == pytest.approx(3.0, rel=0.15)
