"""From scores to lists: which items may be listed for a user, and which of them are best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypedDict, get_args

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from aanmf.data.attributes import AttributeSet
from aanmf.data.where import rows_where
from aanmf.errors import ConfigError
from aanmf.fitted import EntitySide
from aanmf.item_index import ItemIndex
from aanmf.models.catalog import ModelSpec
from aanmf.models.kernels import best_of
from aanmf.predictor import Floats, Positions, Predictor, Scored
from aanmf.profile import Profile, RequestContext
from aanmf.similarity import diversified, item_table
from aanmf.training.distributed import ALONE, Ranks
from aanmf.training.side_by_side import at_once, side_by_side

RankBy = Literal["match", "rating", "low"]
Ranked = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""Lists of a block of users: their places (b,), what ranks the first n items (b, n), these items, and their ratings."""
RANK_BY = ("match", "rating", "low")
TABLE_USERS = 1024
"""Users whose lists are put into one table, at least."""
COVERAGE = 0.9
"""Of the interval whose lower end ranks, where none is given."""
POOL = 10
"""A diverse list of n items is picked from the best POOL * n."""


class ListArguments(TypedDict, total=False):
    """What `recommend` can be told about the list; see `ListOptions`."""

    rank_by: RankBy | None
    interval: float | None
    seen: bool
    unrated: bool | None
    candidates: Iterable[str | int] | None
    exclude: Iterable[str | int]
    where: Mapping[str, object] | None
    diversity: float


@dataclass(frozen=True)
class ListOptions:
    """What a list holds.

    Attributes:
        n: items at most.
        rank_by: `match`: how likely the user is to choose the item and to like it; `rating`: the predicted rating;
            `low`: the lower end of its interval (of 90 %, if none is given). None: `match` where the model has it.
        interval: for instance .9: adds `low` and `high`, between which the rating lies with this probability.
        seen: also items that the user has rated.
        unrated: also items without any training rating; None: where the model scores them by their attributes.
        candidates: ids that may be listed; None: all.
        exclude: ids that may not be listed.
        where: conditions on attributes of items, as (name, value) pairs or a mapping; see `aanmf.data.where`.
        diversity: from 0 (the order of the scores) to 1: how much an item loses by its likeness to those above it.
    """

    n: int = 10
    rank_by: RankBy | None = None
    interval: float | None = None
    seen: bool = False
    unrated: bool | None = None
    candidates: Iterable[str | int] | None = None
    exclude: Iterable[str | int] = ()
    where: Mapping[str, object] | tuple[tuple[str, object], ...] | None = None
    diversity: float = 0.0

    def __post_init__(self) -> None:
        if self.rank_by is not None and self.rank_by not in RANK_BY:
            raise ConfigError(f"rank_by={self.rank_by!r}. Available: {', '.join(RANK_BY)}")
        if not 0 <= self.diversity <= 1:
            raise ConfigError(f"diversity={self.diversity}: give a number from 0 to 1")
        pairs = self.where.items() if isinstance(self.where, Mapping) else self.where or ()
        hashable = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in pairs)
        object.__setattr__(self, "where", hashable)
        object.__setattr__(self, "exclude", tuple(map(str, self.exclude)))
        if self.candidates is not None:
            object.__setattr__(self, "candidates", tuple(map(str, self.candidates)))

    @property
    def coverage(self) -> float | None:
        """Of the interval to compute; None: no interval."""
        return COVERAGE if self.rank_by == "low" and self.interval is None else self.interval


@dataclass(frozen=True)
class RankedList:
    """The best items of one user, best first.

    Attributes:
        side: all items.
        item: (n,) positions.
        columns: `rating` (n,) if the model predicts ratings, with an interval `low` and `high`, and `match` if that
            ranks.
    """

    side: EntitySide
    item: NDArray[np.int64]
    columns: dict[str, Floats]

    def table(self) -> pl.DataFrame:
        """`item`, `label` (if items have one) and the columns."""
        return item_table(self.side, self.item, self.columns)

    def rows(self) -> list[dict[str, object]]:
        """The same as a dictionary per item; numbers to four digits, `label` always."""
        numbers = {name: column.astype(np.float64).round(4).tolist() for name, column in self.columns.items()}
        return [
            {"item": self.side.ids[at], "label": self.side.label(at), **{name: numbers[name][row] for name in numbers}}
            for row, at in enumerate(self.item)
        ]


def can_rank_by(spec: ModelSpec, rank_by: RankBy) -> bool:
    """Whether a model ranks in this way."""
    return {"match": spec.matches, "rating": spec.rates, "low": spec.intervals}[rank_by]


def ways_to_rank(predictor: Predictor) -> list[RankBy]:
    """How a fitted model can rank, its default first; without ratings in its training data by match alone."""
    return [
        rank_by
        for rank_by in get_args(RankBy)
        if can_rank_by(predictor.spec, rank_by) and (rank_by == "match" or predictor.rates)
    ]


def make_lists(predictor: Predictor, profiles: Sequence[Profile], options: ListOptions) -> list[RankedList]:
    """A list for each of several users, in their order; see `Ranker`."""
    return Ranker(predictor, options).lists(profiles)


class Ranker:
    """Makes lists by the same options.

    Raises:
        ConfigError: the model cannot rank in this way, or a condition on attributes that cannot be met.
        UnknownIdError: a candidate, or an excluded item, that the model does not know.
    """

    def __init__(self, predictor: Predictor, options: ListOptions) -> None:
        self.predictor, self.options = predictor, options
        self.rank_by = options.rank_by or ("match" if predictor.matches else "rating")
        if self.rank_by == "match":
            predictor.check_matches()
        else:
            predictor.check_rates()
        if options.coverage is not None:
            predictor.check_interval(options.coverage)
        self.scored: Scored = "match" if self.rank_by == "match" else "rating"
        index = predictor.index if not (options.unrated or options.diversity or options.where) else None
        self.index = index if index and index.kind == self.rank_by and options.candidates is None else None
        if self.index is None:
            _ = self.barred  # an id or a condition that is unknown is an error now

    @cached_property
    def barred(self) -> Tensor:
        """(n_items,) True for items that may not be listed."""
        return torch.from_numpy(~self.allowed()).to(self.predictor.device)

    def allowed(self) -> NDArray[np.bool_]:
        """(n_items,) items that may be listed at all."""
        items, options = self.predictor.items, self.options
        unrated = self.predictor.spec.new_items and self.rank_by == "match"
        found = (items.n_ratings[:-1] > 0) | (unrated if options.unrated is None else options.unrated)
        if options.candidates is not None:
            named = np.zeros(len(found), bool)
            named[[items.position(label) for label in options.candidates]] = True
            found &= named
        found[[items.position(label) for label in options.exclude]] = False
        return found & rows_where(items.table, dict(options.where or ()))

    def lists(self, profiles: Sequence[Profile]) -> list[RankedList]:
        """A list for each of several users, in their order."""
        lists = {} if self.index is None else self._by_index(self.index, profiles)
        left = [row for row in range(len(profiles)) if row not in lists]
        for places, scores, rating in self.predictor.scores_of([profiles[row] for row in left], self.scored):
            rows = [left[place] for place in places]
            lists |= zip(rows, self._some([profiles[row] for row in rows], scores, rating), strict=True)
        return [lists[row] for row in range(len(profiles))]

    def _by_index(self, index: ItemIndex, profiles: Sequence[Profile]) -> dict[int, RankedList]:
        """The lists, by place, of users whose best items the index finds: those as trained, and with ratings."""
        predictor, options, found = self.predictor, self.options, dict[int, RankedList]()
        excluded = np.array([predictor.items.position(label) for label in options.exclude], np.int64)
        for row, profile in enumerate(profiles):
            if profile.changed or profile.attributes is not None or not predictor.users.n_ratings[profile.position]:
                continue
            _, rated = predictor.fitted.rated_by(np.array([profile.position]))
            barred = excluded if options.seen else np.concatenate([excluded, rated])
            scores, items = index.best(profile.position, options.n, barred)
            if len(items) == options.n:
                predictor.check_finite(torch.from_numpy(scores))
                found[row] = self._listed(profile, items, scores, scores if self.rank_by == "rating" else None)
        return found

    def everyone(self, context: RequestContext | None = None, ranks: Ranks = ALONE) -> Iterator[pl.DataFrame]:
        """Lists of all users of the training data, in blocks: `user`, `item`, `label`, `rating`, `match`.

        Each of `ranks` makes every n-th block; all of them read on to the end, and get all blocks in order.
        """
        own = self._tables(context, ranks)
        for _ in range(0, len(self.predictor.users), TABLE_USERS * ranks.count):
            yield from (table for table in ranks.gather_values(next(own, None)) if table is not None)

    def _tables(self, context: RequestContext | None, ranks: Ranks) -> Iterator[pl.DataFrame]:
        """A rank's own blocks of `everyone`."""
        gathered: list[Ranked] = []
        predictor, users = self.predictor, np.arange(len(self.predictor.users))
        own = None
        if context is not None:
            one = torch.zeros(len(users), dtype=torch.int64, device=predictor.device)
            own = predictor.in_context(users, predictor.profiles.context([context]).rows(one))
        for block in self.ranked(users, own, ranks):
            gathered.append(block)
            if sum(len(users) for users, *_ in gathered) >= TABLE_USERS:
                yield self._table(gathered)
                gathered.clear()
        if gathered:
            yield self._table(gathered)

    def ranked(
        self, users: NDArray[np.int64], attributes: AttributeSet | None = None, ranks: Ranks = ALONE
    ) -> Iterator[Ranked]:
        """The first n items of users at positions (m,), in blocks; `attributes` (m, J) in place of the users' own.

        Of several ranks, each makes every n-th block of `TABLE_USERS`. They are made side by side, one on each thread;
        the first one alone, since the others share what it computes.
        """

        def made(places: Tensor) -> list[Ranked]:
            own = None if attributes is None else attributes.rows(places.to(self.predictor.device))
            blocks = self._ranked(users[places.numpy()], own)
            return [(places[part], best, items, rating) for part, best, items, rating in blocks]

        own_blocks = torch.arange(len(users)).split(TABLE_USERS)[ranks.rank :: ranks.count]
        if not own_blocks:
            return
        first, *others = own_blocks
        yield from made(first)
        n = at_once(len(others), self.predictor.device)
        with side_by_side(n) as each:
            for start in range(0, len(others), n):
                for blocks in each(made, others[start : start + n]):
                    yield from blocks

    def _ranked(self, users: NDArray[np.int64], attributes: AttributeSet | None) -> Iterator[Ranked]:
        predictor, n_items = self.predictor, len(self.predictor.items)
        for part, scores, rating in predictor.scores(torch.from_numpy(users), self.scored, attributes):
            if self.rank_by == "low":
                scores = torch.empty_like(scores)
                for row, at in enumerate(part.tolist()):
                    own = (
                        None if attributes is None else attributes.rows(part[row].expand(n_items).to(predictor.device))
                    )
                    pairs = np.full(n_items, users[at]), np.arange(n_items)
                    bounds = predictor.bounds(*pairs, self.options.coverage or COVERAGE, own)
                    scores[row] = torch.from_numpy(bounds["low"]).to(scores.device)
            best, items = self.best(scores, users[part.numpy()])
            yield part, best, items, None if rating is None else rating.gather(1, items)

    def best(self, order: Tensor, users: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """The first n (b, n) by an order (b, n_items) of users at positions (b,), and their places; -inf: none is left.

        The places in `order` of items that may not be listed are overwritten.
        """
        order.masked_fill_(self.barred.to(order.device), -torch.inf)
        if not self.options.seen:
            row, item = (torch.from_numpy(side).to(order.device) for side in self.predictor.fitted.rated_by(users))
            order[row, item] = -torch.inf
        n = min(max(self.options.n, 0), order.shape[1])
        if self.options.diversity == 0:
            values, items = best_of(order, n)
            return values, items
        values, items = best_of(order, min(POOL * n, order.shape[1]))
        listed, place = np.unique(items.cpu().numpy(), return_inverse=True)
        similarity = self.predictor.item_similarity.among(listed)  # of all users' items at once
        rows = zip(values.cpu(), place.reshape(items.shape), strict=True)
        places = torch.stack([self._diverse(scores, own, similarity, n) for scores, own in rows])
        return values.gather(1, places.to(order.device)), items.gather(1, places.to(order.device))

    def _diverse(self, scores: Tensor, rows: NDArray[np.int64], similarity: NDArray[np.float32], n: int) -> Tensor:
        """Places (n,) of one user's best items, rows of `similarity`; those that may not be listed come last."""
        left = int((scores > -torch.inf).sum())
        own = similarity[np.ix_(rows[:left], rows[:left])]
        picked = diversified(scores[:left].numpy(), own, n, self.options.diversity)
        return torch.from_numpy(np.concatenate([picked, np.arange(left, left + n - len(picked))]))

    def _some(self, profiles: Sequence[Profile], scores: Tensor, rating: Tensor | None) -> Iterator[RankedList]:
        """From scores and ratings (b, n_items) of b users; an interval is computed for the items that are listed."""
        predictor, order, coverage = self.predictor, scores, self.options.coverage
        if coverage is not None and self.rank_by == "low":
            every = np.arange(scores.shape[1])
            low = [predictor.bounds_for(profile, every, coverage)["low"] for profile in profiles]
            order = torch.from_numpy(np.stack(low)).to(scores.device)
        for row, profile in enumerate(profiles):
            if len(profile.item) and not self.options.seen:
                order[row, profile.item] = -torch.inf
        best, items = self.best(order, np.array([profile.position for profile in profiles]))
        left = (best > -torch.inf).sum(dim=1).tolist()
        chosen = scores.gather(1, items).cpu().numpy()
        rated = None if rating is None else rating.gather(1, items).cpu().numpy()
        for row, (profile, n) in enumerate(zip(profiles, left, strict=True)):
            ratings = None if rated is None else rated[row, :n]
            yield self._listed(profile, items[row, :n].cpu().numpy(), chosen[row, :n], ratings)

    def _listed(self, profile: Profile, item: Positions, scores: Floats, rating: Floats | None) -> RankedList:
        """A list of items (n,), by their scores and ratings."""
        predictor, columns = self.predictor, {}
        if rating is not None:
            columns["rating"] = rating.clip(*predictor.scale)
        if self.options.coverage is not None:
            columns |= predictor.bounds_for(profile, item, self.options.coverage)
        if self.rank_by == "match":
            columns["match"] = scores
        return RankedList(predictor.items, item, columns)

    def _table(self, gathered: Sequence[Ranked]) -> pl.DataFrame:
        """`user`, `item` and scores of some blocks of users."""
        predictor = self.predictor
        user, score, item = (torch.cat(parts).cpu() for parts in zip(*(block[:3] for block in gathered), strict=True))
        left = score > -torch.inf
        rows, items, scores = user[:, None].expand_as(left)[left].numpy(), item[left].numpy(), score[left].numpy()
        columns: dict[str, Floats] = {}
        ratings = [rating.cpu() for *_, rating in gathered if rating is not None]
        if ratings:
            columns["rating"] = torch.cat(ratings)[left].numpy().clip(*predictor.scale)
        if self.rank_by != "rating":
            columns[self.rank_by] = scores
        names = {"user": pl.Series(predictor.users.ids, dtype=pl.String).gather(rows)}
        names["item"] = pl.Series(predictor.items.ids, dtype=pl.String).gather(items)
        if predictor.items.labels is not None:
            names["label"] = pl.Series(predictor.items.labels, dtype=pl.String).gather(items)
        return pl.DataFrame({**names, **columns})
