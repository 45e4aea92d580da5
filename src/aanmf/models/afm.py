"""Attentional factorisation machine: attention says how much each pair of features counts.

    r_ui = w_0 + sum_f x_f w_f + h . sum_{f<g} alpha_fg e_fg,   e_fg = x_f v_f * x_g v_g           (Eq 6)
    alpha = softmax_fg( W2 ReLU(W1 e_fg + b) )                                                      (Eq 5)

J. Xiao, H. Ye, X. He, H. Zhang, F. Wu, T.-S. Chua: Attentional factorization machines. IJCAI 2017. There features are
one of each field; here a user (an item) has any number of attribute values, of the weights x_f, and may lack some.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import RatingModule, Side, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.models.fm import Features, FMConfig, FMModule
from aanmf.models.inner_product import every_row
from aanmf.models.layers import Dropout, equal_weights, masked_softmax


class AFMConfig(FMConfig):
    """Settings of `AFM`."""

    l2: float = Field(default=8.0, ge=0)
    attention: bool | Literal["uniform"] = True
    """`uniform`: all pairs of features are averaged; False: they are added, as in a factorisation machine."""
    attention_factors: int = Field(default=16, ge=1, le=512)
    """Hidden units of the attention network."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the pooled factors dropped while training."""
    l2_attention: float = Field(default=2.0, ge=0)
    """Penalty on W1, as on the other tables."""


class AFMModule(FMModule):
    """The equations at the top of this file; P pairs of features."""

    config: AFMConfig

    def __init__(self, config: AFMConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        self.hidden = nn.Linear(config.factors, config.attention_factors)  # W1, b
        self.score = nn.Linear(config.attention_factors, 1, bias=False)  # W2
        self.h = nn.Linear(config.factors, 1, bias=False)
        nn.init.ones_(self.h.weight)  # starts as a factorisation machine of averaged pairs
        self.dropout = Dropout(config.dropout)

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.forward`."""
        linear = self.w_0 + self.user_sums(users, sets).linear + self.item_sums(items).linear
        e, mask = self.pairs(users, items, sets)
        pooled = (self.weights(e, mask)[..., None] * e).sum(1)  # (B, K)
        return linear + self.dropout(pooled, self.h.weight).squeeze(-1)

    def pairs(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> tuple[Tensor, Tensor]:
        """e (B, P, K) of all pairs of features, and (B, P) which of them are there."""
        sets = self.sets.rows(users) if sets is None else sets
        (a, has_a), (b, has_b) = each(self.user, users, sets), each(self.item, items, self.item_sets.rows(items))
        features, there = torch.cat([a, b], dim=1), torch.cat([has_a, has_b], dim=1)
        f, g = torch.triu_indices(features.shape[1], features.shape[1], 1, device=features.device)
        return features[:, f] * features[:, g], there[:, f] & there[:, g]

    def weights(self, e: Tensor, mask: Tensor) -> Tensor:
        """alpha (B, P); 0 where the mask is False."""
        if self.config.attention is not True:
            return equal_weights(mask, summed=self.config.attention is False)
        return masked_softmax(self.score(torch.relu(self.hidden(e))).squeeze(-1), mask)

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """Factors, linear weights, and W1."""
        yield from super().l2_groups()
        yield self.config.l2_attention, [each for name, each in self.hidden.named_parameters() if name == "weight"]

    catalogue = RatingModule.catalogue  # pair by pair: attention belongs to both sides

    def sides(self) -> tuple[Side, Side]:
        """See `RatingModule.sides`: linear weights and sums of vectors; attention is above them."""
        user, item = self.user_sums(every_row(self.user.w)), self.item_sums(every_row(self.item.w))
        return Side(self.w_0 + user.linear, user.vector), Side(item.linear, item.vector)

    def export_form(self) -> nn.Module:
        """See `RatingModule.export_form`."""
        return self


def each(side: Features, rows: Tensor, sets: AttributeSet) -> tuple[Tensor, Tensor]:
    """x_f v_f (B, 1 + J, K) of the id and of every attribute of users (items), and (B, 1 + J) which are there."""
    own, there = side.v[rows][:, None], torch.ones_like(rows, dtype=torch.bool)[:, None]
    if side.v_a is None or not sets.mask.shape[1]:
        return own, there
    values = side.v_a(sets.vectors)[sets.value] * sets.weight[..., None]
    return torch.cat([own, values], dim=1), torch.cat([there, sets.mask], dim=1)
