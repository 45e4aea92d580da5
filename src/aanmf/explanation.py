"""What a model looked at: attention on each attribute, and what each added to a rating."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from aanmf.contract import RatingModule
from aanmf.data.attributes import AttributeEncoder, AttributeSet


@torch.no_grad()
def explain_pair(
    module: RatingModule, encoder: AttributeEncoder, user: int, item: int, sets: AttributeSet, *, attention: bool
) -> pl.DataFrame:
    """A row per attribute of one user: `attribute`, `value`, `attention`, `contribution`.

    The contribution of an attribute is the prediction less the one with its weights set to 0, which leaves its a~ out
    of the pooling and the attention on the others as it is.

    Args:
        module: the model.
        encoder: of the users.
        user: position.
        item: position.
        sets: (1, J) the user's attributes.
        attention: whether the model has attention.
    """
    owner = torch.as_tensor(encoder.slot_attributes(sets)[0])  # (J,), -1 where empty
    present = [j for j in range(len(encoder.names)) if (owner == j).any()]
    without = torch.stack([owner == -2, *[owner == j for j in present]])  # (1 + A, J): what each row leaves out
    many = sets.rows(torch.zeros(len(without), dtype=torch.int64, device=sets.value.device))
    many = replace(many, weight=many.weight * ~without.to(many.weight.device))
    users, items = (torch.full((len(without),), at, device=sets.value.device) for at in (user, item))
    rating = module(users, items, many).cpu().double()
    weights = module.attention(users[:1], items[:1], sets)[0].cpu().double() if attention else None
    labels = encoder.value_labels
    values = sets.value[0].cpu()
    rows = [
        {
            "attribute": encoder.names[j],
            "value": "|".join(labels[v][1] if v < len(labels) else "vector" for v in values[owner == j].tolist()),
            "attention": None if weights is None else float(weights[owner == j].sum()),
            "contribution": float(rating[0] - rating[row]),
        }
        for row, j in enumerate(present, start=1)
    ]
    schema = {"attribute": pl.String, "value": pl.String, "attention": pl.Float64, "contribution": pl.Float64}
    return pl.DataFrame(rows, schema=schema)


@torch.no_grad()
def mean_attention(
    module: RatingModule,
    encoder: AttributeEncoder,
    sets: AttributeSet,
    user: NDArray[np.int64],
    item: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Attention (n, A) on each user attribute for n pairs of positions, summed over the values of an attribute.

    Raises:
        ConfigError: the model has no attention.
    """
    owner, device = encoder.slot_attributes(sets), next(module.parameters()).device
    result = np.zeros((len(user), len(encoder.names)))
    for start in range(0, len(user), 65_536):
        rows = slice(start, start + 65_536)
        users, items = (torch.as_tensor(side[rows], device=device) for side in (user, item))
        lam = module.attention(users, items)
        for j in range(len(encoder.names)):
            result[rows, j] = (lam.cpu().numpy() * (owner[user[rows]] == j)).sum(axis=1)
    return result
