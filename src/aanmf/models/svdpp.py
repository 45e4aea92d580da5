"""SVD++ (Koren 2008, Eq 15), and the form with attributes that AANMF's paper starts from (its Eq 1-3).

Y. Koren: Factorization meets the neighborhood: a multifaceted collaborative filtering model. KDD 2008.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import RatingModule, Side, TrainingData, embedding
from aanmf.data.attributes import AttributeSet
from aanmf.models.kernels import weighted_sum
from aanmf.models.layers import AttributeEmbedding
from aanmf.models.mf import MFConfig, MFModule
from aanmf.models.sparse import SparseMatrix


class SVDppConfig(MFConfig):
    """Settings of `SVDpp`."""

    epochs: int = Field(default=20, ge=1)
    learning_rate: float = Field(default=5e-3, gt=0)
    attributes: bool = False
    """Whether the attributes of users are added to their vectors, with weight 1."""
    l2: float = Field(default=18.0, ge=0)


class SVDppModule(MFModule):
    """r_ui = mu + b_u + b_i + q_i . x_u, with x_u = p_u + |N(u)|^-1/2 sum_{k in N(u)} y_k [+ sum_j a_j].

    N(u) are the items that u has rated in training.
    """

    config: SVDppConfig

    def __init__(self, config: SVDppConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        self.y = embedding(training.n_items + 1, config.factors)
        user, item = training.train.user, training.train.item
        norm = torch.bincount(user, minlength=training.n_users + 1).float().rsqrt()  # |N(u)|^-1/2
        self.history = SparseMatrix(user, item, norm[user], (training.n_users + 1, training.n_items + 1))
        self.sets = training.users
        self.a: AttributeEmbedding | None = None
        if config.attributes:
            self.sharing = int(self.sets.mask.sum()) / max(1, training.users.n_values)  # users per value, on average
            self.a = AttributeEmbedding(training.users, config.factors)

    def user_side(self, users: Tensor, sets: AttributeSet | None = None) -> Side:
        """mu + b_u and x_u."""
        bias, p = super().user_side(users)
        x = p + self.history(self.y, users)  # (B, K)
        if self.a is not None:
            sets = self.sets.rows(users) if sets is None else sets
            x = x + weighted_sum(self.a(sets.vectors), sets.value, sets.weight)
        return Side(bias, x)

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """Factors, attribute vectors and biases apart.

        An attribute vector counts as often as it is used: counted once, these few vectors would grow, and take
        the q_i along past their penalty.
        """
        yield self.config.l2, [self.y]
        if self.a is not None:
            yield self.config.l2 * self.sharing, list(self.a.parameters())
        yield from super().l2_groups()

    # p_u alone cannot stand for new ratings, which also belong to N(u)
    fold_in = RatingModule.fold_in
