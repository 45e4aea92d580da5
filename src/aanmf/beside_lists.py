"""What is shown beside a list: a reason for each item, and the bestsellers, so that one sees what is personal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aanmf.predictor import Predictor
from aanmf.profile import Profile
from aanmf.ranking import ListOptions, Ranker
from aanmf.similarity import diversified

SIMILAR = 0.05
"""Similarity that makes a reason."""
MOST_RATINGS = 20_000_000
"""Training ratings up to which reasons are given: similarity keeps them in memory."""
LIKED = 20
"""Best-rated items of a user that reasons are taken from."""
POOL = 8
"""n well-known items are picked from the POOL * n most rated."""
WELL_KNOWN_DIVERSITY = 0.8
"""How much a well-known item loses by its similarity to those picked before."""


class Reason(NamedTuple):
    """A rated item: title, rating (None where there are none) and id."""

    title: str
    rating: float | None
    item: str


def bestsellers(predictor: Predictor, profile: Profile | None, options: ListOptions) -> NDArray[np.int64]:
    """Positions of the items with most ratings, of those that a list by the same options may hold."""
    ranker = Ranker(predictor, replace(options, rank_by=None, interval=None, unrated=False))
    count = np.where(ranker.allowed(), predictor.items.n_ratings[:-1], 0)
    if profile is not None and not options.seen:
        _, rated = predictor.fitted.rated_by(np.array([profile.position]))
        count[rated] = 0
        count[profile.item.cpu().numpy()] = 0
    best = np.argsort(-count, kind="stable")[: options.n]
    return best[count[best] > 0]


def reasons(predictor: Predictor, profile: Profile, listed: Sequence[int]) -> list[Reason | None]:
    """For each listed item the most similar of those that the user liked best; None where no such item is similar."""
    training, items = predictor.fitted.training, predictor.items
    if len(training.train) > MOST_RATINGS:
        return [None] * len(listed)
    history = predictor.profiles.history(profile).items()
    liked = {at: given for at, given in history if given >= training.mean - 1e-6}
    best = np.array(sorted(liked, key=lambda at: -liked[at])[:LIKED], np.int64)
    if not len(best) or not len(listed):
        return [None] * len(listed)
    near = predictor.item_similarity.among(np.concatenate([np.asarray(listed), best]))[: len(listed), len(listed) :]
    near = np.where(np.asarray(listed)[:, None] == best, 0, near)  # with `seen`, an item is no reason for itself
    found: list[Reason | None] = []
    for row in near:
        at = int(best[row.argmax()])
        reason = Reason(items.label(at) or items.ids[at], liked[at] if training.has_ratings else None, items.ids[at])
        found.append(reason if row.max() >= SIMILAR else None)
    return found


def well_known(predictor: Predictor, n: int) -> NDArray[np.int64]:
    """Positions of n items that many users rated and that differ from each other, to begin with a new user."""
    count = predictor.items.n_ratings[:-1]
    best = np.argsort(-count, kind="stable")[: POOL * n]
    best = best[count[best] > 0]
    if len(predictor.fitted.training.train) > MOST_RATINGS:
        return best[:n]
    similarity = predictor.item_similarity.among(best)
    return best[diversified(np.log(count[best]).astype(np.float32), similarity, n, WELL_KNOWN_DIVERSITY)]
