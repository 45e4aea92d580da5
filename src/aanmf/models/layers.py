"""The parts of AANMF: attribute embedding, the attention cell (Algorithm 1), sum and pairwise pooling (Eq 4, 6).

Two facts keep attention cheap. W1 [a ; q] = W1a a + W1q q: the first product is needed once per attribute value, the
second once per item, not once per rating. And values are few: where a batch has more (rating, slot) pairs than there
are (item, value) pairs, the scores of all of the latter are computed once and gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from aanmf.contract import embedding, lookup
from aanmf.data.attributes import AttributeSet


class Dropout(nn.Module):
    """While training, drops each unit with probability p and scales the others up by 1 / (1 - p).

    p is rounded to 256ths: a unit takes a random byte, eight of which come from one draw. On a CPU that is many times
    faster than a draw per unit, which took two fifths of the training time.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped = min(max(round(256 * p), 1), 255) if p > 0 else 0  # of 256 values of a byte

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x * self._kept(x) if self.training and self.dropped else x

    def relu(self, x: Tensor) -> Tensor:
        """Dropout of ReLU(x); x may be overwritten."""
        if self.training and self.dropped:
            return DroppedReLU.apply(x, self._kept(x), self._scale)
        return F.relu(x, inplace=not torch.is_grad_enabled())

    @property
    def _scale(self) -> float:
        return 256 / (256 - self.dropped)

    def _kept(self, x: Tensor) -> Tensor:
        """1 / (1 - p) for the units to keep, 0 for the others."""
        draws = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        signed = draws.view(torch.int8)[: x.numel()].view(x.shape).to(x.dtype)  # faster than to compare bytes
        return signed.ge_(self.dropped - 128).mul_(self._scale)


class DroppedReLU(torch.autograd.Function):
    """ReLU(x) * kept in the memory of x: where the result is above 0, its slope is the scale, elsewhere 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        """(...), (...), the value of `kept` where it is not 0 -> (...)."""
        x.clamp_min_(0).mul_(kept)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradient to x."""
        (y,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grad, y, 0).mul_(ctx.scale), None, None


class AttributeEmbedding(nn.Module):
    """The vectors a_v of all attribute values: a free one per label, a projected one per vector."""

    def __init__(self, sets: AttributeSet, factors: int, std: float = 0.1) -> None:
        super().__init__()
        self.weight = embedding(max(1, sets.n_values), factors, std)
        self.projections = nn.ParameterList([embedding(size, factors, std) for size in sets.vector_sizes])
        self.n_values = sets.n_values

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """(V, K): the labels' vectors, then those of every row of every vector attribute."""
        if not vectors:
            return self.weight
        projected = [each @ matrix for each, matrix in zip(vectors, self.projections, strict=True)]
        return torch.cat([self.weight[: self.n_values], *projected])


class AttentionCell(nn.Module):
    """Algorithm 1: lambda_j = softmax_j ReLU(W2 tanh(W1 [a_j ; q_i] + b1) + b2), over the slots that are taken.

    Args:
        factors: K.
        relu: whether the scores go through the ReLU of the paper.
    """

    def __init__(self, factors: int, relu: bool = True) -> None:
        super().__init__()
        self.relu = relu
        self.value = nn.Linear(factors, factors, bias=False)  # W1a
        self.item = nn.Linear(factors, factors)  # W1q, b1
        self.out = nn.Linear(factors, 1)  # W2, b2
        nn.init.ones_(self.out.bias)  # softmax ignores b2, but ReLU does not: start where it has a slope

    def forward(self, values: Tensor, q: Tensor, items: Tensor, sets: AttributeSet) -> Tensor:
        """Attention weights.

        Args:
            values: (V, K) vectors of all attribute values.
            q: (M, K) vectors of all items.
            items: (B,) the item of each rating.
            sets: (B, J) the attribute set of each rating's user.

        Returns:
            (B, J): lambda, 0 where the mask is False; a row without any attribute is all 0.
        """
        if sets.value.numel() > len(values) * len(q) and not sets.vectors:
            cells = (items[:, None] * len(values) + sets.value).view(-1)
            s = self.table(values, q).view(-1).index_select(0, cells).view(sets.value.shape)
        else:
            s = self.scores(self.value(values), sets.value, lookup(self.item, q, items))
        return masked_softmax(s, sets.mask)

    def table(self, values: Tensor, q: Tensor) -> Tensor:
        """s(item, value) of all items and values, (M, V)."""
        s = TanhTable.apply(self.value(values), self.item(q), self.out.weight[0]) + self.out.bias
        return F.relu(s) if self.relu else s

    def scores(self, a: Tensor, index: Tensor, q: Tensor) -> Tensor:
        """s = ReLU(W2 tanh(a + q) + b2) (B, J), from W1a a_v (V, K), which values (B, J), and W1q q_i + b1 (B, K)."""
        s = TanhScore.apply(a, index, q, self.out.weight[0]) + self.out.bias
        return F.relu(s) if self.relu else s


class TanhScore(torch.autograd.Function):
    """w . tanh(a[index] + q): the hot spot of the model, with as few passes over (B, J, K) as can be.

    tanh(a + q) = 1 - 2 r with r = 1 / (1 + e^2a e^2q): the exponentials are needed once per value and once per rating,
    and what is left per slot is a product, a sum and a reciprocal. Slot by slot, so that it stays in the cache.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, index: Tensor, q: Tensor, w: Tensor) -> Tensor:
        """(V, K), (B, J), (B, K), (K,) -> (B, J)."""
        of_value, of_item = _exp2(a), _exp2(q)
        slots = index.T.contiguous()
        r = [of_value.index_select(0, values).mul_(of_item).add_(1).reciprocal_() for values in slots]  # J x (B, K)
        ctx.save_for_backward(slots, w, *r)
        ctx.n_values = len(a)
        if not r:
            return q.new_zeros(index.shape)
        return (w.sum() - torch.stack([each @ (2 * w) for each in r])).T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients to a, q and w; d tanh(a + q) = 4 (r - r^2)."""
        slots, w, *r = ctx.saved_tensors
        grad_a, grad_q = w.new_zeros(ctx.n_values, len(w)), w.new_zeros(len(grad), len(w))
        grad_w = grad.sum().repeat(len(w))
        for values, g, each in zip(slots, grad.T.contiguous(), r, strict=True):
            grad_w -= 2 * (g @ each)
            slope = torch.addcmul(each, each, each, value=-1).mul_(g[:, None])
            grad_a.scatter_add_(0, values[:, None].expand_as(slope), slope)
            grad_q.add_(slope)
        return grad_a.mul_(4 * w), None, grad_q.mul_(4 * w), grad_w


def _exp2(x: Tensor) -> Tensor:
    """e^2x, kept within the numbers there are: tanh(x) is +-1 long before."""
    return (2 * x).clamp_(-80, 80).exp_()


class TanhTable(torch.autograd.Function):
    """w . tanh(a_v + q_i) of every item i and value v, as in `TanhScore`, in blocks of items that stay in the cache.

    The backward pass computes them anew: that is faster than to keep (M, V, K) numbers in memory.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, q: Tensor, w: Tensor) -> Tensor:
        """(V, K), (M, K), (K,) -> (M, V)."""
        of_value, of_item = _exp2(a), _exp2(q)
        ctx.save_for_backward(of_value, of_item, w)
        scores = q.new_empty(len(q), len(a))
        for rows in blocks(q, len(a)):
            r = (of_value * of_item[rows, None]).add_(1).reciprocal_()
            torch.matmul(r, -2 * w, out=scores[rows])
        return scores.add_(w.sum())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients to a, q and w."""
        of_value, of_item, w = ctx.saved_tensors
        grad_a, grad_q, grad_w = torch.zeros_like(of_value), torch.empty_like(of_item), grad.sum().repeat(len(w))
        for rows in blocks(of_item, len(of_value)):
            r = (of_value * of_item[rows, None]).add_(1).reciprocal_()
            grad_w -= 2 * (grad[rows].reshape(-1) @ r.view(-1, len(w)))
            slope = r.addcmul_(r, r, value=-1).mul_(grad[rows][:, :, None])
            grad_a += slope.sum(0)
            torch.sum(slope, 1, out=grad_q[rows])
        return grad_a.mul_(4 * w), grad_q.mul_(4 * w), grad_w


def blocks(q: Tensor, n_values: int) -> list[slice]:
    """Slices of the rows of `q` (M, K) so that an array (rows, n_values, K) stays in a core's cache; one on a GPU."""
    step = len(q) if q.is_cuda else max(1, 2**18 // max(1, n_values * q.shape[1]))
    return [slice(start, start + step) for start in range(0, len(q), max(1, step))]


class DotRows(torch.autograd.Function):
    """x[rows] . z[columns], in blocks, so that what is gathered never leaves the cache."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, z: Tensor, columns: Tensor) -> Tensor:
        """(U, K), (B,), (I, K), (B,) -> (B,)."""
        ctx.save_for_backward(x, rows, z, columns)
        parts = zip(rows.split(step := _rows_in_cache(x)), columns.split(step), strict=True)
        return torch.cat([x.index_select(0, u).mul_(z.index_select(0, i)).sum(1) for u, i in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients to x and z."""
        x, rows, z, columns = ctx.saved_tensors
        grad_x, grad_z, step = torch.zeros_like(x), torch.zeros_like(z), _rows_in_cache(x)
        for u, i, g in zip(rows.split(step), columns.split(step), grad[:, None].split(step), strict=True):
            for at, into, other in ((u, grad_x, z.index_select(0, i)), (i, grad_z, x.index_select(0, u))):
                into.scatter_add_(0, at[:, None].expand_as(other), other.mul_(g))
        return grad_x, None, grad_z, None


def _rows_in_cache(x: Tensor) -> int:
    return 2**40 if x.is_cuda else max(1, 2**17 // max(1, x.shape[1]))


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension where `mask` is True, exactly 0 elsewhere; an empty row gives zeros."""
    if scores.shape[-1] == 0:
        return scores
    lowest = torch.finfo(scores.dtype).min
    # along the first dimension, which is several times faster where slots are few
    return torch.softmax(scores.masked_fill(~mask, lowest).mT.contiguous(), dim=-2).mT * mask


def sum_pooling(p: Tensor, values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """x = p_u + sum_j a~_j, with a~_j = weight_j a_j.

    Args:
        p: (B, K) user vectors.
        values: (V, K).
        index: (B, J) which value.
        weight: (B, J) lambda times the slot's weight.
    """
    return weighted_sum(values, index, weight, p)


def pairwise_pooling(p: Tensor, values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """X = sum_j p_u * a~_j + sum_{j<k} a~_j * a~_k (Eq 4), in O(K J) by Eq 6.

    1/2 [(p + S)^2 - p^2 - sum a~^2] with S = sum a~ is p * S + 1/2 [S^2 - sum a~^2]. Arguments as in `sum_pooling`.
    """
    total = weighted_sum(values, index, weight)
    squares = weighted_sum(values.square(), index, weight.square())
    return p * total + 0.5 * (total.square() - squares)


def weighted_sum(values: Tensor, index: Tensor, weight: Tensor, onto: Tensor | None = None) -> Tensor:
    """sum_j weight_j values[index_j] (B, K), without the (B, J, K) in between; `onto` (B, K) is added to it."""
    if index.shape[1] == 0:
        return values.new_zeros(len(index), values.shape[1]) if onto is None else onto
    weight = weight.to(values.dtype)
    if len(values) <= DENSE_VALUES:  # a (B, V) matrix product beats gathering where values are few
        dense = weight.new_zeros(len(index), len(values)).scatter_add(1, index, weight)
        return dense @ values if onto is None else torch.addmm(onto, dense, values)
    total = F.embedding_bag(index, values, per_sample_weights=weight, mode="sum")
    return total if onto is None else onto + total


DENSE_VALUES = 128
POOLING = {"sum": sum_pooling, "pairwise": pairwise_pooling}
