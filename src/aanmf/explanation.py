"""Why a rating was predicted: attention on each attribute, and what each added to the rating."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from aanmf.data.attributes import AttributeEncoder, AttributeSet
from aanmf.data.dataset import RatingDataset
from aanmf.data.kinds import KINDS
from aanmf.errors import ConfigError, DataError
from aanmf.models.catalog import with_capability
from aanmf.predictor import Predictor, Profile

BLOCK = 65_536
"""Pairs whose attention is computed at once."""


@dataclass(frozen=True)
class Explanation:
    """One prediction and what it rests on.

    Attributes:
        item, label: what is rated, by id and as a person reads it.
        rating: predicted, clipped to the scale.
        fallback: null where both were trained, else what was replaced by an average one; see `Recommender.predict`.
        attributes: a row per attribute of the user; see `Recommender.explain`.
    """

    item: str
    label: str | None
    rating: float
    fallback: str | None
    attributes: pl.DataFrame


@torch.no_grad()
def explain_pair(predictor: Predictor, profile: Profile, item: str | int) -> Explanation:
    """Explains the rating of an item by a user as trained, or by a new one without ratings.

    The contribution of an attribute is the score less the one with its weights set to 0, which leaves its a~ out of
    the pooling and the attention on the others as it is.

    Raises:
        UnknownIdError: no such item in the training data.
        ConfigError: the model predicts no ratings.
    """
    predictor.check_rates()
    at, encoder, sets = predictor.items.position(item), predictor.users.encoder, predictor.attributes(profile)
    present = dict(attributes_of(encoder, sets))
    owner = torch.as_tensor(encoder.slot_attributes(sets)[0])  # (J,), -1 where empty
    places = [encoder.names.index(name) for name in present]
    without = torch.stack([owner == -2, *[owner == j for j in places]]).to(predictor.device)  # (1 + A, J): left out
    many = sets.rows(torch.zeros(len(without), dtype=torch.int64, device=predictor.device))
    many = replace(many, weight=many.weight * ~without)
    users, items = (torch.full((len(without),), of, device=predictor.device) for of in (profile.position, at))
    score = predictor.module(users, items, many).cpu().double()
    weights: list[float | None] = [None] * len(places)
    if predictor.spec.attention:
        weights = attention(predictor, users[:1].cpu().numpy(), np.array([at]), sets)[0, places].tolist()
    columns = {
        "attribute": list(present),
        "value": list(present.values()),
        "attention": weights,
        "contribution": (score[0] - score[1:]).numpy(),
    }
    schema = {"attribute": pl.String, "value": pl.String, "attention": pl.Float64}
    low, high = predictor.scale
    known = profile.position != predictor.users.unknown
    return Explanation(
        item=predictor.items.ids[at],
        label=predictor.items.label(at),
        rating=min(max(float(score[0]), low), high),
        fallback=predictor.fitted.fallback(profile.position, at) if known else None,
        attributes=pl.DataFrame(columns, schema_overrides=schema),
    )


def attributes_of(encoder: AttributeEncoder, sets: AttributeSet) -> Iterator[tuple[str, str]]:
    """The attributes that one user (1, J) has, with their values as text: `hobbies`, `chess|go`."""
    owner, labels = encoder.slot_attributes(sets)[0], encoder.value_labels
    values = sets.value[0].cpu().numpy()
    for j, name in enumerate(encoder.names):
        if (mine := values[owner == j]).size:
            yield name, "|".join(labels[v][1] if v < len(labels) else "vector" for v in mine)


@torch.no_grad()
def attention(
    predictor: Predictor, user: NDArray[np.int64], item: NDArray[np.int64], attributes: AttributeSet | None = None
) -> NDArray[np.float64]:
    """Attention (n, A) on each user attribute for n pairs of positions, summed over the values of an attribute.

    With `attributes` (n, J), these instead of the users' own. Asked only where `spec.attention` says that there is one.
    """
    encoder = predictor.users.encoder
    owner = encoder.slot_attributes(predictor.users.attributes if attributes is None else attributes)
    result = np.zeros((len(user), len(encoder.names)))
    for rows in np.array_split(np.arange(len(user)), len(user) // BLOCK + 1):
        users, items, place = (
            torch.as_tensor(each, device=predictor.device) for each in (user[rows], item[rows], rows)
        )
        lam = predictor.module.attention(users, items, None if attributes is None else attributes.rows(place))
        assert lam is not None
        weights, own = lam.double().cpu().numpy(), owner[user[rows] if attributes is None else rows]
        for j in range(len(encoder.names)):
            result[rows, j] = (weights * (own == j)).sum(axis=1)
    return result


def attention_map(predictor: Predictor, data: RatingDataset, by: str) -> pl.DataFrame:
    """See `Recommender.attention_map`."""
    if not predictor.spec.attention:
        capable = ", ".join(with_capability("attention"))
        raise ConfigError(f"{predictor.spec.name} has no attention to show. Available: {capable}")
    kind = data.items.attribute(by).kind
    if not KINDS[kind].has_labels:
        raise DataError(f"attention by {by!r}: a {kind} attribute has no values to group by")
    users, items = predictor.users, predictor.items
    user = users.table.ids.index(data.users.ids.ids, users.unknown)[data.user]
    item = items.table.ids.index(data.items.ids.ids, items.unknown)[data.item]
    names, mean = users.encoder.names, attention(predictor, user, item)
    table = pl.DataFrame({by: data.items.columns[by][data.item], **dict(zip(names, mean.T, strict=True))})
    table = table.explode(by) if table[by].dtype.is_nested() else table
    return table.drop_nulls(by).group_by(by).agg(*[pl.col(n).mean() for n in names], pl.len().alias("n")).sort(by)
