"""Lists against a test part: who is listed what, and which of it is relevant.

A list is made of all items of the catalogue, rated or not, but those of the user's training ratings. Relevant are the
items of the user's test ratings from a threshold on. Users without a relevant item are left out, and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from aanmf.contract import TrainingData
from aanmf.data.dataset import RatingDataset
from aanmf.data.where import rows_where
from aanmf.errors import ConfigError, DataError
from aanmf.metrics import METRICS, OF_LISTS, Lists, Scores, metric_of, score, score_lists
from aanmf.predictor import Floats, Predictor
from aanmf.profile import Profile
from aanmf.ranking import ListOptions, RankBy, Ranker
from aanmf.training.distributed import ALONE, Ranks


@dataclass(frozen=True)
class EvaluatedLists:
    """Lists of the users of a test part.

    Attributes:
        lists: of U users.
        users: (U,) their rows in the test part's table of users.
        left_out: (V,) rows of the users who have test ratings but no relevant item.
    """

    lists: Lists
    users: NDArray[np.int64]
    left_out: NDArray[np.int64]


def rank_test_users(
    predictor: Predictor,
    test: RatingDataset,
    k: int,
    relevant: float | None = None,
    rank_by: RankBy | None = None,
    candidates: Iterable[str] | None = None,
    given: RatingDataset | None = None,
    diversity: float = 0.0,
    ranks: Ranks = ALONE,
) -> EvaluatedLists:
    """The first k items of every user of a test part, and which of them are relevant.

    Args:
        predictor: of a fitted model. Unknown users get lists by their attributes in `test`.
        test: test ratings.
        k: length of the lists.
        relevant: the lowest rating that makes an item relevant; see `relevant_rows`.
        rank_by: as for `recommend`.
        candidates: ids of the items that lists are made of; None: all.
        given: ratings of test users that the model is told now, as new ratings; their items are not listed.
        diversity: of the lists, as for `recommend`.
        ranks: which divide the users among them, where there is no `given`; all call this and get all lists.

    Raises:
        ConfigError: there are fewer than k candidates, a threshold off the scale, or a way of ranking that the model
            does not have.
        DataError: no user has a relevant item.
    """
    ranker = Ranker(predictor, ListOptions(k, rank_by, unrated=True, candidates=candidates, diversity=diversity))
    allowed = np.flatnonzero(ranker.allowed())
    if k > len(allowed):
        raise ConfigError(f"lists of {k} items: there are {len(allowed):,} candidates. Give a shorter length")
    rows = relevant_rows(test, predictor.fitted.training, relevant)
    users, left_out = np.unique(test.user[rows]), np.setdiff1d(test.user, test.user[rows])
    if not len(users):
        raise DataError(f"{test.name}: no test rating is relevant to anyone: give a lower threshold (relevant)")
    if given is None:
        known = predictor.users.table.ids.index(test.users.ids.ids, predictor.users.unknown)[users]
        item = np.maximum.reduce(ranks.gather_values(_first(ranker, known, users, test, k, ranks)))
    else:
        item = np.full((len(users), k), -1)
        for row, found in enumerate(ranker.lists(profiles_of(predictor, test, users, given))):
            item[row, : len(found.item)] = found.item
    position = predictor.items.table.ids.index(test.items.ids.ids)[test.item[rows]]
    place, n_items = np.searchsorted(users, test.user[rows]), len(predictor.items)
    wanted = np.unique(place[position >= 0] * n_items + position[position >= 0])
    hit = np.isin(np.arange(len(users))[:, None] * n_items + item, wanted) & (item >= 0)
    pairs = np.unique(np.stack([place, test.item[rows]]), axis=1)
    n_relevant = np.bincount(pairs[0], minlength=len(users))
    n_users = int((predictor.users.n_ratings > 0).sum())
    lists = Lists(item, hit, n_relevant, allowed, predictor.items.n_ratings[:-1], n_users)
    return EvaluatedLists(lists, users, left_out)


def relevant_rows(test: RatingDataset, training: TrainingData, relevant: float | None) -> NDArray[np.bool_]:
    """Which test ratings (n,) make their item relevant.

    Those of `relevant` or more; without a threshold, those above the mean training rating. Where training or test has
    no ratings, or the scale has a single value, every test row does.

    Raises:
        ConfigError: the threshold lies off the scale, or there are no ratings to compare it with.
    """
    low, high = training.scale
    if relevant is None:
        if not (training.has_ratings and test.has_ratings) or low == high:
            return np.ones(len(test), bool)
        return test.rating > training.mean
    if not (training.has_ratings and test.has_ratings):
        raise ConfigError(f"relevant={relevant:g}: there are no ratings, every test row is relevant; leave it out")
    if not low <= relevant <= high:
        raise ConfigError(f"relevant={relevant:g}: ratings lie between {low:g} and {high:g}")
    return test.rating >= relevant


def _first(
    ranker: Ranker, known: NDArray[np.int64], users: NDArray[np.int64], test: RatingDataset, k: int, ranks: Ranks
) -> NDArray[np.int64]:
    """(U, k) positions of the best items of users at positions `known`, new ones by attributes.

    -1: none is left, or the user's list is made by another rank.
    """
    predictor, item = ranker.predictor, np.full((len(users), k), -1)
    new = known == predictor.users.unknown
    attributes = predictor.users.encoder.transform(test.users).to(predictor.device)
    for rows in (np.flatnonzero(~new), np.flatnonzero(new)):
        own = (
            attributes.rows(torch.as_tensor(users[rows], device=predictor.device))
            if len(rows) and new[rows[0]]
            else None
        )
        for part, best, items, _ in ranker.ranked(known[rows], own, ranks):
            item[rows[part]] = torch.where(best > -torch.inf, items, -1).cpu().numpy()
    return item


def profiles_of(
    predictor: Predictor, test: RatingDataset, users: NDArray[np.int64], given: RatingDataset
) -> list[Profile]:
    """Users at rows (U,) of the test part's table, who gave new ratings; ratings of unknown items are left out."""
    known = predictor.users.table.ids.index(test.users.ids.ids, predictor.users.unknown)
    item = predictor.items.table.ids.index(given.items.ids.ids)[given.item]
    user = test.users.ids.index(given.users.ids.ids)[given.user]
    order = np.argsort(user, kind="stable")
    order = order[item[order] >= 0]
    start, end = (np.searchsorted(user[order], users, side) for side in ("left", "right"))
    attributes = predictor.users.encoder.transform(test.users).to(predictor.device)
    profiles = []
    for at, first, last in zip(users, start, end, strict=True):
        rows = order[first:last]
        told = (torch.as_tensor(each[rows], device=predictor.device) for each in (item, given.rating))
        new = known[at] == predictor.users.unknown
        own = attributes.rows(torch.tensor([at], device=predictor.device)) if new else None
        profiles.append(Profile(int(known[at]), own, *told))
    return profiles


def _predicted(predictor: Predictor, test: RatingDataset, given: RatingDataset | None, ranks: Ranks) -> Floats:
    """Ratings (n,) of a test part; those of users who gave new ratings rest on these too."""
    predicted = predictor.predict_data(test, ranks)
    if given is not None:
        item = predictor.items.table.ids.index(test.items.ids.ids, predictor.items.unknown)[test.item]
        order = np.argsort(test.user, kind="stable")
        users, starts = np.unique(test.user[order], return_index=True)
        profiles = profiles_of(predictor, test, users, given)
        for profile, rows in zip(profiles, np.split(order, starts[1:]), strict=True):
            predicted[rows] = predictor.ratings_for(profile, item[rows])
    return predicted


def evaluate(
    predictor: Predictor,
    test: RatingDataset,
    metrics: Sequence[str] | None = None,
    relevant: float | None = None,
    rank_by: RankBy | None = None,
    group_by: str | None = None,
    candidates: Iterable[str] | None = None,
    given: RatingDataset | None = None,
    diversity: float = 0.0,
    ranks: Ranks = ALONE,
) -> Scores:
    """Scores on a test part; see `Recommender.evaluate`."""
    names = list(METRICS) if predictor.rates else list(OF_LISTS)
    chosen = {name: metric_of(name) for name in (names if metrics is None else metrics)}
    if not len(test):
        raise DataError("no ratings to score")
    groups = _groups(test, group_by) if group_by else {}
    scores = {group: Scores() for group in ("", *groups)}
    of_ratings = [name for name, metric in chosen.items() if metric.of == "ratings"]
    if of_ratings and predictor.rates and test.has_ratings:
        predicted = _predicted(predictor, test, given, ranks)
        for group, found in scores.items():
            rows = groups[group][test.user] if group else np.ones(len(test), bool)
            found |= score(predicted[rows], test.rating[rows], of_ratings) if rows.any() else {}
    if of_lists := [name for name, metric in chosen.items() if metric.of == "lists"]:
        longest = max(chosen[name].k for name in of_lists)
        made = rank_test_users(predictor, test, longest, relevant, rank_by, candidates, given, diversity, ranks)
        for group, found in scores.items():
            rows = groups[group][made.users] if group else np.ones(len(made.users), bool)
            found |= score_lists(made.lists.take(rows), of_lists) if rows.any() else {"n_users": 0}
            found["n_users_left_out"] = int(groups[group][made.left_out].sum()) if group else len(made.left_out)
    for group, found in scores.items():
        rows = groups[group][test.user] if group else np.ones(len(test), bool)
        scores[group] = Scores({**dict.fromkeys(chosen), "n": int(rows.sum()), **found})
    scores[""].groups = {group: found for group, found in scores.items() if group and found["n"]}
    return scores[""]


def _groups(test: RatingDataset, name: str) -> dict[str, NDArray[np.bool_]]:
    """Users (n,) of each value of an attribute, a user with several values in several groups.

    Raises:
        DataError: no such attribute of the users, or one that has no labels.
    """
    test.users.attribute(name)
    column = test.users.columns[name]
    if column.dtype not in (pl.String, pl.List(pl.String)):
        raise DataError(f"group_by={name!r}: give a categorical or multi-valued attribute of the users")
    labels = (column.explode() if column.dtype == pl.List(pl.String) else column).drop_nulls().unique().sort()
    return {label: rows_where(test.users, {name: label}) for label in labels}
