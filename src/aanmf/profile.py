"""The user that is asked about: known by id or by attributes, with ratings given since training, or without some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aanmf.contract import Told
from aanmf.data.attributes import AttributeSet, Context
from aanmf.data.dataset import RatingDataset
from aanmf.errors import ConfigError, DataError, UnknownIdError
from aanmf.fitted import Fitted
from aanmf.models.catalog import ModelSpec, with_capability

User = str | int | Mapping[str, object]
"""A user of the training data by id, or a new user by attributes."""
NewRatings = Mapping[str, float | None] | Mapping[int, float | None]
"""Ratings given since training, by item id; None for a choice without a rating, which counts as a mean rating."""


RequestContext = Mapping[str, object]
"""In which context a prediction is wanted, by name: `{"companion": "family"}`."""


@dataclass(frozen=True)
class Profile:
    """A user to predict for.

    Attributes:
        position: in the training data; that of the unknown user for a new one.
        attributes: (1, J) instead of those in the training data, with the context of the request; None: the former,
            without context.
        item, rating: (m,) ratings given since training.
        without: (k,) items whose training ratings are left out.
    """

    position: int
    attributes: AttributeSet | None
    item: Tensor
    rating: Tensor
    without: Tensor | None = None

    @property
    def changed(self) -> bool:
        """Whether the ratings are others than in training."""
        return len(self.item) > 0 or self.without is not None

    @property
    def asked(self) -> Told:
        """As `RatingModule.fold_in` takes it."""
        return self.position, self.attributes, self.item, self.rating, self.without


@dataclass(frozen=True)
class Profiles:
    """Reads who is meant, by what a model was fitted to."""

    spec: ModelSpec
    fitted: Fitted
    device: torch.device

    def read(
        self,
        user: User,
        ratings: NewRatings | None = None,
        without: Sequence[str | int] | None = None,
        context: RequestContext | None = None,
    ) -> Profile:
        """Looks up a user of the training data, or encodes a new one, and checks new ratings.

        `without` names items whose ratings by the user are left out, new ones or those of the training data. `context`
        is that of the request; None: what is usual.

        Raises:
            UnknownIdError: a user or an item is not in the training data.
            SchemaError: an attribute or a value that the model does not know.
            DataError: a rating that is not a number on the scale, or an item to leave out that the user has not rated.
            ConfigError: the model cannot leave a training rating out, or has learned from no context.
        """
        given, taken = {str(each): value for each, value in (ratings or {}).items()}, list(map(str, without or ()))
        item, rating = self._new_ratings({each: value for each, value in given.items() if each not in taken})
        users = self.fitted.users
        if isinstance(user, Mapping):
            profile = Profile(users.unknown, users.encoder.transform_one(user).to(self.device), item, rating)
        else:
            profile = Profile(users.position(user), None, item, rating)
        if context is not None:
            own = profile.attributes or users.attributes.to(self.device).rows(self._tensor([profile.position]))
            profile = replace(profile, attributes=own.in_context(self.context([context])))
        return self._left_out(profile, taken, given) if taken else profile

    def context(self, requests: Sequence[RequestContext]) -> Context:
        """Encodes the context of n requests.

        Raises:
            ConfigError: the model has learned from no context.
            SchemaError: an attribute or a value that the model does not know.
        """
        if not self.fitted.context.names:
            if self.spec.context:
                why = "has learned from no context: read the ratings with context=[...] (--context), and train again"
                more = " with context=True" if self.spec.name != "aanmf++" else ""
                raise ConfigError(f"this {self.spec.name} {why}{more}")
            available = ", ".join(with_capability("context"))
            raise ConfigError(f"{self.spec.name} does not take a context. Available: {available}")
        return self.fitted.context.transform_requests(requests).to(self.device)

    def context_of(self, data: RatingDataset) -> Context | None:
        """Encodes the context of the ratings of a data set; None where the model has learned from none."""
        encoder = self.fitted.context
        return encoder.transform(data.context, data.time).to(self.device) if encoder.names else None

    def _tensor(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, device=self.device)

    def _left_out(self, profile: Profile, taken: Sequence[str], given: Mapping[str, object]) -> Profile:
        """Without the training ratings of some items; those among the new ratings are left out already."""
        place = [self.fitted.items.position(each) for each in taken]
        trained = set(self.fitted.rated_by(np.array([profile.position]))[1].tolist())
        for each, at in zip(taken, place, strict=True):
            if at not in trained and each not in given:
                raise DataError(f"without: the user has not rated item {each!r}")
        left = [at for at in place if at in trained]
        if not left:
            return profile
        if not self.spec.retracts:
            raise ConfigError(
                f"{self.spec.name} cannot leave out a rating that it was trained on. "
                f"Available: {', '.join(with_capability('retracts'))}"
            )
        return replace(profile, without=torch.tensor(left, device=self.device))

    def history(self, profile: Profile) -> dict[int, float]:
        """All ratings that count for a user, by the item's position: those of training, and new ones over them."""
        items, ratings = self.fitted.ratings_of(profile.position)
        left_out = set() if profile.without is None else set(profile.without.tolist())
        trained = {item: given for item, given in zip(items, ratings, strict=True) if item not in left_out}
        return {**trained, **dict(zip(profile.item.tolist(), profile.rating.tolist(), strict=True))}

    def _new_ratings(self, ratings: NewRatings) -> tuple[Tensor, Tensor]:
        """Positions and ratings (m,), checked."""
        low, high = self.fitted.training.scale
        given = {str(item): self.fitted.training.mean if value is None else value for item, value in ratings.items()}
        position = self.fitted.items.table.ids.index(given)
        for (item, value), at in zip(given.items(), position, strict=True):
            if at < 0:
                raise UnknownIdError(f"ratings: item {item!r} is not in the training data")
            if not (isinstance(value, int | float) and low <= value <= high):
                raise DataError(f"ratings: {value!r} for item {item!r} is not a number from {low:g} to {high:g}")
        rating = torch.tensor([float(value) for value in given.values()], device=self.device)
        return torch.as_tensor(position, device=self.device), rating
