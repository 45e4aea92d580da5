"""Training again with the ratings given since: the same model on its training ratings and those stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.errors import DataError, ModelFolderError
from aanmf.fitted import EntitySide
from aanmf.recommender import Recommender, load_model
from aanmf.serving.store import RatingStore, StoredRating
from aanmf.training.log import OnEpoch

PAIR = ("user", "item")


def retrain(folder: Path, url: str, on_epoch: OnEpoch | None = None) -> tuple[Recommender | None, int]:
    """A model of the same class and settings, trained on the training ratings of a saved one and those stored.

    Returns:
        The new model, not saved yet, and how many stored ratings its predecessor had not learned from; None and 0 if
        none.

    Raises:
        ModelFolderError: the model cannot be read, or its folder lacks the raw attributes.
        ConfigError, StoreError: the database cannot be read.
        DataError: a stored rating is off the model's scale.
    """
    old = load_model(folder)
    for side in (old.fitted_.users, old.fitted_.items):
        if side.table.names != side.encoder.names:
            raise ModelFolderError(
                f"{folder} was written by an early version of aanmf, which did not keep the attributes of {side.name}s "
                "as they were given: train the model again, after which aanmf update works"
            )
    store = RatingStore(url)
    try:
        stored, forgotten = store.all(), store.forgotten
    finally:
        store.close()
    data, added = with_stored(old, stored)
    if gone := forgotten.among(data.users.ids.ids):
        data = data.without_users(frozenset(gone))
    if not added and not gone:
        return None, 0
    return type(old)(**old.get_params()).fit(data, on_epoch=on_epoch), added


def with_stored(model: Recommender, stored: Sequence[StoredRating]) -> tuple[RatingDataset, int]:
    """The training ratings of a model with the stored ones, which replace those of the same user and item.

    A choice without a rating leaves a training rating as it is; among ratings it counts as a mean rating.

    Returns:
        The ratings, and how many of the stored ones are new or differ from the training rating.

    Raises:
        DataError: a rating off the scale.
    """
    fitted, train = model.fitted_, model.fitted_.training.train
    low, high = fitted.training.scale
    for each in stored:
        if each.rating is not None and not low <= each.rating <= high:
            raise DataError(
                f"stored rating {each.rating:g} of item {each.item!r} is off the scale {low:g} to {high:g}: "
                "correct or remove it in the database"
            )
    users = _grown(fitted.users, (each.user for each in stored))
    items = _grown(fitted.items, (each.item for each in stored))
    old = _frame(train.user.numpy(), train.item.numpy(), train.rating.numpy())
    rating = pl.Series([each.rating for each in stored], dtype=pl.Float32)
    new = _frame(users.ids.index(each.user for each in stored), items.ids.index(each.item for each in stored), rating)
    both = old.join(new, on=PAIR, how="left", suffix="_new", maintain_order="left")
    changed = both.filter(pl.col("rating_new") != pl.col("rating")).height
    fresh = new.join(old, on=PAIR, how="anti", maintain_order="left")
    ratings = pl.concat([both.select(*PAIR, pl.coalesce("rating_new", "rating").alias("rating")), fresh])
    ratings = ratings.with_columns(pl.col("rating").fill_null(fitted.training.mean))
    data = RatingDataset(
        users,
        items,
        *(ratings[name].to_numpy(writable=True) for name in ("user", "item", "rating")),
        scale=fitted.training.scale if fitted.training.has_ratings else None,
        name=str(fitted.data.get("name", "ratings")),
        has_ratings=fitted.training.has_ratings,
    )
    return data, changed + fresh.height


def _frame(user: np.ndarray, item: np.ndarray, rating: np.ndarray | pl.Series) -> pl.DataFrame:
    """A row per rating."""
    schema = {"user": pl.Int64, "item": pl.Int64, "rating": pl.Float32}
    return pl.DataFrame([user.astype(np.int64), item.astype(np.int64), rating], schema=schema)


def _grown(side: EntitySide, named: Iterable[str]) -> EntityTable:
    """The raw table with a row, without attributes, per id that is not in it yet."""
    table = side.table
    new = list(dict.fromkeys(each for each in named if each not in table.ids))
    labels = None if table.labels is None else (*table.labels, *new)
    columns = pl.concat([table.columns, table.columns.clear(len(new))])
    return replace(table, ids=Vocabulary((*table.ids.ids, *new)), columns=columns, labels=labels)
