"""scikit-learn's tools take our models as they are."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone, is_regressor
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from aanmf import AANMF, EASE, MF, AANMFpp, RatingDataset, make_model
from aanmf.data.frames import tables_of
from aanmf.data.options import ReadOptions
from aanmf.errors import ConfigError, DataError
from aanmf.models.catalog import CATALOG
from tests.conftest import small_dataset

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "scikit-learn.md"
DATA = small_dataset()
RATINGS, USERS, ITEMS = tables_of(DATA)
READ = RatingDataset.from_frames(RATINGS, USERS, ITEMS)
X, Y = RATINGS.select("user", "item"), RATINGS["rating"].to_numpy()
SMALL: dict[str, Any] = {"factors": 3, "epochs": 4}


@pytest.mark.parametrize("name", CATALOG)
def test_every_model_is_cloned_with_its_settings(name: str) -> None:
    model = make_model(name, seed=7)
    again: Any = clone(model)
    assert type(again) is type(model)
    assert again is not model
    assert again.get_params() == model.get_params()
    assert again.get_params(deep=False)["seed"] == 7
    assert is_regressor(again) == CATALOG[name].rates


def test_a_clone_has_learned_nothing() -> None:
    model = MF(**SMALL).fit(DATA)
    again: Any = clone(model)
    assert not again.is_fitted
    assert model.is_fitted


def test_settings_change_and_forget_what_was_learned() -> None:
    model = MF(**SMALL).fit(DATA)
    weights = sum(each.numel() for each in model.module_.parameters())
    assert model.set_params() is model
    assert model.is_fitted
    assert model.set_params(factors=5) is model
    assert not model.is_fitted
    assert (model.get_params()["factors"], model.get_params()["epochs"]) == (5, 4)
    assert sum(each.numel() for each in model.fit(DATA).module_.parameters()) > weights
    with pytest.raises(ConfigError, match="factor"):
        model.set_params(factor=5)
    with pytest.raises(ConfigError, match="factors"):
        model.set_params(factors=0)


@pytest.mark.parametrize("model", [MF(**SMALL), EASE()], ids=["untrained", "of lists"])
def test_models_are_pickled(model: Any) -> None:
    again = pickle.loads(pickle.dumps(model))
    assert again.get_params() == model.get_params()
    trained = pickle.loads(pickle.dumps(model.fit(DATA)))
    assert trained.recommend("u1", 3).equals(model.recommend("u1", 3))


@pytest.mark.parametrize("kind", ["pandas", "polars", "array"])
def test_a_table_and_its_ratings_train_as_the_data_set_does(kind: str) -> None:
    table = {"pandas": X.to_pandas, "polars": lambda: X, "array": lambda: X.to_numpy()}[kind]()
    model = AANMF(**SMALL).fit(table, Y, users=USERS, items=ITEMS)
    expected = AANMF(**SMALL).fit(READ)
    rating = model.predict(table)
    assert isinstance(rating, np.ndarray)
    np.testing.assert_array_equal(rating, expected.predict_data(READ))


def test_the_score_is_that_of_scikit_learn() -> None:
    model = MF(**SMALL).fit(X, Y)
    assert model.score(X, Y) == pytest.approx(r2_score(Y, model.predict(X)))
    assert model.score(X[:3], [2.0, 2.0, 2.0]) == 0
    with pytest.raises(DataError, match="give users and items"):
        model.predict("u1")


def test_a_grid_search_finds_the_settings_that_predict_best() -> None:
    search = GridSearchCV(MF(**SMALL), {"epochs": [1, 30], "learning_rate": [1e-5, 0.02]}, cv=3)
    search.fit(X.to_pandas(), Y)
    assert search.best_params_ == {"epochs": 30, "learning_rate": 0.02}
    best = MF(factors=3, epochs=30, learning_rate=0.02).fit(X, Y)
    np.testing.assert_array_equal(search.predict(X.to_pandas()), best.predict(X))
    assert search.best_estimator_.recommend("u1", 2).shape[0] == 2


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_grid_search_hands_attributes_on(processes: int) -> None:
    model, scoring = AANMF(**SMALL), "neg_root_mean_squared_error"
    search = GridSearchCV(model, {"factors": [2, 3]}, cv=2, scoring=scoring, n_jobs=processes)
    search.fit(X, Y, users=USERS, items=ITEMS)
    assert search.best_estimator_.fitted_.users.table.names == DATA.users.names
    assert -2 < search.best_score_ < 0


def test_a_pipeline_ends_in_a_model() -> None:
    log = X.rename({"item": "product"}).with_columns(shop=pl.lit("north"))
    pipe = Pipeline(
        [("columns", FunctionTransformer(lambda table: table.select("user", item="product"))), ("model", MF(**SMALL))]
    )
    pipe.fit(log, Y, model__users=USERS)
    np.testing.assert_array_equal(pipe.predict(log), MF(**SMALL).fit(X, Y, users=USERS).predict(X))
    assert pipe.score(log, Y) == pytest.approx(r2_score(Y, pipe.predict(log)))
    again: Any = clone(pipe)
    assert again.set_params(model__factors=2).get_params()["model__factors"] == 2


def test_cross_validation_scores_each_fold_as_a_fit_by_hand_does() -> None:
    folds = KFold(3, shuffle=True, random_state=0)
    scores = cross_val_score(AANMF(**SMALL), X.to_pandas(), Y, cv=folds, params={"users": USERS.to_pandas()})
    for score, (train, test) in zip(scores, folds.split(X), strict=True):
        model = AANMF(**SMALL).fit(X[train], Y[train], users=USERS)
        assert score == pytest.approx(model.score(X[test], Y[test]), abs=1e-6)


class Repeated(type(MF())):
    """Takes the mean of repeated pairs: the checks of scikit-learn draw users and items at random."""

    def fit(self, data: object, y: object = None, **_: Any) -> Repeated:
        return super().fit(data, y, options=ReadOptions(repeated="mean"))


def test_the_guide_lists_the_checks_of_scikit_learn_that_do_not_pass() -> None:
    listed = dict(re.findall(r"^\| `(check_\w+)` \| (.+) \|$", PAGE.read_text(), re.MULTILINE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks warn about what they then report
        results = check_estimator(Repeated(factors=4, epochs=3), on_fail=None, on_skip=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed == set(listed)
    passed = sum(result["status"] == "passed" for result in results)
    assert f"{passed} of {len(results)} checks pass" in PAGE.read_text()


def test_tables_come_back_in_the_kind_that_was_given(tmp_path: Path) -> None:
    model = MF(**SMALL).fit(RATINGS.to_pandas(), users=USERS.to_pandas())
    assert isinstance(model.recommend("u1", 2), pd.DataFrame)
    assert isinstance(model.predict("u1", ["i1", "i2"]), pd.DataFrame)
    assert all(isinstance(table, pd.DataFrame) for table in model.recommend_many(["u1", "u2"], 2))
    assert isinstance(next(iter(model.recommend_all(2))), pd.DataFrame)
    assert isinstance(model.similar("i1", 2), pd.DataFrame)
    polars = model.with_output("polars")
    assert polars.recommend("u1", 2).to_dicts() == model.recommend("u1", 2).to_dict("records")
    assert isinstance(model.recommend("u1", 2), pd.DataFrame)
    model.save(tmp_path / "m")
    assert isinstance(type(model).load(tmp_path / "m").recommend("u1", 2), pl.DataFrame)
    assert model.with_output("arrow").similar_users("u1", 3).num_rows == 3
    with pytest.raises(ConfigError, match="output='panda'. Available: polars, pandas, arrow"):
        model.with_output("panda")  # type: ignore[call-overload]


def test_columns_are_those_of_training(tmp_path: Path) -> None:
    named = RATINGS.select(rater="user", thing="item", rating="rating")
    model = AANMFpp(factors=3, epochs=2, members=1, parts=2).fit(named, options=ReadOptions(user="rater", item="thing"))
    model.save(tmp_path / "m")
    for each in (model, type(model).load(tmp_path / "m")):
        np.testing.assert_allclose(each.predict(named), each.predict(X), atol=1e-6)
