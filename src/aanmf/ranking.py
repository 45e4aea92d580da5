"""From scores to lists: which items may be listed for a user, and which of them are best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from aanmf.errors import ConfigError
from aanmf.fitted import EntitySide
from aanmf.predictor import Floats, Predictor, Profile

RankBy = Literal["rating", "low"]
TABLE_USERS = 1024
"""Users whose lists are put into one table, at least."""
COVERAGE = 0.9
"""Of the interval whose lower end ranks, where none is given."""


@dataclass(frozen=True)
class ListOptions:
    """What a list holds.

    Attributes:
        n: items at most.
        by: `rating`, or `low` to rank by the lower end of the interval (of 90 %, if none is given).
        interval: for instance .9: adds `low` and `high`, between which the rating lies with this probability.
        seen: also items that the user has rated.
        unrated: also items without any training rating (whose score is that of an average item).
    """

    n: int = 10
    by: RankBy = "rating"
    interval: float | None = None
    seen: bool = False
    unrated: bool = False

    def __post_init__(self) -> None:
        if self.by not in ("rating", "low"):
            raise ConfigError(f"by={self.by!r}: give 'rating' or 'low'")

    @property
    def coverage(self) -> float | None:
        """Of the interval to compute; None: no interval."""
        return COVERAGE if self.by == "low" and self.interval is None else self.interval


@dataclass(frozen=True)
class RankedList:
    """The best items of one user, best first.

    Attributes:
        side: all items.
        item: (n,) positions.
        columns: `rating` (n,) and, with an interval, `low` and `high`.
    """

    side: EntitySide
    item: NDArray[np.int64]
    columns: dict[str, Floats]

    def table(self) -> pl.DataFrame:
        """`item`, `label` (if items have one) and the columns."""
        labels = {} if self.side.labels is None else {"label": [self.side.labels[at] for at in self.item]}
        names = {"item": [self.side.ids[at] for at in self.item], **labels}
        return pl.DataFrame({**names, **self.columns}, schema_overrides=dict.fromkeys(names, pl.String))

    def rows(self) -> list[dict[str, object]]:
        """The same as a dictionary per item; numbers to four digits, `label` always."""
        numbers = {name: column.astype(np.float64).round(4).tolist() for name, column in self.columns.items()}
        return [
            {"item": self.side.ids[at], "label": self.side.label(at), **{name: numbers[name][row] for name in numbers}}
            for row, at in enumerate(self.item)
        ]


def make_lists(predictor: Predictor, profiles: Sequence[Profile], options: ListOptions) -> list[RankedList]:
    """A list for each of several users, in their order.

    Raises:
        ConfigError: an interval is asked of a model that has none.
    """
    if options.coverage is not None:
        predictor.check_interval(options.coverage)
    lists: dict[int, RankedList] = {}
    for rows, scores in predictor.scores_of(profiles):
        some = [profiles[row] for row in rows]
        lists |= zip(rows, _some_lists(predictor, some, scores, options), strict=True)
    return [lists[row] for row in range(len(profiles))]


def make_all_lists(predictor: Predictor, options: ListOptions) -> Iterator[pl.DataFrame]:
    """Lists by rating of all users of the training data, in blocks: `user`, `item`, `rating`, best first."""
    gathered: list[tuple[Tensor, Tensor, Tensor]] = []  # of a block of users: positions (b,), scores and items (b, n)
    for users, scores in predictor.scores(torch.arange(len(predictor.users))):
        gathered.append((users, *_best(predictor, scores, users.numpy(), options)))
        if sum(len(users) for users, *_ in gathered) >= TABLE_USERS:
            yield _table(predictor, gathered)
            gathered.clear()
    if gathered:
        yield _table(predictor, gathered)


def _some_lists(
    predictor: Predictor, profiles: Sequence[Profile], scores: Tensor, options: ListOptions
) -> Iterator[RankedList]:
    """From the scores (b, n_items) of b users; an interval is computed for the items that are listed."""
    order, coverage = scores, options.coverage
    if coverage is not None and options.by == "low":
        every, rating = np.arange(scores.shape[1]), scores.clamp(*predictor.scale).cpu().numpy()
        low = [predictor.around(*each, coverage)["low"] for each in zip(profiles, repeat(every), rating)]
        order = torch.from_numpy(np.stack(low)).to(scores.device)
    for row, profile in enumerate(profiles):
        if len(profile.item) and not options.seen:
            order[row, profile.item] = -torch.inf
    best, items = _best(predictor, order, np.array([profile.position for profile in profiles]), options)
    ratings = scores.gather(1, items).clamp(*predictor.scale).cpu().numpy()
    left, items = (best > -torch.inf).sum(dim=1).tolist(), items.cpu().numpy()
    for row, (profile, n) in enumerate(zip(profiles, left, strict=True)):
        item, rating = items[row, :n], ratings[row, :n]
        interval = {} if coverage is None else predictor.around(profile, item, rating, coverage)
        yield RankedList(predictor.items, item, {"rating": rating, **interval})


def _best(predictor: Predictor, order: Tensor, users: NDArray[np.int64], options: ListOptions) -> tuple[Tensor, Tensor]:
    """The n largest (b, n) of an order (b, n_items) of users at positions (b,), and their places; -inf: none is left.

    Left out are, unless the options say otherwise, items that nobody has rated and those that the user has: their
    places in `order` are overwritten.
    """
    if not options.unrated:
        order.masked_fill_(predictor.unrated.to(order.device), -torch.inf)
    if not options.seen:
        row, item = (torch.from_numpy(side).to(order.device) for side in predictor.fitted.rated_by(users))
        order[row, item] = -torch.inf
    best = torch.topk(order, min(max(options.n, 0), order.shape[1]))
    return best.values, best.indices


def _table(predictor: Predictor, gathered: list[tuple[Tensor, Tensor, Tensor]]) -> pl.DataFrame:
    """`user`, `item`, `rating` of some blocks of users."""
    user, score, item = (torch.cat(parts).cpu() for parts in zip(*gathered, strict=True))
    left = score > -torch.inf
    return pl.DataFrame(
        {
            "user": pl.Series(predictor.users.ids, dtype=pl.String).gather(user[:, None].expand_as(left)[left].numpy()),
            "item": pl.Series(predictor.items.ids, dtype=pl.String).gather(item[left].numpy()),
            "rating": score.clamp(*predictor.scale)[left].numpy(),
        }
    )
