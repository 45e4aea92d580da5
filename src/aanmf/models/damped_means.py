"""Damped means: r_ui = mu + b_u + b_i, the baseline that every predictor of ratings should beat."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import ModelConfig, Ratings, Side, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.models.inner_product import InnerProductModule
from aanmf.training.log import TrainingLog
from aanmf.training.predict import pick_device


class DampedMeansConfig(ModelConfig):
    """Settings of `DampedMeans`."""

    damping_items: float = Field(default=5.0, ge=0)
    """Ratings at the mean that are added to those of every item."""
    damping_users: float = Field(default=5.0, ge=0)
    """The same for every user."""


class DampedMeansModule(InnerProductModule):
    """mu + b_u + b_i with b_i = sum_u (r - mu) / (n_i + d_items), then b_u = sum_i (r - mu - b_i) / (n_u + d_users).

    There are no latent factors: K = 0.
    """

    mu: Tensor

    def __init__(self, config: DampedMeansConfig, training: TrainingData) -> None:
        super().__init__()
        self.config = config
        self.b_u = nn.Parameter(torch.zeros(training.n_users + 1, 1), requires_grad=False)
        self.b_i = nn.Parameter(torch.zeros(training.n_items + 1, 1), requires_grad=False)
        self.register_buffer("mu", torch.tensor(training.mean), persistent=False)

    def learn(self, train: Ratings) -> None:
        """Items first, then users."""
        left = train.rating - self.mu
        self.b_i.copy_(_damped_sums(left, train.item, len(self.b_i), self.config.damping_items))
        left = left - self.b_i[train.item, 0]
        self.b_u.copy_(_damped_sums(left, train.user, len(self.b_u), self.config.damping_users))

    def user_side(self, users: Tensor, sets: AttributeSet | None = None) -> Side:
        """mu + b_u."""
        return Side(self.mu + self.b_u[users, 0], self.b_u[users, :0])

    def item_side(self, items: Tensor) -> Side:
        """b_i."""
        return Side(self.b_i[items, 0], self.b_i[items, :0])

    def user_tables(self) -> list[Tensor]:
        """b_u."""
        return [self.b_u]

    def item_tables(self) -> list[Tensor]:
        """b_i."""
        return [self.b_i]


def _damped_sums(values: Tensor, rows: Tensor, n: int, damping: float) -> Tensor:
    """sum / (count + damping) of the values of each row (n, 1); 0 for rows without any."""
    count = torch.bincount(rows, minlength=n)
    total = values.new_zeros(n).index_add_(0, rows, values)
    return torch.where(count > 0, total / (count + damping), 0)[:, None]


def fit_damped_means(
    build: Callable[[DampedMeansConfig, TrainingData], DampedMeansModule],
    training: TrainingData,
    config: DampedMeansConfig,
    *_: object,
) -> tuple[DampedMeansModule, TrainingLog]:
    """Fits the means; the signature is that of `training.trainer.fit_module`."""
    device = pick_device(config.device)
    module = build(config, training).to(device)
    with torch.no_grad():
        module.learn(training.train.to(device))
    return module.eval(), TrainingLog()
