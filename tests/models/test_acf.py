"""ACF against loops over each user's history and each item's components."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from aanmf import RatingDataset
from aanmf.contract import TrainingData
from aanmf.models import acf
from aanmf.models.acf import ACFConfig, ACFModule, softmax_by_row
from tests.models.test_fm import randomised, training

Attention = bool | Literal["uniform"]


def built(training: TrainingData, attention: Attention = True, item_attributes: bool = True) -> ACFModule:
    config = ACFConfig(factors=4, attention_factors=3, attention=attention, item_attributes=item_attributes)
    module = ACFModule(config, training).eval()
    randomised(module)
    return module


def softmax(scores: list[float]) -> np.ndarray:
    power = np.exp(np.array(scores) - max(scores))
    return power / power.sum()


def taste(m: ACFModule, c: TrainingData, user: int, attention: Attention) -> np.ndarray:
    n = {name: p.detach().numpy().astype(float) for name, p in m.named_parameters()}
    history = [int(k) for u, k in zip(c.train.user, c.train.item, strict=True) if u == user]
    if not history:
        return np.zeros(4)
    scores = []
    for k in history:
        hidden = n["of_user.weight"] @ n["p"][user] + n["of_item.weight"] @ n["q"][k] + n["of_rated.weight"] @ n["y"][k]
        if m.components is not None:
            hidden = hidden + n["of_components.weight"] @ component(m, c, n, user, k)
        scores.append(float(n["score.weight"][0] @ np.maximum(hidden + n["bias"], 0)))
    weight = softmax(scores)
    if attention is not True:
        weight = np.full(len(history), len(history) ** (-0.5 if attention is False else -1.0))
    return sum((w * n["y"][k] for w, k in zip(weight, history, strict=True)), np.zeros(4))


def component(m: ACFModule, c: TrainingData, n: dict[str, np.ndarray], user: int, item: int) -> np.ndarray:
    assert m.components is not None
    g, sets = m.components(c.items.vectors).detach().numpy().astype(float), c.items
    slots = [j for j in range(sets.mask.shape[1]) if sets.mask[item, j]]
    if not slots:
        return np.zeros(4)
    values = [g[int(sets.value[item, j])] for j in slots]
    of_user = n["cell.item.weight"] @ n["p"][user] + n["cell.item.bias"]
    scores = [float(n["cell.out.weight"][0] @ np.tanh(n["cell.value.weight"] @ v + of_user)) for v in values]
    weight = softmax(scores) * [float(sets.weight[item, j]) for j in slots]
    return sum((w * v for w, v in zip(weight, values, strict=True)), np.zeros(4))


@pytest.mark.parametrize("item_attributes", [True, False])
@pytest.mark.parametrize("attention", [True, "uniform", False])
def test_prediction_by_naive_loop(small: RatingDataset, attention: Attention, item_attributes: bool) -> None:
    c = training(small)
    m = built(c, attention, item_attributes)
    assert (m.components is not None) == item_attributes
    users, items = torch.tensor([0, 1, 5, 33, 5, 42]), torch.tensor([3, 2, 19, 20, 0, 21])
    expected = []
    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        x = m.p[user].detach().numpy() + taste(m, c, user, attention)
        expected.append(c.mean + m.b_u[user].item() + m.b_i[item].item() + float(m.q[item].detach().numpy() @ x))
    np.testing.assert_allclose(m(users, items).detach(), expected, rtol=1e-4, atol=1e-4)


def test_blocks_of_users_change_nothing(small: RatingDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    m = built(training(small))
    users = torch.arange(43)
    with torch.no_grad():
        whole = m.user_side(users).vector
        monkeypatch.setattr(acf, "BLOCK", 7)
        torch.testing.assert_close(m.user_side(users).vector, whole)


def test_weights_add_up_to_one_for_each_user(small: RatingDataset) -> None:
    m = built(training(small))
    users = torch.tensor([7, 0, 42])
    row, _, alpha = m.rated(users)
    torch.testing.assert_close(torch.zeros(3).index_add(0, row, alpha), torch.tensor([1.0, 1.0, 0.0]))


def test_history_is_of_training_ratings_only(small: RatingDataset) -> None:
    train, test = small.split(test=0.5, seed=0)
    m = built(training(train))
    rated = set(zip(*(each.tolist() for each in (m.history.row, m.history.col)), strict=True))
    assert rated.isdisjoint(zip(test.user.tolist(), test.item.tolist(), strict=True))


def test_gradients() -> None:
    scores = torch.randn(6, dtype=torch.double, requires_grad=True)
    row = torch.tensor([0, 0, 2, 2, 2, 3])
    assert torch.autograd.gradcheck(lambda s: softmax_by_row(s, row, 4), scores)
