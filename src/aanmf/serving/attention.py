"""What a served model attends to: per item for one user, and on average per value of an item attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from aanmf.data.attributes import AttributeSet
from aanmf.explanation import mean_attention
from aanmf.serving.served import ServedModel

SAMPLE = 40_000
"""Training pairs that an attention map is averaged over."""


@dataclass(frozen=True)
class AttentionMap:
    """Mean attention on each user attribute, by the values of one item attribute.

    Attributes:
        by: name of the item attribute; None: over all items.
        attributes: of users, the columns.
        rows: value, mean attention per column, and the number of ratings averaged.
        sampled: how many training pairs were looked at.
    """

    by: str | None
    attributes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...], int], ...]
    sampled: int


def attention_maps(served: ServedModel, most_values: int = 60) -> list[AttentionMap]:
    """One map per categorical or multi-valued item attribute; none for a model without attention."""
    fitted, module = served.model.fitted_, served.model.module_
    names, train = tuple(fitted.user_encoder.names), fitted.training.train
    if not names or not served.model.spec.attention:
        return []
    rng = np.random.default_rng(0)
    chosen = np.arange(len(train)) if len(train) <= SAMPLE else rng.choice(len(train), SAMPLE, replace=False)
    user, item = train.user.cpu().numpy()[chosen], train.item.cpu().numpy()[chosen]
    mean = mean_attention(module, fitted.user_encoder, fitted.training.users, user, item)
    slots, encoder = fitted.training.items, fitted.item_encoder
    owner, labels = encoder.slot_attributes(slots), encoder.value_labels
    maps: list[AttentionMap] = []
    for j, each in enumerate(encoder.fitted):
        if each.n_values == 0:
            continue
        row, place = np.nonzero(owner[item] == j)
        value = slots.value[item[row], place]
        count = np.bincount(value, minlength=len(labels))
        total = np.stack([np.bincount(value, mean[row, a], minlength=len(labels)) for a in range(len(names))], axis=1)
        common = [v for v in np.argsort(-count, kind="stable")[:most_values] if count[v]]
        rows = [(labels[v][1], tuple((total[v] / count[v]).tolist()), int(count[v])) for v in sorted(common)]
        maps.append(AttentionMap(each.attribute.name, names, tuple(rows), len(chosen)))
    if not maps:
        maps.append(
            AttentionMap(None, names, (("all items", tuple(mean.mean(axis=0).tolist()), len(item)),), len(item))
        )
    return maps


@torch.inference_mode()
def attention_on(served: ServedModel, at: int, sets: AttributeSet, items: Sequence[str]) -> NDArray[np.float64] | None:
    """Attention (n, A) of one user on each attribute, for n items; None for a model without.

    Args:
        served: the model.
        at: the user's position.
        sets: (1, J) the user's attributes.
        items: ids.
    """
    if not served.model.spec.attention:
        return None
    encoder = served.model.fitted_.user_encoder
    positions = torch.tensor([served.items.position[item] for item in items], dtype=torch.int64, device=served.device)
    many = sets.rows(torch.zeros_like(positions))
    lam = served.model.module_.attention(torch.full_like(positions, at), positions, many)
    owner = encoder.slot_attributes(sets)[0]
    weights = lam.double().cpu().numpy()
    return np.stack([weights[:, owner == j].sum(axis=1) for j in range(len(encoder.names))], axis=1)
