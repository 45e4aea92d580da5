"""Models that lists are compared with and that are no part of the library: bestsellers of a group, ridge, neighbours.

`register` adds them to the catalogue of this process, so that tuning and runs know them like any other model.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.contract import TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.models.catalog import CATALOG, CLASSES, ModelSpec
from aanmf.models.closed_form import BLOCK, ListConfig, ListModule
from aanmf.models.ease import EASEConfig, EASEModule
from aanmf.models.histories import Histories
from aanmf.models.space import Range


def one_hot(sets: AttributeSet) -> Tensor:
    """(n, values + 1) weights of attribute values; the last column is 1. Vectors are left out."""
    known = sets.mask & (sets.value < sets.n_values)
    rows = torch.zeros(len(sets), sets.n_values + 1)
    row, slot = known.nonzero(as_tuple=True)
    rows[row, sets.value[row, slot]] = sets.weight[row, slot]
    rows[:, -1] = 1
    return rows


class OfAttributes(ListModule):
    """A model whose scores of a user rest on the attributes, and perhaps on the history."""

    def __init__(self, config: ListConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        self.sets = training.users

    def of_attributes(self, sets: AttributeSet) -> Tensor:
        """Scores (b, n_items) of users with these attributes."""
        raise AssertionError(f"{type(self).__name__} must define of_attributes")

    def both(self, histories: Histories, sets: AttributeSet) -> Tensor:
        """Scores (b, n_items) from histories and attributes."""
        return self.of_attributes(sets)

    def match(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor, None]]:
        """See `RatingModule.match`."""
        for part in torch.arange(len(users)).split(BLOCK):
            own = self.sets.rows(users[part]) if sets is None else sets.rows(part)
            yield part, self.both(self.histories.rows(users[part]), own), None

    def match_folded_in(
        self, user: int, sets: AttributeSet | None, items: Tensor, ratings: Tensor, without: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """See `RatingModule.match_folded_in`."""
        own = self.sets.rows(torch.tensor([user])) if sets is None else sets
        return self.both(self.changed(user, items, ratings, without), own)[0], None


class GroupConfig(ListConfig):
    """Settings of `GroupPopularity`."""

    attributes: int = Field(default=2, ge=1)
    """A group are the users who have the same values of so many attributes, the first ones (gender and age)."""
    damping: float = Field(default=50.0, gt=0)
    """So many average users are counted into each group."""


class GroupPopularityModule(OfAttributes):
    """s_gi = (n_gi + damping n_i / n) / (n_g + damping), n_gi the weight of i among the n_g users of group g."""

    config: GroupConfig

    def learn(self, histories: Histories) -> None:
        """Counts by group."""
        key = self._key(self.sets)
        self.groups, group = key.unique(dim=0, return_inverse=True)
        row = group.repeat_interleave(histories.count)
        sums = torch.zeros(len(self.groups), self.n_items)
        sums.index_put_((row, histories.item), histories.weight, accumulate=True)
        active = torch.bincount(group[histories.count > 0], minlength=len(self.groups))[:, None]
        share = sums.sum(0) / active.sum()
        self.scores = (sums + self.config.damping * share) / (active + self.config.damping)
        self.share = share

    def of_attributes(self, sets: AttributeSet) -> Tensor:
        """See `OfAttributes.of_attributes`; an unknown group is an average one."""
        same = (self._key(sets)[:, None] == self.groups).all(2)
        return torch.where(same.any(1, keepdim=True), self.scores[same.int().argmax(1)], self.share)

    def _key(self, sets: AttributeSet) -> Tensor:
        slots = slice(min(self.config.attributes, sets.value.shape[1]))
        return torch.where(sets.mask, sets.value, -1)[:, slots]


class RidgeConfig(ListConfig):
    """Settings of `AttributeRidge`."""

    l2: float = Field(default=100.0, gt=0)
    """lambda of the ridge regression of every item on the attributes."""


def ridge(sets: AttributeSet, histories: Histories, n_items: int, l2: float) -> Tensor:
    """(values + 1, n_items) weights W of X ~ A W over users with a history; the last row is the mean of X."""
    rated = histories.count > 0
    design = one_hot(sets)[:, :-1]
    sums = torch.zeros(design.shape[1], n_items)
    users = torch.arange(len(histories)).repeat_interleave(histories.count)
    for column in range(len(sums)):  # A' X, a value at a time
        sums[column].index_put_((histories.item,), histories.weight * design[users, column], accumulate=True)
    mean = torch.zeros(n_items).index_put_((histories.item,), histories.weight, accumulate=True) / rated.sum()
    design = design[rated]
    sums -= design.sum(0)[:, None] * mean
    weights = torch.linalg.solve(design.T @ design + l2 * torch.eye(len(sums)), sums)
    return torch.cat([weights, mean[None]])


class AttributeRidgeModule(OfAttributes):
    """s_u = mean + a_u W, the ridge regression of the weighted ratings of all items on the attributes."""

    config: RidgeConfig

    def learn(self, histories: Histories) -> None:
        """The closed form."""
        self.w = ridge(self.sets, histories, self.n_items, self.config.l2)

    def of_attributes(self, sets: AttributeSet) -> Tensor:
        """See `OfAttributes.of_attributes`."""
        return one_hot(sets) @ self.w


class EaseRidgeConfig(EASEConfig):
    """Settings of `EaseRidge`."""

    ridge_l2: float = Field(default=100.0, gt=0)
    """lambda of the ridge regression on the attributes."""
    ridge_weight: float = Field(default=0.1, gt=0)
    """Its weight beside EASE."""


class EaseRidgeModule(OfAttributes, EASEModule):
    """s_u = x_u B + weight (mean + a_u W): EASE, and the ridge for those who have few ratings or none."""

    def __init__(self, config: EaseRidgeConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        self.l2, self.weight_of_ridge = config.ridge_l2, config.ridge_weight

    def learn(self, histories: Histories) -> None:
        """Both closed forms."""
        EASEModule.learn(self, histories)
        self.w = ridge(self.sets, histories, self.n_items, self.l2)

    def both(self, histories: Histories, sets: AttributeSet) -> Tensor:
        """See `OfAttributes.both`."""
        return self.score(histories) + self.weight_of_ridge * (one_hot(sets) @ self.w)


class AttributeKNNModule(ListModule):
    """s_ui = sum_j x_uj cos(a_i, a_j): neighbours by the attributes of items, which new items have too."""

    def __init__(self, config: ListConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        self.unit = F.normalize(one_hot(training.items)[:-1, :-1])

    def learn(self, histories: Histories) -> None:
        """Nothing is fitted."""

    def score(self, histories: Histories) -> Tensor:
        """See `ListModule.score`."""
        return histories.times(self.unit) @ self.unit.T


class RandomModule(ListModule):
    """Scores by chance."""

    def learn(self, histories: Histories) -> None:
        """Draws one order of the items for each block of users."""
        generator = torch.Generator().manual_seed(self.config.seed)
        self.table = nn.Parameter(torch.rand(BLOCK, self.n_items, generator=generator), requires_grad=False)

    def score(self, histories: Histories) -> Tensor:
        """See `ListModule.score`."""
        return self.table[torch.arange(len(histories)) % BLOCK].clone()


def register() -> None:
    """Adds these models to the catalogue."""
    weights: dict[str, Range] = {}
    l2, damping = Range(1, 5000), Range(1, 2000)
    ease = {**CATALOG["ease"].space, "ridge_l2": l2, "ridge_weight": Range(0.003, 3)}
    for name, class_name, config, space in (
        ("random", "Random", "aanmf.models.closed_form:ListConfig", weights),
        ("group-popularity", "GroupPopularity", "list_peers:GroupConfig", {"damping": damping}),
        ("ridge", "AttributeRidge", "list_peers:RidgeConfig", {"l2": l2}),
        ("ease+ridge", "EaseRidge", "list_peers:EaseRidgeConfig", ease),
        ("attribute-knn", "AttributeKNN", "aanmf.models.closed_form:ListConfig", weights),
    ):
        spec = ModelSpec(
            name,
            name,
            class_name,
            f"list_peers:{class_name}Module",
            config,
            "",
            space=space,
            trainer="aanmf.models.closed_form:fit_closed_form",
            rates=False,
            matches=True,
            new_items=True,
            checkpoints=False,
            exports=False,
        )
        CATALOG[name] = CLASSES[class_name] = spec
