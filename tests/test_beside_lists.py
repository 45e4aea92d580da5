"""Items to begin a new user with."""

from __future__ import annotations

import numpy as np
import polars as pl

from aanmf import Popularity
from aanmf.beside_lists import well_known
from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from tests.conftest import small_dataset


def test_well_known_items_differ() -> None:
    """Items 0 and 1 have the same twenty users; item 2, with fewer and other ones, is asked about before item 1."""
    pairs = [(user, item) for user in range(20) for item in (0, 1)] + [(user, 2) for user in range(20, 34)]
    user, item = (np.array(side) for side in zip(*pairs, strict=True))
    tables = (
        EntityTable(Vocabulary(f"{side}{at}" for at in range(n)), pl.DataFrame()) for side, n in (("u", 40), ("i", 4))
    )
    data = RatingDataset(*tables, user=user, item=item, rating=np.full(len(user), 3.0, np.float32), scale=(1.0, 5.0))
    predictor = Popularity().fit(data).predictor_
    assert well_known(predictor, 2).tolist() == [0, 2]
    assert sorted(well_known(predictor, 10).tolist()) == [0, 1, 2]  # item 3 has no rating


def test_the_most_rated_item_comes_first() -> None:
    predictor = Popularity().fit(small_dataset()).predictor_
    found = well_known(predictor, 5)
    assert len(set(found.tolist())) == 5
    assert predictor.items.n_ratings[found[0]] == predictor.items.n_ratings.max()
