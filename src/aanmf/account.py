"""An additive account of one predicted rating: a base, and what each part adds to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import factorial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EXACT = 10
"""Players up to which Shapley values are computed over all subsets; above, over DRAWS random orders."""
DRAWS = 256


@dataclass(frozen=True)
class Account:
    """base + the sum of all parts = the prediction, before it is clipped to the scale, or the match.

    Attributes:
        base: ().
        rated: (n,) of the rated items.
        user: (): what the model knows of the user by id.
        user_attributes: (J,) of the slots of the user's attributes.
        item: (): the item by id, its mean rating included.
        audience: (): who rated the item, and how.
        item_attributes: (G,) of the slots of the item's attributes.
        context: (L + 1,) of the context attributes of the rating, and of its time.
        items: (n,) positions of the rated items.
    """

    base: Tensor
    rated: Tensor
    user: Tensor
    user_attributes: Tensor
    item: Tensor
    audience: Tensor
    item_attributes: Tensor
    context: Tensor
    items: Tensor

    @classmethod
    def empty(cls, items: Tensor, user_slots: int, item_slots: int, contexts: int = 0) -> Account:
        """All parts 0."""
        zero = torch.zeros((), device=items.device)
        rated, of_user, of_item, context = (zero.expand(n) for n in (len(items), user_slots, item_slots, contexts + 1))
        return cls(zero, rated, zero, of_user, zero, zero, of_item, context, items)

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """All contributions."""
        of_sides = self.rated, self.user, self.user_attributes, self.item, self.audience, self.item_attributes
        return *of_sides, self.context

    def total(self) -> Tensor:
        """The prediction ()."""
        return self.base + torch.stack([part.sum() for part in self.parts]).sum()

    def plus(self, other: Account) -> Account:
        """The sum of two accounts of the same pair."""
        one = self.base.new_ones(())
        return mean_of([self, other], [one, one])

    def scaled(self, factor: Tensor, base: Tensor) -> Account:
        """With all parts times a factor, and another base."""
        return Account(base, *(part * factor for part in self.parts), items=self.items)


def mean_of(accounts: Sequence[Account], weights: Sequence[Tensor]) -> Account:
    """The sum of weights times accounts of the same pair."""
    fields = zip(*((each.base, *each.parts) for each in accounts), strict=True)
    summed = [torch.stack([w * each for w, each in zip(weights, of, strict=True)]).sum(0) for of in fields]
    return Account(*summed, items=accounts[0].items)


def shapley(value: Callable[[NDArray[np.bool_]], NDArray[np.float64]], players: int, seed: int = 0) -> list[float]:
    """Shapley values of a game: the mean of what each player adds, over all orders in which they join.

    Args:
        value: of coalitions (m, players), True for those who take part: (m,).
        players: how many.
        seed: of the orders drawn where there are more than EXACT players; the values sum to the whole gain then too.
    """
    if players > EXACT:
        rng = np.random.default_rng(seed)
        orders = [rng.permutation(players) for _ in range(DRAWS)]
        joined = np.stack([np.argsort(order)[None] < np.arange(players + 1)[:, None] for order in orders])
        values = value(joined.reshape(-1, players)).reshape(DRAWS, players + 1)
        result = np.zeros(players)
        for order, row in zip(orders, values, strict=True):
            result[order] += [after - before for before, after in pairwise(row)]
        return (result / DRAWS).tolist()
    coalitions = (np.arange(2**players)[:, None] >> np.arange(players)) & 1 == 1
    values, size = value(coalitions), coalitions.sum(axis=1)
    weight = np.array([factorial(k) * factorial(players - k - 1) / factorial(players) for k in range(players)] + [0.0])
    return [
        float(sum(weight[size[s]] * (values[s | 1 << j] - values[s]) for s in range(2**players) if not s >> j & 1))
        for j in range(players)
    ]
