"""Evaluation of lists: against loops over users that follow the protocol."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from aanmf import EASE, MF, Popularity, Recommender, cross_validate
from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.data.split import folds
from aanmf.errors import ConfigError, DataError
from aanmf.metrics import LIST_METRICS
from tests.conftest import small_dataset

DATA = small_dataset()
TRAIN, TEST = DATA.split(test=0.3, seed=0)
QUICK = {"factors": 4, "epochs": 3}


@pytest.fixture(scope="module")
def ease() -> Recommender:
    return EASE(l2=5.0).fit(TRAIN)


def naive(model: Recommender, test: RatingDataset, threshold: float, k: int) -> tuple[dict[str, float], int]:
    """By hand from `recommend`: means over users with a relevant test row, and how many have none."""
    sums = {"ndcg": 0.0, "recall": 0.0, "precision": 0.0}
    counted = left_out = 0
    for user in sorted({test.users.ids.ids[u] for u in test.user}):
        rows = [row for row in range(len(test)) if test.users.ids.ids[test.user[row]] == user]
        wanted = {test.items.ids.ids[test.item[row]] for row in rows if test.rating[row] >= threshold}
        if not wanted:
            left_out += 1
            continue
        listed = model.recommend(user, k, unrated=True)["item"].to_list()
        hits = [item in wanted for item in listed]
        gain = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits, 1) if hit)
        sums["ndcg"] += gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))
        sums["recall"] += sum(hits) / len(wanted)
        sums["precision"] += sum(hits) / k
        counted += 1
    return {name: value / counted for name, value in sums.items()} | {"n_users": counted}, left_out


@pytest.mark.parametrize("k", [3, 10])
def test_known_users(ease: Recommender, k: int) -> None:
    found = ease.evaluate(TEST, [f"{name}@{k}" for name in LIST_METRICS], relevant=3.2)
    expected, left_out = naive(ease, TEST, 3.2, k)
    assert left_out > 0
    assert (found.n_users, found.n_users_left_out, found.n) == (expected["n_users"], left_out, len(TEST))
    for name in ("ndcg", "recall", "precision"):
        assert found[f"{name}@{k}"] == pytest.approx(expected[name], abs=1e-12)


def test_by_default_ratings_above_the_mean_are_relevant(ease: Recommender) -> None:
    above = np.nextafter(ease.fitted_.training.mean, 9)
    assert ease.evaluate(TEST, ["ndcg@5"]) == ease.evaluate(TEST, ["ndcg@5"], relevant=above)


def test_ranked_by_rating_and_by_the_lower_end() -> None:
    model = MF(**QUICK).fit(TRAIN)
    found = model.evaluate(TEST, ["rmse", "ndcg@5"], relevant=3.0)
    expected, _ = naive(model, TEST, 3.0, 5)
    assert found["ndcg@5"] == pytest.approx(expected["ndcg"], abs=1e-12)
    assert found.rmse == model.evaluate(TEST).rmse
    assert model.evaluate(TEST, ["ndcg@5"], relevant=3.0, rank_by="rating")["ndcg@5"] == found["ndcg@5"]
    with pytest.raises(ConfigError, match="mf does not rank by match"):
        model.evaluate(TEST, ["ndcg@5"], rank_by="match")
    with pytest.raises(ConfigError, match="intervals"):
        model.evaluate(TEST, ["ndcg@5"], rank_by="low")


def test_new_users_are_ranked_for_by_their_attributes() -> None:
    """All users of the test part are unknown: popularity lists them the most rated items, none left out."""
    renamed = replace(TEST, users=replace(TEST.users, ids=Vocabulary(f"new{u}" for u in range(len(TEST.users)))))
    model = Popularity().fit(TRAIN)
    order = np.argsort(-np.bincount(TRAIN.item, minlength=21), kind="stable")[:5]
    gain = []
    for u in np.unique(TEST.user):
        wanted = TEST.item[(TEST.user == u) & (TEST.rating >= 3)]
        if len(wanted):
            hits = sum(1 / math.log2(rank + 2) for rank, item in enumerate(order) if item in wanted)
            gain.append(hits / sum(1 / math.log2(rank + 2) for rank in range(min(5, len(wanted)))))
    assert model.evaluate(renamed, ["ndcg@5"], relevant=3)["ndcg@5"] == pytest.approx(np.mean(gain))


def test_test_data_is_matched_by_id(ease: Recommender) -> None:
    """Tables in another order, and an item that the model does not know, which can be relevant but is never listed."""
    flipped = RatingDataset(
        EntityTable(Vocabulary(TEST.users.ids.ids[::-1]), TEST.users.columns.reverse(), TEST.users.attributes),
        EntityTable(Vocabulary(["new", *TEST.items.ids.ids[::-1]])),
        user=len(TEST.users) - 1 - TEST.user,
        item=len(TEST.items) - TEST.item,
        rating=TEST.rating,
    )
    names = ["ndcg@5", "recall@5", "coverage@5"]
    assert ease.evaluate(flipped, names, relevant=3) == pytest.approx(ease.evaluate(TEST, names, relevant=3))
    one = replace(
        flipped, user=flipped.user[[0, 0]], item=np.array([0, flipped.item[0]]), rating=np.array([5, 5], np.float32)
    )
    assert ease.evaluate(one, ["recall@20"])["recall@20"] == 0.5


def test_groups_of_users(ease: Recommender) -> None:
    found = ease.evaluate(TEST, ["ndcg@5"], relevant=3.2, group_by="gender")
    assert list(found.groups) == ["F", "M"]
    for value in "FM":
        rows = np.array([TEST.users.columns["gender"][int(u)] == value for u in TEST.user])
        alone = ease.evaluate(TEST.take(np.flatnonzero(rows)), ["ndcg@5"], relevant=3.2)
        assert found.groups[value] == alone
    by_hobby = ease.evaluate(TEST, ["ndcg@5"], group_by="hobbies").groups
    assert sum(each.n for each in by_hobby.values()) > len(TEST), "a user with several hobbies is in several groups"
    with pytest.raises(DataError, match="group_by='age'"):
        ease.evaluate(TEST, ["ndcg@5"], group_by="age")
    with pytest.raises(DataError, match="colour"):
        ease.evaluate(TEST, ["ndcg@5"], group_by="colour")


def test_metrics_that_a_model_cannot_have_are_none(ease: Recommender) -> None:
    found = ease.evaluate(TEST, ["rmse", "ndcg@5", "mae"])
    assert (found["rmse"], found["mae"]) == (None, None)
    assert list(found) == ["rmse", "ndcg@5", "mae", "n", "n_users", "n_users_left_out"]
    assert list(ease.evaluate(TEST)) == ["ndcg@10", "recall@10", "coverage@10", "n", "n_users", "n_users_left_out"]


@pytest.mark.parametrize(
    ("metrics", "options", "error", "message"),
    [
        (["ndcg@5"], {"relevant": 7}, ConfigError, "relevant=7: ratings lie between 1 and 5"),
        (["ndcg@22"], {}, ConfigError, "lists of 22 items: there are 21 candidates"),
        (["ndcg@3"], {"candidates": ["i1", "i2"]}, ConfigError, "there are 2 candidates"),
        (["ndcg@5"], {"relevant": 5}, DataError, "no test rating is relevant"),
        (["ndcg@5", "recal@5"], {}, ConfigError, "Did you mean 'recall@5'"),
    ],
)
def test_refused(ease: Recommender, metrics: list[str], options: dict, error: type[Exception], message: str) -> None:
    test = replace(TEST, rating=np.minimum(TEST.rating, 4.9).astype(np.float32))
    with pytest.raises(error, match=message):
        ease.evaluate(test, metrics, **options)


def test_equal_ratings_and_none() -> None:
    flat = replace(DATA, rating=np.full(len(DATA), 4.0, np.float32), scale=None)
    clicks = replace(flat, rating=np.ones(len(DATA), np.float32), has_ratings=False)
    for data in (flat, clicks):
        train, test = data.split(test=0.3, seed=0)
        found = EASE(l2=5.0).fit(train).evaluate(test, ["ndcg@5"])
        assert found.n_users == len(np.unique(test.user))
        assert found.n_users_left_out == 0
    with pytest.raises(ConfigError, match="there are no ratings"):
        EASE().fit(train).evaluate(test, ["ndcg@5"], relevant=1)
    with pytest.raises(ConfigError, match=r"mf learns from ratings.*Available.*ease"):
        MF(**QUICK).fit(train)


def test_new_items_are_ranked_among_themselves() -> None:
    found = cross_validate(DATA, ["popularity"], "cold-item:0.25", metrics=["ndcg@5", "coverage@5"], relevant=1)
    (fold,) = folds(DATA, "cold-item:0.25")
    assert len(np.unique(DATA.item[fold.test])) == 5
    assert found.runs[0].scores["coverage@5"] == 1.0
    with pytest.raises(ConfigError, match="5 candidates"):
        cross_validate(DATA, ["popularity"], "cold-item:0.25", metrics=["ndcg@6"])


def test_cross_validation_of_lists() -> None:
    metrics = ["rmse", "ndcg@5", "recall@5"]
    found = cross_validate(
        DATA, ["popularity", "ease", "mf"], "kfold:2", settings={"mf": QUICK}, metrics=metrics, relevant=3.2
    )
    document = found.to_json()
    assert found.metrics == metrics
    run = document["runs"][0]
    assert run["rmse"] is None
    assert {"ndcg@5", "recall@5", "n_users", "n_users_left_out", "n_test"} <= set(run)
    summary = {row["model"]: row for row in document["summary"]}
    values = [row["ndcg@5"] for row in document["runs"] if row["model"] == "ease"]
    assert summary["ease"]["ndcg@5_mean"] == pytest.approx(np.mean(values))
    assert summary["ease"]["ndcg@5_std"] == pytest.approx(np.std(values, ddof=1))
    assert summary["popularity"]["rmse_mean"] is summary["popularity"]["rmse_std"] is None
    assert summary["mf"]["rmse_mean"] > 0
    compared = [(row["metric"], row["model"], row["other"]) for row in document["comparisons"]]
    assert compared.count(("ndcg@5", "popularity", "ease")) == 1
    assert not [each for each in compared if each[0] == "rmse"], "a single model has it"
    train, test = folds(DATA, "kfold:2")[0].of(DATA)
    alone = EASE().fit(train).evaluate(test, metrics, relevant=3.2)
    assert document["runs"][1]["ndcg@5"] == alone["ndcg@5"]


def test_models_rank_as_they_can() -> None:
    models, asked = ["popularity", "mf"], {"metrics": ["ndcg@5"]}
    found = cross_validate(DATA, models, "holdout:0.3", settings={"mf": QUICK}, rank_by="rating", **asked)
    assert [run.scored for run in found.runs] == [asked, asked | {"rank_by": "rating"}]


def test_ratings_told_after_training_count_and_are_not_listed() -> None:
    fold = folds(DATA, "cold-user:0.3+4", [0])[0]
    train, test = fold.of(DATA)
    given, model = fold.given_of(DATA), EASE(l2=5.0).fit(train)
    assert given is not None
    found = model.evaluate(test, ["recall@5"], relevant=3.2, given=given)
    recalls, items = [], DATA.items.ids.ids
    for user in np.unique(test.user):
        told = {items[given.item[row]]: float(given.rating[row]) for row in np.flatnonzero(given.user == user)}
        wanted = {items[test.item[row]] for row in np.flatnonzero((test.user == user) & (test.rating >= 3.2))}
        if wanted:
            listed = set(model.recommend(DATA.users.ids.ids[user], 5, ratings=told, unrated=True)["item"])
            recalls.append(len(listed & wanted) / len(wanted))
    assert found["recall@5"] == pytest.approx(np.mean(recalls), abs=1e-12)
    assert found["recall@5"] != model.evaluate(test, ["recall@5"], relevant=3.2)["recall@5"]


def test_ratings_told_after_training_move_predicted_ratings() -> None:
    fold = folds(DATA, "cold-user:0.3+4", [0])[0]
    train, test = fold.of(DATA)
    given, model = fold.given_of(DATA), MF(**QUICK).fit(train)
    assert given is not None
    strangers = replace(test.users, ids=Vocabulary(f"new-{label}" for label in test.users.ids.ids))
    errors = np.empty(len(test))
    for row, (user, item) in enumerate(zip(test.user, test.item, strict=True)):
        own = np.flatnonzero(given.user == user)
        told = {DATA.items.ids.ids[given.item[at]]: float(given.rating[at]) for at in own}
        attributes = {k: v for k, v in test.users.columns.row(int(user), named=True).items() if v is not None}
        predicted = model.predict_for(attributes, [DATA.items.ids.ids[item]], told)["rating"][0]
        errors[row] = predicted - test.rating[row]
    moved = [replace(part, users=strangers) for part in (test, given)]
    assert model.evaluate(moved[0], given=moved[1]).rmse == pytest.approx(np.sqrt(np.mean(errors**2)), abs=1e-5)
