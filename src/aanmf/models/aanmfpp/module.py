"""AANMF++: predictions of several members of the model in `equations.py`, blended with damped means; and choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from aanmf.contract import Bounds, Side, Told, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.errors import ConfigError
from aanmf.models.aanmfpp.choice import ChoiceHead
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.drift import Drift
from aanmf.models.aanmfpp.equations import Encoded, Equations, Member, damped_means
from aanmf.models.aanmfpp.export import AANMFppForm, EnsembleTables, MemberTables
from aanmf.models.aanmfpp.history import Seen
from aanmf.models.aanmfpp.interval import Interval
from aanmf.models.aanmfpp.scores import Grid, Pairs
from aanmf.models.kernels import columns_of

__all__ = ["AANMFppConfig", "AANMFppModule"]
At = TypeVar("At", Pairs, Grid)
BLOCK, CATALOGUE = 512, 32_000_000
"""Users whose scores are computed at a time, and scores, at most."""


@dataclass(frozen=True)
class State:
    """All that predictions are made from: the ratings in view, and what the members make of users and items.

    Attributes:
        seen: sums over the ratings as the members see them; like the next two without what is stored per rating.
        means, explained: the same with the damping of the damped means, and of the kernel ridge.
        encoded: one per member.
    """

    seen: Seen
    means: Seen
    explained: Seen
    encoded: list[Encoded]


class AANMFppModule(Equations):
    """The mean of members; one more, if the settings say so, predicts for users and items without ratings."""

    trust: Tensor

    def __init__(self, config: AANMFppConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        self.register_buffer("trust", torch.ones(()))  # weight of the model over damped means
        self.errors, self.newcomer_errors = Interval(), Interval()
        self.member = nn.ModuleList(self.new_member(training) for _ in range(config.members + (config.cold > 0)))
        self.choice = ChoiceHead(config, training, self.history.matrix) if config.match else None
        self.drift = Drift.over(self.history, self.context, config.future) if config.drift else None
        self.has_ratings = training.has_ratings
        self._state: State | None = None

    @property
    def members(self) -> list[Member]:
        """All members, that for newcomers last."""
        return [member for member in self.member if isinstance(member, Member)]

    # ------------------------------------------------------------ all training ratings in view

    def train(self, mode: bool = True) -> Self:
        """Forgets what was computed for prediction when it goes back to training."""
        if mode:
            self._state = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._state = None
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def state(self) -> State:
        """All training ratings in view, computed once."""
        if self._state is None:
            config, see = self.config, self.history.see_all
            means, explained = see(config.means_damping).summed(), see(config.ridge_damping).summed()
            seen = see(config.damping)
            encoded = [self.with_table(member, self.encode(member, seen)) for member in self.members]
            self._state = State(seen.summed(), means, explained, encoded)
        return self._state

    def settle(self, rated_users: Tensor, rated_items: Tensor) -> None:
        """See `Member.settle`."""
        for member in self.members:
            member.settle(rated_users, rated_items)

    # ------------------------------------------------------------ pairs

    def pairs(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Pairs:
        """See `Equations.pairs`; with what the times say."""
        at = super().pairs(users, items, sets)
        return at if self.drift is None else replace(at, drift=self.drift.of(users, at.sets.context))

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.forward`."""
        return self._predict(self.state(), self.pairs(users, items, sets))

    def attention(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.attention`: the mean over the members."""
        at = Pairs(users, items, self.sets.rows(users) if sets is None else sets, self._no_features(len(users))[..., 0])
        return self._mean(self.state(), at, self._attention).T

    def _attention(self, member: Member, encoded: Encoded, at: Pairs) -> Tensor:
        return at.attention(self.attributes(member, encoded, at.sets.vectors)).T

    def context_attention(self, users: Tensor, items: Tensor, sets: AttributeSet) -> Tensor | None:
        """See `RatingModule.context_attention`: the mean over the members."""
        if self.members[0].context is None:
            return None
        at = Pairs(users, items, sets, self._no_features(len(users))[..., 0])
        return self._mean(self.state(), at, context_attention).T

    def interval(self, users: Tensor, items: Tensor, coverage: float, sets: AttributeSet | None = None) -> Bounds:
        """See `RatingModule.interval`."""
        state, at = self.state(), self.pairs(users, items, sets)
        rating, *known = self.rating_and_basis(state, at)
        new = state.seen.users.count[users] == 0
        of_new, of_known = (errors.reach(coverage, *known) for errors in (self.newcomer_errors, self.errors))
        below, above = (torch.where(new, *each) / self.scale for each in zip(of_new, of_known, strict=True))
        return rating, rating - below, rating + above

    def damped_means(self, users: Tensor, items: Tensor) -> Tensor:
        """mu + b_u + b_i (B,): the prediction that is hard to beat where ratings are few."""
        return damped_means(self.state().means, self.pairs(users, items)) / self.scale

    # ------------------------------------------------------------ all items

    def catalogue(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `RatingModule.catalogue`."""
        sets, state = self.sets.rows(users) if sets is None else sets, self.state()
        for part in self._blocks(users):
            features = self.ridge.over_catalogue(users[part]) if self.ridge else None
            own, rating = sets.rows(part), torch.empty(len(part), self.n_items, device=users.device)
            drift = None if self.drift is None else self.drift.of_catalogue(users[part], own.context)
            for items in columns_of(rating):
                known = features(items) if features else self._no_features(len(part))
                rating[:, items] = self._predict(state, Grid(users[part], items, own, known, drift))
            yield part, rating

    def _blocks(self, users: Tensor) -> Iterable[Tensor]:
        """Places in `users`, some at a time."""
        size = max(1, min(BLOCK, CATALOGUE // max(1, self.n_items)))
        return torch.arange(len(users), device=users.device).split(size)

    def fold_in(
        self, user: int, sets: AttributeSet | None, items: Tensor, ratings: Tensor, without: Tensor | None = None
    ) -> Tensor:
        """See `RatingModule.fold_in`: the equations with another history of the user, nothing retrained."""
        return self._predict(*self._changed(user, sets, items, ratings, without))[0]

    def interval_folded_in(self, told: Told, asked: Tensor, coverage: float) -> Bounds:
        """See `RatingModule.interval_folded_in`."""
        state, at = self._changed(*told)
        (rating,), *known = self.rating_and_basis(state, at.take(asked))
        errors = self.newcomer_errors if self.state().seen.users.count[told[0]] == 0 else self.errors
        (below,), (above,) = errors.reach(coverage, *known)
        return rating, rating - below / self.scale, rating + above / self.scale

    def _changed(
        self, user: int, sets: AttributeSet | None, items: Tensor, ratings: Tensor, without: Tensor | None
    ) -> tuple[State, Grid]:
        """The state with another history of a user in view, and all items for this user; arguments as `fold_in`."""
        gone = items if without is None else torch.cat([items, without])
        items, ratings = self.history.changed(user, items, ratings * self.scale, without)
        state, features = self.state_with(user, items, ratings), self._no_features(1)
        if self.ridge:
            features = self.ridge.of_history(user, items, state.explained.users.residual[0])[:, None, :-1]
        row = torch.zeros(1, dtype=torch.int64, device=items.device)
        own = self.sets.rows(row + user) if sets is None else sets
        drift = None if self.drift is None else self.drift.of_catalogue(row + user, own.context, gone)
        return state, Grid(row, slice(0, self.n_items), own, features, drift)

    def state_with(self, user: int, items: Tensor, ratings: Tensor) -> State:
        """The state with this history (m,) of a user, in scaled ratings; or with n histories (n, m)."""
        state = self.state()
        seen, means, explained = (
            replace(each, users=self.history.fold_in(each, items, ratings))
            for each in (state.seen, state.means, state.explained)
        )
        encoded = []
        for member, known in zip(self.members, state.encoded, strict=True):
            x, b_u = self.encode_users(member, seen, user)
            encoded.append(replace(known, x=x, b_u=b_u))
        return State(seen, means, explained, encoded)

    # ------------------------------------------------------------ what users choose

    @property
    def matches(self) -> bool:
        """See `RatingModule.matches`."""
        return self.choice is not None

    def match(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """See `RatingModule.match`: log probabilities."""
        choice = self.choice_head()
        for part in self._blocks(users):
            own = None if sets is None else sets.rows(part)
            attributes = choice.users[users[part]] if own is None else choice.attributes(own)
            rating = next(self.catalogue(users[part], own))[1] if self.has_ratings else None
            yield part, choice(choice.histories(users[part]), attributes, rating), rating

    def match_folded_in(
        self, user: int, sets: AttributeSet | None, items: Tensor, ratings: Tensor, without: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `RatingModule.match_folded_in`: the same equations with another history of the user."""
        choice = self.choice_head()
        attributes = choice.users[user : user + 1] if sets is None else choice.attributes(sets)
        rating = self.fold_in(user, sets, items, ratings, without) if self.has_ratings else None
        items, ratings = self.history.changed(user, items, ratings * self.scale, without)
        history = choice.history(items, ratings / self.scale)
        return choice(history, attributes, None if rating is None else rating[None])[0], rating

    def choice_head(self) -> ChoiceHead:
        """What ranks.

        Raises:
            ConfigError: the model was trained without.
        """
        if self.choice is None:
            raise ConfigError("this model was trained with match=False: rank by rating, or train with match=True")
        return self.choice

    def _no_features(self, users: int) -> Tensor:
        return torch.zeros(0, users, self.n_items, device=self.scale.device)

    # ------------------------------------------------------------ for use elsewhere

    def sides(self) -> tuple[Side, Side]:
        """See `RatingModule.sides`: mean biases, and the vectors of the members one after another."""
        of = self.state().encoded
        b_u, b_i = (torch.stack(side).mean(0) / self.scale for side in zip(*((e.b_u, e.b_i) for e in of), strict=True))
        return Side(b_u, torch.cat([e.x for e in of], dim=1)), Side(b_i, torch.cat([e.z for e in of], dim=1))

    @torch.no_grad()
    def export_form(self) -> nn.Module:
        """See `RatingModule.export_form`."""
        return form_of(self)

    # ------------------------------------------------------------ over the members

    def _predict(self, state: State, at: At) -> Tensor:
        """Ratings of pairs or of a grid: the mean of the members, as far as it is trusted over damped means."""
        return self._blend(state, at, self._mean(state, at, self._expected))

    def _expected(self, member: Member, encoded: Encoded, at: Pairs | Grid) -> Tensor:
        return self.expected(member, self.latent(member, encoded, at))

    def rating_and_basis(self, state: State, at: At) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Ratings, and what `Interval` takes: variance of the head, numbers of ratings of user and item.

        The variance is that of the members for known users: on them the errors of newcomers were learned, too.
        """

        def moments(member: Member, encoded: Encoded, at: At) -> Tensor:
            return self.moments(member, self.latent(member, encoded, at))

        mean, variance = self._mean_of_known(state, at, moments)
        rating = self._blend(state, at, self._with_newcomer(state, at, self._expected, mean))
        return rating, variance, *at.both(state.seen.users.count, state.seen.items.count)

    def _blend(self, state: State, at: Pairs | Grid, model: Tensor) -> Tensor:
        means = damped_means(state.means, at)
        blend = means + self.trust * (model - means)
        return (blend if at.drift is None else blend + at.drift) / self.scale

    def _mean(self, state: State, at: At, of: Callable[[Member, Encoded, At], Tensor]) -> Tensor:
        """The members' mean of something (..., n); for new users and items, that of the newcomers' member."""
        return self._with_newcomer(state, at, of, self._mean_of_known(state, at, of))

    def _mean_of_known(self, state: State, at: At, of: Callable[[Member, Encoded, At], Tensor]) -> Tensor:
        """The same of the members for known users and items alone."""
        first, *others = list(zip(self.members, state.encoded, strict=True))[: self.config.members]
        total = of(*first, at)
        for each in others:
            total = total + of(*each, at)
        return total / self.config.members

    def _with_newcomer(self, state: State, at: At, of: Callable[[Member, Encoded, At], Tensor], mean: Tensor) -> Tensor:
        """The mean of the others, overwritten by the newcomers' member where the user or the item is new."""
        if self.config.cold == 0:
            return mean
        user, item = at.both(state.seen.users.count == 0, state.seen.items.count == 0)
        new = user | item
        some = torch.atleast_2d(new).any(0).nonzero()[:, 0]
        if len(some):
            newcomer = of(self.members[-1], state.encoded[-1], at.take(some))
            mean[..., some] = torch.where(new[..., some], newcomer, mean[..., some])
        return mean


def context_attention(member: Member, encoded: Encoded, at: Pairs) -> Tensor:
    """kappa (L, B) of one member."""
    assert member.context is not None
    return at.context(member.context, encoded.x, encoded.z)[0].T


def form_of(module: AANMFppModule) -> AANMFppForm:
    """The model for use elsewhere."""
    state = module.state()
    means, new = state.means, [side.count == 0 for side in (state.seen.users, state.seen.items)]
    mean = means.mean + means.users.offset
    shared = EnsembleTables(module.levels, module.trust, module.scale, mean, means.items.offset, *new)
    members = [tables_of(module, *pair) for pair in zip(module.members, state.encoded, strict=True)]
    sets, contexts = module.sets if module.attend else None, [member.context for member in module.members]
    return AANMFppForm(members, contexts, shared, sets, module.ridge, module.config, module.ordinal)


def tables_of(equations: Equations, member: Member, encoded: Encoded) -> MemberTables:
    """One member for use elsewhere."""
    of, cell = equations.attributes(member, encoded, equations.sets.vectors), member.cell
    attention = cell.value(of.a), cell.item(encoded.z), cell.out.weight[0]
    head = member.t, member.theta, member.log_sigma.exp()[None]
    return MemberTables(encoded.b_u, encoded.x, encoded.b_i, encoded.z, of.a, of.beta, *attention, *head)
