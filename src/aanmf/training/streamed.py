"""Training ratings that stay on disk: shuffled in a window that moves over pieces taken from everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aanmf.contract import Ratings
from aanmf.data.context import ContextRows
from aanmf.data.rating_file import RECORD, RatingFile

PIECE = 1024
"""Ratings that lie together on disk and go into the same window."""
WINDOW = 1 << 21
"""Ratings shuffled together, at most."""
HELD_OUT = 1 << 20
"""Ratings in the validation part, at most: it is in memory, and the error of so many is known to three digits."""


@dataclass(frozen=True)
class StreamedRatings(Ratings):
    """Ratings in a file, all but those held out; `user`, `item` and `rating` are views of the whole file.

    `context` is that of some of the ratings, enough to build a model by.
    """

    file: RatingFile
    held: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Rows left out, in order."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where batches go."""
    contexts: ContextRows | None = None
    """Of all ratings of the file."""

    @classmethod
    def over(cls, file: RatingFile, contexts: ContextRows | None = None) -> StreamedRatings:
        """All ratings of a file."""
        user, item, rating = map(torch.from_numpy, file.mapped())
        return cls(user, item, rating, file, contexts=contexts, context=None if contexts is None else contexts.some())

    def __len__(self) -> int:
        return len(self.file) - len(self.held)

    def to(self, device: torch.device) -> StreamedRatings:
        """With batches on another device."""
        return replace(self, device=device)

    @property
    def times(self) -> Tensor | None:
        """See `Ratings.times`."""
        return None if self.contexts is None or self.contexts.time is None else torch.tensor(self.contexts.time)

    @property
    def mean(self) -> float:
        """The mean rating."""
        return sum(float(rows["rating"].sum(dtype=np.float64)) for rows in self._kept()) / len(self)

    @property
    def fingerprint(self) -> str:
        """See `Ratings.fingerprint`."""
        own = self.file.fingerprint
        return own if self.contexts is None else f"{own}-{self.contexts.fingerprint}"

    def hold_out(self, share: float, seed: int) -> tuple[StreamedRatings, Ratings]:
        """Training part, still on disk, and validation part, in memory."""
        n = len(self.file)
        wanted = min(max(1, round(n * share)), HELD_OUT)
        held = np.unique(np.random.default_rng([seed, 1]).integers(n, size=wanted))  # a few are drawn twice
        found = [rows[_inside(held, start, len(rows))] for start, rows in self.file.blocks()]
        return replace(self, held=held), self._ratings(np.concatenate(found), held)

    def rated(self, n_users: int, n_items: int) -> tuple[Tensor, Tensor]:
        """See `Ratings.rated`."""
        users, items = np.zeros(n_users, bool), np.zeros(n_items, bool)
        for rows in self._kept():
            users[rows["user"]], items[rows["item"]] = True, True
        return torch.from_numpy(users).to(self.device), torch.from_numpy(items).to(self.device)

    def batches(self, size: int, generator: torch.Generator, done: int = 0) -> Iterator[Ratings]:
        """See `Ratings.batches`; shuffled are the pieces, and the ratings within a window of many of them."""
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        window = max(1, WINDOW // size) * size
        starts = np.arange(0, len(self.file), PIECE)
        order = np.random.default_rng(seed).permutation(len(starts))
        bounds = np.append(starts, len(self.file))
        kept = np.diff(bounds - np.searchsorted(self.held, bounds))[order]  # ratings of each piece
        ends = np.cumsum(kept)
        for number in range(done * size // window, -(-len(self) // window)):
            first, last = number * window, min((number + 1) * window, len(self))
            one, other = np.searchsorted(ends, first, "right"), np.searchsorted(ends, last, "left")
            rows, numbers = self._pieces(starts[order[one : other + 1]])
            before = int(ends[one] - kept[one])
            part = slice(first - before, last - before)
            rows, numbers = rows[part], numbers[part]
            for each in (rows, numbers):  # in the same order
                np.random.default_rng([seed, number]).shuffle(each)
            shuffled = self._ratings(rows, numbers)
            for start in range(max(first, done * size), last, size):
                yield shuffled.take(slice(start - first, min(start + size, last) - first))

    def _pieces(self, starts: NDArray[np.int64]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        """What is not held out of some pieces, one after the other, and, with a context, the numbers of these rows."""
        lengths = np.minimum(PIECE, len(self.file) - starts)
        rows, keep = np.empty(int(lengths.sum()), RECORD), np.ones(int(lengths.sum()), bool)
        numbers = np.empty(0 if self.contexts is None else len(rows), np.int64)
        at = 0
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            self.file.read_into(rows[at : at + length], start)
            if len(numbers):
                numbers[at : at + length] = np.arange(start, start + length)
            keep[at + _inside(self.held, start, length)] = False
            at += length
        if not len(self.held):
            return rows, numbers
        return rows[keep], numbers[keep] if len(numbers) else numbers

    def _ratings(self, rows: NDArray[np.void], numbers: NDArray[np.int64]) -> Ratings:
        """Records with their numbers as ratings in memory."""
        user, item = (torch.from_numpy(rows[name].astype(np.int64)) for name in ("user", "item"))
        context = None if self.contexts is None else self.contexts.of(numbers)
        return Ratings(user, item, torch.from_numpy(rows["rating"].copy()), context=context).to(self.device)

    def _kept(self) -> Iterator[NDArray[np.void]]:
        """Everything not held out, in blocks."""
        for start, rows in self.file.blocks():
            yield np.delete(rows, _inside(self.held, start, len(rows)))


def _inside(held: NDArray[np.int64], start: int, length: int) -> NDArray[np.int64]:
    """Which of the rows from `start` on are held out, counted from there."""
    one, other = np.searchsorted(held, (start, start + length))
    return held[one:other] - start
