"""Fast forms of the equations that training and scoring spend their time in, each with the equation itself beside it.

`tests/models/test_kernels.py` compares values and gradients with the `..._reference` functions; `benchmarks/kernels.py`
measures what each fast form wins. One that wins less than a twentieth of its model's training step is not kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from aanmf.data.attributes import AttributeSet

CACHE = 2**18
"""Numbers of an intermediate array that stay in a core's cache."""
DENSE_VALUES = 128
"""Up to so many attribute values, a sum over attributes is a matrix product with all of them."""
LONG = 200_000
"""Rows of so many scores are searched block by block."""
PANELS = 8
"""Parts in which half of a symmetric matrix is computed: more waste less, but are smaller products."""

P = ParamSpec("P")
R = TypeVar("R")
Backward = TypeVar("Backward", bound=Callable[..., Any])


def fast_form_of(reference: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Marks a fast form of `reference`, which takes its place while a model is exported.

    An exported graph must fit batches of every size and consist of operations that other runtimes have.
    """

    def mark(fast: Callable[P, R]) -> Callable[P, R]:
        @wraps(fast)
        def either(*args: P.args, **kwargs: P.kwargs) -> R:
            return (reference if torch.compiler.is_exporting() else fast)(*args, **kwargs)

        return either

    return mark


def differentiable_once(backward: Backward) -> Backward:
    """torch's `once_differentiable`, which refuses second derivatives, without its change of the type."""
    return cast(Backward, once_differentiable(backward))


# ---------------------------------------------------------------- attention scores (Algorithm 1)


def tanh_scores_reference(a: Tensor, index: Tensor, q: Tensor, w: Tensor) -> Tensor:
    """w . tanh(a[index] + q): (V, K), (B, J), (B, K), (K,) -> (B, J)."""
    return torch.tanh(a[index] + q[:, None]) @ w


@fast_form_of(tanh_scores_reference)
def tanh_scores(a: Tensor, index: Tensor, q: Tensor, w: Tensor) -> Tensor:
    """See `tanh_scores_reference`; with as few passes over (B, J, K) numbers as possible.

    tanh(a + q) = 1 - 2 r with r = 1 / (1 + e^2a e^2q): the exponentials are needed once per value and once per rating,
    which leaves a product, a sum and a reciprocal per slot. Slots are taken one by one, to stay in the cache.
    """
    return _TanhScores.apply(a, index, q, w)


class _TanhScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, index: Tensor, q: Tensor, w: Tensor) -> Tensor:
        of_value, of_item = _exp2(a), _exp2(q)
        slots = index.T.contiguous()
        r = [of_value.index_select(0, values).mul_(of_item).add_(1).reciprocal_() for values in slots]  # J x (B, K)
        ctx.save_for_backward(slots, w, *r)
        ctx.n_values = len(a)
        if not r:
            return q.new_zeros(index.shape)
        return (w.sum() - torch.stack([each @ (2 * w) for each in r])).T

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        """d tanh(a + q) = 4 (r - r^2)."""
        (grad,), (slots, w, *r) = grads, ctx.saved_tensors
        grad_a, grad_q = w.new_zeros(ctx.n_values, len(w)), w.new_zeros(len(grad), len(w))
        grad_w = grad.sum().repeat(len(w))
        for values, g, each in zip(slots, grad.T.contiguous(), r, strict=True):
            grad_w -= 2 * (g @ each)
            slope = torch.addcmul(each, each, each, value=-1).mul_(g[:, None])
            grad_a.scatter_add_(0, values[:, None].expand_as(slope), slope)
            grad_q.add_(slope)
        return grad_a.mul_(4 * w), None, grad_q.mul_(4 * w), grad_w


def tanh_table_reference(a: Tensor, q: Tensor, w: Tensor) -> Tensor:
    """w . tanh(a_v + q_i) of every item i and value v: (V, K), (M, K), (K,) -> (M, V)."""
    return torch.tanh(a + q[:, None]) @ w


@fast_form_of(tanh_table_reference)
def tanh_table(a: Tensor, q: Tensor, w: Tensor) -> Tensor:
    """See `tanh_table_reference`; computed as `tanh_scores` is, in blocks of items.

    Attribute values are few: where a batch has more (rating, slot) pairs than there are (item, value) pairs, this table
    and a look-up cost less than a score per slot. The backward pass computes r again, which is faster than to store it.
    """
    return _TanhTable.apply(a, q, w)


class _TanhTable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, q: Tensor, w: Tensor) -> Tensor:
        of_value, of_item = _exp2(a), _exp2(q)
        ctx.save_for_backward(of_value, of_item, w)
        scores = q.new_empty(len(q), len(a))
        for rows in _blocks(q, len(a)):
            r = (of_value * of_item[rows, None]).add_(1).reciprocal_()
            torch.matmul(r, -2 * w, out=scores[rows])
        return scores.add_(w.sum())

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (grad,), (of_value, of_item, w) = grads, ctx.saved_tensors
        grad_a, grad_q, grad_w = torch.zeros_like(of_value), torch.empty_like(of_item), grad.sum().repeat(len(w))
        for rows in _blocks(of_item, len(of_value)):
            r = (of_value * of_item[rows, None]).add_(1).reciprocal_()
            grad_w -= 2 * (grad[rows].reshape(-1) @ r.view(-1, len(w)))
            slope = r.addcmul_(r, r, value=-1).mul_(grad[rows][:, :, None])
            grad_a += slope.sum(0)
            torch.sum(slope, 1, out=grad_q[rows])
        return grad_a.mul_(4 * w), grad_q.mul_(4 * w), grad_w


def _exp2(x: Tensor) -> Tensor:
    """e^2x, kept within the range of float32: tanh(x) is +-1 long before."""
    return (2 * x).clamp_(-80, 80).exp_()


def _blocks(q: Tensor, n_values: int) -> list[slice]:
    """Slices of the rows of `q` (M, K) so that an array (rows, n_values, K) stays in the cache; one on a GPU."""
    step = len(q) if q.is_cuda else CACHE // max(1, n_values * q.shape[1])
    return [slice(start, start + max(1, step)) for start in range(0, len(q), max(1, step))]


def table_pays(sets: AttributeSet, n_values: int, n_items: int) -> bool:
    """Whether a table (n_items, n_values) has fewer cells than the sets (B, J) have slots; never while exporting."""
    return not (torch.compiler.is_exporting() or sets.vectors) and sets.value.numel() > n_values * n_items


def cells(table: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """table[rows_b, columns_bj] (B, J) of a table (M, V)."""
    flat = (rows[:, None] * table.shape[1] + columns).view(-1)
    return table.reshape(-1).index_select(0, flat).view(columns.shape)


# ---------------------------------------------------------------- sums over attributes, maps of rows, dense layers


def weighted_sum_reference(values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """sum_j weight_j values[index_j]: (V, K), (B, J), (B, J) -> (B, K)."""
    return (weight[..., None] * F.embedding(index, values)).sum(1)


@fast_form_of(weighted_sum_reference)
def weighted_sum(values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """See `weighted_sum_reference`; where values are few, as a (B, V) times (V, K) matrix product."""
    weight = weight.to(values.dtype)
    if len(values) > DENSE_VALUES or index.shape[1] == 0:
        return weighted_sum_reference(values, index, weight)
    return weight.new_zeros(len(index), len(values)).scatter_add_(1, index, weight) @ values


def lookup_reference(function: Callable[[Tensor], Tensor], table: Tensor, rows: Tensor) -> Tensor:
    """function(table[rows]), for a function that maps rows one by one: (M, K), (B,) -> (B, H)."""
    return function(table.index_select(0, rows))


@fast_form_of(lookup_reference)
def lookup(function: Callable[[Tensor], Tensor], table: Tensor, rows: Tensor) -> Tensor:
    """See `lookup_reference`; the function is applied to the table first where the batch is larger."""
    some, rest = fewer(table, rows)
    return function(some) if rest is None else function(some).index_select(0, rest)


def fewer(table: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """What to map row by row, and which rows (B,) to take of it then: `table`, or table[rows] and None if smaller."""
    if torch.compiler.is_exporting() or len(rows) <= len(table):
        return table.index_select(0, rows), None
    return table, rows


def dropout_linear_reference(
    x: Tensor, weight: Tensor, bias: Tensor | None, p: float, *, rows: Tensor | None = None, relu: bool = False
) -> Tensor:
    """W dropout(x) + bias, or W dropout(ReLU(x)) + bias: (B, K), (H, K) -> (B, H).

    `bias` is None, (H,) or (B, H); with `rows` (B,) it is bias[rows] of a table (M, H). Dropout drops each unit with
    probability p and scales the others by 1 / (1 - p).
    """
    z = F.linear(F.dropout(F.relu(x) if relu else x, p), weight)
    return z if bias is None else z + (bias if rows is None else bias.index_select(0, rows))


@fast_form_of(dropout_linear_reference)
def dropout_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, p: float, *, rows: Tensor | None = None, relu: bool = False
) -> Tensor:
    """See `dropout_linear_reference`, with p rounded to 256ths (but never to 0 or 1).

    A unit takes a random byte, and one draw gives eight of them: on a CPU the draws would otherwise take two fifths of
    the training time. W takes the scale, and arrays (B, K) and (B, H) are changed in place, which leaves fewer passes.
    """
    if p == 0:
        return dropout_linear_reference(x, weight, bias, p, rows=rows, relu=relu)
    return _DropoutLinear.apply(x, weight, bias, rows, relu, min(max(round(256 * p), 1), 255))


class _DropoutLinear(torch.autograd.Function):
    """`dropped` of the 256 values of a byte drop a unit."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor | None, relu: bool, dropped: int
    ) -> Tensor:
        draws = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        draws = draws.view(torch.int8)[: x.numel()].view(x.shape)
        ctx.dropped, ctx.scale = dropped, 256 / (256 - dropped)
        ctx.bias = None if bias is None else bias.shape
        scaled, kept = weight * ctx.scale, _where_drawn(x, draws, dropped)
        if relu:
            kept.relu_()
        ctx.save_for_backward(kept, scaled, None if relu else draws, rows)
        if bias is None:
            return kept @ scaled.T
        if rows is None:
            return torch.addmm(bias, kept, scaled.T)
        return bias.index_select(0, rows).addmm_(kept, scaled.T)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None, None]:
        (grad,), (kept, scaled, draws, rows) = grads, ctx.saved_tensors
        grad_x = grad @ scaled
        if draws is None:  # after the ReLU, what is above 0 was kept
            _where_above(grad_x, kept, 0, out=grad_x)
        else:
            grad_x = _where_drawn(grad_x, draws, ctx.dropped)
        grad_bias = None
        if rows is not None:
            grad_bias = grad.new_zeros(ctx.bias).scatter_add_(0, rows[:, None].expand_as(grad), grad)
        elif ctx.bias is not None:
            grad_bias = grad if len(ctx.bias) == 2 else grad.sum(0)
        return grad_x, (grad.T @ kept).mul_(ctx.scale), grad_bias, None, None, None


def _where_drawn(x: Tensor, draws: Tensor, dropped: int) -> Tensor:
    """x where random bytes of its shape are not among the lowest `dropped` of the 256, else 0."""
    chance = draws.to(x.dtype)  # faster than to compare bytes
    return _where_above(x, chance, dropped - 128.5, out=chance)


def _where_above(x: Tensor, at: Tensor, least: float, out: Tensor) -> Tensor:
    """x where `at` > least, else 0, in one pass; `out` may be either of them."""
    return torch.ops.aten.threshold_backward.grad_input(x, at, least, grad_input=out)


# ---------------------------------------------------------------- scores of a whole catalogue


def affine_layer_reference(p: Tensor, scale: Tensor | None, shift: Tensor, weight: Tensor) -> Tensor:
    """W (p_u * scale_i) + shift_i of every user and item: (b, K), (M, K), (M, H), (H, K) -> (b, M, H).

    A scale of None is 1 everywhere.
    """
    return (p[:, None] * (torch.ones_like(p[:1]) if scale is None else scale)) @ weight.T + shift


@fast_form_of(affine_layer_reference)
def affine_layer(p: Tensor, scale: Tensor | None, shift: Tensor, weight: Tensor) -> Tensor:
    """See `affine_layer_reference`; without an array (b, M, K) in between."""
    if scale is None:
        return (p @ weight.T)[:, None] + shift
    return torch.baddbmm(shift, scale.expand(len(p), -1, -1), (p[:, None] * weight).mT)


def equal_rows(sets: AttributeSet) -> list[Tensor]:
    """Positions grouped by equal attribute sets."""
    key = torch.cat([sets.value.double(), sets.weight.double(), sets.mask.double()], dim=1)
    if key.shape[1] == 0:
        return [torch.arange(len(key), device=key.device)]
    _, group, count = torch.unique(key, dim=0, return_inverse=True, return_counts=True)
    return list(torch.argsort(group, stable=True).split(count.tolist()))


def gram_reference(blocks: Iterable[Tensor], total: Tensor) -> Tensor:
    """total (m, m), which is symmetric, plus the sum of x'x over blocks x (n, m) of rows."""
    for x in blocks:
        total = total + x.T @ x
    return total


@fast_form_of(gram_reference)
def gram(blocks: Iterable[Tensor], total: Tensor) -> Tensor:
    """See `gram_reference`; of the two halves that mirror each other only one is computed."""
    total = total.clone()
    size = max(1, -(-len(total) // PANELS))
    for x in blocks:
        for first in range(0, len(total), size):
            total[first : first + size, first:].addmm_(x[:, first : first + size].T, x[:, first:])
    return total.triu_().add_(total.triu(1).T)


def columns_of(result: Tensor) -> Iterator[slice]:
    """Slices of the columns of a matrix (b, m) of which some intermediate arrays stay in the cache; one on a GPU."""
    rows, m = result.shape
    width = max(1, m if result.is_cuda else CACHE // (4 * max(1, rows)))
    for start in range(0, m, width):
        yield slice(start, min(start + width, m))


def best_of(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n highest scores of every row (b, m), best first, and where they are: `torch.topk`, faster for long rows.

    The n highest numbers lie in the n blocks with the highest maxima, so only these are searched.

    Example:
        >>> best_of(torch.arange(500_000.0)[None], 2)[1].tolist()
        [[499999, 499998]]
    """
    rows, m = scores.shape
    if scores.is_cuda or m < LONG or 16 * n > m or not n:
        return torch.topk(scores, n)
    size = round(math.sqrt(m / n))  # then maxima and blocks have as many numbers each, sqrt(n m)
    blocks = m // size
    whole = scores[:, : blocks * size].view(rows, blocks, size)
    chosen = whole.amax(2).topk(n, sorted=False).indices
    among = whole.gather(1, chosen[..., None].expand(rows, n, size)).flatten(1)
    place = (chosen[..., None] * size + torch.arange(size)).flatten(1)
    rest = torch.arange(blocks * size, m).expand(rows, -1)
    among, place = torch.cat([among, scores[:, blocks * size :]], dim=1), torch.cat([place, rest], dim=1)
    values, found = among.topk(n)
    return values, place.gather(1, found)
