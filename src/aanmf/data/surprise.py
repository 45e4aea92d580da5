"""Data sets of Surprise: ratings without attributes."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import polars as pl

from aanmf.data.dataset import RatingDataset
from aanmf.data.frames import as_kind, tables_of
from aanmf.data.options import ReadOptions
from aanmf.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from surprise import Dataset, Trainset


def from_surprise(
    data: Dataset | Trainset | object,
    users: object = None,
    items: object = None,
    *,
    options: ReadOptions | None = None,
    **keywords: object,
) -> RatingDataset:
    """The ratings of a `Dataset` (with its times) or a `Trainset`, on its scale.

    Args:
        data: what Surprise has loaded.
        users, items: tables of attributes; see `RatingDataset.from_frames`.
        options: how to read the tables.
        **keywords: options by name; see `ReadOptions`.

    Raises:
        DataError: it is neither of them, or its ratings cannot be used.
    """
    theirs = cast("Any", data)
    if hasattr(data, "raw_ratings"):
        rows, scale = theirs.raw_ratings, theirs.reader.rating_scale
    elif hasattr(data, "all_ratings"):
        rows = [(theirs.to_raw_uid(u), theirs.to_raw_iid(i), rating) for u, i, rating in theirs.all_ratings()]
        scale = theirs.rating_scale
    else:
        raise DataError(
            f"a {type(data).__name__} holds no ratings: give a Dataset with one file or table, or a Trainset"
        )
    columns = dict(zip(("user", "item", "rating", "time"), map(list, zip(*rows, strict=True)), strict=False))
    if set(columns.get("time", [None])) == {None}:
        columns.pop("time", None)
    frame = pl.DataFrame({name: pl.Series(values, strict=False) for name, values in columns.items()})
    return RatingDataset.from_frames(frame, users, items, options=options, **{"scale": scale, **keywords})


def to_surprise(data: RatingDataset) -> Dataset:
    """The ratings as a `Dataset` of Surprise; attributes and times are left out, as its models know none.

    Raises:
        MissingExtraError: Surprise (`pip install scikit-surprise`) or pandas is not installed.
        DataError: the rows are choices without ratings.
    """
    try:
        from surprise import Dataset, Reader
    except ModuleNotFoundError:
        raise MissingExtraError("needs Surprise: pip install scikit-surprise") from None
    if not data.has_ratings:
        raise DataError(f"{data.name} has no ratings, and Surprise predicts nothing else")
    scale = data.scale or (float(data.rating.min()), float(data.rating.max()))
    ratings = tables_of(data).ratings.select("user", "item", "rating")
    return Dataset.load_from_df(as_kind(ratings, "pandas"), Reader(rating_scale=scale))
