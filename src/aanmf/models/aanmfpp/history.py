"""The rating history of users and the audience of items, with any part of the ratings held out.

What a model learns from histories must not have seen the ratings that it is fitted to: a part of the training ratings
gets weight 0 in all sums, and the model is fitted to that part (see `models/aanmfpp/fit.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aanmf.contract import Ratings
from aanmf.models.sparse import SparseMatrix


class BothWays(NamedTuple):
    """A number per rating (N,), in the order of `RatingHistory` (by user) and once more by item."""

    by_user: Tensor
    by_item: Tensor


@dataclass(frozen=True)
class Seen:
    """The ratings that are in view, summed up: everything that depends on the history and not on parameters.

    Attributes:
        mean: mu.
        user_offset, item_offset: b_u (U,) and b_i (I,), damped means of what mu (and b_i) leave over.
        weight, residual: 1 or 0, and r - mu - b_u - b_i or 0, of every rating.
        n_user, n_item: (U,), (I,) how many ratings are in view.
        user_scale, item_scale: (U, 1), (I, 1) what sums over a history are multiplied with: about 1 / sqrt(n).
    """

    mean: Tensor
    user_offset: Tensor
    item_offset: Tensor
    weight: BothWays
    residual: BothWays
    n_user: Tensor
    n_item: Tensor
    user_scale: Tensor
    item_scale: Tensor


class RatingHistory(nn.Module):
    """Training ratings sorted by user, as a sparse matrix users x items.

    Args:
        ratings: the training ratings.
        shape: users and items, the unknown ones included.
        damping: pseudo-counts of the user and the item offsets.
        power: exponents of the number of ratings by which sums over a user's history and an item's audience shrink.
    """

    user: Tensor
    item: Tensor
    rating: Tensor
    order: Tensor

    def __init__(
        self, ratings: Ratings, shape: tuple[int, int], damping: tuple[float, float], power: tuple[float, float]
    ) -> None:
        super().__init__()
        order = torch.argsort(ratings.user, stable=True)
        for name, part in (("user", ratings.user), ("item", ratings.item), ("rating", ratings.rating)):
            self.register_buffer(name, part[order], persistent=False)
        self.register_buffer("order", order, persistent=False)
        self.matrix = SparseMatrix(self.user, self.item, torch.ones(len(order)), shape)
        self.shape, self.damping, self.power = shape, damping, power

    def __len__(self) -> int:
        return len(self.rating)

    def see(self, weight: Tensor, damping: tuple[float, float] | None = None) -> Seen:
        """Sums up the ratings of weight 1; those of weight 0 are held out. `weight` (N,) is in sorted order."""
        damp_user, damp_item = damping or self.damping
        n_user, n_item = self._sum_by_user(weight), self._sum_by_item(weight)
        mean = (weight * self.rating).sum() / weight.sum().clamp(min=1)
        residual = (self.rating - mean) * weight
        item_offset = self._sum_by_item(residual) / (n_item + damp_item)
        residual = residual - weight * item_offset.index_select(0, self.item)
        user_offset = self._sum_by_user(residual) / (n_user + damp_user)
        return Seen(
            mean,
            user_offset,
            item_offset,
            self._both(weight),
            self._both(residual - weight * user_offset.index_select(0, self.user)),
            n_user,
            n_item,
            shrinkage(n_user, self.power[0]),
            shrinkage(n_item, self.power[1]),
        )

    def _sum_by_user(self, values: Tensor) -> Tensor:
        """(U,) from (N,), which lie user by user."""
        return torch.segment_reduce(values, "sum", lengths=self.matrix.count, unsafe=True)

    def _sum_by_item(self, values: Tensor) -> Tensor:
        """(I,) from (N,)."""
        return values.new_zeros(self.shape[1]).scatter_add_(0, self.item, values)

    def rows_of(self, user: int) -> Tensor:
        """Where the ratings of one user lie."""
        start = int(self.matrix.start[user])
        return torch.arange(start, start + int(self.matrix.count[user]), device=self.rating.device)

    def offset_of(
        self, seen: Seen, items: Tensor, ratings: Tensor, damping: tuple[float, float]
    ) -> tuple[Tensor, Tensor]:
        """b_u (scalar) and residuals (n,) of a user with this history, as `see` would give them."""
        left = ratings - seen.mean - seen.item_offset[items]
        offset = left.sum() / (len(items) + damping[0])
        return offset, left - offset

    def _both(self, values: Tensor) -> BothWays:
        return BothWays(values, self.matrix.turned(values))

    def of_users(self, table: Tensor, values: BothWays) -> Tensor:
        """sum over the history of each user of value * table[item] (U, K)."""
        return self.matrix.product(table, *values)

    def of_items(self, table: Tensor, values: BothWays) -> Tensor:
        """sum over the audience of each item of value * table[user] (I, K)."""
        return self.matrix.product_t(table, *values)


def shrinkage(count: Tensor, power: float) -> Tensor:
    """(n, 1): (n + 1)^-power, scaled to equal n^-1/2 where n is about 50."""
    return ((count + 1) ** -power * 50 ** (power - 0.5))[:, None]
