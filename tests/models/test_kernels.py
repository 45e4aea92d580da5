"""Every fast form against its reference, values and gradients; what the two may differ in, apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from aanmf.data.attributes import AttributeSet
from aanmf.models import kernels
from aanmf.models.kernels import cells, dropout_linear, equal_rows, table_pays, weighted_sum
from aanmf.models.layers import masked_softmax

V, K, M = 7, 5, 4
MANY = kernels.DENSE_VALUES + 1


@pytest.fixture(autouse=True)
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def leaf(*shape: int, factor: float = 1.0) -> Tensor:
    return (factor * torch.randn(*shape)).requires_grad_()


def index(high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape)


def mapped(name: str) -> Callable[..., Tensor]:
    """`lookup` of a linear map, as a function of the map's weight too."""
    kernel = getattr(kernels, name)
    return lambda weight, table, rows: kernel(partial(F.linear, weight=weight), table, rows)


CASES: dict[str, tuple[str, Callable[[], tuple[Any, ...]]]] = {
    "tanh_scores": ("tanh_scores", lambda: (leaf(V, K), index(V, 9, 3), leaf(9, K), leaf(K))),
    "tanh_scores, no rating": ("tanh_scores", lambda: (leaf(V, K), index(V, 0, 3), leaf(0, K), leaf(K))),
    "tanh_scores, no slot": ("tanh_scores", lambda: (leaf(V, K), index(V, 9, 0), leaf(9, K), leaf(K))),
    "tanh_scores, saturated": ("tanh_scores", lambda: (leaf(V, K, factor=99), index(V, 9, 3), leaf(9, K), leaf(K))),
    "tanh_table": ("tanh_table", lambda: (leaf(V, K), leaf(M, K), leaf(K))),
    "tanh_table, saturated": ("tanh_table", lambda: (leaf(V, K, factor=99), leaf(M, K), leaf(K))),
    "weighted_sum": ("weighted_sum", lambda: (leaf(V, K), index(V, 9, 3), leaf(9, 3))),
    "weighted_sum, many values": ("weighted_sum", lambda: (leaf(MANY, K), index(MANY, 9, 3), leaf(9, 3))),
    "weighted_sum, no slot": ("weighted_sum", lambda: (leaf(V, K), index(V, 9, 0), leaf(9, 0))),
    "lookup, large batch": ("lookup", lambda: (leaf(2, K), leaf(M, K), index(M, 9))),
    "lookup, small batch": ("lookup", lambda: (leaf(2, K), leaf(M, K), index(M, 3))),
    "gram": ("gram", lambda: ([torch.randn(5, 11), torch.randn(2, 11)], torch.eye(11) + 1)),
    "gram, one column": ("gram", lambda: ([torch.randn(5, 1)], torch.zeros(1, 1))),
    "gram, no block": ("gram", lambda: ([], torch.eye(3))),
    "affine_layer": ("affine_layer", lambda: (leaf(3, K), leaf(M, K), leaf(M, 2), leaf(2, K))),
    "affine_layer, scale 1": ("affine_layer", lambda: (leaf(3, K), None, leaf(M, 2), leaf(2, K))),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fast_form_equals_its_reference(case: str) -> None:
    name, make = CASES[case]
    fast, reference = (
        mapped(each) if name == "lookup" else getattr(kernels, each) for each in (name, f"{name}_reference")
    )
    given = make()
    leaves = [each for each in given if isinstance(each, Tensor) and each.requires_grad]
    values = [form(*given) for form in (fast, reference)]
    torch.testing.assert_close(values[0], values[1], atol=1e-12, rtol=1e-10)
    if not leaves:  # `gram` is never differentiated
        return
    upstream = torch.randn(values[0].shape)
    gradients = [torch.autograd.grad(value, leaves, upstream, allow_unused=True) for value in values]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-9)


def test_every_fast_form_is_tested() -> None:
    names = {name.removesuffix("_reference") for name in vars(kernels) if name.endswith("_reference")}
    assert names == {name for name, _ in CASES.values()} | {"dropout_linear"}  # random: below


def test_the_table_is_computed_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "CACHE", 2 * V * K)
    test_a_fast_form_equals_its_reference("tanh_table")


def test_kernels_are_differentiable_once_only() -> None:
    a, q, w = leaf(V, K), leaf(M, K), leaf(K)
    (gradient,) = torch.autograd.grad(kernels.tanh_table(a, q, w).square().sum(), a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


class Attributes(torch.nn.Module):
    def forward(self, a: Tensor, at: Tensor, q: Tensor, w: Tensor) -> Tensor:
        lam = masked_softmax(kernels.tanh_scores(a, at, q, w), at > 0)
        return weighted_sum(a, at, lam)


def test_references_take_the_place_of_fast_forms_in_an_exported_graph() -> None:
    given = (torch.randn(V, K), index(V, 9, 3), torch.randn(9, K), torch.randn(K))
    batch = {0: torch.export.Dim("batch")}
    shapes = (None, batch, batch, None)
    graph = torch.export.export(Attributes(), given, dynamic_shapes=shapes, strict=False)
    used = {str(node.target) for node in graph.graph.nodes}
    assert any("tanh" in each for each in used)
    assert not any("scatter_add" in each or "reciprocal" in each for each in used)
    torch.testing.assert_close(graph.module()(*given), Attributes()(*given), atol=1e-12, rtol=0)


@pytest.mark.parametrize("n_values", [V, 500])
def test_weighted_sum_counts_a_value_twice_and_takes_no_slots(n_values: int) -> None:
    values = torch.randn(n_values, K)
    twice = weighted_sum(values, torch.tensor([[3, 3, 0]]), torch.tensor([[0.5, 0.25, 0.0]]))
    np.testing.assert_allclose(twice[0].numpy(), 0.75 * values[3].numpy(), atol=1e-12)
    assert weighted_sum(values, torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0)).tolist() == [[0.0] * K] * 2


def sets(value: list[list[int]], weight: float = 1.0) -> AttributeSet:
    index = torch.tensor(value)
    return AttributeSet(index, torch.full(index.shape, weight), torch.ones(index.shape) > 0)


def test_cells_of_a_table() -> None:
    table = torch.randn(M, V)
    rows, columns = index(M, 9), index(V, 9, 3)
    np.testing.assert_array_equal(cells(table, rows, columns), table[rows[:, None], columns])


def test_a_table_pays_where_slots_outnumber_its_cells() -> None:
    batch = sets([[0, 1, 2]] * 10)
    assert table_pays(batch, 7, 4)  # 28 cells, 30 slots
    assert not table_pays(batch, 6, 5)


def test_equal_rows_are_those_of_one_set_weight_and_mask() -> None:
    rows = sets([[1, 2], [3, 2], [1, 2], [1, 2], [1, 2]])
    rows.weight[3, 1] = 0.5
    rows.mask[4, 1] = False
    groups = sorted(each.tolist() for each in equal_rows(rows))
    assert groups == [[0, 2], [1], [3], [4]]
    assert [each.tolist() for each in equal_rows(sets([[], [], []]))] == [[0, 1, 2]]


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    x = torch.full((400, 503), 2.0, requires_grad=True)
    y = dropout_linear(x, torch.eye(503), None, p)
    dropped = (y == 0).double()
    n = x.numel()
    share = round(256 * p) / 256
    assert abs(dropped.mean().item() - share) < 5 * math.sqrt(share * (1 - share) / n)
    assert abs(dropped[:, :-1].flatten()[:-1].std() - math.sqrt(share * (1 - share))) < 0.01
    neighbours = np.corrcoef(dropped[:, 1:].flatten(), dropped[:, :-1].flatten())[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(n)
    assert set(y.unique().tolist()) == {0.0, 2 / (1 - share)}
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), (y / 2).detach().numpy())


BIASES = {"none": (None, None), "one": ((2,), None), "each": ((9, 2), None), "rows": ((M, 2), (M, 9))}


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", BIASES)
def test_a_layer_behind_dropout_is_that_of_the_units_left(bias: str, relu: bool) -> None:
    shape, rows = BIASES[bias]
    x, weight = leaf(9, K), leaf(2, K)
    b, rows = None if shape is None else leaf(*shape), None if rows is None else index(*rows)
    leaves = [each for each in (x, weight, b) if each is not None]
    for _ in range(5):
        seed = int(torch.randint(2**31, ()))
        torch.manual_seed(seed)
        left = dropout_linear(torch.ones(9, K), torch.eye(K), None, 0.5)  # 0 or 2
        torch.manual_seed(seed)
        values = [dropout_linear(x, weight, b, 0.5, rows=rows, relu=relu)]
        z = F.linear(left * (F.relu(x) if relu else x), weight)
        values.append(z if b is None else z + (b if rows is None else b[rows]))
        torch.testing.assert_close(values[0], values[1], atol=1e-12, rtol=1e-10)
        upstream = torch.randn(9, 2)
        gradients = [torch.autograd.grad(value, leaves, upstream) for value in values]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-9)


def test_no_dropout() -> None:
    x, weight = torch.randn(3, 3), torch.randn(2, 3)
    assert torch.equal(dropout_linear(x, weight, None, 0.0), F.linear(x, weight))
    assert dropout_linear(torch.ones(1000, 100), torch.eye(100), None, 0.001).min() == 0
