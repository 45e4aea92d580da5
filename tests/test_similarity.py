"""Similarity and diverse lists: by the formulas, pair by pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from aanmf import EASE, MF, Recommender, SchemaError, UnknownIdError
from aanmf.errors import ConfigError, DataError
from aanmf.similarity import diversified
from tests.conftest import small_dataset

DATA = small_dataset()


@pytest.fixture(scope="module")
def model() -> Recommender:
    return EASE(l2=5.0).fit(DATA)


def expected(a: int, b: int, of: str) -> float:
    own, other = (DATA.item, DATA.user) if of == "items" else (DATA.user, DATA.item)
    activity = np.bincount(other)
    one, two = (dict.fromkeys(other[own == each].tolist()) for each in (a, b))
    both = [each for each in one if each in two]
    norm = [np.sqrt(sum(1 / activity[each] for each in side)) for side in (one, two)]
    cosine = sum(1 / activity[each] for each in both) / (norm[0] * norm[1]) if both else 0.0
    shared = len(both) / (len(both) + 5) * cosine
    genres = [set(DATA.items.columns["genres"][each].to_list()) for each in (a, b)]
    alike = len(genres[0] & genres[1]) / np.sqrt(len(genres[0]) * len(genres[1]))
    return min(1.0, shared + 0.1 * alike)


def test_items(model: Recommender) -> None:
    among = model.predictor_.item_similarity.among(np.arange(21))
    for a, b in itertools.combinations(range(21), 2):
        assert among[a, b] == among[b, a] == pytest.approx(expected(a, b, "items"), abs=1e-5)
        assert model.predictor_.item_similarity.to_all(a)[b] == pytest.approx(among[a, b], abs=1e-6)
    found = model.similar("i3", n=4)
    best = sorted((each for each in range(21) if each != 3), key=lambda each: -among[3, each])[:4]
    assert found["item"].to_list() == [f"i{each}" for each in best]
    assert found["similarity"].is_sorted(descending=True)
    assert "i20" in model.similar("i3", n=100)["item"].to_list(), "by its attributes: nobody has rated it"


def test_new_items_by_attributes(model: Recommender) -> None:
    found = model.similar({"genres": "war|drama"}, n=30)
    assert found.height == 21
    assert dict(found.iter_rows()) == pytest.approx({f"i{i}": 1.0 if i % 2 else 0.5**0.5 for i in range(21)}, abs=1e-6)
    with pytest.raises(SchemaError, match="'noir'"):
        model.similar({"genres": "noir"})
    with pytest.raises(UnknownIdError, match="nothing"):
        model.similar("nothing")


def test_users(model: Recommender) -> None:
    found = model.similar_users("u3", n=100)
    assert "u3" not in found["user"].to_list()
    assert found.columns == ["user", "similarity"]
    assert model.similar_users({"gender": "F"}, n=3).height == 3
    alike = dict(found.iter_rows())
    user = {"u3": DATA.item[DATA.user == 3], "u8": DATA.item[DATA.user == 8]}
    shared = len(set(user["u3"]) & set(user["u8"]))
    activity = np.bincount(DATA.item)
    one, two = (np.sqrt(sum(1 / activity[each] for each in side)) for side in user.values())
    cosine = sum(1 / activity[each] for each in set(user["u3"]) & set(user["u8"])) / (one * two)
    assert 0 <= alike["u8"] - shared / (shared + 5) * cosine <= 0.1 + 1e-6


def test_marginal_relevance_picks_the_best_at_every_step() -> None:
    rng = np.random.default_rng(0)
    score, similarity = rng.normal(size=12).astype(np.float32), rng.random((12, 12))
    similarity = ((similarity + similarity.T) / 2).astype(np.float32)
    scaled = (score - score.min()) / (score.max() - score.min())
    for d in (0.0, 0.3, 1.0):
        picked: list[int] = []
        for place in diversified(score, similarity, 8, d):
            left = [each for each in range(12) if each not in picked]
            worth = {
                each: (1 - d) * scaled[each] - d * max((similarity[each, j] for j in picked), default=0)
                for each in left
            }
            assert worth[int(place)] == pytest.approx(max(worth.values()), abs=1e-6)
            picked.append(int(place))
    assert diversified(score, similarity, 12, 0.0).tolist() == np.argsort(-score).tolist()
    assert len(diversified(score[:0], similarity[:0, :0], 3, 0.5)) == 0


def test_diverse_lists(model: Recommender) -> None:
    first = model.recommend("u1", n=3, seen=True)["item"].to_list()
    assert model.recommend("u1", n=3, seen=True, diversity=1e-9)["item"].to_list() == first
    far = model.recommend("u1", n=3, seen=True, diversity=0.9)["item"].to_list()
    assert far[0] == first[0]

    def alike(items: list[str]) -> float:
        among = model.predictor_.item_similarity.among(np.array([int(each[1:]) for each in items]))
        return float(among.sum() - np.trace(among))

    assert alike(far) < alike(first)
    unseen = model.recommend("u1", n=3, diversity=0.9)["item"].to_list()
    assert len(set(unseen)) == 3
    assert not set(unseen) & {f"i{i}" for i in DATA.item[DATA.user == 1]}
    few = [f"i{i}" for i in range(20) if i not in DATA.item[DATA.user == 1]][:3]
    assert set(model.recommend("u1", n=5, candidates=few, diversity=0.5)["item"]) == set(few)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        model.recommend("u1", diversity=2)


def test_filters(model: Recommender) -> None:
    left = set(model.recommend("u1", n=30)["item"])
    war = set(model.recommend("u1", n=30, where={"genres": "war"})["item"])
    assert war == {each for each in left if int(each[1:]) % 2}
    assert set(model.recommend("u1", n=30, where={"genres": ["drama", "war"]})["item"]) == left
    assert set(model.recommend("u1", n=30, candidates=["i3", "i20", "i7"])["item"]) == {"i3", "i7"} & left
    one = sorted(left)[0]
    assert set(model.recommend("u1", n=30, exclude=[one])["item"]) == left - {one}
    with pytest.raises(ConfigError, match=r"no item has genres 'wars'. Did you mean 'war'\?"):
        model.recommend("u1", where={"genres": "wars"})
    with pytest.raises(DataError, match="no attribute 'year'"):
        model.recommend("u1", where={"year": 1990})
    with pytest.raises(UnknownIdError, match="'nothing'"):
        model.recommend("u1", exclude=["nothing"])
    everyone = next(model.recommend_all(30, where={"genres": "war"}))
    assert {int(each[1:]) % 2 for each in everyone["item"]} == {1}


def test_ways_of_ranking(model: Recommender) -> None:
    table = model.recommend("u1", n=3)
    assert table.columns == ["item", "match"]
    assert table["match"].is_sorted(descending=True)
    with pytest.raises(ConfigError, match=r"ease does not predict ratings. Available: .*mf"):
        model.recommend("u1", rank_by="rating")
    rated = MF(factors=4, epochs=2).fit(DATA)
    assert rated.recommend("u1").columns == ["item", "rating"]
    with pytest.raises(ConfigError, match=r"does not rank by match.*Available: .*ease"):
        rated.recommend("u1", rank_by="match")
    with pytest.raises(ConfigError, match="rank_by='best'. Available: match, rating, low"):
        rated.recommend("u1", rank_by="best")  # type: ignore[arg-type]


def test_many_users_at_once(model: Recommender) -> None:
    users = ["u1", {"gender": "F"}, "u2", "u1"]
    ratings = [None, {"i1": 5.0}, {"i2": 4.0, "i3": 1.0}, None]
    lists = model.recommend_many(users, 4, ratings=ratings, where={"genres": "drama"})
    for user, new, found in zip(users, ratings, lists, strict=True):
        alone = model.recommend(user, 4, ratings=new, where={"genres": "drama"})
        assert found["item"].to_list() == alone["item"].to_list()
