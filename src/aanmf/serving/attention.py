"""Attention maps of a model: mean attention on each user attribute, by the values of an item attribute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aanmf.explanation import attention
from aanmf.predictor import Predictor

SAMPLE = 40_000
"""Training pairs that an attention map is averaged over."""
VALUES = 60
"""Most values of an item attribute that a map shows: the ones with most ratings."""


@dataclass(frozen=True)
class AttentionMap:
    """Mean attention on each user attribute, by the values of one item attribute.

    Attributes:
        by: name of the item attribute; None: over all items.
        attributes: of users, the columns.
        rows: value, mean attention per column, and the number of ratings averaged.
        mean: attention per column over all items.
        sampled: how many training pairs it rests on.
    """

    by: str | None
    attributes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...], int], ...]
    mean: tuple[float, ...]
    sampled: int


def attention_maps(predictor: Predictor) -> list[AttentionMap]:
    """One map per item attribute that has values; none for a model without attention or user attributes."""
    names, train = tuple(predictor.users.encoder.names), predictor.fitted.training.train
    if not names or not predictor.spec.attention:
        return []
    n = len(train)
    chosen = np.arange(n) if n <= SAMPLE else np.random.default_rng(0).choice(n, SAMPLE, replace=False)
    user, item = train.user.cpu().numpy()[chosen], train.item.cpu().numpy()[chosen]
    mean, sets, encoder = attention(predictor, user, item), predictor.items.attributes, predictor.items.encoder
    owner, labels = encoder.slot_attributes(sets), encoder.value_labels
    overall, maps = tuple(mean.mean(axis=0).tolist()), list[AttentionMap]()
    for j, each in enumerate(encoder.fitted):
        if each.n_values == 0:
            continue
        row, place = np.nonzero(owner[item] == j)
        value = sets.value.numpy()[item[row], place]
        count = np.bincount(value, minlength=len(labels))
        total = np.stack([np.bincount(value, column[row], minlength=len(labels)) for column in mean.T], axis=1)
        common = [v for v in np.argsort(-count, kind="stable")[:VALUES] if count[v]]
        rows = [(labels[v][1], tuple((total[v] / count[v]).tolist()), int(count[v])) for v in sorted(common)]
        maps.append(AttentionMap(each.attribute.name, names, tuple(rows), overall, len(chosen)))
    return maps or [AttentionMap(None, names, (("all items", overall, len(chosen)),), overall, len(chosen))]
