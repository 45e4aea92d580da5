"""Lists by an index of items against lists by a look at all of them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

from aanmf import MF, AANMFpp, RatingDataset, make_model
from aanmf.errors import ConfigError, MissingExtraError
from aanmf.item_index import MOST, ItemIndex
from aanmf.models.catalog import CATALOG
from aanmf.ranking import ListOptions, Ranker
from aanmf.recommender import Recommender
from tests.conftest import small_dataset

pytest.importorskip("faiss")
INDEXED: dict[str, dict[str, Any]] = {
    "mf": {"factors": 4, "epochs": 3},
    "fm": {"factors": 4, "epochs": 3},
    "ials": {"factors": 4},
    "bpr": {"factors": 4, "epochs": 3},
}


@pytest.fixture(scope="module", params=list(INDEXED))
def model(request, small: RatingDataset) -> Recommender:
    return make_model(request.param, **INDEXED[request.param]).fit(small)


def test_they_are_all_models_that_say_so() -> None:
    assert set(INDEXED) == {name for name, spec in CATALOG.items() if spec.indexes}


def test_the_lists_are_those_of_a_look_at_all_items(model: Recommender, small: RatingDataset, monkeypatch) -> None:
    """Of so few items the graph finds all."""
    users = [small.users.ids.ids[at] for at in np.unique(small.user)]
    exact, exclude = model.recommend_many(users, n=2), small.items.ids.ids[:2]
    without = model.recommend_many(users, n=2, exclude=exclude)
    seen = model.recommend_many(users, n=2, seen=True)
    model.build_index()
    try:
        found, best = [], ItemIndex.best
        monkeypatch.setattr(ItemIndex, "best", lambda *args: found.append(args) or best(*args))
        cases: list[tuple[dict[str, Any], Any]] = [({}, exact), ({"exclude": exclude}, without), ({"seen": True}, seen)]
        for options, expected in cases:
            found.clear()
            for one, other in zip(model.recommend_many(users, n=2, **options), expected, strict=True):
                assert one["item"].to_list() == other["item"].to_list()
                name = one.columns[-1]
                np.testing.assert_allclose(one[name].to_numpy(), other[name].to_numpy(), rtol=1e-5, atol=1e-5)
            assert len(found) == len(users)
    finally:
        model.predictor_.index = None


@pytest.mark.parametrize(
    "options",
    [{"candidates": ["i1", "i2", "i3"]}, {"unrated": True}, {"diversity": 0.5}, {"where": {"genres": "war"}}],
    ids=lambda options: next(iter(options)),
)
def test_what_an_index_does_not_know_of_is_done_without(
    options: dict[str, Any], small: RatingDataset, monkeypatch
) -> None:
    model = MF(factors=4, epochs=2).fit(small)
    expected = model.recommend("u1", n=3, **options)
    model.build_index()
    monkeypatch.setattr(ItemIndex, "best", lambda *_: pytest.fail("the index was asked"))
    assert model.recommend("u1", n=3, **options).equals(expected)
    assert model.recommend("u1", n=3, ratings={"i1": 5}).height == 3
    assert next(iter(model.recommend_all(3))).height > 0


def test_a_user_who_rated_more_than_is_searched_for_is_looked_at_whole(small: RatingDataset) -> None:
    model = MF(factors=4, epochs=2).fit(small).build_index()
    index = model.predictor_.index
    assert index is not None
    scores, items = index.best(0, 10, np.arange(MOST))
    assert len(scores) == len(items) == 0


def test_unrated_items_are_not_in_it() -> None:
    data = small_dataset()
    rows = np.flatnonzero(data.item != 3)
    model = MF(factors=4, epochs=2).fit(data.take(rows)).build_index()
    index = model.predictor_.index
    assert index is not None
    _, items = index.best(0, len(data.items), np.zeros(0, np.int64))
    assert sorted(items.tolist()) == np.unique(data.item[rows]).tolist()


def test_a_number_that_is_not_finite_is_an_error(small: RatingDataset) -> None:
    model = MF(factors=4, epochs=2).fit(small).build_index()
    with torch.no_grad():
        model.module_.p[0] = torch.nan
    with pytest.raises(Exception, match="not finite"):
        model.recommend(small.users.ids.ids[0])


def test_a_model_without_inner_products_has_none(small: RatingDataset) -> None:
    model = AANMFpp(factors=3, epochs=1, members=1, cold=0.0).fit(small)
    with pytest.raises(ConfigError, match=r"aanmf\+\+ does not rank by inner products.*mf, fm"):
        model.build_index()


def test_without_faiss_the_error_names_the_extra(small: RatingDataset, monkeypatch) -> None:
    model = MF(factors=4, epochs=1).fit(small)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"aanmf\[index\]"):
        model.build_index()


def test_a_ranker_names_unknown_items_with_an_index_too(small: RatingDataset) -> None:
    model = MF(factors=4, epochs=1).fit(small).build_index()
    with pytest.raises(KeyError, match="nobody"):
        model.recommend("u1", exclude=["nobody"])
    assert Ranker(model.predictor_, ListOptions(3, rank_by="rating")).index is not None
