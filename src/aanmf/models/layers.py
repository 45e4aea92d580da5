"""The parts of AANMF beside the paper: attribute vectors, the attention cell (Algorithm 1), the poolings (Eq 1, 4, 6).

Sizes: B ratings, J attribute slots of a user, V attribute values, M items, K latent factors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.contract import embedding
from aanmf.data.attributes import AttributeSet
from aanmf.models.kernels import cells, dropout_linear, lookup, table_pays, tanh_scores, tanh_table, weighted_sum


class AttributeEmbedding(nn.Module):
    """The vectors a_v of all attribute values: a free one per label, a projected one per given vector."""

    def __init__(self, sets: AttributeSet, factors: int, std: float = 0.1) -> None:
        super().__init__()
        self.weight = embedding(max(1, sets.n_values), factors, std, whole=True)
        self.projections = nn.ParameterList([embedding(size, factors, std, whole=True) for size in sets.vector_sizes])
        self.n_values = sets.n_values

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """(V, K): the labels' vectors, then those of every row of every vector attribute."""
        if not vectors:
            return self.weight
        projected = [each @ matrix for each, matrix in zip(vectors, self.projections, strict=True)]
        return torch.cat([self.weight[: self.n_values], *projected])


class AttentionCell(nn.Module):
    """Algorithm 1: how much each attribute of a user counts for an item.

        V_j = [a_j ; q_i],  v_j = tanh(W1 V_j + b1),  s_j = ReLU(W2 v_j + b2),  lambda = softmax_j(s)

    W1 stands in two halves, W1 [a_j ; q_i] = W1a a_j + W1q q_i: the first product is needed once per attribute value,
    the second once per item.

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
        """The weights lambda (B, J), 0 where the mask is False; a row without any attribute is all 0.

        Args:
            values: (V, K) vectors of all attribute values.
            q: (M, K) vectors of all items.
            items: (B,) the item of each rating.
            sets: (B, J) the attribute set of each rating's user.
        """
        if table_pays(sets, len(values), len(q)):
            s = cells(self.table(values, q), items, sets.value)  # (B, J)
        else:
            a, b = self.value(values), lookup(self.item, q, items)  # W1a a_v (V, K), W1q q_i + b1 (B, K)
            s = self._activate(tanh_scores(a, sets.value, b, self.out.weight[0]))  # (B, J)
        return masked_softmax(s, sets.mask)

    def table(self, values: Tensor, q: Tensor) -> Tensor:
        """The scores s of every item with every attribute value, (M, V)."""
        return self._activate(tanh_table(self.value(values), self.item(q), self.out.weight[0]))

    def _activate(self, s: Tensor) -> Tensor:
        return F.relu(s + self.out.bias) if self.relu else s + self.out.bias


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the slots (B, J) where `mask` is True, exactly 0 elsewhere; an empty row gives zeros."""
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(filled.mT.contiguous(), dim=-2).mT * mask  # along columns: faster where slots are few


def equal_weights(mask: Tensor, summed: bool) -> Tensor:
    """The controls of attention (B, J), without a parameter: 1 / J for each attribute, or with `summed` 1 for each."""
    weight = mask.float()
    return weight if summed else weight / weight.sum(1, keepdim=True).clamp(min=1)


def sum_pooling(p: Tensor, values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """x_ui = p_u + sum_j a~_j, with a~_j = weight_j a_j.

    Args:
        p: (B, K) user vectors.
        values: (V, K) vectors of all attribute values.
        index: (B, J) which value.
        weight: (B, J) lambda times the slot's weight.
    """
    return p + weighted_sum(values, index, weight)


def pairwise_pooling(p: Tensor, values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """x_ui = sum_j p_u * a~_j + sum_{j<k} a~_j * a~_k (Eq 4), in O(K J) by Eq 6. Arguments as in `sum_pooling`.

    With S = sum_j a~_j: 1/2 [(p + S)^2 - p^2 - sum_j a~_j^2] = p * S + 1/2 [S^2 - sum_j a~_j^2].
    """
    total = weighted_sum(values, index, weight)  # S (B, K)
    squares = weighted_sum(values.square(), index, weight.square())  # sum_j a~_j^2 (B, K)
    return p * total + 0.5 * (total.square() - squares)


POOLING = {"sum": sum_pooling, "pairwise": pairwise_pooling}


class Dropout(nn.Module):
    """Drops a share p of the units in front of a dense layer while training."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, rows: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """The layer; see `kernels.dropout_linear`."""
        return dropout_linear(x, weight, bias, self.p if self.training else 0.0, rows=rows, relu=relu)
