"""AANMF, the paper's model: attention cell, sum or pairwise pooling, dense layers, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.contract import BatchConfig, RatingModule, TrainingData, embedding, lookup
from aanmf.data.attributes import AttributeSet
from aanmf.models.layers import POOLING, AttentionCell, AttributeEmbedding, Dropout, masked_softmax, weighted_sum


class AANMFConfig(BatchConfig):
    """Settings of `AANMF`."""

    epochs: int = Field(default=20, ge=1)
    """Most passes over the training ratings; early stopping usually ends before."""
    pooling: Literal["sum", "pairwise"] = "sum"
    """`sum`: x = p + sum a~ (AANMF). `pairwise`: Eq 4 (AANMF+P)."""
    interaction: Literal["concat", "product"] = "concat"
    """What the dense layers see of x_ui and q_i: [x ; q], or x * q (Eq 5 can be read both ways)."""
    layers: tuple[int, ...] = (64,)
    """Widths of the dense ReLU layers below the output unit; `()` for none."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of units dropped in front of each dense layer and the output while training."""
    init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of the initial embeddings."""
    l2: float = Field(default=24.0, ge=0)
    """Penalty on all embedding tables: (l2 / n ratings) * sum of squares."""
    l2_dense: float = Field(default=0.05, ge=0)
    """The same for the weights of the dense layers and of the attention cell: without it they let the
    embeddings escape `l2`."""


class AANMFModule(RatingModule):
    """r_ui = dense([x_ui ; q_i]), x_ui = pooling(p_u, {lambda_j a_j}), lambda = attention cell (Algorithm 1)."""

    def __init__(self, config: AANMFConfig, training: TrainingData) -> None:
        super().__init__()
        k = config.factors
        self.config = config
        self.sets = training.users
        self.p = embedding(training.n_users + 1, k, config.init_std)
        self.q = embedding(training.n_items + 1, k, config.init_std)
        self.a = AttributeEmbedding(training.users, k, config.init_std)
        self.cell = AttentionCell(k)
        self.pooling = POOLING[config.pooling]
        self.dropout = Dropout(config.dropout)
        widths = [k, *config.layers, 1]
        self.first, *upper = [nn.Linear(*width) for width in pairwise(widths)]
        self.upper = nn.ModuleList(upper)
        # [x ; q] concat: W [x ; q] = Wx x + Wq q, and the second product is needed once per item only
        self.from_q = nn.Linear(k, widths[1], bias=False) if config.interaction == "concat" else None
        nn.init.constant_((upper or [self.first])[-1].bias, training.mean)

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.forward`."""
        sets = self.sets.rows(users) if sets is None else sets
        values, q = self.a(sets.vectors), self.q  # (V, K), (M + 1, K)
        weight = self.cell(values, q, items, sets) * sets.weight  # (B, J)
        x = self.pooling(self.p.index_select(0, users), values, sets.value, weight)  # (B, K)
        if self.from_q is None:
            return self._upper(self.first(self.dropout(x * q.index_select(0, items))))
        of_item = lookup(partial(F.linear, weight=self.from_q.weight, bias=self.first.bias), self.dropout(q), items)
        return self._upper(torch.addmm(of_item, self.dropout(x), self.first.weight.T))  # (B, H) below

    def _upper(self, z: Tensor) -> Tensor:
        """Everything above the first dense layer: (..., H) before its ReLU -> (...)."""
        for layer in self.upper:
            z = layer(self.dropout.relu(z))
        return z.squeeze(-1)

    def attention(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.attention`."""
        sets = self.sets.rows(users) if sets is None else sets
        return self.cell(self.a(sets.vectors), self.q, items, sets)

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """Embedding tables, and weights (not biases) of dense layers and attention cell."""
        yield self.config.l2, [self.p, self.q, *self.a.parameters()]
        dense = [self.first, *self.upper, self.cell.value, self.cell.item, self.cell.out]
        yield (self.config.l2_dense, [layer.weight for layer in [*dense, *([self.from_q] if self.from_q else [])]])

    def user_tables(self) -> list[Tensor]:
        """The table p."""
        return [self.p]

    def item_tables(self) -> list[Tensor]:
        """The table q."""
        return [self.q]

    def catalogue(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Scores of all items, by groups of users who share their attributes.

        Pooling and interaction are linear in p_u: z = p_u * A_i + B_i, where A and B depend on the item and the
        attributes only, so they are computed once per group.
        """
        sets = self.sets.rows(users) if sets is None else sets
        values, q = self.a(sets.vectors), self.q[:-1]
        first, n_items = self.first, len(q)
        above = first.bias if self.from_q is None else first.bias + self.from_q(q)
        table = None if sets.vectors else self.cell.table(values, q)  # (M, V)
        for group in equal_rows(sets):
            one = sets.rows(group[:1])
            if table is None:
                lam = self.cell(values, q, torch.arange(n_items, device=q.device), one.rows(group.new_zeros(n_items)))
            else:
                lam = masked_softmax(table[:, one.value[0]], one.mask)  # (M, J)
            scale, shift = self._group(values, q, one, lam * one.weight)
            below = shift @ first.weight.T + above  # (M, H)
            for part in group.split(256):
                scores = [
                    self._upper(
                        (p @ first.weight.T)[:, None] + below  # (b, M, H)
                        if scale is None
                        else torch.baddbmm(below, scale.expand(len(p), -1, -1), (p[:, None] * first.weight).mT)
                    )
                    for p in self.p[users[part]].split(max(1, 8192 // n_items))  # (b, K), so few that z stays in cache
                ]
                yield part, torch.cat(scores)

    def _group(self, values: Tensor, q: Tensor, one: AttributeSet, weight: Tensor) -> tuple[Tensor | None, Tensor]:
        """A and B (M, K) of z = p * A + B, for one attribute set and weights (M, J); A None stands for ones."""
        index = one.value.expand(len(q), -1)
        total = weighted_sum(values, index, weight)
        scale: Tensor | None = None
        shift = total
        if self.config.pooling == "pairwise":
            squares = weighted_sum(values.square(), index, weight.square())
            scale, shift = total, 0.5 * (total.square() - squares)
        if self.config.interaction == "product":
            scale, shift = (q if scale is None else scale * q), shift * q
        return scale, shift


def equal_rows(sets: AttributeSet) -> list[Tensor]:
    """Positions grouped by equal attribute sets."""
    key = torch.cat([sets.value.double(), sets.weight.double(), sets.mask.double()], dim=1)
    if key.shape[1] == 0:
        return [torch.arange(len(key), device=key.device)]
    _, group, count = torch.unique(key, dim=0, return_inverse=True, return_counts=True)
    return list(torch.argsort(group, stable=True).split(count.tolist()))
