"""Biased matrix factorisation: r_ui = mu + b_u + b_i + p_u . q_i (Koren et al. 2009)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import BatchConfig, Side, TrainingData, embedding
from aanmf.data.attributes import AttributeSet
from aanmf.models.inner_product import InnerProductModule
from aanmf.models.solve import solve


class MFConfig(BatchConfig):
    """Settings of `MF`."""

    l2: float = Field(default=10.0, ge=0)
    """Penalty on the tables of latent factors: (l2 / n ratings) * sum of squares."""
    l2_bias: float = Field(default=2.0, ge=0)
    """The same for the biases."""


class MFModule(InnerProductModule):
    """mu + b_u + b_i + p_u . q_i; attributes are not used."""

    mu: Tensor

    def __init__(self, config: MFConfig, training: TrainingData) -> None:
        super().__init__()
        self.config = config
        self.p = embedding(training.n_users + 1, config.factors)
        self.q = embedding(training.n_items + 1, config.factors)
        self.b_u = nn.Parameter(torch.zeros(training.n_users + 1, 1))
        self.b_i = nn.Parameter(torch.zeros(training.n_items + 1, 1))
        self.register_buffer("mu", torch.tensor(training.mean), persistent=False)

    def user_side(self, users: Tensor, sets: AttributeSet | None = None) -> Side:
        """mu + b_u and p_u."""
        return Side(self.mu + self.b_u.index_select(0, users).squeeze(1), self.p.index_select(0, users))

    def item_side(self, items: Tensor) -> Side:
        """b_i and q_i."""
        return Side(self.b_i.index_select(0, items).squeeze(1), self.q.index_select(0, items))

    def all_items(self) -> Side:
        """See `InnerProductModule.all_items`."""
        return Side(self.b_i[:-1].squeeze(1), self.q[:-1])

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """Factors and biases apart."""
        yield self.config.l2, [self.p, self.q]
        yield self.config.l2_bias, [self.b_u, self.b_i]

    def user_tables(self) -> list[Tensor]:
        """P and b_u."""
        return [self.p, self.b_u]

    def item_tables(self) -> list[Tensor]:
        """Q and b_i."""
        return [self.q, self.b_i]

    def fold_in(
        self, user: int, sets: AttributeSet | None, items: Tensor, ratings: Tensor, without: Tensor | None = None
    ) -> Tensor:
        """See `RatingModule.fold_in`: p_u and b_u move to the minimum of the training loss on the new ratings."""
        (_, (scores,)), *_ = self.catalogue(torch.tensor([user], device=items.device))
        rated = torch.cat([self.q[items], torch.ones_like(self.b_i[items])], dim=1)  # (m, K + 1)
        damping = rated.new_full(rated.shape[1:], self.config.l2)
        damping[-1] = self.config.l2_bias
        change = solve(rated.T @ rated + (damping + 1e-6).diag(), rated.T @ (ratings - scores[items]))
        return scores + self.q[:-1] @ change[:-1] + change[-1]
