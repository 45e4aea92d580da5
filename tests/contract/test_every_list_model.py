"""What every model keeps that learns what users choose. New models join by `matches=True` in the catalogue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from aanmf import Recommender, SchemaError, UnknownIdError, load_model, make_model
from aanmf.data.dataset import RatingDataset, Vocabulary
from aanmf.errors import ConfigError, DataError, NotFittedError
from aanmf.explanation import KINDS_OF_PARTS
from aanmf.models.catalog import CATALOG, with_capability
from tests.conftest import small_dataset

DATA = small_dataset()
CLICKS = replace(DATA, rating=np.ones(len(DATA), np.float32), scale=None, has_ratings=False)
QUICK: dict[str, dict[str, object]] = {
    "ials": {"factors": 4, "sweeps": 3},
    "bpr": {"factors": 4, "epochs": 3, "batch_size": 64},
    "aanmf++": {"members": 1, "parts": 2, "epochs": 3, "factors": 4},
}
CHANGED: dict[str, object] = {"weights": ("rating", "ones"), "max_items": 9, "dropout": 0.2, "neighbours": 2}
"""Another value of a setting where the general rule (plus one, a hundred times as much) will not do."""
DRAWS = ("ials", "bpr")
"""Models that depend on a seed."""


def another(setting: str, default: object) -> object:
    if setting in CHANGED:
        value = CHANGED[setting]
        return next(each for each in value if each != default) if isinstance(value, tuple) else value
    assert isinstance(default, int | float), f"say in CHANGED what else {setting} could be"
    return default + 1 if isinstance(default, int) else 100 * default + 1


pytestmark = pytest.mark.parametrize("name", with_capability("matches"))
_fitted: dict[str, Recommender] = {}


def fitted(name: str) -> Recommender:
    """One fit per model serves the tests that only read it."""
    if name not in _fitted:
        _fitted[name] = new(name).fit(DATA)
    return _fitted[name]


def new(name: str, **settings: object) -> Recommender:
    return make_model(name, **{**QUICK.get(name, {}), **settings})


@torch.no_grad()
def scores(model: Recommender) -> np.ndarray:
    return torch.cat([rows for _, rows, _ in model.module_.match(torch.arange(43))]).numpy()


def test_scores_are_finite_also_for_users_and_items_without_ratings(name: str) -> None:
    found = scores(fitted(name))
    assert found.shape == (43, 21)
    assert np.isfinite(found).all()


def test_save_and_load_keep_every_bit(name: str, tmp_path) -> None:
    model = fitted(name)
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert type(again) is type(model)
    np.testing.assert_array_equal(scores(again), scores(model))
    assert again.recommend("u1").equals(model.recommend("u1"))
    new_user = {"gender": "F"}, 5
    ratings = {"i1": 5.0, "i2": 1.0}
    assert again.recommend(*new_user, ratings=ratings).equals(model.recommend(*new_user, ratings=ratings))


def test_same_seed_same_bits(name: str) -> None:
    np.testing.assert_array_equal(scores(new(name).fit(DATA)), scores(fitted(name)))


def test_every_setting_has_an_effect(name: str) -> None:
    if CATALOG[name].rates:
        pytest.skip("tests/contract/test_every_model.py")
    settings = new(name).get_params()
    for setting, default in settings.items():
        if setting == "device" or (setting == "seed" and name not in DRAWS):
            continue
        value = another(setting, default)
        assert not np.allclose(scores(new(name, **{setting: value}).fit(DATA)), scores(fitted(name)), atol=1e-6), (
            setting
        )


def test_recommend(name: str) -> None:
    model = fitted(name)
    rated = {DATA.items.ids.ids[i] for i in DATA.item[DATA.user == 1]}
    table = model.recommend("u1", n=1000)
    assert not rated & set(table["item"])
    assert set(model.recommend("u1", n=1000, seen=True, unrated=True)["item"]) == {f"i{i}" for i in range(21)}
    assert "i20" not in set(model.recommend("u1", n=1000, unrated=False)["item"])
    assert table["match"].is_sorted(descending=True)
    assert model.recommend("u1", n=0).height == 0
    with pytest.raises(UnknownIdError):
        model.recommend("nobody")


def test_recommend_to_everyone_is_recommend_to_each(name: str) -> None:
    model = fitted(name)
    lists = pl.concat(model.recommend_all(n=3))
    for user in ("u1", "u17", "u41"):
        own = lists.filter(pl.col("user") == user)
        alone = model.recommend(user, n=3)
        assert own["item"].to_list() == alone["item"].to_list()
        np.testing.assert_allclose(own["match"], alone["match"], atol=1e-5)


def test_new_users(name: str) -> None:
    model = fitted(name)
    assert model.recommend_for({"gender": "F", "hobbies": "chess|go", "age": 30}, n=4).height == 4
    liked = model.recommend_for({"gender": "F"}, n=30, ratings={"i1": 5.0, "i2": 4.0})
    assert not {"i1", "i2"} & set(liked["item"])
    with pytest.raises(SchemaError):
        model.recommend_for({"gender": "X"})
    with pytest.raises(DataError, match="99"):
        model.recommend("u1", ratings={"i1": 99.0})


def test_a_choice_without_a_rating_counts_as_a_mean_rating(name: str) -> None:
    model = fitted(name)
    mean = model.fitted_.training.mean
    assert model.recommend("u1", ratings={"i1": None}).equals(model.recommend("u1", ratings={"i1": mean}))


def test_lists_need_no_ratings(name: str) -> None:
    model = new(name).fit(CLICKS)
    assert model.recommend("u1", n=5).columns == ["item", "match"]
    assert np.isfinite(scores(model)).all()
    assert model.recommend_for({"gender": "F"}, n=5, ratings={"i1": None}).height == 5
    with pytest.raises(ConfigError, match="predict"):
        model.predict("u1", "i1")


def test_models_without_ratings_say_so(name: str) -> None:
    if CATALOG[name].rates:
        pytest.skip("it predicts ratings")
    model = fitted(name)
    for ask in (
        lambda: model.predict("u1", "i1"),
        lambda: model.predict_for({"gender": "F"}, ["i1"]),
        lambda: model.explain("u1", "i1", of="rating"),
        lambda: model.recommend("u1", rank_by="rating"),
        lambda: model.predict_data(DATA),
    ):
        with pytest.raises(ConfigError, match=r"does not predict ratings. Available: .*aanmf\+\+"):
            ask()


@pytest.mark.parametrize("side", ["user", "item"])
def test_a_single_user_or_item(name: str, side: str) -> None:
    one = DATA.take(np.flatnonzero(getattr(DATA, side) == 1))
    assert np.isfinite(scores(new(name).fit(one))).all()


def test_equal_ratings_and_a_single_one(name: str) -> None:
    flat = replace(DATA, rating=np.full(len(DATA), 4.0, np.float32), scale=None)
    for data in (flat, DATA.take(np.array([5]))):
        assert np.isfinite(scores(new(name).fit(data))).all()


def test_test_ratings_do_not_change_lists(name: str) -> None:
    train, test = DATA.split(test=0.2, seed=0)
    model = new(name).fit(train)
    names = ["ndcg@5", "coverage@5"]
    planted = replace(test, rating=6 - test.rating)
    assert model.evaluate(test, names, relevant=1) == model.evaluate(planted, names, relevant=1)


def test_unknown_users_of_a_test_part(name: str) -> None:
    model = fitted(name)
    renamed = replace(DATA, users=replace(DATA.users, ids=Vocabulary(f"new{u}" for u in range(len(DATA.users)))))
    found = model.evaluate(renamed, ["ndcg@5"], relevant=3)
    assert 0 < found["ndcg@5"] < 1
    assert found.n_users + found.n_users_left_out == 40


def test_more_than_the_catalogue(name: str) -> None:
    with pytest.raises(ConfigError, match="21 candidates"):
        fitted(name).evaluate(DATA, ["ndcg@22"])


def test_nothing_to_learn_from(name: str) -> None:
    with pytest.raises(DataError, match="no ratings"):
        new(name).fit(DATA.take(np.zeros(0, np.int64)))
    with pytest.raises(NotFittedError):
        new(name).recommend("u1")


def test_it_beats_chance_on_planted_choices(name: str) -> None:
    """Users of even number choose among even items, the others among odd ones."""
    rng = np.random.default_rng(0)
    rows = [(u, 2 * int(i) + u % 2) for u in range(40) for i in rng.permutation(10)[:6]]
    user, item = np.array(rows).T
    clicks = RatingDataset(DATA.users, DATA.items, user, item, np.ones(len(rows), np.float32), has_ratings=False)
    if name == "popularity":
        pytest.skip("the same list for everyone")
    settings = {"bpr": {"epochs": 60}}.get(name, {})
    listed = pl.concat(new(name, **settings).fit(clicks).recommend_all(4))
    own = [
        int(i[1:]) % 2 == int(u[1:]) % 2
        for u, i in listed.select("user", "item").iter_rows()
        if u not in ("u40", "u41")
    ]
    assert np.mean(own) > 0.9


@pytest.mark.parametrize("asked", [{}, {"ratings": {"i4": 5.0, "i7": 1.0}}], ids=["as trained", "new ratings"])
def test_an_account_sums_to_the_match(name: str, asked: dict[str, dict[str, float]]) -> None:
    model = fitted(name)
    for user in ("u4", "u41", {"gender": "F"}):
        lists = model.recommend(user, n=30, seen=True, unrated=True, **asked)
        match = dict(zip(lists["item"], lists["match"], strict=True))
        for item in ("i1", "i13", "i20"):
            found = model.explain(user, item, top=3, of="match", **asked)
            assert set(found.parts["kind"]) <= set(KINDS_OF_PARTS)
            assert found.prediction == pytest.approx(match[item], abs=1e-4)
            assert found.base + found.parts["contribution"].sum() == pytest.approx(found.prediction, abs=1e-4)
            assert f"match {found.prediction:.2f}" in found.to_text()


def test_one_item_against_another(name: str) -> None:
    model = fitted(name)
    apart = [model.explain("u4", item, top=1000, of="match") for item in ("i1", "i2")]
    found = model.explain("u4", "i1", top=1000, of="match", against="i2")
    assert found.prediction == pytest.approx(apart[0].prediction - apart[1].prediction, abs=1e-4)
    assert found.base + found.parts["contribution"].sum() == pytest.approx(found.prediction, abs=1e-4)
    assert found.against == ("i2", None)
    assert "i1 against i2: match" in found.to_text()


def test_without_a_rating(name: str) -> None:
    model, user = fitted(name), "u4"
    items = [DATA.items.ids.ids[i] for i in DATA.item[DATA.user == 4]]
    if name != "aanmf++":  # which keeps attributes and a vector of the user
        nothing = model.explain({}, "i20", of="match")
        assert model.explain(user, "i20", of="match", without=items).prediction == pytest.approx(nothing.prediction)
    lists = [model.recommend(user, n=30, seen=seen, without=items[:1]) for seen in (False, True)]
    assert items[0] not in lists[0]["item"].to_list()
    assert items[0] in lists[1]["item"].to_list()
    if name != "popularity":
        assert not lists[1].equals(model.recommend(user, n=30, seen=True))
    with pytest.raises(DataError, match="without: the user has not rated item"):
        model.recommend(user, without=[next(each for each in DATA.items.ids.ids if each not in items)])
    known = model.recommend(user, ratings={"i20": 5.0}, without=["i20"])
    assert known.equals(model.recommend(user))
