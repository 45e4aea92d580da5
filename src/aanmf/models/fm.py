"""Factorisation machine of degree 2 over user, item and their attributes.

S. Rendle: Factorization machines. ICDM 2010. The pairwise sum is the pooling that NFM puts its layers on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import BatchConfig, Side, TrainingData, embedding
from aanmf.data.attributes import AttributeSet
from aanmf.models.inner_product import InnerProductModule
from aanmf.models.kernels import weighted_sum
from aanmf.models.layers import AttributeEmbedding


class FMConfig(BatchConfig):
    """Settings of `FM`."""

    epochs: int = Field(default=20, ge=1)
    user_attributes: bool = True
    """Whether the user's attributes are features."""
    item_attributes: bool = True
    """Whether the item's attributes are features."""
    l2: float = Field(default=24.0, ge=0)
    """Penalty on the tables of latent factors: (l2 / n ratings) * sum of squares."""
    l2_bias: float = Field(default=2.0, ge=0)
    """The same for the linear weights."""


class Sums(NamedTuple):
    """Over the features f of users (items): sum x_f w_f (B,), sum x_f v_f (B, K) and sum (x_f v_f)^2 (B, K)."""

    linear: Tensor
    vector: Tensor
    squares: Tensor


class Features(nn.Module):
    """One side's features: the id of a user (item), with value 1, and its attributes, with their weights.

    It owns v (K per feature) and w (one per feature).
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

    def forward(self, rows: Tensor, sets: AttributeSet) -> Sums:
        """The sums of ids `rows` (B,) with attributes `sets` (B, J)."""
        linear, vector = self.w.index_select(0, rows), self.v.index_select(0, rows)
        squares = vector.square()
        if self.v_a is not None and self.w_a is not None:
            values = self.v_a(sets.vectors)
            linear = linear + weighted_sum(self.w_a(sets.vectors), sets.value, sets.weight)
            vector = vector + weighted_sum(values, sets.value, sets.weight)
            squares = squares + weighted_sum(values.square(), sets.value, sets.weight.square())
        return Sums(linear.squeeze(1), vector, squares)

    def tables(self, kind: str) -> list[nn.Parameter]:
        """The parameters of kind `v` or `w`."""
        attributes = self.v_a if kind == "v" else self.w_a
        return [getattr(self, kind), *([] if attributes is None else attributes.parameters())]


class FMModule(InnerProductModule):
    """r_ui = w_0 + sum_f x_f w_f + sum_{f<g} x_f x_g v_f . v_g, with features x: user, item, attributes."""

    def __init__(self, config: FMConfig, training: TrainingData) -> None:
        super().__init__()
        users, items = training.users, training.items
        self.config, self.sets, self.item_sets = config, users, items
        self.w_0 = nn.Parameter(torch.tensor(training.mean))
        self.user = Features(training.n_users + 1, config.factors, users if config.user_attributes else None)
        self.item = Features(training.n_items + 1, config.factors, items if config.item_attributes else None)

    def terms(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> tuple[Tensor, Tensor]:
        """The linear terms (B,), and the bi-interaction pooling of all features (B, K).

        f_BI = sum_{f<g} x_f v_f * x_g v_g = 1/2 [(sum_f x_f v_f)^2 - sum_f (x_f v_f)^2]   (NFM, Eq 3 and 4)
        """
        user, item = self.user_sums(users, sets), self.item_sums(items)
        pooled = 0.5 * ((user.vector + item.vector).square() - user.squares - item.squares)
        return self.w_0 + user.linear + item.linear, pooled

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.forward`."""
        linear, pooled = self.terms(users, items, sets)
        return linear + pooled.sum(-1)

    def user_sums(self, users: Tensor, sets: AttributeSet | None = None) -> Sums:
        """Over the features of users (B,); `sets` as in `RatingModule.forward`."""
        return self.user(users, self.sets.rows(users) if sets is None else sets)

    def item_sums(self, items: Tensor) -> Sums:
        """Over the features of items (B,)."""
        return self.item(items, self.item_sets.rows(items))

    def user_side(self, users: Tensor, sets: AttributeSet | None = None) -> Side:
        """Pairs of features within a side belong to its bias; those across the sides add up to one inner product."""
        linear, vector, squares = self.user_sums(users, sets)
        return Side(self.w_0 + linear + 0.5 * (vector.square() - squares).sum(-1), vector)

    def item_side(self, items: Tensor) -> Side:
        """See `user_side`."""
        linear, vector, squares = self.item_sums(items)
        return Side(linear + 0.5 * (vector.square() - squares).sum(-1), vector)

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
