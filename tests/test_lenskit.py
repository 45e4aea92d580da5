"""Our models in the pipelines of LensKit; the suites of LensKit for components and scorers are among the tests."""
# pyright: reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aanmf import make_model, make_synthetic
from aanmf.data.frames import tables_of
from aanmf.data.lenskit import from_lenskit, to_lenskit
from aanmf.errors import ConfigError
from tests.conftest import small_dataset

lenskit = pytest.importorskip("lenskit", reason="make test-lenskit")
pytestmark = pytest.mark.filterwarnings("default")  # of LensKit

from lenskit.batch import recommend  # noqa: E402
from lenskit.data import Dataset, DatasetBuilder, ItemList, RecQuery, from_interactions_df  # noqa: E402
from lenskit.pipeline import Pipeline, predict_pipeline, topn_pipeline  # noqa: E402
from lenskit.testing import BasicComponentTests, ScorerTests  # noqa: E402
from lenskit.training import TrainingOptions  # noqa: E402

from aanmf.lenskit import RecommenderScorer, ScorerConfig  # noqa: E402

DATA = to_lenskit(replace(small_dataset(), time=np.arange(600) + 1_000_000_000))
SETTINGS: dict[str, Any] = {"factors": 3, "epochs": 4}
ITEMS = [f"i{i}" for i in range(20)]


@pytest.fixture(scope="session")
def ml_ratings() -> Any:
    """Whole ids, as the suites of LensKit need them."""
    ratings = tables_of(make_synthetic(n_users=150, n_items=120, n_ratings=6000, seed=0).data).ratings.to_pandas()
    ratings = ratings.rename(columns={"user": "user_id", "item": "item_id"}).astype({"user_id": int, "item_id": int})
    return ratings.assign(timestamp=np.arange(len(ratings)) + 1_000_000_000)


@pytest.fixture(scope="session")
def ml_ds(ml_ratings: Any) -> Dataset:
    """With an attribute that depends on the user."""
    builder = DatasetBuilder(from_interactions_df(ml_ratings))
    users = sorted(set(ml_ratings["user_id"]))
    builder.add_scalar_attribute("user", "town", users, [("Oslo", "Rome")[user % 2] for user in users])
    return builder.build()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class TestComponent(BasicComponentTests):
    component = RecommenderScorer
    configs = ({"model": "mf", "settings": SETTINGS}, {"score": "rating"})


class TestRatings(ScorerTests):
    component = RecommenderScorer
    config = ScorerConfig(model="aanmf", settings=SETTINGS)


class TestChoices(ScorerTests):
    component = RecommenderScorer
    config = ScorerConfig(model="ease")


def trained(pipeline: Pipeline, options: TrainingOptions | None = None) -> Pipeline:
    pipeline.train(DATA, options or TrainingOptions())
    return pipeline


@pytest.mark.parametrize(("model", "settings"), [("aanmf", SETTINGS), ("ease", {})])
def test_lists_are_those_of_the_model(model: str, settings: dict[str, Any]) -> None:
    pipeline = trained(topn_pipeline(RecommenderScorer(ScorerConfig(model=model, settings=settings)), n=5))
    ours = make_model(model, **settings).fit(from_lenskit(DATA))
    users = ["u1", "u7", "u30"]
    listed = recommend(pipeline, users, n_jobs=1)
    for user in users:
        assert listed.lookup(user).ids().tolist() == ours.recommend(user, 5, unrated=True)["item"].to_list()


def test_ratings_are_those_of_the_model() -> None:
    scorer = RecommenderScorer(model="aanmf", settings=SETTINGS, score="rating")
    pipeline = trained(predict_pipeline(scorer, fallback=False))
    ours = make_model("aanmf", **SETTINGS).fit(from_lenskit(DATA))
    for user in ("u1", "nobody"):
        expected = ours.predict(user, ITEMS)["rating"].to_numpy()
        np.testing.assert_allclose(lenskit.predict(pipeline, user, ItemList(ITEMS)).scores(), expected, atol=1e-5)


def test_a_new_user_is_known_by_the_history() -> None:
    pipeline = trained(predict_pipeline(RecommenderScorer(model="mf", settings=SETTINGS), fallback=False))
    ours = make_model("mf", **SETTINGS).fit(from_lenskit(DATA))
    history = ItemList(["i1", "i2", "elsewhere"], rating=[4.5, 0.0, 3.0])  # below the scale
    lowest = ours.fitted_.training.scale[0]
    expected = ours.predict_for({}, ITEMS, {"i1": 4.5, "i2": lowest})["rating"].to_numpy()
    for query in (RecQuery("nobody", history), RecQuery(history_items=history)):
        found = lenskit.score(pipeline, query, ItemList(ITEMS)).scores()
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert not np.allclose(found, lenskit.score(pipeline, "nobody", ItemList(ITEMS)).scores(), atol=0.01)


def test_ratings_since_training_count() -> None:
    pipeline = trained(predict_pipeline(RecommenderScorer(model="mf", settings=SETTINGS), fallback=False))
    model = pipeline.component("scorer").model_
    user, rated = (
        model.fitted_.users.ids[1],
        {model.fitted_.items.ids[at]: 2.0 for at in model.fitted_.ratings_of(1)[0]},
    )
    new = {next(item for item in ITEMS if item not in rated): 4.5}
    before, same, after = (
        lenskit.score(pipeline, RecQuery(user, ItemList(list(given), rating=list(given.values()))), ItemList(ITEMS))
        for given in ({}, rated, {**rated, **new})
    )
    np.testing.assert_array_equal(before.scores(), same.scores())
    listed = model.recommend(user, 21, ratings=new, seen=True, unrated=True).select("item", "rating").rows()
    expected = [dict(listed)[item] for item in ITEMS]
    np.testing.assert_allclose(after.scores(), expected, atol=1e-5)
    assert after.scores().mean() > before.scores().mean()


def test_items_that_the_model_does_not_know_have_no_score() -> None:
    pipeline = trained(predict_pipeline(RecommenderScorer(model="mf", settings=SETTINGS), fallback=False))
    assert np.isnan(lenskit.score(pipeline, "u1", ItemList(["i1", "nothing"])).scores()).tolist() == [False, True]


def test_the_seed_and_the_device_of_the_training_come_first() -> None:
    scorer = RecommenderScorer(model="mf", settings={**SETTINGS, "device": "cuda:7", "seed": 1})
    trained(predict_pipeline(scorer, fallback=False), TrainingOptions(device="cpu", rng=5))
    assert scorer.model_.get_params()["device"] == "cpu"
    assert scorer.model_.get_params()["seed"] not in (0, 1)


def test_a_pipeline_is_kept_as_configuration_and_as_pickle() -> None:
    pipeline = topn_pipeline(RecommenderScorer(model="mf", settings=SETTINGS), n=3)
    again = trained(Pipeline.from_config(pipeline.config))
    pickled = pickle.loads(pickle.dumps(again))
    listed = recommend(trained(pipeline), ["u3"], n_jobs=1).lookup("u3").ids().tolist()
    for each in (again, pickled):
        assert recommend(each, ["u3"], n_jobs=1).lookup("u3").ids().tolist() == listed


def test_a_model_without_matches_does_not_rank_by_them() -> None:
    scorer = RecommenderScorer(model="mf", settings=SETTINGS, score="match")
    trained(predict_pipeline(scorer, fallback=False))
    with pytest.raises(ConfigError, match="does not rank by match"):
        scorer("u1", ItemList(ITEMS))
