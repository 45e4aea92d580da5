"""Attentive collaborative filtering: attention says how much each rated item tells of a user.

    r_ui = mu + b_u + b_i + q_i . (p_u + sum_{l in N(u)} alpha_ul y_l)                               (Eq 4)
    alpha_u = softmax_l( w . ReLU(W_u p_u + W_v q_l + W_y y_l + W_g g_ul + b) )       item level     (Eq 8, 9)
    g_ul = sum_m beta_ulm g_m,   beta_ul = softmax_m( cell(g_m, p_u) )                components     (Eq 10-12)

J. Chen, H. Zhang, X. He, L. Nie, W. Liu, T.-S. Chua: Attentive collaborative filtering: multimedia recommendation with
item- and component-level attention. SIGIR 2017. N(u) are the items that u has rated in training. There, components are
regions of an image or frames of a video, and the model ranks what was chosen. Here they are the attribute values m of
an item, weighted by Algorithm 1 without its ReLU; the model predicts ratings, with biases.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import RatingModule, Side, TrainingData, embedding
from aanmf.data.attributes import AttributeSet
from aanmf.models.kernels import weighted_sum
from aanmf.models.layers import AttentionCell, AttributeEmbedding
from aanmf.models.mf import MFConfig, MFModule
from aanmf.models.sparse import SparseMatrix

BLOCK = 200_000
"""Rated items of users that are weighted at a time, where no gradient is needed."""


class ACFConfig(MFConfig):
    """Settings of `ACF`."""

    epochs: int = Field(default=20, ge=1)
    l2: float = Field(default=8.0, ge=0)
    attention: bool | Literal["uniform"] = True
    """`uniform`: all rated items are averaged; False: they are summed and divided by the square root of their number,
    as in SVD++."""
    attention_factors: int = Field(default=16, ge=1, le=512)
    """Hidden units of the attention network of the item level."""
    item_attributes: bool = True
    """Whether items have components: their attribute values."""


class ACFModule(MFModule):
    """The equations at the top of this file."""

    config: ACFConfig

    def __init__(self, config: ACFConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        self.y = embedding(training.n_items + 1, config.factors)
        user, item = training.train.user, training.train.item
        self.history = SparseMatrix(user, item, None, (training.n_users + 1, training.n_items + 1))
        k, hidden, self.item_sets = config.factors, config.attention_factors, training.items
        self.of_user, self.of_item, self.of_rated = (nn.Linear(k, hidden, bias=False) for _ in range(3))
        self.score, self.bias = nn.Linear(hidden, 1, bias=False), nn.Parameter(torch.zeros(hidden))
        self.components: AttributeEmbedding | None = None
        if config.item_attributes and training.items.mask.shape[1]:
            self.components = AttributeEmbedding(training.items, k)
            self.cell, self.of_components = AttentionCell(k, relu=False), nn.Linear(k, hidden, bias=False)

    def user_side(self, users: Tensor, sets: AttributeSet | None = None) -> Side:
        """mu + b_u and x_u; users have no attributes here."""
        bias, p = super().user_side(users)
        known, back = torch.unique(users, return_inverse=True)
        return Side(bias, p + torch.cat([self.tastes(part) for part in self._blocks(known)]).index_select(0, back))

    def _blocks(self, users: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled() or not len(users):
            return (users,)
        _, sizes = (self.history.count[users].cumsum(0) // BLOCK).unique_consecutive(return_counts=True)
        return users.split(sizes.tolist())

    def tastes(self, users: Tensor) -> Tensor:
        """sum_l alpha_ul y_l (b, K)."""
        row, item, alpha = self.rated(users)
        return self.y.new_zeros(len(users), self.y.shape[1]).index_add(0, row, alpha[:, None] * self.y[item])

    def rated(self, users: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The rated items of users (b,): whose (m,), which (m,), and alpha (m,)."""
        count = self.history.count[users]
        row = torch.repeat_interleave(torch.arange(len(users), device=users.device), count)
        item = self.history.col[self.history.entries(users)[0]]
        if self.config.attention is True:
            return row, item, softmax_by_row(self.scores(users, row, item), row, len(users))
        return row, item, count[row].float() ** (-0.5 if self.config.attention is False else -1.0)

    def scores(self, users: Tensor, row: Tensor, item: Tensor) -> Tensor:
        """What the softmax of the item level is taken of (m,)."""
        p = self.p[users]
        hidden = self.of_user(p)[row] + (self.of_item(self.q) + self.of_rated(self.y))[item] + self.bias
        if self.components is not None:
            sets = self.item_sets.rows(item)
            g = self.components(self.item_sets.vectors)
            beta = self.cell(g, p, row, sets)
            hidden = hidden + self.of_components(weighted_sum(g, sets.value, beta * sets.weight))
        return self.score(torch.relu(hidden)).squeeze(-1)

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """Factors, vectors of components, and biases."""
        yield self.config.l2, [self.y, *([] if self.components is None else self.components.parameters())]
        yield from super().l2_groups()

    # p_u alone cannot stand for new ratings, which also belong to N(u)
    fold_in = RatingModule.fold_in


def softmax_by_row(scores: Tensor, row: Tensor, n: int) -> Tensor:
    """Softmax (m,) of scores (m,) over those of the same row, of n."""
    top = scores.new_full((n,), -torch.inf).scatter_reduce(0, row, scores.detach(), "amax")
    power = (scores - top[row]).exp()
    return power / power.new_zeros(n).index_add(0, row, power)[row]
