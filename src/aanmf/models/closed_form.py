"""What models have in common that rank items by a user's history and do not predict ratings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.account import Account
from aanmf.contract import ModelConfig, RatingModule, Told, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.models.histories import Histories, Weights, choice_weights
from aanmf.training.log import TrainingLog
from aanmf.training.predict import pick_device

BLOCK = 512
"""Users that are scored at a time."""


class ListConfig(ModelConfig):
    """Settings of every model that learns from weighted histories."""

    weights: Weights = "liked"
    """What a rating counts: `ones`: 1; `rating`: in proportion to it (r / 5 on a scale of 1 to 5); `liked`: 0.1 for
    the lower 30 % of the scale, then rising to 1 (clip((r - 2) / 3, 0.1, 1)). Data without ratings count 1."""


class ItemItemConfig(ListConfig):
    """Settings of models with a dense item-item matrix."""

    max_items: int = Field(default=12_000, ge=1)
    """The matrix covers this number of items, those with most ratings; the other items are listed last."""


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

    def terms(self, history: Histories, item: int) -> Tensor:
        """What each item (n,) of one history adds to the score of an item; here nothing: the audience makes it."""
        return history.weight.new_zeros(len(history.item))

    def account(self, history: Histories, item: int, score: Tensor) -> Account:
        """The account of one score: that of the rated items, and what is beyond them is the audience's."""
        empty = Account.empty(history.item, 0, 0)
        rated = self.terms(history, item) if len(history.item) else empty.rated
        return replace(empty, rated=rated, audience=score - rated.sum())

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
        self, user: int, sets: AttributeSet | None, items: Tensor, ratings: Tensor, without: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """See `RatingModule.match_folded_in`: the history with the new ratings in it."""
        return self._scores(self.changed(user, items, ratings, without))[0], None

    def changed(self, user: int, items: Tensor, ratings: Tensor, without: Tensor | None = None) -> Histories:
        """One user's history with new ratings, which replace old ones of the same items, and without some items."""
        own = self.histories.rows(torch.tensor([user], device=items.device))
        kept = ~torch.isin(own.item, items if without is None else torch.cat([items, without]))
        item = torch.cat([own.item[kept], items])
        weight = torch.cat([own.weight[kept], self.weights(ratings).to(own.weight)])
        return Histories(item, weight, torch.tensor([0, len(item)], device=items.device))

    def _scores(self, histories: Histories) -> Tensor:
        scores = self.score(histories)
        scores[histories.count == 0] = self.popularity
        return scores


@torch.no_grad()
def account_for(module: ListModule, item: int, told: Told) -> Account:
    """The account of the match of an item, by position."""
    user, sets, items, ratings, without = told
    if len(items) or without is not None:
        scores, _ = module.match_folded_in(*told)
    else:
        ((_, (scores,), _),) = module.match(torch.tensor([user], device=items.device), sets)
    return module.account(module.changed(user, items, ratings, without), item, scores[item])


def fit_closed_form(
    build: Callable[[ListConfig, TrainingData], ListModule], training: TrainingData, config: ListConfig, *_: object
) -> tuple[ListModule, TrainingLog]:
    """Fits a model by its own `learn`; the signature is that of `training.trainer.fit_module`."""
    with torch.no_grad():
        module = build(config, training).to(pick_device(config.device))
        module.learn(module.histories)
    return module.eval(), TrainingLog()
