"""Training again with the ratings given since: the same model on its training ratings and those stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.attribute_kind import MISSING_LABEL, FittedAttribute
from aanmf.data.attributes import AttributeEncoder, AttributeSet
from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.data.schema import Attribute, Kind
from aanmf.errors import DataError
from aanmf.recommender import Recommender, load_model
from aanmf.serving.store import RatingStore, StoredRating
from aanmf.training.trainer import OnEpoch


def retrain(folder: Path, url: str, on_epoch: OnEpoch | None = None) -> tuple[Recommender | None, int]:
    """A model of the same class and settings, trained on the training ratings of a saved one and those stored.

    Returns:
        The new model, not saved yet, and how many stored ratings its predecessor had not learned from; None and 0 if
        there are none.

    Raises:
        ModelFolderError, ConfigError, StoreError: the model or the database cannot be read.
        DataError: a stored rating is off the model's scale.
    """
    old = load_model(folder)
    store = RatingStore(url)
    try:
        stored = store.all()
    finally:
        store.close()
    data, added = with_stored(old, stored)
    if not added:
        return None, 0
    return type(old)(**old.get_params()).fit(data, on_epoch=on_epoch), added


def with_stored(model: Recommender, stored: list[StoredRating]) -> tuple[RatingDataset, int]:
    """The training ratings of a model with the stored ones, which replace those of the same user and item.

    Returns:
        The ratings, and how many of the stored ones are new or differ from the training rating.

    Raises:
        DataError: a rating off the scale.
    """
    fitted, training = model.fitted_, model.fitted_.training
    low, high = training.scale
    for each in stored:
        if not low <= each.rating <= high:
            raise DataError(
                f"stored rating {each.rating:g} of item {each.item!r} is off the scale {low:g} to {high:g}: "
                "correct or remove it in the database"
            )
    users = _grown(fitted.users, [each.user for each in stored])
    items = _grown(fitted.items, [each.item for each in stored])
    train = training.train
    old = dict(zip(zip(train.user.tolist(), train.item.tolist(), strict=True), train.rating.tolist(), strict=True))
    pairs = zip(users.index(each.user for each in stored), items.index(each.item for each in stored), strict=True)
    new = {(int(u), int(i)): float(np.float32(each.rating)) for (u, i), each in zip(pairs, stored, strict=True)}
    added = sum(old.get(pair) != rating for pair, rating in new.items())
    together = old | new
    user, item = np.array(list(together), np.int64).T
    labels = fitted.item_labels
    item_labels = (*labels, *items.ids[len(labels) :]) if labels else None
    name = str(fitted.data.get("name", "ratings"))
    data = RatingDataset(
        users=decoded(fitted.user_encoder, training.users, users),
        items=decoded(fitted.item_encoder, training.items, items, item_labels),
        user=np.ascontiguousarray(user),
        item=np.ascontiguousarray(item),
        rating=np.array(list(together.values()), np.float32),
        scale=training.scale,
        name=name,
    )
    return data, added


def decoded(
    encoder: AttributeEncoder, slots: AttributeSet, ids: Vocabulary, labels: tuple[str, ...] | None = None
) -> EntityTable:
    """A table that encodes to the same attribute sets again; ids beyond the encoded ones have no attributes.

    A number in a group has become its group: a number of the group stands for it, and the groups are kept.
    """
    owner = encoder.slot_attributes(slots)[:-1]  # the last row is the unknown one
    offset, columns, attributes, vector = 0, [], [], 0
    for j, each in enumerate(encoder.fitted):
        if each.attribute.kind is Kind.VECTOR:
            cells = _vectors(each, slots.vectors[vector].numpy(), (owner == j).any(axis=1))
            vector += 1
        else:
            cells = [_cell(each, slots, row, owner[row] == j, offset) for row in range(len(owner))]
        offset += each.n_values
        cells += [None] * (len(ids) - len(cells))
        columns.append(pl.Series(each.attribute.name, cells, dtype=_DTYPES[each.attribute.kind]))
        attributes.append(_kept(each))
    return EntityTable(ids, pl.DataFrame(columns), tuple(attributes), labels)


_DTYPES = {
    Kind.CATEGORICAL: pl.String(),
    Kind.MULTIVALUED: pl.List(pl.String),
    Kind.NUMERIC: pl.Float64(),
    Kind.VECTOR: pl.List(pl.Float64),
}


def _cell(each: FittedAttribute, slots: AttributeSet, row: int, taken: NDArray[np.bool_], offset: int) -> object:
    """The plain value of one attribute of one user (item); None if it is missing."""
    places = np.flatnonzero(taken)
    values = [int(slots.value[row, at]) - offset for at in places]
    found = [each.labels[value] for value in values]
    if not found or MISSING_LABEL in found:
        return None
    if each.attribute.kind is Kind.CATEGORICAL:
        return found[0]
    if each.attribute.kind is Kind.MULTIVALUED:
        return found
    if each.cuts is None:
        return float(slots.weight[row, places[0]]) * each.deviation + each.center[0]
    return _within(each.cuts, values[0])


def _within(cuts: tuple[float, ...], group: int) -> float:
    """A number of the group, which holds its lower end."""
    if not cuts:
        return 0.0
    return cuts[group - 1] if group else cuts[0] - 1.0


def _kept(each: FittedAttribute) -> Attribute:
    """The declaration, with the groups that were found."""
    return each.attribute if each.cuts is None else each.attribute.model_copy(update={"cuts": each.cuts})


def _vectors(each: FittedAttribute, array: NDArray[np.float32], known: NDArray[np.bool_]) -> list[object]:
    plain = array[: len(known)].astype(np.float64) * each.deviation + np.array(each.center)
    return [row.tolist() if there else None for row, there in zip(plain, known, strict=True)]


def _grown(ids: Vocabulary, named: list[str]) -> Vocabulary:
    return Vocabulary((*ids.ids, *dict.fromkeys(each for each in named if each not in ids)))
