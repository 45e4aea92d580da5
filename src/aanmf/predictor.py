"""From users and items to numbers: looks ids up, encodes new users, and asks the module for ratings and intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aanmf.checks import all_finite
from aanmf.contract import Bounds, RatingModule
from aanmf.data.attributes import AttributeSet, Context
from aanmf.data.dataset import RatingDataset
from aanmf.errors import ConfigError, NotFiniteError
from aanmf.fitted import Fitted
from aanmf.item_index import ItemIndex
from aanmf.models.catalog import ModelSpec, with_capability
from aanmf.profile import Profile, Profiles, RequestContext
from aanmf.similarity import Similarity
from aanmf.training.distributed import ALONE, Ranks
from aanmf.training.predict import predict_pairs

Floats, Positions = NDArray[np.float32], NDArray[np.int64]
Scored = Literal["rating", "match"]
SCORE_BLOCK = 256
"""Users whose scores are stored at once."""


class Predictor:
    """Predictions of one fitted model. Ratings are clipped to the scale, scores are not."""

    def __init__(self, spec: ModelSpec, module: RatingModule, fitted: Fitted) -> None:
        self.spec, self.module, self.fitted = spec, module.eval(), fitted
        self.users, self.items, self.scale = fitted.users, fitted.items, fitted.training.scale
        self.device = next(module.parameters()).device
        self.rates, self.matches = spec.rates and fitted.training.has_ratings, module.matches
        self.profiles = Profiles(spec, fitted, self.device)
        self.profile = self.profiles.read
        self._stored: dict[Scored, Floats] = {}
        self.index: ItemIndex | None = None

    @torch.no_grad()
    def store_scores(self, most_bytes: int) -> None:
        """Computes the scores of all users for all items now, if they fit into so many bytes, to answer faster."""
        n_users, n_items = len(self.users) + 1, len(self.items)
        offered: dict[Scored, bool] = {"rating": self.rates, "match": self.matches}
        kinds: list[Scored] = [kind for kind, given in offered.items() if given]
        if 4 * n_users * n_items * len(kinds) > most_bytes:
            return
        for kind in kinds:
            stored = np.empty((n_users, n_items), np.float32)
            for users in torch.arange(n_users).split(SCORE_BLOCK):
                for part, scores, _ in self.scores(users, kind):
                    stored[users[part].numpy()] = scores.cpu().numpy()
            self._stored[kind] = stored

    # ------------------------------------------------------------------ pairs

    def predict(
        self,
        users: Sequence[str],
        items: Sequence[str],
        interval: float | None = None,
        context: Sequence[RequestContext] | None = None,
    ) -> tuple[dict[str, Floats], list[str | None]]:
        """`rating` of n pairs of ids, in n contexts, with an interval `low` and `high`; what stands for unknown ids."""
        user = self.users.table.ids.index(users, self.users.unknown)
        item = self.items.table.ids.index(items, self.items.unknown)
        own = None if context is None else self.in_context(user, self.profiles.context(context))
        found = (
            {"rating": self.ratings(user, item, own)} if interval is None else self.bounds(user, item, interval, own)
        )
        fallbacks: list[str | None] = [None] * len(user)
        for row in np.flatnonzero((self.users.n_ratings[user] == 0) | (self.items.n_ratings[item] == 0)):
            fallbacks[row] = self.fitted.fallback(user[row], item[row])
        return found, fallbacks

    def predict_data(self, data: RatingDataset, ranks: Ranks = ALONE) -> Floats:
        """Ratings (n,) of pairs in their context; unknown users by attributes; blocks are divided among `ranks`."""
        user = self.users.table.ids.index(data.users.ids.ids, self.users.unknown)[data.user]
        item = self.items.table.ids.index(data.items.ids.ids, self.items.unknown)[data.item]
        predicted, new = np.empty(len(data), np.float32), user == self.users.unknown
        context, rows = self.profiles.context_of(data), [self._tensor(np.flatnonzero(each)) for each in (~new, new)]
        own = None if context is None else self.in_context(user[~new], context.rows(rows[0]))
        predicted[~new] = self.ratings(user[~new], item[~new], own, ranks)
        if new.any():
            attributes = self.users.encoder.transform(data.users).to(self.device).rows(self._tensor(data.user[new]))
            own = attributes if context is None else attributes.in_context(context.rows(rows[1]))
            predicted[new] = self.ratings(user[new], item[new], own, ranks)
        return predicted

    def ratings(
        self, user: Positions, item: Positions, attributes: AttributeSet | None = None, ranks: Ranks = ALONE
    ) -> Floats:
        """Ratings (n,) of pairs of positions; `attributes` (n, J) instead of the users' own; `ranks` as before."""
        stored = self._stored.get("rating")
        if stored is not None and attributes is None and (item < self.items.unknown).all():
            return stored[user, item].clip(*self.scale)
        self.check_rates()
        predicted = predict_pairs(self.module, self._tensor(user), self._tensor(item), attributes, ranks=ranks)
        self.check_finite(predicted)
        return predicted.clamp(*self.scale).cpu().numpy()

    @torch.no_grad()
    def bounds(
        self, user: Positions, item: Positions, coverage: float, attributes: AttributeSet | None = None
    ) -> dict[str, Floats]:
        """`rating`, `low` and `high` of pairs of positions (n,).

        Raises:
            ConfigError: the model has no intervals, or `coverage` is not between 0 and 1.
        """
        self.check_interval(coverage)
        return self._in_scale(self.module.interval(self._tensor(user), self._tensor(item), coverage, attributes))

    def check_rates(self) -> None:
        """Raises ConfigError where the model predicts no ratings."""
        if not self.spec.rates:
            raise ConfigError(
                f"{self.spec.name} does not predict ratings. Available: {', '.join(with_capability('rates'))}"
            )
        if not self.fitted.training.has_ratings:
            raise ConfigError(f"{self.spec.name} was trained on choices without ratings: it predicts none")

    def check_matches(self) -> None:
        """Raises ConfigError where the model has not learned what users choose."""
        if not self.matches:
            raise ConfigError(
                f"{self.spec.name} does not rank by match: give rank_by='rating', or use another model. "
                f"Available: {', '.join(with_capability('matches'))}"
            )

    def check_interval(self, coverage: float) -> None:
        """Raises ConfigError where the model has no intervals, or `coverage` is not between 0 and 1."""
        if not self.spec.intervals:
            raise ConfigError(
                f"{self.spec.name} gives no prediction intervals. Available: {', '.join(with_capability('intervals'))}"
            )
        if not 0 < coverage < 1:
            raise ConfigError(f"interval={coverage}: give a probability between 0 and 1, such as 0.9")

    # ------------------------------------------------------------------ one user

    def attributes(self, profile: Profile) -> AttributeSet:
        """(1, J) of a user."""
        if profile.attributes is not None:
            return profile.attributes
        return self._attributes.rows(torch.tensor([profile.position], device=self.device))

    def in_context(self, users: Positions, context: Context) -> AttributeSet:
        """(n, J) of users at positions, in the context of n requests."""
        return self._attributes.rows(self._tensor(users)).in_context(context)

    @cached_property
    def _attributes(self) -> AttributeSet:
        """Of all users, on the device."""
        return self.users.attributes.to(self.device)

    def predict_for(
        self, profile: Profile, items: Sequence[str], interval: float | None = None
    ) -> tuple[dict[str, Floats], list[str | None]]:
        """The ratings of n items by one user, as `predict` gives them; new ratings count."""
        item = self.items.table.ids.index(items, self.items.unknown)
        fallbacks = ["unknown item" if at == self.items.unknown else None for at in item]
        if interval is None:
            return {"rating": self.ratings_for(profile, item)}, fallbacks
        return self.bounds_for(profile, item, interval), fallbacks

    def ratings_for(self, profile: Profile, item: Positions) -> Floats:
        """One user's ratings (n,) of items at positions; new ratings count."""
        user, attributes = self.repeated(profile, len(item))
        rating = self.ratings(user, item, None if profile.attributes is None else attributes)
        if profile.changed:
            known = item < self.items.unknown
            ((_, (scores,), _),) = self.scores_of([profile])
            rating[known] = scores.clamp(*self.scale).cpu().numpy()[item[known]]
        return rating

    @torch.no_grad()
    def bounds_for(self, profile: Profile, item: Positions, coverage: float) -> dict[str, Floats]:
        """`rating`, `low` and `high` of one user's ratings (n,) of items at positions; new ratings count.

        Raises:
            ConfigError: as `bounds`.
        """
        user, attributes = self.repeated(profile, len(item))
        known = item < self.items.unknown
        if not profile.changed or not known.any():
            return self.bounds(user, item, coverage, attributes)
        self.check_interval(coverage)
        folded_in = self._in_scale(self.module.interval_folded_in(profile.asked, self._tensor(item[known]), coverage))
        if known.all():
            return folded_in
        found = self.bounds(user, item, coverage, attributes)
        for name, column in folded_in.items():
            found[name][known] = column
        return found

    def _in_scale(self, found: Bounds) -> dict[str, Floats]:
        self.check_finite(*found)
        columns = (each.clamp(*self.scale).cpu().numpy() for each in found)
        return dict(zip(("rating", "low", "high"), columns, strict=True))

    def repeated(self, profile: Profile, n: int) -> tuple[Positions, AttributeSet]:
        """Position and attributes of a user, n times."""
        zeros = torch.zeros(n, dtype=torch.int64, device=self.device)
        return np.full(n, profile.position), self.attributes(profile).rows(zeros)

    # ------------------------------------------------------------------ all items

    @torch.no_grad()
    def scores(
        self, users: Tensor, kind: Scored = "rating", attributes: AttributeSet | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Scores of all items, in blocks of users.

        Yields places in `users` (b,) on the CPU, scores (b, n_items), which the caller may overwrite, and the predicted
        ratings (b, n_items), not clipped: the scores themselves if `kind` is `rating`; None if the model has none.
        `attributes` (n, J) in place of the users' own.
        """
        if not len(users):
            return
        if kind in self._stored and attributes is None:
            found = {each: torch.from_numpy(stored[users.numpy()]) for each, stored in self._stored.items()}
            yield torch.arange(len(users)), found[kind], found.get("rating")
        elif kind == "match":
            for part, scores, rating in self.module.match(users.to(self.device), attributes):
                self.check_finite(scores, rating)
                yield part.cpu(), scores, rating
        else:
            for part, scores in self.module.catalogue(users.to(self.device), attributes):
                self.check_finite(scores)
                yield part.cpu(), scores, scores

    @torch.no_grad()
    def scores_of(
        self, profiles: Sequence[Profile], kind: Scored = "rating"
    ) -> Iterator[tuple[list[int], Tensor, Tensor | None]]:
        """The same for profiles: those as trained from one pass over the catalogue, the others one by one."""
        as_trained: list[int] = []
        for row, profile in enumerate(profiles):
            if profile.changed:
                if kind == "match":
                    scores, rating = self.module.match_folded_in(*profile.asked)
                else:
                    scores = rating = self.module.fold_in(*profile.asked)
                self.check_finite(scores, rating)
                yield [row], scores[None], None if rating is None else rating[None]
            elif profile.attributes is not None:
                ((_, scores, rating),) = self.scores(torch.tensor([profile.position]), kind, profile.attributes)
                yield [row], scores, rating
            else:
                as_trained.append(row)
        if as_trained:
            for part, scores, rating in self.scores(torch.tensor([profiles[row].position for row in as_trained]), kind):
                yield [as_trained[place] for place in part.tolist()], scores, rating

    @cached_property
    def item_similarity(self) -> Similarity:
        """Of items."""
        return Similarity(self.fitted, self.items)

    @cached_property
    def user_similarity(self) -> Similarity:
        """Of users."""
        return Similarity(self.fitted, self.users)

    def check_finite(self, *found: Tensor | None) -> None:
        """Raises NotFiniteError where a number is not finite, before clipping would hide it."""
        if not all(all_finite(each) for each in found if each is not None):
            raise NotFiniteError(
                f"{self.spec.name} predicts a number that is not finite: its weights are damaged, or its training "
                "diverged; train it again"
            )

    def _tensor(self, array: Positions) -> Tensor:
        return torch.as_tensor(array, device=self.device)
