"""Biased matrix factorisation: the plain baseline. r_ui = mu + b_u + b_i + p_u . q_i (Koren et al. 2009)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import BatchConfig, RatingModule, TrainingData, embedding
from aanmf.data.attributes import AttributeSet


class MFConfig(BatchConfig):
    """Settings of `MF`."""

    l2: float = Field(default=10.0, ge=0)
    """Penalty on the tables of latent factors: (l2 / n ratings) * sum of squares."""
    l2_bias: float = Field(default=2.0, ge=0)
    """The same for the biases."""


class MFModule(RatingModule):
    """mu + b_u + b_i + p_u . q_i."""

    mu: Tensor

    def __init__(self, config: MFConfig, training: TrainingData) -> None:
        super().__init__()
        self.config = config
        self.p = embedding(training.n_users + 1, config.factors)
        self.q = embedding(training.n_items + 1, config.factors)
        self.b_u = nn.Parameter(torch.zeros(training.n_users + 1, 1))
        self.b_i = nn.Parameter(torch.zeros(training.n_items + 1, 1))
        self.register_buffer("mu", torch.tensor(training.mean), persistent=False)

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.forward`; attributes are not used."""
        biases = self.b_u.index_select(0, users) + self.b_i.index_select(0, items)
        interaction = self.p.index_select(0, users) * self.q.index_select(0, items)
        return self.mu + biases.squeeze(-1) + interaction.sum(-1)

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

    def catalogue(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """One matrix product per block of users."""
        for start in range(0, len(users), block := 512):
            part = torch.arange(start, min(start + block, len(users)), device=users.device)
            bias = self.mu + self.b_u[users[part]] + self.b_i[:-1, 0]
            yield part, torch.addmm(bias, self.p[users[part]], self.q[:-1].T)

    def fold_in(self, user: int, sets: AttributeSet | None, items: Tensor, ratings: Tensor) -> Tensor:
        """See `RatingModule.fold_in`: p_u and b_u move to the minimum of the training loss on the new ratings."""
        (_, (scores,)), *_ = self.catalogue(torch.tensor([user], device=items.device))
        inputs = torch.cat([self.q, torch.ones_like(self.b_i)], dim=1)  # (I, K + 1)
        damping = torch.full((inputs.shape[1],), self.config.l2).index_fill_(
            0, torch.tensor([self.q.shape[1]]), self.config.l2_bias
        )
        rated = inputs[items]
        normal = rated.T @ rated + (damping + 1e-6).diag().to(rated.device)
        change = torch.linalg.solve(normal, rated.T @ (ratings - scores[items]))
        return scores + inputs[:-1] @ change
