"""Factorisation machine of degree 2 over user, item and attributes (Rendle 2010), and the pooling that NFM builds on.

S. Rendle: Factorization machines. ICDM 2010.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.models.base import AttributeSets, Context, ModelConfig, RatingModule, embedding
from aanmf.models.layers import AttributeEmbedding, SetsOf, weighted_sum


class FMConfig(ModelConfig):
    """Settings of `FM`."""

    user_attributes: bool = True
    """Whether the user's attributes are features."""
    item_attributes: bool = True
    """Whether the item's attributes are features."""
    l2: float = Field(default=10.0, ge=0)
    """Penalty on all embedding tables: (l2 / n ratings) * sum of squares."""
    l2_bias: float = Field(default=2.0, ge=0)
    """The same for the linear terms."""


class Side(nn.Module):
    """The features of one side, users or items: the id itself, with value 1, and its attributes.

    Of a user (item) with features x it gives three sums: sum_i x_i w_i, sum_i x_i v_i, and sum_i (x_i v_i)^2.
    """

    def __init__(self, n: int, sets: SetsOf | None, values: AttributeEmbedding | None, factors: int) -> None:
        super().__init__()
        self.id = embedding(n, factors + 1)  # v and, in the last column, w
        self.sets, self.values = sets, values
        nn.init.zeros_(self.id[:, -1])
        if values is not None:
            for table in values.parameters():
                nn.init.zeros_(table[:, -1])

    def forward(self, rows: Tensor, sets: AttributeSets | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B,), (B, K), (B, K) of some users (items); `sets` in place of their own attributes."""
        own = self.id.index_select(0, rows)
        if self.sets is None or self.values is None:
            return own[:, -1], own[:, :-1], own[:, :-1].square()
        sets = self.sets.rows(rows) if sets is None else sets
        table = self.values(sets.vectors)
        total = own + weighted_sum(table, sets.value, sets.weight)
        squares = own.square() + weighted_sum(table.square(), sets.value, sets.weight.square())
        return total[:, -1], total[:, :-1], squares[:, :-1]


class FMModule(RatingModule):
    """r_ui = w_0 + sum_i x_i w_i + sum_{i<j} x_i x_j v_i . v_j over the features x of user, item and attributes."""
