"""What a model is trained on: ratings as tensors, their users and items."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aanmf.data.attributes import AttributeSet, Context
from aanmf.data.scratch import MEMORY, Scratch, blocks_of


@dataclass(frozen=True)
class Ratings:
    """Ratings as tensors on one device: (n,) int64, (n,) int64, (n,) float, and their context, if they have one.

    `scratch` is where what is computed per rating is to be.
    """

    user: Tensor
    item: Tensor
    rating: Tensor
    context: Context | None = field(default=None, kw_only=True)
    scratch: Scratch = field(default=MEMORY, kw_only=True)

    def __len__(self) -> int:
        return len(self.rating)

    @classmethod
    def of(
        cls,
        user: NDArray[np.int64],
        item: NDArray[np.int64],
        rating: NDArray[np.float32],
        context: Context | None = None,
        scratch: Scratch = MEMORY,
    ) -> Ratings:
        """From arrays, which are not to be changed afterwards: they are not copied where that can be avoided."""
        return cls(*(_tensor(each) for each in (user, item, rating)), context=context, scratch=scratch)

    def take(self, rows: Tensor | slice) -> Ratings:
        """These ratings only: a slice of them, or those at positions (m,), or where (n,) is True."""
        columns, context = (self.user, self.item, self.rating), self.context
        if isinstance(rows, slice):
            if context is not None:
                context = context.rows(torch.arange(len(self), device=self.user.device)[rows])
            return Ratings(*(each[rows] for each in columns), context=context)
        at = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
        context = None if context is None else context.rows(at)
        return Ratings(*(each.index_select(0, at) for each in columns), context=context)  # thrice as fast as each[at]

    def to(self, device: torch.device) -> Ratings:
        """On another device."""
        context = None if self.context is None else self.context.to(device)
        return Ratings(self.user.to(device), self.item.to(device), self.rating.to(device), context=context)

    @property
    def mean(self) -> float:
        """The mean rating."""
        return sum(float(self.rating[block].double().sum()) for block in blocks_of(len(self))) / max(1, len(self))

    @property
    def std(self) -> float:
        """The standard deviation of the ratings."""
        mean = self.mean
        squares = (float((self.rating[block].double() - mean).square().sum()) for block in blocks_of(len(self)))
        return math.sqrt(sum(squares) / max(1, len(self)))

    @property
    def times(self) -> Tensor | None:
        """(n,) int64 when they were given; None where the time is not context."""
        return None if self.context is None else self.context.time

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any rating and with their order."""
        columns = (self.user, self.item, self.rating, *(() if self.context is None else self.context.tensors()))
        return digest(each.cpu().numpy() for each in columns)

    def hold_out(self, share: float, seed: int) -> tuple[Ratings, Ratings]:
        """Training and validation part."""
        held = validation_rows(len(self), share, seed)
        kept = np.setdiff1d(np.arange(len(self)), held)
        return self.take(torch.as_tensor(kept)), self.take(torch.as_tensor(held))

    def rated(self, n_users: int, n_items: int) -> tuple[Tensor, Tensor]:
        """Which users (n_users,) and which items (n_items,) have a rating: bool."""
        users = torch.zeros(n_users, dtype=torch.bool, device=self.user.device)
        items = torch.zeros(n_items, dtype=torch.bool, device=self.user.device)
        users[self.user], items[self.item] = True, True
        return users, items

    def batches(self, size: int, generator: torch.Generator, done: int = 0) -> Iterator[Ratings]:
        """One pass in random order, in batches of `size` (the last may be smaller), without the first `done` ones."""
        order = torch.randperm(len(self), generator=generator, device=self.rating.device, dtype=torch.int32)
        shuffled = self.take(order)
        for start in range(done * size, len(self), size):
            yield shuffled.take(slice(start, start + size))


def _tensor(array: NDArray[Any]) -> Tensor:
    """The same numbers; PyTorch takes over what could be written to, and lies in order."""
    return torch.from_numpy(array) if array.flags.writeable and array.flags.c_contiguous else torch.tensor(array)


def digest(arrays: Iterable[NDArray[Any]]) -> str:
    """Sixteen hexadecimal digits that change with any element of any array."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(str((array.dtype.str, array.shape)).encode())
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()[:16]


def validation_rows(n: int, share: float, seed: int) -> NDArray[np.int64]:
    """Rows of the validation part: the last `share` of a permutation, apart from the one that splits use."""
    return np.sort(np.random.default_rng([seed, 1]).permutation(n)[n - max(1, round(n * share)) :])


@dataclass(frozen=True)
class TrainingData:
    """All that a module is built from besides its configuration; everything in it stems from training data.

    Attributes:
        users, items: attribute sets of all users (items) and, in the last row, of an unknown one (empty).
        scale: lowest and highest rating.
        train: the training ratings.
        links: (m, 2) positions of users who are joined (trust, friendship), where the settings name a file of them.
        has_ratings: False where a row is a choice without a rating; `train.rating` then holds ones.
    """

    users: AttributeSet
    items: AttributeSet
    scale: tuple[float, float]
    train: Ratings
    links: NDArray[np.int64] | None = None
    has_ratings: bool = True

    @property
    def n_users(self) -> int:
        """Users known by id; this is also the position of the unknown user."""
        return len(self.users) - 1

    @property
    def n_items(self) -> int:
        """Items known by id; this is also the position of the unknown item."""
        return len(self.items) - 1

    def with_train(self, train: Ratings) -> TrainingData:
        """The same with other training ratings."""
        return replace(self, train=train)

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any rating, attribute, and number of users and items."""
        sets = [each.cpu().numpy() for side in (self.users, self.items) for each in side.tensors()]
        return f"{self.train.fingerprint}-{digest(sets)}"

    @property
    def mean(self) -> float:
        """mu, the mean training rating."""
        return self.train.mean
