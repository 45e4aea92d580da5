"""The two ways to evaluate the equations of AANMF++: for pairs, or for all pairs of some users and some items.

Both give the same numbers. Pairs are what training and single predictions need; over a grid, inner products and
attention become matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from aanmf.data.attributes import AttributeSet
from aanmf.models.context import ContextAttention
from aanmf.models.kernels import cells
from aanmf.models.layers import AttentionCell, equal_weights, masked_softmax


@dataclass(frozen=True)
class AttributeTable:
    """Of items and attribute values, (I, V) each: attention scores before the softmax, and a_v . z_i + beta_v."""

    score: Tensor
    value: Tensor

    @cached_property
    def power(self) -> Tensor:
        """(I, V) e^score, up to a factor per item: the softmax without its denominator."""
        return (self.score - self.score.amax(dim=1, keepdim=True)).exp()

    @cached_property
    def product(self) -> Tensor:
        """(I, V) power times value: the numerator of the weighted sum of values."""
        return self.power * self.value


@dataclass(frozen=True)
class Attributes:
    """All that sum_j lambda_j(i) weight_j (a_j . z_i + beta_j) is made of.

    Attributes:
        cell: gives lambda; None: all attributes of a user weigh the same.
        summed: lambda is 1; otherwise the lambda of a user sum to 1.
        z: (I, K) vectors of items.
        a, beta: (V, K), (V,) vectors and biases of attribute values.
        ready: the table of all items and values, where it was computed ahead.
    """

    cell: AttentionCell | None
    z: Tensor
    a: Tensor
    beta: Tensor
    ready: AttributeTable | None = None
    summed: bool = False

    def table(self) -> AttributeTable:
        """Of all items and values."""
        score = self.z.new_zeros(len(self.z), len(self.a)) if self.cell is None else self.cell.table(self.a, self.z)
        return AttributeTable(score, self._products())

    def products(self, items: Tensor, values: Tensor) -> Tensor:
        """a_v . z_i + beta_v (B, J) of items (B,) and values (B, J)."""
        if self.ready is not None:
            return cells(self.ready.value, items, values)
        if values.numel() * self.a.shape[1] > len(self.a) * len(self.z):  # fewer items times values than pairs
            return cells(self._products(), items, values)
        own = self.a.index_select(0, values.reshape(-1)).view(*values.shape, self.a.shape[1])  # (B, J, K)
        return (own @ self.z.index_select(0, items)[:, :, None])[..., 0] + self.beta[values]

    def _products(self) -> Tensor:
        return torch.addmm(self.beta, self.z, self.a.T)


@dataclass(frozen=True)
class Pairs:
    """Pairs of users (B,) and items (B,).

    Attributes:
        sets: (B, J) attributes of the users, and the context of the ratings.
        features: (F, B) of the kernel ridge.
        drift: (B,) what the times of the ratings say; None: they are not known.
    """

    users: Tensor
    items: Tensor
    sets: AttributeSet
    features: Tensor
    drift: Tensor | None = None

    def both(self, of_user: Tensor, of_item: Tensor) -> tuple[Tensor, Tensor]:
        """A number of each user (U,) and one of each item (I,), pair by pair: (B,), (B,)."""
        return of_user.index_select(0, self.users), of_item.index_select(0, self.items)

    def inner(self, x: Tensor, z: Tensor) -> Tensor:
        """x_u . z_i (B,)."""
        return (x.index_select(0, self.users) * z.index_select(0, self.items)).sum(-1)

    def attention(self, of: Attributes) -> Tensor:
        """lambda (B, J), 0 where there is no attribute."""
        if of.cell is None:
            return equal_weights(self.sets.mask, of.summed)
        if of.ready is None:
            return of.cell(of.a, of.z, self.items, self.sets)
        return masked_softmax(cells(of.ready.score, self.items, self.sets.value), self.sets.mask)

    def attributes(self, of: Attributes) -> Tensor:
        """sum_j lambda_j(i) weight_j (a_j . z_i + beta_j) (B,)."""
        return (self.attention(of) * self.sets.weight * of.products(self.items, self.sets.value)).sum(1)

    def context(self, of: ContextAttention, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `ContextAttention.parts`."""
        assert self.sets.context is not None
        return of.parts(self.sets.context, x, self.users, z, self.items)

    def in_context(self, of: ContextAttention, x: Tensor, z: Tensor) -> Tensor:
        """What the context adds (B,)."""
        return self.context(of, x, z)[1].sum(1)

    def take(self, rows: Tensor) -> Pairs:
        """Some of the pairs."""
        drift = None if self.drift is None else self.drift[rows]
        return Pairs(self.users[rows], self.items[rows], self.sets.rows(rows), self.features[:, rows], drift)


@dataclass(frozen=True)
class Grid:
    """All pairs of users (b,) and items (m,).

    Attributes:
        items: positions, or from one position to another: their vectors are then not copied.
        sets: (b, J) attributes of the users, and the context in which each of them is asked about.
        features: (F, b, m) of the kernel ridge.
        drift: (b, 1) what the times of the requests say; None: they are not known.
    """

    users: Tensor
    items: Tensor | slice
    sets: AttributeSet
    features: Tensor
    drift: Tensor | None = None

    def both(self, of_user: Tensor, of_item: Tensor) -> tuple[Tensor, Tensor]:
        """A number of each user (U,) and one of each item (I,), to broadcast: (b, 1), (m,)."""
        return of_user[self.users][:, None], of_item[self.items]

    def inner(self, x: Tensor, z: Tensor) -> Tensor:
        """x_u . z_i (b, m)."""
        return x[self.users] @ z[self.items].T

    def attributes(self, of: Attributes) -> Tensor:
        """sum_j lambda_j(i) weight_j (a_j . z_i + beta_j) (b, m): numerator and denominator of the softmax apart."""
        sets, place = self.sets, self.sets.value
        if of.ready is not None:
            table, rows = of.ready, self.items
        else:  # of the values that these users have
            some, place = torch.unique(sets.value, return_inverse=True)
            table, rows = Attributes(of.cell, of.z[self.items], of.a[some], of.beta[some]).table(), slice(None)
        empty = torch.zeros(len(sets), table.value.shape[1], device=place.device)
        weight = empty.scatter_add(1, place, sets.weight * sets.mask)
        if of.summed:
            return weight @ table.value[rows].T
        present = empty.scatter_add(1, place, sets.mask.float())
        return (weight @ table.product[rows].T) / (present @ table.power[rows].T).clamp_(min=1e-30)

    def in_context(self, of: ContextAttention, x: Tensor, z: Tensor) -> Tensor:
        """What the context adds (b, m)."""
        assert self.sets.context is not None
        x, z = x[self.users], z[self.items]
        e = of.vectors(self.sets.context)  # (b, L, K + 1)
        kappa = torch.softmax(of.of_users(x)[:, None] + of.of_items(z), dim=-1)  # (b, m, L)
        added = (e[..., :-1] @ z.T).mT + (e[..., :-1] @ x[:, :, None]).mT + e[:, None, :, -1]
        return (kappa * added).sum(-1)

    def take(self, columns: Tensor) -> Grid:
        """All users and some of the items."""
        items = columns + self.items.start if isinstance(self.items, slice) else self.items[columns]
        return Grid(self.users, items, self.sets, self.features[..., columns], self.drift)
