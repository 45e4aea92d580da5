"""Splits into a training and a test part, exactly as reports name them.

A protocol is written `u1`, `u1-u5`, `holdout:0.2`, `kfold:5`, `time:0.1`, `time-global:0.2`, `cold-user:0.1`,
`cold-user:0.1+5` or `cold-item:0.1`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from aanmf.data.dataset import RatingDataset, Rows, random_split
from aanmf.errors import DataError

PROTOCOLS = "u1, u1-u5, holdout:0.2, kfold:5, time, time-global, cold-user, cold-user:0.1+5, cold-item"


@dataclass(frozen=True)
class Fold:
    """Rows of a data set: those to train on, and those to score once.

    Attributes:
        name: the protocol, and which of its folds.
        seed: that it was drawn by.
        train, test: rows.
        given: rows of test users that are told after training, as new ratings; mostly none.
    """

    name: str
    seed: int
    train: Rows
    test: Rows
    given: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    def of(self, data: RatingDataset) -> tuple[RatingDataset, RatingDataset]:
        """The training and the test part of `data`."""
        return data.take(self.train), data.take(self.test)

    def given_of(self, data: RatingDataset) -> RatingDataset | None:
        """The ratings of `data` that are told after training; None: none."""
        return data.take(self.given) if len(self.given) else None


def holdout(n: int, test: float, seed: int) -> Fold:
    """A random split into training rows and `test` (a share) of test rows; see `random_split`."""
    train, held_out = random_split(n, test, seed)
    return Fold(f"holdout:{test:g}", seed, train, held_out)


def kfold(n: int, k: int, seed: int) -> list[Fold]:
    """The same permutation as `holdout`, cut into `k` parts; each is the test part once."""
    if not 2 <= k <= n:
        raise DataError(f"kfold:{k}: k must lie between 2 and the number of ratings ({n})")
    order = np.random.default_rng(seed).permutation(n)
    parts = np.array_split(order, k)
    return [
        _fold(f"kfold:{k}/{i + 1}", seed, n, part, np.concatenate(parts[:i] + parts[i + 1 :]))
        for i, part in enumerate(parts)
    ]


def last_of_each_user(data: RatingDataset, test: float, seed: int = 0) -> Fold:
    """By time: the last `test` of the ratings of each user (rounded; at least one of two or more) are test rows."""
    if data.time is None:
        raise DataError(f"{data.name}: a split by time needs times, and these ratings have none")
    _check_share("time", test)
    order = np.lexsort((np.arange(len(data)), data.time, data.user))  # by user, then time, then file order
    counts = np.bincount(data.user, minlength=len(data.users))
    held = np.where(counts >= 2, np.maximum(1, np.round(counts * test)), 0).astype(np.int64)
    rank = np.arange(len(data)) - np.repeat(np.cumsum(counts) - counts, counts)  # 0 = the user's first rating
    user = data.user[order]
    return _fold(f"time:{test:g}", seed, len(data), order[rank >= (counts - held)[user]])


def last_of_all(data: RatingDataset, test: float, seed: int = 0) -> Fold:
    """By time: the last `test` of all ratings are test rows; of ratings at the same time, those further down."""
    if data.time is None:
        raise DataError(f"{data.name}: a split by time needs times, and these ratings have none")
    _check_share("time-global", test)
    order = np.argsort(data.time, kind="stable")
    return _fold(f"time-global:{test:g}", seed, len(data), order[len(data) - round(len(data) * test) :])


def cold_users(data: RatingDataset, test: float, seed: int, given: int = 0) -> Fold:
    """By user: all ratings of `test` of the users, drawn at random, are test rows; `given` of each are told instead."""
    fold = _cold(f"cold-user:{test:g}", data.user, test, seed)
    if not given:
        return fold
    rows = np.random.default_rng([seed, given]).permutation(fold.test)
    rows = rows[np.argsort(data.user[rows], kind="stable")]  # by user, in random order
    first = np.searchsorted(data.user[rows], data.user[rows])
    told = np.arange(len(rows)) - first < given
    if told.all():
        raise DataError(f"cold-user:{test:g}+{given}: no user has more than {given} ratings; tell fewer")
    return replace(fold, name=f"{fold.name}+{given}", test=np.sort(rows[~told]), given=np.sort(rows[told]))


def cold_items(data: RatingDataset, test: float, seed: int) -> Fold:
    """By item: all ratings of `test` of the items, drawn at random, are test rows."""
    return _cold(f"cold-item:{test:g}", data.item, test, seed)


def _cold(name: str, side: Rows, test: float, seed: int) -> Fold:
    """All rows of `test` of the users (items), drawn at random from those that have rows (n,)."""
    _check_share(name.partition(":")[0], test)
    rated = np.unique(side)
    drawn = np.random.default_rng(seed).permutation(rated)[: max(1, round(len(rated) * test))]
    return _fold(name, seed, len(side), np.flatnonzero(np.isin(side, drawn)))


def folds(data: RatingDataset, protocol: str, seeds: Sequence[int] = (0,)) -> list[Fold]:
    """All folds of a protocol, once per seed; the seed of predefined folds is for the model alone.

    Raises:
        DataError: an unknown protocol, or data without the folds or times that it needs.
    """
    kind, _, argument = protocol.partition(":")
    if re.fullmatch(r"u\w(-u\w)?", kind):
        return [replace(fold, seed=seed) for seed in seeds for fold in _predefined(data, kind)]
    match kind:
        case "holdout":
            return [holdout(len(data), _number(protocol, argument, 0.2), seed) for seed in seeds]
        case "kfold":
            k = _number(protocol, argument, 5)
            if k != int(k):
                raise DataError(f"protocol {protocol!r}: the number of folds must be whole")
            return [fold for seed in seeds for fold in kfold(len(data), int(k), seed)]
        case "time":
            return [last_of_each_user(data, _number(protocol, argument, 0.1), seed) for seed in seeds]
        case "time-global":
            return [last_of_all(data, _number(protocol, argument, 0.2), seed) for seed in seeds]
        case "cold-user":
            share, _, given = argument.partition("+")
            if given and not given.isdecimal():
                raise DataError(f"protocol {protocol!r}: {given!r} is not a number of ratings, as in cold-user:0.1+5")
            return [cold_users(data, _number(protocol, share, 0.1), seed, int(given or 0)) for seed in seeds]
        case "cold-item":
            return [cold_items(data, _number(protocol, argument, 0.1), seed) for seed in seeds]
        case _:
            raise DataError(f"unknown protocol {protocol!r}. Available: {PROTOCOLS}")


def _predefined(data: RatingDataset, name: str) -> list[Fold]:
    first, _, last = name.partition("-")
    names = [f"u{d}" for d in range(int(first[1:]), int(last[1:]) + 1)] if last and last[1:].isdigit() else [first]
    if absent := [each for each in names if each not in data.folds]:
        available = ", ".join(data.folds) or "none"
        raise DataError(f"{data.name} does not come with a split {absent[0]!r}. Available: {available}")
    return [_fold(each, 0, len(data), data.folds[each]) for each in names]


def _fold(name: str, seed: int, n: int, test: Rows, train: Rows | None = None) -> Fold:
    test = np.asarray(test, dtype=np.int64)
    if train is None:
        train = np.delete(np.arange(n), test)
    if len(test) == 0 or len(train) == 0:
        raise DataError(f"split {name}: {len(train)} training and {len(test)} test ratings; both parts need some")
    return Fold(name, seed, np.asarray(train, dtype=np.int64), test)


def _check_share(name: str, share: float) -> None:
    if not 0 < share < 1:
        raise DataError(f"{name}:{share:g}: the share of test ratings must lie between 0 and 1")


def _number(protocol: str, argument: str, default: float) -> float:
    if not argument:
        return default
    try:
        return float(argument)
    except ValueError:
        raise DataError(f"protocol {protocol!r}: {argument!r} is not a number") from None
