"""The estimator's one way to predictions, lists and explanations, whoever asks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aanmf import AANMF, AANMFpp, Recommender, load_model
from aanmf.errors import ConfigError
from aanmf.ranking import ListOptions, make_lists
from tests.conftest import small_dataset

DATA = small_dataset()


@pytest.fixture(scope="module")
def model() -> Recommender:
    return AANMF(factors=4, epochs=2, refit=False).fit(DATA)


@pytest.fixture(scope="module")
def with_intervals() -> Recommender:
    return AANMFpp(factors=4, epochs=2, members=1, parts=2).fit(DATA)


def refuse(*_: Any) -> Any:
    raise AssertionError("this must not be asked")


def test_what_fit_chose_is_not_what_was_asked(with_intervals: Recommender, tmp_path) -> None:
    assert with_intervals.get_params()["l2"] is None
    assert with_intervals.chosen_["l2"] > 0
    with_intervals.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.get_params() == with_intervals.get_params()
    assert again.chosen_ == with_intervals.chosen_
    given = AANMFpp(factors=4, epochs=2, members=1, parts=2, l2=7.0).fit(DATA)
    assert given.get_params()["l2"] == given.chosen_["l2"] == 7.0


def test_explaining_to_a_new_user_scores_one_item(model: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = {"gender": "F", "age": 31.0}
    expected = model.recommend_for(attributes, n=21, unrated=True)
    monkeypatch.setattr(model.module_, "catalogue", refuse)
    for item, rating in expected.select("item", "rating").iter_rows():
        assert model.explain(attributes, item).prediction == pytest.approx(rating, abs=1e-5)
    assert model.predict_for(attributes, ["i1", "nothing"])["fallback"].to_list() == [None, "unknown item"]


def test_an_interval_comes_with_its_prediction(with_intervals: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = ["u1", "u2", "nobody"], ["i3", "i4", "i5"]
    expected = with_intervals.predict(users, items)["rating"]
    new = with_intervals.predict_for({"gender": "F"}, items)["rating"]
    monkeypatch.setattr(with_intervals.module_, "forward", refuse)
    both = with_intervals.predict(users, items, interval=0.8)
    np.testing.assert_allclose(both["rating"], expected, atol=1e-6)
    assert ((both["low"] < both["rating"]) & (both["rating"] < both["high"])).all()
    np.testing.assert_allclose(
        with_intervals.predict_for({"gender": "F"}, items, interval=0.8)["rating"], new, atol=1e-6
    )


def test_lists_of_several_users_are_those_of_each(with_intervals: Recommender) -> None:
    """Known, known with new ratings, new, new with ratings, known: from one call, in order."""
    asked: list[tuple[Any, dict[str, float]]] = [
        ("u1", {}),
        ("u2", {"i3": 5.0, "i4": 1.0}),
        ({"gender": "F"}, {}),
        ({"hobbies": ["go"]}, {"i5": 2.0}),
        ("u3", {}),
    ]
    predictor = with_intervals.predictor_
    profiles = [predictor.profile(user, ratings) for user, ratings in asked]
    for options in (
        ListOptions(7, interval=0.8),
        ListOptions(7, rank_by="low"),
        ListOptions(30, seen=True, unrated=True),
    ):
        lists = [made.table() for made in make_lists(predictor, profiles, options)]
        for made, profile in zip(lists, profiles, strict=True):
            (alone,) = make_lists(predictor, [profile], options)
            assert made["item"].to_list() == alone.table()["item"].to_list()
            np.testing.assert_allclose(made["rating"], alone.table()["rating"], atol=1e-5)
    assert [len(made) for made in lists] == [21] * 5  # the last options: everything
    assert not {"i3", "i4"} & set(with_intervals.recommend("u2", 30, ratings=asked[1][1])["item"])


def test_lists_by_the_lower_end(with_intervals: Recommender) -> None:
    table = with_intervals.recommend("u1", n=5, rank_by="low")
    every = with_intervals.recommend("u1", n=30, interval=0.9, rank_by="rating")
    assert table["item"].to_list() == every.sort("low", descending=True, maintain_order=True)["item"][:5].to_list()
    with pytest.raises(ConfigError, match="rank_by='title'. Available: match, rating, low"):
        with_intervals.recommend("u1", rank_by="title")  # pyright: ignore[reportArgumentType]


def test_stored_scores_change_nothing_but_the_time(model: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = [f"u{n % 43}" for n in range(60)], [f"i{n % 21}" for n in range(60)]  # u42 is not known
    predicted, listed = model.predict(users, items), model.recommend("u5", n=9)
    fresh = AANMF(factors=4, epochs=2, refit=False).fit(DATA)
    fresh.predictor_.store_scores(4 * 43 * 21 - 1)  # a byte too few: nothing is stored
    assert fresh.predict(users, items).equals(predicted)
    fresh.predictor_.store_scores(4 * 43 * 21)
    for name in ("forward", "catalogue"):
        monkeypatch.setattr(fresh.module_, name, refuse)
    np.testing.assert_allclose(fresh.predict(users, items)["rating"], predicted["rating"], atol=1e-5)
    assert fresh.recommend("u5", n=9)["item"].to_list() == listed["item"].to_list()
