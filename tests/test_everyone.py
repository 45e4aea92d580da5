"""Lists of everyone, made in blocks side by side, are those made one block after another."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from aanmf import RatingDataset, ranking
from aanmf.recommender import make_model
from tests.conftest import threads


@pytest.mark.parametrize("name", ["mf", "aanmf++", "ease"])
@pytest.mark.parametrize("users", [1, 7, 1000])
def test_blocks_side_by_side(small: RatingDataset, monkeypatch: pytest.MonkeyPatch, name: str, users: int) -> None:
    settings = {"mf": {"epochs": 1}, "aanmf++": {"epochs": 1, "members": 1, "parts": 2}}
    model = make_model(name, **settings.get(name, {})).fit(small)
    expected = pl.concat(model.recommend_all(n=3))
    monkeypatch.setattr(ranking, "TABLE_USERS", users)
    with threads(3):
        found = pl.concat(model.recommend_all(n=3))
    assert found["user"].n_unique() == len(small.users)
    assert found.select("user", "item").equals(expected.select("user", "item"))
    for column in expected.columns[2:]:
        np.testing.assert_allclose(found[column], expected[column], atol=1e-5)


def test_a_reader_may_stop_early(small: RatingDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("mf", epochs=1).fit(small)
    monkeypatch.setattr(ranking, "TABLE_USERS", 5)
    with threads(2):
        table = next(iter(model.recommend_all(n=3)))
    assert table["user"].n_unique() == 5
