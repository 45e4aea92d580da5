"""What models have in common that rank items by a user's history and do not predict ratings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.contract import ModelConfig, RatingModule, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.training.log import TrainingLog
from aanmf.training.predict import pick_device

Weights = Literal["ones", "rating", "liked"]
BLOCK = 512
"""Users, or items, that are scored at a time."""


class ListConfig(ModelConfig):
    """Settings of every model that learns from weighted histories."""

    weights: Weights = "liked"
    """What a rating counts: `ones`: 1; `rating`: in proportion to it (r / 5 on a scale of 1 to 5); `liked`: 0.1 for
    the lower 30 % of the scale, then rising to 1 (clip((r - 2) / 3, 0.1, 1)). Data without ratings count 1."""


class ItemItemConfig(ListConfig):
    """Settings of models with a dense item-item matrix."""

    max_items: int = Field(default=12_000, ge=1)
    """The matrix covers this number of items, those with most ratings; the other items are listed last."""


def choice_weights(rating: Tensor, kind: Weights, scale: tuple[float, float]) -> Tensor:
    """Weights (n,) of ratings (n,) in (0, 1]; see `ListConfig.weights`.

    On any scale, with t = (r - low) / (high - low): `rating` is (t + 1/4) / (5/4), `liked` is
    clip((4 t - 1) / 3, 0.1, 1). Where low = high, all weights are 1.
    """
    low, high = scale
    if kind == "ones" or high <= low:
        return torch.ones_like(rating)
    t = (rating - low) / (high - low)
    return (t + 0.25) / 1.25 if kind == "rating" else ((4 * t - 1) / 3).clamp(0.1, 1)


@dataclass(frozen=True)
class Histories:
    """The histories of b users, one after the other.

    Attributes:
        item: (m,) positions.
        weight: (m,).
        start: (b + 1,) where each user's items start.
    """

    item: Tensor
    weight: Tensor
    start: Tensor

    @classmethod
    def of(cls, user: Tensor, item: Tensor, weight: Tensor, n_users: int) -> Histories:
        """From entries (m,) in any order."""
        order = torch.argsort(user, stable=True)
        count = torch.bincount(user, minlength=n_users)
        return cls(item[order], weight[order], F.pad(count.cumsum(0), (1, 0)))

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def count(self) -> Tensor:
        """(b,) items of each user."""
        return self.start.diff()

    def rows(self, users: Tensor) -> Histories:
        """Those of some users."""
        count = self.count[users]
        start = F.pad(count.cumsum(0), (1, 0))
        entry = torch.repeat_interleave(self.start[users] - start[:-1], count)
        entry = entry + torch.arange(len(entry), device=entry.device)
        return Histories(self.item[entry], self.weight[entry], start)

    def times(self, table: Tensor) -> Tensor:
        """X @ table (b, K), X (b, n_items) the matrix of weights."""
        return F.embedding_bag(self.item, table, self.start[:-1], per_sample_weights=self.weight, mode="sum")

    def dense(self, n_items: int) -> Tensor:
        """X (b, n_items)."""
        row = torch.repeat_interleave(torch.arange(len(self), device=self.item.device), self.count)
        return self.weight.new_zeros(len(self), n_items).index_put_((row, self.item), self.weight, accumulate=True)

    def transposed(self, n_items: int) -> Histories:
        """The users of each item, in place of the items of each user."""
        row = torch.repeat_interleave(torch.arange(len(self), device=self.item.device), self.count)
        return Histories.of(self.item, row, self.weight, n_items)

    def gram(self, n_items: int) -> Iterator[tuple[Tensor, Tensor]]:
        """X^T X in blocks of rows: yields items (k,) and their rows (k, n_items)."""
        users = self.transposed(n_items)
        size = max(1, min(BLOCK, 2**25 // max(1, len(self))))
        for items in torch.arange(n_items, device=self.item.device).split(size):
            yield items, users.times(users.rows(items).dense(len(self)).T.contiguous()).T


class ListModule(RatingModule):
    """Scores all items from a user's history.

    Subclasses write `learn` and `score`. A user without history is listed what most users rated.
    """

    item: Tensor
    weight: Tensor
    start: Tensor

    def __init__(self, config: ListConfig, training: TrainingData) -> None:
        super().__init__()
        self.config, self.scale, self.has_ratings = config, training.scale, training.has_ratings
        train = training.train
        own = Histories.of(train.user, train.item, self.weights(train.rating), training.n_users + 1)
        for name, part in (("item", own.item), ("weight", own.weight), ("start", own.start)):
            self.register_buffer(name, part, persistent=False)  # built from the training ratings
        count = torch.bincount(train.item, minlength=training.n_items).float()
        self.popularity = nn.Parameter(count, requires_grad=False)

    def learn(self, histories: Histories) -> None:
        """Fits the tables to the training histories."""
        raise AssertionError(f"{type(self).__name__} must define learn")

    def score(self, histories: Histories) -> Tensor:
        """Scores (b, n_items) of histories."""
        raise AssertionError(f"{type(self).__name__} must define score")

    @property
    def histories(self) -> Histories:
        """Those of all users in training; the unknown user, in the last row, has none."""
        return Histories(self.item, self.weight, self.start)

    @property
    def matches(self) -> bool:
        """See `RatingModule.matches`."""
        return True

    @property
    def n_items(self) -> int:
        """Items known by id."""
        return len(self.popularity)

    def weights(self, rating: Tensor) -> Tensor:
        """What ratings (n,) count."""
        return choice_weights(rating, self.config.weights if self.has_ratings else "ones", self.scale)

    def match(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor, None]]:
        """See `RatingModule.match`; attributes are not used."""
        for part in torch.arange(len(users), device=users.device).split(BLOCK):
            yield part, self._scores(self.histories.rows(users[part])), None

    def match_folded_in(
        self, user: int, sets: AttributeSet | None, items: Tensor, ratings: Tensor
    ) -> tuple[Tensor, None]:
        """See `RatingModule.match_folded_in`: the history with the new ratings in it."""
        return self._scores(self.extended(user, items, ratings))[0], None

    def extended(self, user: int, items: Tensor, ratings: Tensor) -> Histories:
        """One user's history with new ratings; a new rating of the same item replaces the old one."""
        own = self.histories.rows(torch.tensor([user], device=items.device))
        kept = ~torch.isin(own.item, items)
        item = torch.cat([own.item[kept], items])
        weight = torch.cat([own.weight[kept], self.weights(ratings).to(own.weight)])
        return Histories(item, weight, torch.tensor([0, len(item)], device=items.device))

    def _scores(self, histories: Histories) -> Tensor:
        scores = self.score(histories)
        scores[histories.count == 0] = self.popularity
        return scores


def fit_closed_form(
    build: Callable[[ListConfig, TrainingData], ListModule], training: TrainingData, config: ListConfig, *_: object
) -> tuple[ListModule, TrainingLog]:
    """Fits a model by its own `learn`; the signature is that of `training.trainer.fit_module`."""
    with torch.no_grad():
        module = build(config, training).to(pick_device(config.device))
        module.learn(module.histories)
    return module.eval(), TrainingLog()
