"""AANMF, the paper's model: attention cell, sum or pairwise pooling, dense layers, and no more.

    lambda = AttentionCell(q_i, {a_j})                                     Algorithm 1
    a~_j   = lambda_j a_j
    x_ui   = p_u + sum_j a~_j                                              sum pooling: AANMF
    x_ui   = sum_j p_u * a~_j + sum_{j<k} a~_j * a~_k                      pairwise pooling, Eq 4 and 6: AANMF+P
    r_ui   = dense layers on [x_ui ; q_i] (or on x_ui * q_i)               Eq 5
    loss   = mean squared error over ratings (`training/trainer.py`)       Eq 7

Beyond the paper, and only if asked for (`context=True`): x_ui += sum_l kappa_l e_l of the context of the rating
(`models/context.py`).

Sizes: B ratings, J attribute slots of a user, V attribute values, M items, K latent factors, H units of a dense layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import BatchConfig, RatingModule, Side, TrainingData, embedding
from aanmf.data.attributes import AttributeSet
from aanmf.models.context import ContextAttention
from aanmf.models.kernels import affine_layer, equal_rows, fewer
from aanmf.models.layers import POOLING, AttentionCell, AttributeEmbedding, Dropout, equal_weights, masked_softmax


class AANMFConfig(BatchConfig):
    """Settings of `AANMF`."""

    epochs: int = Field(default=20, ge=1)
    pooling: Literal["sum", "pairwise"] = "sum"
    """`sum`: x = p + sum a~ (AANMF). `pairwise`: Eq 4 (AANMF+P)."""
    interaction: Literal["concat", "product"] = "concat"
    """What the dense layers see of x_ui and q_i: [x ; q], or x * q (Eq 5 can be read both ways)."""
    layers: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(default=(64,), max_length=16)
    """Widths of the dense ReLU layers below the output unit; `()` for none."""
    attention: bool | Literal["uniform"] = True
    """Controls of attention. `uniform`: each attribute has weight 1 / J; False: each has weight 1."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of units dropped in front of each dense layer and the output while training."""
    init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of the initial embeddings."""
    l2: float = Field(default=24.0, ge=0)
    """Penalty on all embedding tables: (l2 / n ratings) * sum of squares."""
    context: bool = False
    """Learns from the context of ratings too, where the data have one; beyond the paper."""
    l2_dense: float = Field(default=0.05, ge=0)
    """The same for the weights of the dense layers and of the attention cell: without it they let the
    embeddings escape `l2`."""

    @property
    def uses_context(self) -> bool:
        """See `ModelConfig.uses_context`."""
        return self.context


class AANMFModule(RatingModule):
    """See the equations at the top of the file."""

    def __init__(self, config: AANMFConfig, training: TrainingData) -> None:
        super().__init__()
        k = config.factors
        self.config, self.sets = config, training.users
        self.p = embedding(training.n_users + 1, k, config.init_std)
        self.q = embedding(training.n_items + 1, k, config.init_std)
        self.a = AttributeEmbedding(training.users, k, config.init_std)
        self.cell = AttentionCell(k) if config.attention is True else None
        self.pooling = POOLING[config.pooling]
        self.dropout = Dropout(config.dropout)
        widths = [k, *config.layers, 1]
        self.first, *upper = [nn.Linear(*width) for width in pairwise(widths)]
        self.upper = nn.ModuleList(upper)
        # W [x ; q] = Wx x + Wq q: the weights of the first layer stand in two halves, `first` and `from_q`
        self.from_q = nn.Linear(k, widths[1], bias=False) if config.interaction == "concat" else None
        nn.init.constant_((upper or [self.first])[-1].bias, training.mean)
        context = training.train.context
        self.context = None
        if context is not None and context.sets:
            self.context = ContextAttention(context, k, std=config.init_std)

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.forward`."""
        sets = self.sets.rows(users) if sets is None else sets
        a, p = self.a(sets.vectors), self.p.index_select(0, users)  # (V, K), (B, K)
        lam = self._weights(a, items, sets)  # (B, J)
        x = self.pooling(p, a, sets.value, lam * sets.weight)  # (B, K)
        if self.context is not None and sets.context is not None:
            kappa = self.context.attention(self.p, users, self.q, items)  # (B, L)
            x = x + (kappa[..., None] * self.context.vectors(sets.context)).sum(1)
        weight, bias = self.first.weight, self.first.bias
        if self.from_q is None:
            z = self.dropout(x * self.q.index_select(0, items), weight, bias)  # (B, H)
        else:
            q, rows = fewer(self.q, items)
            of_q = self.dropout(q, self.from_q.weight, bias)  # Wq q + b, (M, H) or (B, H)
            z = self.dropout(x, weight, of_q, rows)  # (B, H)
        return self._upper(z)

    def _weights(self, a: Tensor, items: Tensor, sets: AttributeSet) -> Tensor:
        """lambda (B, J), for vectors a (V, K) of all attribute values."""
        if self.cell is None:
            return equal_weights(sets.mask, summed=self.config.attention is False)
        return self.cell(a, self.q, items, sets)

    def _upper(self, z: Tensor) -> Tensor:
        """Everything above the first dense layer: (..., H) before its ReLU -> (...)."""
        for layer in self.upper:
            z = self.dropout(z, layer.weight, layer.bias, relu=True)
        return z.squeeze(-1)

    def attention(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.attention`."""
        sets = self.sets.rows(users) if sets is None else sets
        return self._weights(self.a(sets.vectors), items, sets)

    def context_attention(self, users: Tensor, items: Tensor, sets: AttributeSet) -> Tensor | None:
        """See `RatingModule.context_attention`."""
        return None if self.context is None else self.context.attention(self.p, users, self.q, items)

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """Embedding tables, and weights (not biases) of dense layers and attention cell."""
        of_context = [] if self.context is None else [*self.context.values.parameters(), self.context.keys]
        yield self.config.l2, [self.p, self.q, *self.a.parameters(), *of_context]
        cells = [] if self.context is None else [self.context.by_item, self.context.by_user]
        layers = [self.first, *self.upper, self.from_q, self.cell, *cells]
        dense = [each for layer in layers if layer is not None for each in layer.named_parameters()]
        yield self.config.l2_dense, [weight for name, weight in dense if name.endswith("weight")]

    def user_tables(self) -> list[Tensor]:
        """The table p."""
        return [self.p]

    def item_tables(self) -> list[Tensor]:
        """The table q."""
        return [self.q]

    def sides(self) -> tuple[Side, Side]:
        """See `RatingModule.sides`: p and q; there are no biases."""
        return Side(self.p.new_zeros(len(self.p)), self.p), Side(self.q.new_zeros(len(self.q)), self.q)

    def export_form(self) -> nn.Module:
        """See `RatingModule.export_form`."""
        return self

    def catalogue(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Scores of all items, by groups of users who share their attributes, and with them lambda and a~.

        For such a group x_ui is linear in p_u, and so is x_ui * q_i: p_u * scale_i + shift_i. In a context it is not:
        then pair by pair.
        """
        sets = self.sets.rows(users) if sets is None else sets
        if self.context is not None and sets.context is not None:
            yield from super().catalogue(users, sets)
            return
        values, q = self.a(sets.vectors), self.q[:-1]  # (V, K), (M, K)
        table = None if sets.vectors or self.cell is None else self.cell.table(values, q)  # (M, V)
        of_q = self.first.bias if self.from_q is None else self.first.bias + self.from_q(q)  # (M, H)
        for group in equal_rows(sets):
            one = sets.rows(group[:1])
            a, value = values[one.value[0]], one.value[0]  # (J, K), (J,)
            if self.cell is None:
                lam = equal_weights(one.mask, summed=self.config.attention is False).expand(len(q), -1)  # (M, J)
            else:
                lam = masked_softmax(self.cell.table(a, q) if table is None else table[:, value], one.mask)  # (M, J)
            scale, shift = self._affine(a, q, lam * one.weight)  # (M, K)
            shift = shift @ self.first.weight.T + of_q  # (M, H)
            for part in group.split(256):
                few = self.p[users[part]].split(max(1, 8192 // len(q)))  # (b, K), so that z stays in the cache
                scores = [self._upper(affine_layer(p, scale, shift, self.first.weight)) for p in few]
                yield part, torch.cat(scores)

    def _affine(self, a: Tensor, q: Tensor, weight: Tensor) -> tuple[Tensor | None, Tensor]:
        """Scale (None: 1) and shift (M, K) of the first layer's input, for attributes a (J, K), weights (M, J)."""
        total = weight @ a
        scale, shift = None, total
        if self.config.pooling == "pairwise":
            scale, shift = total, 0.5 * (total.square() - weight.square() @ a.square())
        if self.config.interaction == "product":
            scale, shift = q if scale is None else scale * q, shift * q
        return scale, shift
