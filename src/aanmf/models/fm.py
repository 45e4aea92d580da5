"""Factorisation machine of degree 2 over user, item and their attributes.

S. Rendle: Factorization machines. ICDM 2010. The pairwise sum is the pooling that NFM puts its layers on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import BatchConfig, RatingModule, TrainingData, embedding
from aanmf.data.attributes import AttributeSet
from aanmf.models.layers import AttributeEmbedding, weighted_sum


class FMConfig(BatchConfig):
    """Settings of `FM`."""

    epochs: int = Field(default=20, ge=1)
    """Most passes over the training ratings; early stopping usually ends before."""
    user_attributes: bool = True
    """Whether the user's attributes are features."""
    item_attributes: bool = True
    """Whether the item's attributes are features."""
    l2: float = Field(default=24.0, ge=0)
    """Penalty on the tables of latent factors: (l2 / n ratings) * sum of squares."""
    l2_bias: float = Field(default=2.0, ge=0)
    """The same for the linear weights."""


class Features(nn.Module):
    """One side's features: the id of a user (item), with value 1, and its attributes, with their weights.

    It owns v (K per feature) and w (one per feature) and gives the sums that a factorisation machine is made
    of.
    """

    def __init__(self, n: int, factors: int, sets: AttributeSet | None) -> None:
        super().__init__()
        self.v = embedding(n, factors)
        self.w = nn.Parameter(torch.zeros(n, 1))
        self.v_a: AttributeEmbedding | None = None
        self.w_a: AttributeEmbedding | None = None
        if sets is not None:
            self.v_a = AttributeEmbedding(sets, factors)
            self.w_a = AttributeEmbedding(sets, 1, std=0.0)

    def forward(self, rows: Tensor, sets: AttributeSet) -> tuple[Tensor, Tensor, Tensor]:
        """The sums of x w (B,), of x v (B, K) and of (x v)^2 (B, K), for ids `rows` and attributes `sets`."""
        linear, total = self.w.index_select(0, rows), self.v.index_select(0, rows)
        squares = total.square()
        if self.v_a is not None and self.w_a is not None:
            values = self.v_a(sets.vectors)
            linear = linear + weighted_sum(self.w_a(sets.vectors), sets.value, sets.weight)
            total = total + weighted_sum(values, sets.value, sets.weight)
            squares = squares + weighted_sum(values.square(), sets.value, sets.weight.square())
        return linear.squeeze(-1), total, squares

    def tables(self, kind: str) -> list[nn.Parameter]:
        """The parameters of kind `v` or `w`."""
        attributes = self.v_a if kind == "v" else self.w_a
        return [getattr(self, kind), *([] if attributes is None else attributes.parameters())]


class FMModule(RatingModule):
    """r_ui = w_0 + sum_f x_f w_f + sum_{f<g} x_f x_g v_f . v_g, with features x: user, item, attributes."""

    def __init__(self, config: FMConfig, training: TrainingData) -> None:
        super().__init__()
        users, items = training.users, training.items
        self.config = config
        self.sets, self.item_sets = users, items
        self.w_0 = nn.Parameter(torch.tensor(training.mean))
        self.user = Features(training.n_users + 1, config.factors, users if config.user_attributes else None)
        self.item = Features(training.n_items + 1, config.factors, items if config.item_attributes else None)

    def terms(self, users: Tensor, items: Tensor, sets: AttributeSet | None) -> tuple[Tensor, Tensor]:
        """The linear terms (B,), and the bi-interaction pooling of all features (B, K).

        f_BI = sum_{f<g} x_f v_f * x_g v_g = 1/2 [(sum_f x_f v_f)^2 - sum_f (x_f v_f)^2]   (NFM, Eq 3 and 4)
        """
        linear_u, total_u, squares_u = self.user(users, self.sets.rows(users) if sets is None else sets)
        linear_i, total_i, squares_i = self.item(items, self.item_sets.rows(items))
        pooled = 0.5 * ((total_u + total_i).square() - squares_u - squares_i)
        return self.w_0 + linear_u + linear_i, pooled

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.forward`."""
        linear, pooled = self.terms(users, items, sets)
        return linear + pooled.sum(-1)

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """Factors and linear weights apart; w_0 free."""
        yield self.config.l2, self.user.tables("v") + self.item.tables("v")
        yield self.config.l2_bias, self.user.tables("w") + self.item.tables("w")

    def user_tables(self) -> list[Tensor]:
        """Tables v and w of the users."""
        return [self.user.v, self.user.w]

    def item_tables(self) -> list[Tensor]:
        """Tables v and w of the items."""
        return [self.item.v, self.item.w]

    def catalogue(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """User and item meet in one inner product; what lies within a side is computed once per row."""
        items = torch.arange(self.n_items, device=users.device)
        linear_i, total_i, squares_i = self.item(items, self.item_sets.rows(items))
        alone_i = linear_i + 0.5 * (total_i.square() - squares_i).sum(-1)
        for start in range(0, len(users), block := 512):
            part = torch.arange(start, min(start + block, len(users)), device=users.device)
            own = self.sets.rows(users[part]) if sets is None else sets.rows(part)
            linear_u, total_u, squares_u = self.user(users[part], own)
            alone_u = self.w_0 + linear_u + 0.5 * (total_u.square() - squares_u).sum(-1)
            yield part, alone_u[:, None] + alone_i + total_u @ total_i.T
