"""Histories of users as weighted lists of items, for models that rank by what users chose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

Weights = Literal["ones", "rating", "liked"]
BLOCK = 512
"""Items whose products are taken at a time."""
COLUMNS = 500_000
"""Numbers of a table in the cache at a time."""


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
        return cls.counted(item[order], weight[order], torch.bincount(user, minlength=n_users))

    @classmethod
    def counted(cls, item: Tensor, weight: Tensor, count: Tensor) -> Histories:
        """From entries (m,) user by user, and the number of items of each user (b,)."""
        return cls(item, weight, F.pad(count.cumsum(0), (1, 0)))

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def count(self) -> Tensor:
        """(b,) items of each user."""
        return self.start.diff()

    @property
    def row(self) -> Tensor:
        """(m,) which of the b users each entry belongs to."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.item.device), self.count)

    def rows(self, users: Tensor) -> Histories:
        """Those of some users."""
        count = self.count[users]
        start = F.pad(count.cumsum(0), (1, 0))
        entry = torch.repeat_interleave(self.start[users] - start[:-1], count)
        entry = entry + torch.arange(len(entry), device=entry.device)
        return Histories(self.item[entry], self.weight[entry], start)

    def among(self, place: Tensor) -> Histories:
        """Some items alone, by their positions among these: `place` (n_items,), -1 for the others."""
        item = place[self.item]
        kept = item >= 0
        count = torch.bincount(self.row[kept], minlength=len(self))
        return Histories.counted(item[kept], self.weight[kept], count)

    def times(self, table: Tensor, values: Tensor | None = None) -> Tensor:
        """X @ table (b, K), X (b, n_items) the matrix of weights, or of other values (m,).

        The table may be in half precision; it is taken in blocks of columns that fit the cache.
        """
        values, item = self.weight if values is None else values, self.item
        if len(item) < len(table):  # few users: leave the other rows alone
            item, table = torch.arange(len(item), device=item.device), table[item]
        result = values.new_zeros(len(self), table.shape[1])
        width = max(1, COLUMNS // max(1, len(table)))
        for scores, block in zip(result.split(width, dim=1), table.split(width, dim=1), strict=True):
            sums = F.embedding_bag(item, block.float(), self.start[:-1], per_sample_weights=values, mode="sum")
            scores.copy_(sums)
        return result

    def dense(self, n_items: int, values: Tensor | None = None) -> Tensor:
        """X (b, n_items)."""
        values = self.weight if values is None else values
        return values.new_zeros(len(self), n_items).index_put_((self.row, self.item), values, accumulate=True)

    def add_products(self, total: Tensor) -> Tensor:
        """total (n_items, n_items) + X^T X, in place, in time that grows with the pairs of items that users have."""
        n_items = len(total)
        entries = self.weight.numpy(force=True), self.item.numpy(force=True), self.start.numpy(force=True)
        x = sparse.csr_array(entries, shape=(len(self), n_items))
        columns = x.T.tocsr()
        for items in torch.arange(n_items).split(BLOCK):
            block = slice(int(items[0]), int(items[-1]) + 1)
            total[block] += torch.from_numpy((columns[block] @ x).toarray()).to(total.device)
        return total

    def transposed(self, n_items: int) -> Histories:
        """The users of each item, in place of the items of each user."""
        return Histories.of(self.item, self.row, self.weight, n_items)

    def gram(self, n_items: int) -> Iterator[tuple[Tensor, Tensor]]:
        """X^T X in blocks of rows: yields items (k,) and their rows (k, n_items)."""
        users = self.transposed(n_items)
        size = max(1, min(BLOCK, 2**25 // max(1, len(self))))
        for items in torch.arange(n_items, device=self.item.device).split(size):
            yield items, users.times(users.rows(items).dense(len(self)).T.contiguous()).T
