"""SVD++ (Koren 2008, Eq 15), and the form with attributes that AANMF's paper starts from (its Eq 1-3).

Y. Koren: Factorization meets the neighborhood: a multifaceted collaborative filtering model. KDD 2008.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import BatchConfig, RatingModule, TrainingData, embedding
from aanmf.data.attributes import AttributeSet
from aanmf.models.layers import AttributeEmbedding, weighted_sum
from aanmf.models.sparse import SparseMatrix


class SVDppConfig(BatchConfig):
    """Settings of `SVDpp`."""

    epochs: int = Field(default=20, ge=1)
    """Most passes over the training ratings; early stopping usually ends before."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Adam's step size at the start; it falls to 0 along half a cosine over `epochs`."""
    attributes: bool = False
    """Whether the user's attributes are added to his vector, each with weight 1."""
    l2: float = Field(default=18.0, ge=0)
    """Penalty on the tables of latent factors: (l2 / n ratings) * sum of squares."""
    l2_bias: float = Field(default=2.0, ge=0)
    """The same for the biases."""


class SVDppModule(RatingModule):
    """r_ui = mu + b_u + b_i + q_i . x_u, with x_u = p_u + |N(u)|^-1/2 sum_{k in N(u)} y_k [+ sum_j a_j].

    N(u) are the items that u has rated in training.
    """

    mu: Tensor

    def __init__(self, config: SVDppConfig, training: TrainingData) -> None:
        super().__init__()
        self.config = config
        n_users, n_items = training.n_users + 1, training.n_items + 1
        self.p = embedding(n_users, config.factors)
        self.q = embedding(n_items, config.factors)
        self.y = embedding(n_items, config.factors)
        self.b_u = nn.Parameter(torch.zeros(n_users, 1))
        self.b_i = nn.Parameter(torch.zeros(n_items, 1))
        self.register_buffer("mu", torch.tensor(training.mean), persistent=False)
        user, item = training.train.user, training.train.item
        norm = torch.bincount(user, minlength=n_users).float().rsqrt()  # |N(u)|^-1/2
        self.history = SparseMatrix(user, item, norm[user], (n_users, n_items))
        self.sets = training.users
        self.a: AttributeEmbedding | None = None
        if config.attributes:
            self.sharing = int(self.sets.mask.sum()) / max(1, training.users.n_values)  # users per value, on average
            self.a = AttributeEmbedding(training.users, config.factors)

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.forward`."""
        biases = self.b_u.index_select(0, users) + self.b_i.index_select(0, items)
        interaction = self._x(users, sets) * self.q.index_select(0, items)
        return self.mu + biases.squeeze(-1) + interaction.sum(-1)

    def _x(self, users: Tensor, sets: AttributeSet | None) -> Tensor:
        """x_u (B, K)."""
        x = self.p.index_select(0, users) + self.history(self.y, users)
        if self.a is None:
            return x
        sets = self.sets.rows(users) if sets is None else sets
        return x + weighted_sum(self.a(sets.vectors), sets.value, sets.weight)

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """Factors, attribute vectors and biases apart.

        An attribute vector is counted as often as it is used: counted once, the few of them would grow, and take
        the q_i along past their penalty.
        """
        yield self.config.l2, [self.p, self.q, self.y]
        if self.a is not None:
            yield self.config.l2 * self.sharing, list(self.a.parameters())
        yield self.config.l2_bias, [self.b_u, self.b_i]

    def user_tables(self) -> list[Tensor]:
        """Tables p and b_u."""
        return [self.p, self.b_u]

    def item_tables(self) -> list[Tensor]:
        """Tables q and b_i (y is read for rated items only)."""
        return [self.q, self.b_i]

    def catalogue(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """One matrix product per block of users."""
        for start in range(0, len(users), block := 512):
            part = torch.arange(start, min(start + block, len(users)), device=users.device)
            x = self._x(users[part], None if sets is None else sets.rows(part))
            bias = self.mu + self.b_u[users[part]] + self.b_i[:-1, 0]
            yield part, torch.addmm(bias, x, self.q[:-1].T)
