"""The rating history of users and the audience of items, with any part of the ratings held out.

What a model learns from histories must not have seen the ratings that it is fitted to: a part of the training ratings
gets weight 0 in all sums, and the model is fitted to that part (see `models/aanmfpp/fit.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from aanmf.contract import Ratings
from aanmf.data.scratch import Scratch, blocks_of, picked, places_in_order
from aanmf.models.sparse import SparseMatrix

Damping = tuple[float, float]
"""Pseudo-counts of users and of items."""


@dataclass(frozen=True)
class Side:
    """The histories of n users, or the audiences of n items, as far as their ratings are in view.

    Attributes:
        offset: (n,) b_u (b_i), the damped mean of what mu and b_i (mu) leave over.
        count: (n,) ratings in view.
        scale: (n, 1) s_u (s_i), by which sums are multiplied: about 1 / sqrt(count).
        weight: per rating, 1 if it is in view, else 0; in the orders that `product` takes. Empty: 1 everywhere.
        residual: per rating, e = r - mu - b_u - b_i if it is in view, else 0; in the same orders.
        product: multiplies a table (m, K) of the other side by such numbers: (n, K) sums over histories.
    """

    offset: Tensor
    count: Tensor
    scale: Tensor
    weight: tuple[Tensor, ...]
    residual: tuple[Tensor, ...]
    product: Callable[..., Tensor]

    def sum(self, rated: Tensor, liked: Tensor) -> Tensor:
        """s sum_k (rated_k + e_k liked_k) (n, K), from two tables (m, K) of the other side."""
        return self.scale * (self.product(rated, *self.weight) + self.product(liked, *self.residual))

    def summed(self) -> Side:
        """Without what is stored per rating: no further sums can be made."""

        def product(*_: Tensor) -> Tensor:
            raise RuntimeError("sums over histories need the numbers per rating, which `summed` left out")

        return replace(self, weight=(), residual=(), product=product)


@dataclass(frozen=True)
class Sampling:
    """Long histories and audiences are read in part, as GraphSAGE samples neighbours (Hamilton et al. 2017).

    Of n ratings in view about `limit` are kept, at random; sums over them are scaled up to n. That is done where it
    leaves less than half of all ratings to read.

    Attributes:
        limits: of a user's history, and of an item's audience.
        generator: draws.
    """

    limits: tuple[int, int]
    generator: torch.Generator

    def pays(self, count: Tensor, limit: int) -> bool:
        """Whether less than half of these ratings are read."""
        return bool(2 * count.clamp(max=limit).sum() < count.sum())

    def draw(self, count: Tensor, ids: Tensor, limit: int, scratch: Scratch) -> Tensor:
        """(N,) which ratings are kept, of users or items `ids` (N,) with so many ratings (n,)."""
        share = limit / count.clamp(min=1)

        def chosen(block: slice) -> Tensor:
            part = ids[block]
            return torch.rand(len(part), generator=self.generator, device=ids.device) < share.index_select(0, part)

        return scratch.filled(ids, chosen, torch.bool)


@dataclass(frozen=True)
class Seen:
    """The ratings in view, summed up: everything that depends on the history and not on parameters.

    Attributes:
        mean: mu.
        users, items: their histories and audiences.
        damping: of the offsets.
    """

    mean: Tensor
    users: Side
    items: Side
    damping: Damping

    def summed(self) -> Seen:
        """See `Side.summed`."""
        return replace(self, users=self.users.summed(), items=self.items.summed())


class RatingHistory(nn.Module):
    """Training ratings sorted by user, as a sparse matrix users x items.

    Args:
        ratings: the training ratings.
        shape: users and items, the unknown ones included.
        exponents: by which sums over a user's history and an item's audience shrink with the number of ratings.
    """

    rating: Tensor
    item_count: Tensor

    def __init__(self, ratings: Ratings, shape: tuple[int, int], exponents: tuple[float, float]) -> None:
        super().__init__()
        self.matrix = SparseMatrix(ratings.user, ratings.item, None, shape, ratings.scratch)
        order = places_in_order(ratings.user, self.matrix.count, ratings.scratch)
        self.register_buffer("rating", picked(ratings.rating, order, ratings.scratch), persistent=False)
        self.register_buffer("item_count", torch.bincount(self.item, minlength=shape[1]), persistent=False)
        self.shape, self.exponents, self.scratch = shape, exponents, ratings.scratch

    def __len__(self) -> int:
        return len(self.rating)

    @property
    def user(self) -> Tensor:
        """(N,) int32, in order."""
        return self.matrix.row

    @property
    def item(self) -> Tensor:
        """(N,) int32."""
        return self.matrix.col

    def items_at(self, rows: Tensor | slice) -> Tensor:
        """int64, of some ratings."""
        if isinstance(rows, Tensor) and rows.ndim == 1:  # then there is a faster way
            return self.item.index_select(0, rows).long()
        return self.item[rows].long()

    def see(self, held_out: Tensor, damping: Damping, sampling: Sampling | None = None) -> Seen:
        """Sums up all ratings but those in the rows `held_out`; with `sampling`, vectors over a part of them."""
        weight = self.scratch.like(self.rating).fill_(1).index_fill_(0, held_out, 0)
        n_user, n_item = (
            count - torch.bincount(ids.index_select(0, held_out), minlength=len(count))
            for ids, count in ((self.user, self.matrix.count), (self.item, self.item_count))
        )
        total = torch.stack([(weight[block] * self.rating[block]).sum() for block in blocks_of(len(self))])
        mean = total.sum() / weight.sum().clamp(min=1)
        residual = torch.sub(self.rating, mean, out=self.scratch.like(self.rating)).mul_(weight)
        b_i = self._sum_by_item(residual) / (n_item + damping[1])
        _subtract(residual, weight, b_i, self.item)
        b_u = self._sum_by_user(residual) / (n_user + damping[0])
        _subtract(residual, weight, b_u, self.user)
        whole, sides = None, []
        for at, (offset, count, ids) in enumerate(((b_u, n_user, self.user), (b_i, n_item, self.item))):
            scale = shrinkage(count, self.exponents[at])
            if sampling is not None and sampling.pays(count, sampling.limits[at]):
                kept = self.matrix.some(
                    sampling.draw(count, ids, sampling.limits[at], self.scratch).logical_and_(weight)
                )
                read, product = ((kept.count, kept.product), (kept.count_t, kept.product_t))[at]
                scale = scale * (count / read.clamp(min=1))[:, None]
                sides.append(Side(offset, count, scale, (), kept.values(residual), product))
                continue
            if whole is None:
                weights = (weight, self.matrix.turned(weight)) if len(held_out) else ()
                whole = weights, (residual, self.matrix.turned(residual))
            product = (self.matrix.product, self.matrix.product_t)[at]
            sides.append(Side(offset, count, scale, *whole, product))
        users, items = sides
        return Seen(mean, users, items, damping)

    def see_all(self, damping: Damping) -> Seen:
        """Sums up all ratings."""
        return self.see(self.user[:0].long(), damping)

    def fold_in(self, seen: Seen, items: Tensor, ratings: Tensor) -> Side:
        """The histories of users who gave these ratings, as `see` would give them without a change of mu and b_i.

        Args:
            seen: the ratings of all others.
            items, ratings: (m,) of one user, or (n, m) of n users.
        """
        left = ratings - seen.mean - seen.items.offset[items]
        offset = left.sum(-1, keepdim=True) / (items.shape[-1] + seen.damping[0])
        count = torch.full_like(offset, items.shape[-1], dtype=torch.int64).view(-1)
        weight, residual = (torch.ones_like(left),), (left - offset,)

        def product(table: Tensor, e: Tensor) -> Tensor:
            return (e.unsqueeze(-2) @ table[items]).view(-1, table.shape[1])

        return Side(offset.view(-1), count, shrinkage(count, self.exponents[0]), weight, residual, product)

    def rows_of(self, user: int) -> Tensor:
        """Where the ratings of one user lie."""
        start = int(self.matrix.start[user])
        return torch.arange(start, start + int(self.matrix.count[user]), device=self.rating.device)

    def changed(
        self, user: int, items: Tensor, ratings: Tensor, without: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Items and ratings (n,) of a user who gave new ratings, without the training ratings of some items.

        A new rating replaces the old one of the same item.
        """
        rows = self.rows_of(user)
        gone = items if without is None else torch.cat([items, without])
        rows = rows[~torch.isin(self.items_at(rows), gone)]
        return torch.cat([self.items_at(rows), items]), torch.cat([self.rating[rows], ratings])

    def normalised(self, damping: Damping) -> dict[str, Tensor]:
        """What the similarity of items is made of, per rating (N,).

        `residual`: e = r - mu - b_u - b_i; `rated` and `liked`: 1 and e, divided by sqrt(n_i + 1).
        """
        residual = self.see_all(damping).users.residual[0]
        of_item = (self.item_count + 1.0).rsqrt()
        rated = torch.index_select(of_item, 0, self.item, out=self.scratch.like(residual))
        return {"residual": residual, "rated": rated, "liked": torch.mul(residual, rated, out=self.scratch.like(rated))}

    def _sum_by_user(self, values: Tensor) -> Tensor:
        """(U,) from (N,), which lie user by user."""
        return torch.segment_reduce(values, "sum", lengths=self.matrix.count, unsafe=True)

    def _sum_by_item(self, values: Tensor) -> Tensor:
        """(I,) from (N,)."""
        return values.new_zeros(self.shape[1]).index_add_(0, self.item, values)


def _subtract(residual: Tensor, weight: Tensor, offset: Tensor, ids: Tensor) -> None:
    """residual -= weight * offset[ids], in place and in little memory."""
    for block in blocks_of(len(ids)):
        residual[block].addcmul_(weight[block], offset.index_select(0, ids[block]), value=-1)


def shrinkage(count: Tensor, exponent: float) -> Tensor:
    """(n, 1): (n + 1)^-exponent, scaled to equal n^-1/2 where n is about 50."""
    return ((count + 1) ** -exponent * 50 ** (exponent - 0.5))[:, None]
