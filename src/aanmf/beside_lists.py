"""What is shown beside a list: a reason for each item, and the bestsellers, so that one sees what is personal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aanmf.predictor import Predictor
from aanmf.profile import Profile
from aanmf.ranking import ListOptions, Ranker

SIMILAR = 0.05
"""Similarity that makes a reason."""
MOST_RATINGS = 20_000_000
"""Training ratings up to which reasons are given: similarity keeps them in memory."""
LIKED = 20
"""Best-rated items of a user that reasons are taken from."""


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


def reasons(predictor: Predictor, profile: Profile, listed: Sequence[int]) -> list[tuple[str, float | None] | None]:
    """For each listed item the most similar of those that the user liked best: its title, and the rating.

    The rating is None where there are none; the reason is None where no such item is similar.
    """
    fitted, items = predictor.fitted, predictor.items
    if len(fitted.training.train) > MOST_RATINGS:
        return [None] * len(listed)
    history = predictor.profiles.history(profile)
    rated, rating = np.array(list(history), np.int64), np.array(list(history.values()))
    liked = rating >= fitted.training.mean - 1e-6
    best = np.argsort(-rating[liked], kind="stable")[:LIKED]
    rated, rating = rated[liked][best], rating[liked][best]
    if not len(rated) or not len(listed):
        return [None] * len(listed)
    near = predictor.item_similarity.among(np.concatenate([np.asarray(listed), rated]))[: len(listed), len(listed) :]
    near = np.where(np.asarray(listed)[:, None] == rated, 0, near)  # with `seen`, an item is no reason for itself
    found: list[tuple[str, float | None] | None] = []
    for row in near:
        at = int(row.argmax())
        title = items.label(int(rated[at])) or items.ids[rated[at]]
        given = float(rating[at]) if fitted.training.has_ratings else None
        found.append((title, given) if row[at] >= SIMILAR else None)
    return found
