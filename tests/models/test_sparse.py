"""The product with a fixed sparse matrix equals the dense one, values and gradients."""

from __future__ import annotations

import pytest
import torch

from aanmf.models.sparse import SparseMatrix


def matrix() -> tuple[SparseMatrix, torch.Tensor]:
    torch.manual_seed(0)
    row, col, value = torch.randint(1, 30, (50,)), torch.randint(7, (50,)), torch.randn(50)  # row 0 is empty
    dense = torch.zeros(30, 7).index_put((row, col), value, accumulate=True)
    return SparseMatrix(row, col, value, (30, 7)), dense


@pytest.mark.parametrize("rows", [[0], [4, 4, 0], list(range(30)), [3] * 40])
def test_rows_of_the_product_and_their_gradient(rows: list[int]) -> None:
    a, dense = matrix()
    index = torch.tensor(rows, dtype=torch.int64)
    table = torch.randn(7, 5, requires_grad=True)
    other = table.detach().clone().requires_grad_()
    weight = torch.randn(len(rows), 5)
    out, expected = a(table, index), (dense @ other)[index]
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(table.grad, other.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [[5], list(range(30))])
def test_other_values(rows: list[int]) -> None:
    a, dense = matrix()
    table = torch.randn(7, 5)
    torch.testing.assert_close(
        a(table, torch.tensor(rows), 2 * a.value), 2 * (dense @ table)[rows], atol=1e-5, rtol=1e-5
    )


def test_no_rows() -> None:
    assert matrix()[0](torch.randn(7, 5), torch.zeros(0, dtype=torch.int64)).shape == (0, 5)


def test_no_entries() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    a = SparseMatrix(none, none, torch.zeros(0), (20, 3))
    assert a(torch.randn(3, 2), torch.tensor([1])).tolist() == [[0, 0]]
    assert a.product(torch.randn(3, 2)).abs().sum() == 0


def test_a_table_without_columns() -> None:
    a, _ = matrix()
    assert a.product(torch.zeros(7, 0)).shape == (30, 0)
    assert a.product_t(torch.zeros(30, 0)).shape == (7, 0)
    assert a(torch.zeros(7, 0), torch.tensor([4, 4])).shape == (2, 0)


def test_some_entries_are_those_of_a_matrix_without_the_others() -> None:
    a, dense = matrix()
    kept = torch.rand(len(a.value), generator=torch.Generator().manual_seed(3)) < 0.4
    some, values = a.some(kept), torch.arange(1.0, len(a.value) + 1)
    expected = torch.zeros_like(dense).index_put_((a.row[kept], a.col[kept]), values[kept], accumulate=True)
    ones = torch.zeros_like(dense).index_put_((a.row[kept], a.col[kept]), torch.ones(int(kept.sum())), accumulate=True)
    tables = torch.randn(7, 3, requires_grad=True), torch.randn(30, 3, requires_grad=True)
    torch.testing.assert_close(some.product(tables[0], *some.values(values)), expected @ tables[0])
    torch.testing.assert_close(some.product_t(tables[1], *some.values(values)), expected.T @ tables[1])
    torch.testing.assert_close(some.product(tables[0]), ones @ tables[0])
    torch.testing.assert_close(some.product_t(tables[1]), ones.T @ tables[1])
    assert torch.equal(some.count, ones.sum(1).long())
    assert torch.equal(some.count_t, ones.sum(0).long())
    weight = torch.randn(30, 3)
    (gradient,) = torch.autograd.grad((some.product(tables[0], *some.values(values)) * weight).sum(), tables[:1])
    torch.testing.assert_close(gradient, expected.T @ weight)
