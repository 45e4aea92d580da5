"""Ratings that the service stored, as additions to a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from aanmf.additions import RATINGS, Additions
from aanmf.serving.store import RatingStore, StoredRating


def stored_additions(url: str) -> Additions:
    """All ratings of a database, and the users who are to be forgotten; what a model has learned changes nothing.

    Raises:
        ConfigError, StoreError: the database cannot be read.
    """
    store = RatingStore(url)
    try:
        return replace(as_additions(store.all()), forgotten=store.forgotten)
    finally:
        store.close()


def as_additions(stored: Sequence[StoredRating]) -> Additions:
    """Stored ratings in the form that `aanmf.additions.grow` takes."""
    return Additions(pl.DataFrame(stored, schema=RATINGS, orient="row"), name="the stored ratings")
