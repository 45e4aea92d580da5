"""Ratings that the service stored, as additions to a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from aanmf.additions import RATINGS, Additions
from aanmf.serving.store import RatingStore, StoredRating


def stored_additions(url: str) -> Additions:
    """All ratings of a database, when they were stored, and the users who are to be forgotten.

    What a model has learned changes nothing.

    Raises:
        ConfigError, StoreError: the database cannot be read.
    """
    store = RatingStore(url)
    try:
        dated = store.dated()
        new = as_additions([rating for rating, _ in dated])
        return replace(new, time=np.array([time for _, time in dated], np.int64), forgotten=store.forgotten)
    finally:
        store.close()


def as_additions(stored: Sequence[StoredRating]) -> Additions:
    """Stored ratings in the form that `aanmf.additions.grow` takes."""
    return Additions(pl.DataFrame(stored, schema=RATINGS, orient="row"), name="the stored ratings")
