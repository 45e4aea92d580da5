"""A fixed sparse matrix times a table of vectors: rating histories, and neighbourhoods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.data.scratch import MEMORY, Scratch, picked, places_in_order
from aanmf.models.kernels import differentiable_once


@dataclass(frozen=True)
class Entries:
    """Some entries of a sparse matrix (n, m), in the order of their rows and in that of their columns.

    Attributes:
        col, start, count: (E,) columns, row after row; (n,) where each row starts, and how many entries it has.
        row_t, start_t, count_t: the same of the columns.
        shape: (n, m).
        kept: which of all entries of the matrix they are, True or False in the order of its rows.
        entry_t: (E,) the same as positions there, in the order of the columns.
        scratch: where values are.
    """

    col: Tensor
    start: Tensor
    count: Tensor
    row_t: Tensor
    start_t: Tensor
    count_t: Tensor
    shape: tuple[int, int]
    kept: Tensor
    entry_t: Tensor
    scratch: Scratch

    def values(self, of_all: Tensor) -> tuple[Tensor, Tensor]:
        """Their share of values of all entries (sorted by row), in both orders."""
        of_rows, of_columns = (self.scratch.like(self.entry_t, of_all.dtype) for _ in range(2))
        torch.masked_select(of_all, self.kept, out=of_rows)
        torch.index_select(of_all, 0, self.entry_t, out=of_columns)
        return of_rows, of_columns

    def product(self, table: Tensor, value: Tensor | None = None, value_t: Tensor | None = None) -> Tensor:
        """A @ table (n, K), A with these values in both orders; None: 1."""
        return _Product.apply(table, self, value, value_t, False)

    def product_t(self, table: Tensor, value: Tensor | None = None, value_t: Tensor | None = None) -> Tensor:
        """A^T @ table (m, K)."""
        return _Product.apply(table, self, value, value_t, True)


class SparseMatrix(nn.Module):
    """A (n, m) matrix A of fixed values, to multiply tables (m, K) with.

    Its entries lie sorted by row and, for the gradient A^T g, once more by column, so that both products are
    sums over consecutive entries. That is several times faster than the general sparse formats. Positions are int32:
    16 bytes an entry, 4 more with a value. Nothing of it is saved with a model: it is built from the training ratings.
    """

    row: Tensor
    col: Tensor
    value: Tensor
    start: Tensor
    count: Tensor
    place_t: Tensor
    row_t: Tensor
    start_t: Tensor

    def __init__(
        self, row: Tensor, col: Tensor, value: Tensor | None, shape: tuple[int, int], scratch: Scratch = MEMORY
    ) -> None:
        """Entries value[e] at (row[e], col[e]); None: all are 1, and `value` is empty. Those at one place add up.

        `scratch` is where arrays of a number per entry are.
        """
        super().__init__()
        count, count_t = torch.bincount(row, minlength=shape[0]), torch.bincount(col, minlength=shape[1])
        order = places_in_order(row, count, scratch)
        row, col = (picked(each, order, scratch, torch.int32) for each in (row, col))
        value = torch.empty(0) if value is None else picked(value, order, scratch, torch.float32)
        del order
        place = places_in_order(col, count_t, scratch)
        parts = {"row": row, "col": col, "value": value, "count": count, "start": (count.cumsum(0) - count).int()}
        parts |= {
            "place_t": place,
            "row_t": picked(row, place, scratch),
            "start_t": (count_t.cumsum(0) - count_t).int(),
        }
        for name, part in parts.items():
            self.register_buffer(name, part, persistent=False)
        self.shape, self.scratch = shape, scratch

    def forward(self, table: Tensor, rows: Tensor, value: Tensor | None = None) -> Tensor:
        """(A @ table)[rows] (B, K); `value` replaces the values of the entries (in order of their rows)."""
        if 8 * len(rows) < self.shape[0]:  # a few rows: leave the others alone
            return self._some(table, rows, value)
        return self.product(table, value).index_select(0, rows)

    def product(self, table: Tensor, value: Tensor | None = None, value_t: Tensor | None = None) -> Tensor:
        """A @ table (n, K). Who multiplies often with other values gives them in both orders (see `turned`)."""
        return _Product.apply(table, self, *self._values(value, value_t), False)

    def product_t(self, table: Tensor, value: Tensor | None = None, value_t: Tensor | None = None) -> Tensor:
        """A^T @ table (m, K)."""
        return _Product.apply(table, self, *self._values(value, value_t), True)

    def _values(self, value: Tensor | None, value_t: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Values in both orders, by default those of the matrix."""
        value = self._value(value)
        return value, self.turned(value) if value_t is None and value is not None else value_t

    def _value(self, value: Tensor | None) -> Tensor | None:
        """Values, by default those of the matrix; None: all are 1."""
        return self.value if value is None and len(self.value) else value

    def with_values(self, value: Tensor, columns: int) -> SparseMatrix:
        """Other values at the same places, which are not copied; columns from `columns` on are empty and left out."""
        other = SparseMatrix.__new__(SparseMatrix)
        nn.Module.__init__(other)
        for name, part in self.named_buffers():
            other.register_buffer(name, part, persistent=False)
        other.register_buffer("value", value, persistent=False)
        other.start_t, other.shape, other.scratch = self.start_t[:columns], (self.shape[0], columns), self.scratch
        return other

    def turned(self, value: Tensor) -> Tensor:
        """Values of the entries (sorted by row) in the order of their columns."""
        return torch.index_select(value, 0, self.place_t, out=self.scratch.like(self.place_t, value.dtype))

    def some(self, kept: Tensor) -> Entries:
        """The entries where `kept` (sorted by row) is True; they are picked from both orders, nothing is sorted."""
        kept_t, n = self.turned(kept), int(kept.sum())
        row, col, row_t, turned = (self.scratch.empty(n, dtype=torch.int32, device=kept.device) for _ in range(4))
        for of, some, out in (
            (self.row, kept, row),
            (self.col, kept, col),
            (self.row_t, kept_t, row_t),
            (self.place_t, kept_t, turned),
        ):
            torch.masked_select(of, some, out=out)
        count, count_t = (torch.bincount(at, minlength=m) for at, m in zip((row, col), self.shape, strict=True))
        start, start_t = (each.cumsum(0).sub_(each).int() for each in (count, count_t))
        return Entries(col, start, count, row_t, start_t, count_t, self.shape, kept, turned, self.scratch)

    def entries(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Where the entries of some rows lie, row after row, and where (B,) those of each row start in that list."""
        count = self.count[rows]
        start = count.cumsum(0) - count
        shift = torch.repeat_interleave(self.start[rows] - start, count)
        return torch.arange(len(shift), device=rows.device) + shift, start

    def _some(self, table: Tensor, rows: Tensor, value: Tensor | None) -> Tensor:
        if len(rows) == 0 or table.shape[1] == 0:  # which embedding_bag refuses
            return table.new_zeros(len(rows), table.shape[1])
        rows, back = torch.unique(rows, return_inverse=True)
        entry, start = self.entries(rows)
        value = self._value(value)
        weight = None if value is None else value[entry]
        sums = F.embedding_bag(self.col[entry], table, start, per_sample_weights=weight, mode="sum")
        return sums.index_select(0, back)


class _Product(torch.autograd.Function):
    """A @ table or A^T @ table, with gradient to the table only."""

    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        matrix: SparseMatrix | Entries,
        value: Tensor | None,
        value_t: Tensor | None,
        transposed: bool,
    ) -> Tensor:
        ctx.given = matrix, value, value_t, transposed
        return _sums(table, *ctx.given)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        matrix, value, value_t, transposed = ctx.given
        return _sums(grads[0].contiguous(), matrix, value, value_t, not transposed), None, None, None, None


def _sums(
    table: Tensor, matrix: SparseMatrix | Entries, value: Tensor | None, value_t: Tensor | None, transposed: bool
) -> Tensor:
    if table.shape[1] == 0:  # which embedding_bag refuses
        return table.new_zeros(matrix.shape[transposed], 0)
    if transposed:
        return F.embedding_bag(matrix.row_t, table, matrix.start_t, per_sample_weights=value_t, mode="sum")
    return F.embedding_bag(matrix.col, table, matrix.start, per_sample_weights=value, mode="sum")
