"""Data sets of Surprise, in and out."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from aanmf.data.dataset import RatingDataset
from aanmf.data.frames import tables_of
from aanmf.data.surprise import from_surprise, to_surprise
from aanmf.errors import DataError, MissingExtraError
from tests.conftest import small_dataset


def rows_of(data: RatingDataset) -> set[tuple[object, ...]]:
    return set(tables_of(data).ratings.select("user", "item", "rating").rows())


def test_there_and_back() -> None:
    pytest.importorskip("surprise", reason="make peers")
    data = small_dataset()
    theirs: Any = to_surprise(data)
    assert theirs.reader.rating_scale == (1, 5)
    for again in (from_surprise(theirs), from_surprise(theirs.build_full_trainset())):
        assert again.scale == (1, 5)
        assert rows_of(again) == rows_of(data)


def test_their_models_predict_on_our_data() -> None:
    surprise = pytest.importorskip("surprise", reason="make peers")
    data = small_dataset()
    theirs: Any = to_surprise(data)
    model = surprise.BaselineOnly(verbose=False).fit(theirs.build_full_trainset())
    rating = model.predict("u1", "i1").est
    assert 1 <= rating <= 5
    assert rating != model.default_prediction()


class Loaded:
    """What `Dataset.load_from_file` gives, as far as it is read."""

    raw_ratings = (("1", "10", 4.0, "881250949"), ("2", "10", 2.0, "891717742"), ("2", "20", 3.0, "891717743"))
    reader = type("Reader", (), {"rating_scale": (1, 5)})


def test_times_and_attributes() -> None:
    users = pl.DataFrame({"user": [2, 1], "town": ["Rome", "Oslo"]})
    data = from_surprise(Loaded(), users)
    assert data.time is not None
    assert data.time.tolist() == [881250949, 891717742, 891717743]
    assert data.scale == (1, 5)
    assert from_surprise(Loaded(), scale=(0, 9)).scale == (0, 9)
    assert data.users.columns["town"].to_list() == ["Rome", "Oslo"]
    assert data.user.tolist() == [1, 0, 0]


def test_what_cannot_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="a list holds no ratings"):
        from_surprise([])
    monkeypatch.setitem(sys.modules, "surprise", None)
    with pytest.raises(MissingExtraError, match="pip install scikit-surprise"):
        to_surprise(small_dataset())


def test_choices_are_refused() -> None:
    pytest.importorskip("surprise", reason="make peers")
    clicks = replace(small_dataset(), has_ratings=False, rating=np.ones(600, np.float32))
    with pytest.raises(DataError, match="has no ratings"):
        to_surprise(clicks)
