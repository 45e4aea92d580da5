"""What every model keeps, whatever it computes. New models join by standing in `CATALOG`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from aanmf import DataError, Recommender, SchemaError, UnknownIdError, load_model, make_model
from aanmf.data.context import ContextTable
from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.data.schema import Attribute, Kind
from aanmf.errors import ConfigError, NotFittedError
from aanmf.explanation import KINDS_OF_PARTS
from aanmf.models.catalog import CATALOG, with_capability
from tests.conftest import small_dataset

DATA = small_dataset()
QUICK: dict[str, object] = {"epochs": 3, "factors": 4}
OF_ONE = {"aanmf++": {"members": 2, "parts": 2}, "bayesfm": {"sweeps": 20, "burn_in": 5}}
"""What else makes a model quick."""
WITHOUT_EFFECT = {
    "device": "one machine",
    "patience": "three epochs do not run out of patience",
    "epochs": "tested apart",
    "cold": "for newcomers only; tested apart",
    "ridge_rank": "for large catalogues; tested apart",
    "l2_attention": "attention learns too slowly for three epochs; tested apart",
    "simplify_up_to": "matters where a simpler model does better; tested apart",
}
CHANGED: dict[str, object] = {
    "learning_rate": 0.03,
    "attention_rate": 30.0,
    "l2": 500.0,
    "steps": 3,
    "parts": 7,
    "validation": 0.3,
    "batch_size": 50,
    "dropout": 0.6,
    "init_std": 0.4,
    "pooling": ("sum", "pairwise"),
    "interaction": "product",
    "encodes": "users",
    "node_factors": 2,
    "activation": ("identity", "sigmoid", "relu"),
    "trust": None,
    "rating_std": 2.0,
    "ordinal_levels": 3,
    "ridge_share": 1.0,
    "ridge_ratings": 12,
    "ridge_items": 5,
    "validation_ratings": 60,
    "validation_cuts": 2,
    "search_ratings": 400,
    "rank": 2,
    "burn_in": 0,
    "history_cells": 20,
    "match_items": 5,
    "match_landmarks": 5,
    "match_ratings": 30,
}
"""Another value of a setting where the general rule (not, plus one, a hundred times as much) will not do."""
OF_VALIDATION = {
    "l2_candidates",
    "means_damping",
    "validation_ratings",
    "validation_cuts",
    "search_ratings",
    "drift",
    "future",
}
"""Settings of how held-out ratings are used."""


def in_context() -> RatingDataset:
    """The same ratings, moved by the place and by the mood of the hour in which they were given."""
    rng, n = np.random.default_rng(0), len(DATA)
    place, hour = rng.integers(2, size=n), rng.integers(6, size=n)
    rating = DATA.rating + 0.5 * place + rng.normal(size=(len(DATA.users), 6))[DATA.user, hour]
    declared = Attribute(name="place", kind=Kind.CATEGORICAL)
    table = ContextTable(pl.DataFrame({"place": list(map(str, place))}), (declared,), "timestamp")
    time = 1_600_000_000 + 3600 * hour + rng.integers(60, size=n)
    return replace(DATA, rating=rating.clip(1, 5).astype(np.float32), time=time, context=table)


OF_CONTEXT = {"context", "drift", "future"}
"""Settings that matter where ratings have a context."""


def quick(name: str, **more: object) -> dict[str, object]:
    """Settings to train a model in a moment, of those that it has."""
    has = CATALOG[name].config_type.model_fields
    return {setting: value for setting, value in (QUICK | OF_ONE.get(name, {}) | more).items() if setting in has}


def others(setting: str, default: object) -> list[object]:
    """Other values of a setting; of a pair, each number alone is another one."""
    if setting in CHANGED:
        value = CHANGED[setting]
        return [next(each for each in value if each != default) if isinstance(value, tuple) else value]
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, tuple):
        return [(3, default[1]), (default[0], 3)] if len(default) == 2 else [(3, 2)]
    assert isinstance(default, int | float), f"say in CHANGED what else {setting} could be"
    return [default + 1 if isinstance(default, int) else 100 * default + 100]


pytestmark = pytest.mark.parametrize("name", with_capability("rates"))
_fitted: dict[str, Recommender] = {}


def fitted(name: str) -> Recommender:
    """One fit per model serves the tests that only read it."""
    if name not in _fitted:
        _fitted[name] = make_model(name, **quick(name)).fit(DATA)
    return _fitted[name]


def state(model: Recommender) -> dict[str, torch.Tensor]:
    return model.module_.state_dict()


def outcome(model: Recommender, data: RatingDataset) -> np.ndarray:
    """Predictions, and what the model's intervals and its lists hold, if it gives any."""
    found = [model.predict_data(data)]
    if model.spec.intervals:
        _, low, _ = model.module_.interval(torch.as_tensor(data.user), torch.as_tensor(data.item), 0.8)
        found.append(low.detach().numpy())
    if model.predictor_.matches:
        found += [scores.numpy().ravel() for _, scores, _ in model.predictor_.scores(torch.arange(40), "match")]
    return np.concatenate(found)


def test_batches_of_none_one_and_many(name: str) -> None:
    model = fitted(name)
    assert model.predict([], []).height == 0
    pairs = [("u1", "i2"), ("u2", "i2"), ("u3", "i19")]
    users, items = zip(*pairs, strict=True)
    many = model.predict(users, items)
    assert many.columns[:4] == ["user", "item", "rating", "fallback"]
    for row, (user, item) in enumerate(pairs):
        alone = model.predict(user, item)
        assert alone["rating"][0] == pytest.approx(many["rating"][row], abs=1e-5)


def test_predictions_lie_on_the_scale(name: str) -> None:
    predicted = fitted(name).predict_data(DATA)
    assert np.isfinite(predicted).all()
    assert predicted.min() >= 1
    assert predicted.max() <= 5


def test_unknown_ids_are_flagged_and_predicted(name: str) -> None:
    table = fitted(name).predict(["u1", "nobody", "u1", "nobody"], ["i1", "i1", "nothing", "nothing"])
    assert table["fallback"].to_list() == [None, "unknown user", "unknown item", "unknown user, unknown item"]
    assert table["rating"].is_finite().all()


def test_users_and_items_without_ratings_are_flagged(name: str) -> None:
    table = fitted(name).predict(["u41", "u1", "u1"], ["i1", "i20", "i1"])
    assert table["fallback"].to_list() == ["user without ratings", "item without ratings", None]
    assert table["rating"].is_finite().all()


def test_ids_are_strings_at_the_edge(name: str) -> None:
    numbers = replace(
        DATA,
        users=replace(DATA.users, ids=Vocabulary(map(str, range(len(DATA.users))))),
        items=replace(DATA.items, ids=Vocabulary(map(str, range(len(DATA.items))))),
    )
    model = make_model(name, **quick(name)).fit(numbers)
    assert model.predict(1, 2).equals(model.predict("1", "2"))
    assert model.recommend(1).equals(model.recommend("1"))


def test_save_and_load_keep_every_bit(name: str, tmp_path) -> None:
    model = fitted(name)
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert type(again) is type(model)
    assert again.get_params() == model.get_params()
    assert all(torch.equal(a, b) for a, b in zip(state(model).values(), state(again).values(), strict=True))
    np.testing.assert_array_equal(model.predict_data(DATA), again.predict_data(DATA))
    assert again.recommend("u1").equals(model.recommend("u1"))
    assert again.explain("u1", "i1").parts.equals(model.explain("u1", "i1").parts)
    assert again.fitted_.training_log == model.fitted_.training_log
    assert {file.suffix for file in (tmp_path / "model").glob("[!.]*")} == {".json", ".parquet", ".safetensors"}


def test_same_seed_same_bits(name: str) -> None:
    again = make_model(name, **quick(name)).fit(DATA)
    assert all(torch.equal(a, b) for a, b in zip(state(fitted(name)).values(), state(again).values(), strict=True))


def test_more_epochs_lower_the_training_loss(name: str) -> None:
    if "epochs" not in CATALOG[name].config_type.model_fields:
        pytest.skip("fitted in closed form")
    losses = make_model(name, factors=4, epochs=8, validation=0).fit(DATA).fitted_.training_log.epochs
    assert losses[-1].train_mse < losses[0].train_mse


def test_every_setting_has_an_effect(name: str, tmp_path) -> None:
    links = tmp_path / "trust.csv"
    links.write_text("".join(f"u{u},u{(u + 1) % 40}\n" for u in range(40)))
    settings = make_model(name).get_params()
    for setting, default in settings.items():
        if setting in WITHOUT_EFFECT or (setting == "seed" and "epochs" not in settings):  # a closed form draws nothing
            continue
        values = [str(links)] if setting == "trust" else others(setting, default)
        common: dict[str, object] = quick(name)
        if "refit" not in settings:  # chooses parts on held-out ratings, which could undo the other setting
            common = quick(name, validation=0.1 if setting in {"validation", *OF_VALIDATION} else 0)
        elif setting == "validation":
            common |= {"refit": False}
        data = replace(DATA, rating=DATA.rating.round()) if setting in ("ordinal", "ordinal_levels") else DATA
        data = in_context() if setting in OF_CONTEXT else data
        base = make_model(name, **common).fit(data)
        for value in values:
            other = make_model(name, **{**common, setting: value}).fit(data)
            with_setting, without = outcome(other, data), outcome(base, data)
            changed = len(with_setting) != len(without) or not np.allclose(with_setting, without, atol=1e-7)
            assert changed, (setting, value)


def test_learning_needs_no_attributes(name: str) -> None:
    bare = DATA.with_attributes(users=[], items=[])
    model = make_model(name, **quick(name)).fit(bare)
    assert np.isfinite(model.predict_data(bare)).all()
    assert own_attributes(model, "u1", "i1").height == 0
    assert model.recommend_for({}, n=3).height == 3


@pytest.mark.parametrize("side", ["user", "item"])
def test_a_single_user_or_item(name: str, side: str) -> None:
    rows = np.flatnonzero(getattr(DATA, side) == 1)
    one = DATA.take(rows)
    assert np.isfinite(make_model(name, **quick(name)).fit(one).predict_data(one)).all()


def test_equal_ratings_are_predicted(name: str) -> None:
    flat = replace(DATA, rating=np.full(len(DATA), 4.0, np.float32), scale=None)
    np.testing.assert_allclose(make_model(name, **quick(name)).fit(flat).predict_data(flat), 4.0)


def test_test_ratings_do_not_change_predictions(name: str) -> None:
    train, test = DATA.split(test=0.2, seed=0)
    model = make_model(name, **quick(name)).fit(train)
    planted = replace(test, rating=6 - test.rating)
    np.testing.assert_array_equal(model.predict_data(test), model.predict_data(planted))


def test_recommend(name: str) -> None:
    model = fitted(name)
    rated = {DATA.items.ids.ids[i] for i in DATA.item[DATA.user == 1]}
    table = model.recommend("u1", n=1000, rank_by="rating")
    assert not rated & set(table["item"])
    assert "i20" not in set(table["item"])  # never rated by anyone
    assert "i20" in set(model.recommend("u1", n=1000, unrated=True)["item"])
    assert set(model.recommend("u1", n=1000, seen=True, unrated=False)["item"]) == {f"i{i}" for i in range(20)}
    assert table["rating"].is_sorted(descending=True)
    pairs = model.predict("u1", table["item"].to_list())
    np.testing.assert_allclose(pairs["rating"], table["rating"], atol=1e-5)
    assert model.recommend("u1", n=0).height == 0
    with pytest.raises(UnknownIdError, match="for a new user give attributes"):
        model.recommend("nobody")


def test_recommend_to_everyone_is_recommend_to_each(name: str) -> None:
    model = fitted(name)
    lists = pl.concat(model.recommend_all(n=3))
    assert set(lists["user"]) == set(DATA.users.ids.ids)
    for user in ("u1", "u17"):
        own = lists.filter(pl.col("user") == user)
        alone = model.recommend(user, n=3)
        assert own["item"].to_list() == alone["item"].to_list()
        np.testing.assert_allclose(own["rating"], alone["rating"], atol=1e-5)


def test_new_ratings_count_without_retraining(name: str) -> None:
    model, asked = fitted(name), ["i10", "i11", "i12"]
    likes, dislikes = (dict.fromkeys(["i1", "i2", "i3", "i4"], rating) for rating in (5.0, 1.0))
    high = model.predict_for({"gender": "F"}, asked, ratings=likes)["rating"].to_numpy()
    low = model.predict_for({"gender": "F"}, asked, ratings=dislikes)["rating"].to_numpy()
    assert high.mean() > low.mean()
    listed = model.recommend_for({"gender": "F"}, n=30, ratings=likes)
    assert not set(likes) & set(listed["item"])
    with pytest.raises(UnknownIdError, match="'nothing'"):
        model.recommend("u1", ratings={"nothing": 3.0})
    with pytest.raises(DataError, match="99"):
        model.recommend("u1", ratings={"i1": 99.0})


def test_an_update_learns_new_ratings_users_and_items(name: str, tmp_path) -> None:
    model = make_model(name, **quick(name)).fit(DATA)
    told = [("u1", "i19", 5.0), ("ann", "i1", 5.0), ("ann", "i2", 5.0), ("ann", "i3", 4.0), ("u3", "fresh", 5.0)]
    done = model.update(
        pl.DataFrame(told, schema=["user", "item", "rating"], orient="row"),
        users=pl.DataFrame({"user": ["ann", "u41"], "gender": ["F", "M"], "hobbies": ["chess", None]}),
        items=pl.DataFrame({"item": ["fresh", "unrated"], "genres": ["war", "drama|war"]}),
    )
    assert (done.ratings, done.users, done.items) == (5, 1 + int(DATA.users.columns["gender"][41] != "M"), 2)
    assert done.how == ("histories" if model.spec.updater else "full")
    assert len(model.fitted_.training.train) == len(DATA) + 4  # u1 had rated i19
    assert model.predict("ann", "fresh")["fallback"].to_list() == [None]
    assert model.predict(["ann", "nobody"], ["unrated", "i1"])["fallback"].to_list() == [
        "item without ratings",
        "unknown user",
    ]
    assert "chess" in model.explain("ann", "i4", top=1000).parts["value"].to_list() or not model.spec.attention
    assert not {"i1", "i2", "i3"} & set(model.recommend("ann", n=30)["item"])
    assert "i19" not in set(model.recommend("u1", n=30)["item"])
    listed = model.recommend("u3", n=30, unrated=True)
    assert "unrated" in set(listed["item"]) and "fresh" not in set(listed["item"])
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.recommend("u3", n=30, unrated=True).equals(listed)
    assert again.predict_data(DATA) == pytest.approx(model.predict_data(DATA), abs=1e-6)


def test_intervals_or_a_clear_error(name: str) -> None:
    model = fitted(name)
    if not model.spec.intervals:
        with pytest.raises(ConfigError, match=r"aanmf\+\+"):
            model.predict("u1", "i1", interval=0.9)
        return
    with pytest.raises(ConfigError, match="between 0 and 1"):
        model.predict("u1", "i1", interval=90)
    assert model.predict("u1", "i1", interval=0.9).columns == ["user", "item", "rating", "low", "high", "fallback"]


def test_recommend_for_a_new_user(name: str) -> None:
    model = fitted(name)
    table = model.recommend_for({"gender": "F", "hobbies": "chess|go", "age": 30}, n=4)
    assert table.height == 4
    with pytest.raises(SchemaError, match=r"'X' is not among .* allowed: 'F', 'M'"):
        model.recommend_for({"gender": "X"})
    with pytest.raises(SchemaError, match="unknown attribute 'colour'"):
        model.recommend_for({"colour": "red"})
    alone = model.predict_for({"gender": "F", "hobbies": "chess|go", "age": 30}, table["item"].to_list())
    np.testing.assert_allclose(alone["rating"], table["rating"], atol=1e-5)


def test_evaluate_knows_new_users_by_their_attributes(name: str) -> None:
    model = fitted(name)
    renamed = replace(DATA, users=replace(DATA.users, ids=Vocabulary(f"new{u}" for u in range(len(DATA.users)))))
    predicted = model.predict_data(renamed)
    wishes = {"gender": "F", "hobbies": ["chess"], "age": 20.0, "voice": [0.0, 1.0, 0.0]}  # user 0
    expected = model.predict_for(wishes, [DATA.items.ids.ids[i] for i in DATA.item[DATA.user == 0]])
    np.testing.assert_allclose(predicted[DATA.user == 0], expected["rating"], atol=1e-5)


def own_attributes(model: Recommender, user: str | dict[str, object], item: str) -> pl.DataFrame:
    """What an explanation says of the user's attributes."""
    return model.explain(user, item, top=1000).parts.filter(pl.col("kind") == "user attribute")


def test_explain(name: str) -> None:
    model = fitted(name)
    table = own_attributes(model, "u1", "i1")
    if not model.spec.attention:
        assert table["attention"].null_count() == table.height
    else:
        assert table["attention"].sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(UnknownIdError):
        model.explain("u1", "nothing")
    new = own_attributes(model, {"gender": "M"}, "i1")
    assert new["name"].to_list() == ["gender"]
    assert new["value"].to_list() == ["M"]


@pytest.mark.parametrize("ratings", [None, {"i4": 5.0, "i7": 1.0}], ids=["as trained", "new ratings"])
def test_an_account_sums_to_the_prediction(name: str, ratings: dict[str, float] | None) -> None:
    model = fitted(name)
    for user in ("u4", "u41", {"gender": "F"}):
        for item in ("i1", "i13", "i20"):
            found = model.explain(user, item, top=3, ratings=ratings)
            assert set(found.parts["kind"]) <= set(KINDS_OF_PARTS)
            assert found.base + found.parts["contribution"].sum() == pytest.approx(found.prediction, abs=1e-4)
            expected = model.predict_for(user, [item], ratings=ratings)["rating"][0]
            assert found.prediction == pytest.approx(expected, abs=1e-4)
            assert f"{found.prediction:.2f}" in found.to_text()
            assert "<table>" in found._repr_html_()


def test_nothing_to_learn_from(name: str) -> None:
    with pytest.raises(DataError, match="no ratings"):
        make_model(name).fit(DATA.take(np.zeros(0, np.int64)))


def test_catalogue_equals_pairs(name: str) -> None:
    module = fitted(name).module_
    users = torch.tensor([3, 0, 41, 42])
    with torch.no_grad():
        for part, scores in module.catalogue(users):
            for row, user in zip(scores, users[part], strict=True):
                expected = module(user.expand(21), torch.arange(21))
                np.testing.assert_allclose(row.numpy(), expected.numpy(), atol=1e-5)


def test_a_user_table_larger_than_the_ratings(name: str) -> None:
    """Rows of users who never rated do not change what is learned from those who did."""
    more = EntityTable(
        Vocabulary([*DATA.users.ids.ids, "x", "y"]),
        pl.concat([DATA.users.columns, DATA.users.columns[:2].with_columns(gender=pl.lit("other"))]),
        DATA.users.attributes,
    )
    grown = RatingDataset(more, DATA.items, DATA.user, DATA.item, DATA.rating, scale=(1, 5))
    model = make_model(name, **quick(name)).fit(grown)
    assert model.fitted_.users.encoder == fitted(name).fitted_.users.encoder
    assert model.predict(["x"], ["i1"])["rating"].is_finite().all()


def test_predictions_do_not_depend_on_the_batch(name: str) -> None:
    """Blocks of 1, 7 and all, in another order: to the accuracy of single precision."""
    model = fitted(name)
    order = np.random.default_rng(0).permutation(len(DATA))
    expected = model.predict_data(DATA)
    np.testing.assert_allclose(model.predict_data(DATA.take(order)), expected[order], atol=1e-5)
    for start, n in ((0, 1), (11, 7)):
        part = np.arange(start, start + n)
        np.testing.assert_allclose(model.predict_data(DATA.take(part)), expected[part], atol=1e-5)


def test_evaluate_is_the_error_of_predict(name: str) -> None:
    model, test = fitted(name), DATA.take(np.arange(0, 600, 7))
    users = [DATA.users.ids.ids[u] for u in test.user]
    items = [DATA.items.ids.ids[i] for i in test.item]
    errors = [p - float(r) for p, r in zip(model.predict(users, items)["rating"], test.rating, strict=True)]
    scores = model.evaluate(test)
    assert scores.n == len(errors) == 86
    assert scores.rmse == pytest.approx(sum(e * e for e in errors) ** 0.5 / 86**0.5, abs=1e-5)
    assert scores.mae == pytest.approx(sum(abs(e) for e in errors) / 86, abs=1e-5)


def test_data_in_another_order_of_ids_is_matched_by_id(name: str) -> None:
    """Test data with tables of its own: rows reversed, and an item that the model does not know in front."""
    model = fitted(name)
    users, items = DATA.users, DATA.items
    flipped = RatingDataset(
        EntityTable(Vocabulary(users.ids.ids[::-1]), users.columns.reverse(), users.attributes),
        EntityTable(Vocabulary(["new", *items.ids.ids[::-1]])),
        user=len(users) - 1 - DATA.user,
        item=len(items) - DATA.item,
        rating=DATA.rating,
    )
    np.testing.assert_allclose(model.predict_data(flipped), model.predict_data(DATA), atol=1e-5)


def test_a_single_rating_is_enough(name: str) -> None:
    model = make_model(name, **quick(name)).fit(DATA.take(np.array([5])))
    assert np.isfinite(model.predict_data(DATA)).all()
    assert model.recommend(DATA.users.ids.ids[DATA.user[5]], unrated=False).height == 0  # the only rated item is seen


def test_every_answer_is_clipped_to_the_stated_scale(name: str) -> None:
    settings = quick(name, validation=0)  # so that the scale plays no part in training
    raw = make_model(name, **settings).fit(replace(DATA, scale=(-100, 100))).predict_data(DATA)
    low, high = (float(each) for each in np.quantile(raw, [0.3, 0.7]))
    model = make_model(name, **settings).fit(replace(DATA, scale=(low, high)))
    np.testing.assert_allclose(model.predict_data(DATA), np.clip(raw, low, high), atol=1e-6)
    for table in (
        model.recommend("u1", n=100, seen=True, unrated=True),
        model.recommend_for({}, n=100),
        model.predict_for({}, ["i1", "i2", "nothing"]),
    ):
        assert table["rating"].min() >= np.float32(low)
        assert table["rating"].max() <= np.float32(high)


def test_the_scale_is_the_range_of_training_where_none_is_stated(name: str) -> None:
    model = make_model(name, **quick(name)).fit(replace(DATA, scale=None))
    assert model.fitted_.training.scale == (DATA.rating.min(), DATA.rating.max())


def test_users_without_attributes_are_told_nothing(name: str) -> None:
    """User 5 has no gender, user 3 no hobbies, user 1 no age."""
    model = fitted(name)
    every = {"gender", "hobbies", "age", "voice"}
    for user, lacking in (("u5", "gender"), ("u3", "hobbies"), ("u1", "age")):
        assert set(own_attributes(model, user, "i1")["name"]) == every - {lacking}


def test_attention_shown_is_that_of_the_slots(name: str) -> None:
    """User 2 has a gender, three hobbies, an age and a voice: slots 0, 1-3, 4 and 5, by hand."""
    model = fitted(name)
    rows = {row["name"]: row for row in own_attributes(model, "u2", "i4").to_dicts()}
    assert [rows[each]["value"] for each in ("gender", "hobbies", "voice")] == ["F", "chess|go|tennis", "vector"]
    shown = [rows[each]["attention"] for each in ("gender", "hobbies", "age", "voice")]
    if not model.spec.attention:
        assert shown == [None] * 4
        return
    own = model.module_.attention(torch.tensor([2]), torch.tensor([4]))[0].tolist()
    assert shown == pytest.approx([own[0], sum(own[1:4]), own[4], own[5]], abs=1e-6)


def test_attention_map_is_the_mean_over_ratings(name: str) -> None:
    model, some = fitted(name), DATA.take(np.arange(40))
    if not model.spec.attention:
        with pytest.raises(ConfigError, match="no attention"):
            model.attention_map(some)
        return
    shown: dict[str, list[dict[str, float]]] = {"drama": [], "war": []}
    for user, item in zip(some.user, some.item, strict=True):
        rows = own_attributes(model, f"u{user}", f"i{item}")
        own = dict(zip(rows["name"], rows["attention"], strict=True))
        for genre in ["drama", "war"][: 1 + item % 2]:
            shown[genre].append(own)
    table = model.attention_map(some).table
    assert table["genres"].to_list() == ["drama", "war"]
    assert table["n"].to_list() == [len(shown["drama"]), len(shown["war"])]
    for row, genre in zip(table.to_dicts(), shown, strict=True):
        for attribute in ("gender", "hobbies", "age", "voice"):
            mean = sum(own.get(attribute, 0.0) for own in shown[genre]) / len(shown[genre])
            assert row[attribute] == pytest.approx(mean, abs=1e-5)


def test_as_many_users_as_items(name: str) -> None:
    model = fitted(name)
    assert model.predict("u1", ["i1", "i2"])["user"].to_list() == ["u1", "u1"]
    assert model.predict(["u1", "u2"], "i1")["item"].to_list() == ["i1", "i1"]
    with pytest.raises(DataError, match="2 users and 3 items"):
        model.predict(["u1", "u2"], ["i1", "i2", "i3"])


def test_a_model_of_its_own_seed_leaves_the_global_one_alone(name: str) -> None:
    torch.manual_seed(11)
    before, numbers = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    make_model(name, **quick(name)).fit(DATA)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], numbers)


def test_refused_before_fit(name: str, tmp_path) -> None:
    model = make_model(name)
    for ask in (lambda: model.predict("u1", "i1"), lambda: model.recommend("u1"), lambda: model.save(tmp_path / "m")):
        with pytest.raises(NotFittedError, match="call fit"):
            ask()
    assert not (tmp_path / "m").exists()
