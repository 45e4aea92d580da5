"""Attention cell and poolings against naive loops written from the equations."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aanmf.data.attributes import AttributeSet
from aanmf.models.layers import (
    AttentionCell,
    AttributeEmbedding,
    Dropout,
    masked_softmax,
    pairwise_pooling,
    sum_pooling,
)

K, V, M = 5, 7, 4


@pytest.fixture(autouse=True)
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def random_sets(batch: int, slots: int, empty_row: bool = True) -> AttributeSet:
    value = torch.randint(V, (batch, slots))
    mask = torch.rand(batch, slots) < 0.7
    mask[:, 0] = True
    if empty_row and batch > 1:
        mask[-1] = False
    weight = torch.where(mask, torch.rand(batch, slots) + 0.5, 0.0)
    return AttributeSet(torch.where(mask, value, 0), weight, mask)


def naive_attention(cell: AttentionCell, values, q, items, sets: AttributeSet):
    """Algorithm 1, one rating and one attribute at a time, on concatenated vectors."""
    w1 = np.concatenate([cell.value.weight.detach().numpy(), cell.item.weight.detach().numpy()], axis=1)  # (K, 2K)
    b1, w2, b2 = (t.detach().numpy() for t in (cell.item.bias, cell.out.weight[0], cell.out.bias[0]))
    result = np.zeros(sets.value.shape)
    for b in range(len(items)):
        scores = {}
        for j in range(sets.value.shape[1]):
            if sets.mask[b, j]:
                pair = np.concatenate([values[sets.value[b, j]].detach().numpy(), q[items[b]].detach().numpy()])
                hidden = np.tanh(w1 @ pair + b1)
                scores[j] = max(0.0, float(w2 @ hidden + b2))
        total = sum(math.exp(s) for s in scores.values())
        for j, s in scores.items():
            result[b, j] = math.exp(s) / total
    return result


@pytest.mark.parametrize("batch", [1, 3, 60])  # 60 x 3 slots > 4 items x 7 values: the table of scores is used
def test_attention_is_algorithm_1(batch: int) -> None:
    cell, values, q = AttentionCell(K), torch.randn(V, K), torch.randn(M, K)
    items, sets = torch.randint(M, (batch,)), random_sets(batch, 3)
    assert (batch * 3 > V * M) == (batch == 60)
    expected = naive_attention(cell, values, q, items, sets)
    np.testing.assert_allclose(cell(values, q, items, sets).detach().numpy(), expected, atol=1e-10, rtol=0)


def test_relu_matters_in_the_attention() -> None:
    cell, values, q = AttentionCell(K), torch.randn(V, K), torch.randn(M, K)
    with torch.no_grad():
        cell.out.bias.fill_(-100.0)  # every score is cut off at 0
    lam = cell(
        values, q, torch.arange(M), AttributeSet(torch.arange(4).repeat(4, 1), torch.ones(4, 4), torch.ones(4, 4) > 0)
    )
    np.testing.assert_allclose(lam.detach().numpy(), 0.25, atol=1e-12)


def test_masked_slots_get_exactly_zero_and_rows_sum_to_one() -> None:
    cell, sets = AttentionCell(K), random_sets(30, 4)
    lam = cell(torch.randn(V, K), torch.randn(M, K), torch.randint(M, (30,)), sets)
    assert (lam[~sets.mask] == 0).all()
    np.testing.assert_allclose(lam.sum(1)[:-1].detach().numpy(), 1.0, atol=1e-12)
    assert (lam[-1] == 0).all()  # a user without attributes


@given(st.permutations(range(4)), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_permuting_attributes_permutes_weights(order: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    cell, values, q, items, sets = (
        AttentionCell(K),
        torch.randn(V, K),
        torch.randn(M, K),
        torch.randint(M, (6,)),
        random_sets(6, 4),
    )
    permuted = AttributeSet(sets.value[:, order], sets.weight[:, order], sets.mask[:, order])
    lam, other = cell(values, q, items, sets), cell(values, q, items, permuted)
    np.testing.assert_allclose(other.detach().numpy(), lam[:, order].detach().numpy(), atol=1e-12)


def test_attention_of_no_rating_and_of_no_attribute() -> None:
    cell, values, q = AttentionCell(K), torch.randn(V, K), torch.randn(M, K)
    nobody = AttributeSet(torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool))
    assert cell(values, q, torch.zeros(0, dtype=torch.int64), nobody).shape == (0, 3)
    nothing = AttributeSet(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool))
    assert cell(values, q, torch.zeros(2, dtype=torch.int64), nothing).shape == (2, 0)


def naive_poolings(p, vectors):
    """Eq 4 by the double loop, and the sum."""
    pair = np.zeros(len(p))
    for j in range(len(vectors)):
        pair += p * vectors[j]
        for k in range(j + 1, len(vectors)):
            pair += vectors[j] * vectors[k]
    return p + vectors.sum(0), pair


@pytest.mark.parametrize("n_values", [V, 500])  # few values: a matrix product; many: an embedding bag
def test_poolings_are_equations_4_and_6(n_values: int) -> None:
    values, p = torch.randn(n_values, K), torch.randn(6, K)
    index, weight = torch.randint(n_values, (6, 3)), torch.rand(6, 3)
    added, paired = sum_pooling(p, values, index, weight), pairwise_pooling(p, values, index, weight)
    for b in range(6):
        vectors = (values[index[b]] * weight[b][:, None]).numpy()
        total, eq4 = naive_poolings(p[b].numpy(), vectors)
        eq6 = 0.5 * ((p[b].numpy() + vectors.sum(0)) ** 2 - p[b].numpy() ** 2 - (vectors**2).sum(0))
        np.testing.assert_allclose(added[b].numpy(), total, atol=1e-10)
        np.testing.assert_allclose(paired[b].numpy(), eq4, atol=1e-10)
        np.testing.assert_allclose(paired[b].numpy(), eq6, atol=1e-10)


@pytest.mark.parametrize("batch", [2, 40])
def test_gradients_of_the_attention_cell(batch: int) -> None:
    cell, sets, items = AttentionCell(3), random_sets(batch, 3), torch.randint(M, (batch,))
    names = [name for name, _ in cell.named_parameters()]
    weights = [p.detach().clone().requires_grad_() for p in cell.parameters()]
    values, q = torch.randn(V, 3, requires_grad=True), torch.randn(M, 3, requires_grad=True)

    def f(values, q, *weights):
        return torch.func.functional_call(cell, dict(zip(names, weights, strict=True)), (values, q, items, sets))

    assert torch.autograd.gradcheck(f, (values, q, *weights))


@pytest.mark.parametrize("n_values", [V, 200])
def test_gradients_of_the_poolings(n_values: int) -> None:
    index = torch.randint(n_values, (4, 3))
    p, values = torch.randn(4, 2, requires_grad=True), torch.randn(n_values, 2, requires_grad=True)
    weight = torch.rand(4, 3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: sum_pooling(a[0], a[1], index, a[2]), (p, values, weight))
    assert torch.autograd.gradcheck(lambda *a: pairwise_pooling(a[0], a[1], index, a[2]), (p, values, weight))


def test_masked_softmax_does_not_overflow() -> None:
    scores = torch.tensor([[1000.0, 0.0, 2000.0], [-5000.0, -5000.0, 0.0]])
    mask = torch.tensor([[True, True, False], [True, True, False]])
    np.testing.assert_allclose(masked_softmax(scores, mask).numpy(), [[1, 0, 0], [0.5, 0.5, 0]], atol=1e-12)


def test_masked_softmax_of_no_slot() -> None:
    assert masked_softmax(torch.zeros(2, 0), torch.zeros(2, 0) > 0).shape == (2, 0)


def test_attribute_vectors_are_projected() -> None:
    table = AttributeEmbedding(replace(random_sets(4, 1), vectors=(torch.randn(4, 3),), n_values=2), K)
    vectors = torch.randn(4, 3)
    rows = table((vectors,))
    assert rows.shape == (6, K)
    np.testing.assert_allclose(rows[:2].detach().numpy(), table.weight.detach().numpy())
    np.testing.assert_allclose(rows[2:].detach().numpy(), vectors.numpy() @ table.projections[0].detach().numpy())


def test_sets_from_slots() -> None:
    slots = AttributeSet(torch.tensor([[1, 0]]), torch.tensor([[0.5, 0]]), torch.tensor([[True, False]]))
    sets = slots.rows(torch.tensor([0, 0]))
    assert sets.value.tolist() == [[1, 0], [1, 0]]
    assert sets.mask.dtype == torch.bool


def test_several_vector_attributes_follow_each_other() -> None:
    vectors = torch.randn(4, 3), torch.randn(4, 2)
    table = AttributeEmbedding(replace(random_sets(4, 1), vectors=vectors, n_values=2), K)
    rows = table(vectors)
    assert rows.shape == (10, K)
    for m, start in enumerate((2, 6)):
        expected = vectors[m].numpy() @ table.projections[m].detach().numpy()
        np.testing.assert_allclose(rows[start : start + 4].detach().numpy(), expected, atol=1e-12)


def test_vectors_without_any_label_leave_no_row_for_labels() -> None:
    assert AttributeEmbedding(replace(random_sets(4, 1), vectors=(torch.randn(4, 3),), n_values=0), K)(
        (torch.randn(4, 3),)
    ).shape == (4, K)


def test_untrained_scores_lie_where_relu_has_a_slope() -> None:
    cell = AttentionCell(32)
    assert (cell.table(0.1 * torch.randn(50, 32), 0.1 * torch.randn(20, 32)) > 0).all()


def test_dropout_acts_in_training_only() -> None:
    x, weight, layer = torch.ones(50, 50), torch.eye(50), Dropout(0.5)
    assert (layer(x, weight) == 0).any()
    assert torch.equal(layer.eval()(x, weight), x)
