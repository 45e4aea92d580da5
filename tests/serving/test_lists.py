"""Lists over HTTP: every parameter of `recommend`, many users at once, similar items and users, data of clicks.

What a model can do is asked of the model, so that one that learns to rank in a further way is tested in it too.
"""

from __future__ import annotations

import re
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from aanmf import Attribute, Kind, RatingDataset
from aanmf.additions import grow
from aanmf.beside_lists import reasons
from aanmf.errors import ConfigError
from aanmf.ranking import RANK_BY, ListOptions, ways_to_rank
from aanmf.recommender import Recommender, load_model, make_model
from aanmf.serving.limits import Limits
from aanmf.serving.model_cache import ListAnswer, ListRequest, ModelCache
from aanmf.serving.page_list import WORDS
from aanmf.serving.store import StoredRating
from aanmf.serving.update import as_additions
from tests.conftest import small_dataset
from tests.serving.conftest import LABELS, Start, httpx, serving
from tests.serving.test_api import told
from tests.serving.test_page import titles

SETTINGS: dict[str, dict[str, Any]] = {
    "ease": {},
    "aanmf": {"factors": 4, "epochs": 2, "refit": False},
    "aanmf++": {"factors": 4, "epochs": 1, "members": 1},
}
NEW = {"gender": "F", "age": 31.0}
RATED = {"i1": 5.0, "i2": 1.0}


def dataset() -> RatingDataset:
    """The small data set with titles and years (1990 to 2010) of the items."""
    data = small_dataset()
    columns = data.items.columns.with_columns(pl.Series("year", 1990.0 + np.arange(len(data.items))))
    attributes = (*data.items.attributes, Attribute(name="year", kind=Kind.NUMERIC, groups=3))
    return replace(data, items=replace(data.items, columns=columns, attributes=attributes, labels=LABELS))


@dataclass(frozen=True)
class Served:
    """A model and a client of the service that serves it."""

    model: Recommender
    client: Any

    def ask(self, **body: Any) -> list[dict[str, Any]]:
        """The items of a list."""
        response = self.client.post("/v1/recommend", json=body)
        assert response.status_code == 200, response.text
        return response.json()["items"]

    def refused(self, status: int = 422, path: str = "/v1/recommend", **body: Any) -> str:
        """Why a list is refused."""
        return told(self.client.post(path, json=body), status)


def serve(model: Recommender, folder: Path) -> Iterator[Served]:
    from aanmf.serving.app import create_app

    model.save(folder)
    with serving(create_app(folder, store="sqlite://")) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield Served(model, client)


@pytest.fixture(scope="module", params=SETTINGS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Every kind of model: of choices, of ratings, with intervals."""
    model = make_model(request.param, **SETTINGS[request.param]).fit(dataset())
    yield from serve(model, tmp_path_factory.mktemp("lists") / "model")


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A model of data without ratings."""
    data = dataset()
    data = replace(data, rating=np.ones(len(data), np.float32), scale=None, has_ratings=False)
    yield from serve(make_model("ease").fit(data), tmp_path_factory.mktemp("clicks") / "model")


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["item"] for row in rows]


@pytest.mark.parametrize("rank_by", [None, *RANK_BY])
def test_rank_by(served: Served, rank_by: Any) -> None:
    offered = ways_to_rank(served.model.predictor_)
    assert served.client.get("/v1/model").json()["rank_by"] == offered
    if rank_by is not None and rank_by not in offered:
        message = served.refused(user="u3", rank_by=rank_by)
        assert served.model.spec.name in message
        assert "Available: " in message
        return
    asked: list[dict[str, Any]] = [{"user": "u3"}, {"attributes": NEW}, {"attributes": NEW, "ratings": RATED}]
    for who in asked:
        rows = served.ask(**who, n=6, rank_by=rank_by)
        user = who["user"] if "user" in who else who["attributes"]
        expected = served.model.recommend(user, 6, ratings=who.get("ratings"), rank_by=rank_by)
        assert ids(rows) == expected["item"].to_list()
        assert set(rows[0]) == {"label", *expected.columns}
        for name in set(expected.columns) - {"item", "label"}:
            assert [row[name] for row in rows] == pytest.approx(expected[name].to_list(), abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"candidates": ["i0", "i2", "i6"]},
        {"exclude": ["i0", "i2", "i6"]},
        {"where": {"genres": "war"}},
        {"where": {"genres": ["drama"], "year": [1995, None]}},
        {"where": {"year": 1997}},
        {"seen": True},
        {"unrated": True},
        {"unrated": False},
        {"diversity": 0.9},
    ],
    ids=str,
)
def test_options_of_a_list(served: Served, options: dict[str, Any]) -> None:
    rows = served.ask(user="u3", n=21, **options)
    assert rows
    assert ids(rows) == served.model.recommend("u3", 21, **options)["item"].to_list()
    if "unrated" not in options:
        assert ids(rows) != ids(served.ask(user="u3", n=21))


def test_a_list_is_no_longer_than_the_catalogue(served: Served) -> None:
    assert len(served.ask(user="u3", n=1000, seen=True, unrated=True)) == 21
    assert served.ask(user="u3", candidates=[]) == []


def test_one_bad_list_leaves_others_alone(served: Served) -> None:
    """Requests that wait together are answered together; an option that cannot be met fails its own request."""
    cache = ModelCache(served.model)
    good, bad = ListOptions(3), ListOptions(3, where={"genres": "opera"})
    answers = cache.make_lists([ListRequest("u1", None, {}, each) for each in (good, bad, good)])
    assert "opera" in str(answers[1])
    assert answers[0] == answers[2] == cache.make_lists([ListRequest("u1", None, {}, good)])[0]


def test_many_users_at_once(served: Served) -> None:
    users = [{"user": "u3"}, {"attributes": NEW}, {"attributes": NEW, "ratings": RATED}, {"ratings": {"i4": None}}]
    options = {"n": 5, "where": {"genres": "drama"}, "exclude": ["i7"]}
    response = served.client.post("/v1/recommend-many", json={"users": users, **options})
    assert response.status_code == 200, response.text
    expected = served.model.recommend_many(["u3", NEW, NEW, {}], ratings=[None, None, RATED, {"i4": None}], **options)
    assert [ids(each["items"]) for each in response.json()["lists"]] == [each["item"].to_list() for each in expected]
    assert [each["new_ratings"] for each in response.json()["lists"]] == [0, 0, 2, 1]
    path = "/v1/recommend-many"
    assert "'nobody'" in served.refused(404, path, users=[{"user": "u3"}, {"user": "nobody"}])
    assert "at least 1" in served.refused(422, path, users=[])
    assert "at most 100" in served.refused(422, path, users=[{"user": "u3"}] * 101)
    assert "give a user's id" in served.refused(422, path, users=[{}])


def test_similar_items_and_users(served: Served) -> None:
    def ask(**body: Any) -> list[tuple[str, str | None]]:
        answer = served.client.post("/v1/similar", json=body).json()["similar"]
        assert all(0 < each["similarity"] <= 1 for each in answer)
        return [(each["id"], each["label"]) for each in answer]

    model = served.model
    assert ask(item="i3", n=4) == list(model.similar("i3", 4).select("item", "label").iter_rows())
    new = {"genres": ["war"], "year": 2000.0}
    assert ask(item_attributes=new) == list(model.similar(new).select("item", "label").iter_rows())
    assert ask(user="u3", n=3) == [(user, None) for user in model.similar_users("u3", 3)["user"]]
    assert ask(attributes=NEW, n=3) == [(user, None) for user in model.similar_users(NEW, 3)["user"]]
    path = "/v1/similar"
    assert "'nothing'" in served.refused(404, path, item="nothing")
    assert "'nobody'" in served.refused(404, path, user="nobody")
    assert "give one of: item, item_attributes" in served.refused(422, path, item="i3", user="u3")
    assert "give one of" in served.refused(422, path)
    assert "unknown attribute. Available: genres, year" in served.refused(422, path, item_attributes={"a": 1})


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"rank_by": "best"}, 422, "rank_by: Input should be 'match', 'rating' or 'low' (given: 'best')"),
        ({"diversity": 1.5}, 422, "diversity: Input should be less than or equal to 1"),
        ({"diversity": 0.5, "n": 101}, 422, "a diverse list has at most 100 items"),
        ({"n": 1001}, 422, "n: Input should be less than or equal to 1000"),
        ({"where": {"shoe": 42}}, 422, "shoe"),
        ({"where": {"genres": "dramma"}}, 422, "Did you mean 'drama'?"),
        ({"where": {"year": "old"}}, 422, "'year' holds numbers"),
        ({"where": {"year": []}}, 422, "where.year"),
        ({"where": ["genres"]}, 422, "where: Input should be an object"),
        ({"candidates": ["nothing"]}, 404, "'nothing'"),
        ({"exclude": ["nothing"]}, 404, "'nothing'"),
        ({"ratings": {"i1": 6}}, 422, "less than or equal to 5"),
    ],
    ids=str,
)
def test_a_wrong_list_is_told_why(served: Served, body: dict[str, Any], status: int, words: str) -> None:
    assert words in served.refused(status, user="u3", **body)


def test_what_needs_ratings_says_so(served: Served) -> None:
    pairs = served.client.post("/v1/predict", json={"pairs": [["u1", "i1"]]})
    why = served.client.post("/v1/explain", json={"user": "u1", "item": "i1", "of": "rating"})
    if "rating" in ways_to_rank(served.model.predictor_):
        assert (pairs.status_code, why.status_code) == (200, 200)
    else:
        assert "ease does not predict ratings. Available: " in told(pairs, 422)
        assert "ease does not predict ratings" in told(why, 422)
        why = served.client.post("/v1/explain", json={"user": "u1", "item": "i1"}).json()
        assert why["prediction"] == pytest.approx(served.model.explain("u1", "i1").prediction)


def test_clicks_are_kept_and_count(served: Served) -> None:
    stored = {"ratings": [{"user": "clicker", "item": "i3"}, {"user": "clicker", "item": "i5", "rating": None}]}
    assert served.client.post("/v1/ratings", json=stored).json() == {"stored": 2}
    answer = served.client.post("/v1/recommend", json={"user": "clicker", "n": 21}).json()
    assert answer["new_ratings"] == 2
    assert ids(answer["items"]) == served.model.recommend({}, 21, ratings={"i3": None, "i5": None})["item"].to_list()


def test_a_click_on_what_was_rated_says_nothing_new(served: Served) -> None:
    rated = served.model.fitted_.training.train
    item = f"i{rated.item[rated.user == 4][0]}"
    before = served.ask(user="u4", n=21)
    served.client.post("/v1/ratings", json={"ratings": [{"user": "u4", "item": item}]})
    answer = served.client.post("/v1/recommend", json={"user": "u4", "n": 21}).json()
    assert (answer["items"], answer["new_ratings"]) == (before, 0)


def test_the_page_of_every_model(served: Served) -> None:
    model = served.model
    cases: list[tuple[dict[str, str], dict[str, Any]]] = [
        ({}, {}),
        ({"is.genres": "drama", "from.year": "1995"}, {"where": {"genres": "drama", "year": [1995, None]}}),
        ({"seen": "1", "diversity": "0.8", "n": "20"}, {"seen": True, "diversity": 0.8, "n": 20}),
    ]
    for way in ways_to_rank(model.predictor_):
        for query, options in cases:
            page = served.client.get("/", params={"user": "u3", "rank_by": way, **query})
            assert titles(page) == model.recommend("u3", rank_by=way, **options)["label"].to_list()
            assert f"Ranked by {WORDS[way]}" in page.text


def test_bestsellers_beside_the_list(served: Served) -> None:
    """Against the model of bestsellers, which ranks by the number of ratings."""
    popular = make_model("popularity").fit(dataset())
    served.client.post("/v1/ratings", json={"ratings": [{"user": "u9", "item": "i3"}]})
    page = served.client.get("/", params={"user": "u9", "is.genres": "war"}).text
    beside = page[page.index("Bestsellers</h2>") : page.index("What if")]
    expected = popular.recommend("u9", ratings={"i3": None}, where={"genres": "war"}, unrated=False)
    shown = re.findall(r"item=(i\d+)", beside)
    counts = {item: int(n) for item, n in zip(shown, re.findall(r"(\d+) ratings", beside), strict=True)}
    n_ratings = popular.fitted_.items.n_ratings
    assert set(shown) == set(expected["item"])
    assert counts == {item: n_ratings[int(item[1:])] for item in shown}
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


def test_reasons_are_liked_and_similar(served: Served) -> None:
    """The reason of a listed item is the one of those rated above the mean that is most similar to it."""
    model, data = served.model, dataset()
    mine = data.user == 3
    liked = {f"i{i}": r for i, r in zip(data.item[mine], data.rating[mine], strict=True) if r >= data.rating.mean()}
    listed = [model.fitted_.items.position(item) for item in model.recommend("u3", 20)["item"]]
    found = reasons(model.predictor_, model.predictor_.profile("u3"), listed)
    assert any(found)
    for at, reason in zip(listed, found, strict=True):
        similarity = dict(model.similar(f"i{at}", 21).select("item", "similarity").iter_rows())
        nearest = max(similarity.get(item, 0.0) for item in liked)
        assert (reason is None) == (nearest < 0.05)
        if reason is not None:
            item = f"i{LABELS.index(reason[0])}"
            assert similarity[item] == pytest.approx(nearest, abs=1e-6)
            assert reason[1] == pytest.approx(liked[item])


def test_data_without_ratings(clicks: Served) -> None:
    card = clicks.client.get("/v1/model").json()
    assert (card["rank_by"], card["has_ratings"], card["scale"], card["mean_rating"]) == (["match"], False, None, None)
    rows = clicks.ask(user="u3", n=5)
    assert ids(rows) == clicks.model.recommend("u3", 5)["item"].to_list()
    assert set(rows[0]) == {"item", "label", "match"}
    assert ids(clicks.ask(ratings={"i3": None})) == clicks.model.recommend({}, ratings={"i3": None})["item"].to_list()
    assert "leave the rating out" in clicks.refused(user="u3", ratings={"i3": 5})
    assert "leave the rating out" in clicks.refused(
        path="/v1/ratings", ratings=[{"user": "u1", "item": "i1", "rating": 1}]
    )
    for path, body in (
        ("/v1/predict", {"pairs": [["u1", "i1"]]}),
        ("/v1/explain", {"user": "u1", "item": "i1", "of": "rating"}),
    ):
        assert "ease does not predict ratings" in clicks.refused(422, path, **body)
    assert "ease does not predict ratings" in clicks.refused(user="u3", rank_by="rating")
    for path in ("/", "/?user=u3", "/card", "/map", "/docs"):
        assert clicks.client.get(path).status_code == 200


def test_clicks_are_learned_by_an_update(clicks: Served) -> None:
    clicked = [StoredRating("u41", "i20", None), StoredRating("newcomer", "i3", None)]
    grown = grow(clicks.model.fitted_, as_additions(clicked))
    data = grown.data
    assert (grown.ratings, len(data), data.has_ratings) == (2, 602, False)
    assert (data.rating == 1).all()
    again = make_model("ease").fit(data)
    assert again.recommend("newcomer", 21)["item"].to_list() != again.recommend({}, 21)["item"].to_list()


def test_openapi_describes_every_option(start: Start) -> None:
    schemas = start(store="sqlite://").get("/openapi.json").json()["components"]["schemas"]
    for name in ("RecommendRequest", "RecommendManyRequest"):
        for option in ("rank_by", "seen", "unrated", "candidates", "exclude", "where", "diversity"):
            assert schemas[name]["properties"][option]["description"]
            assert schemas[name]["properties"]["where"]["examples"] == [{"genres": "drama"}]
            assert schemas[name]["properties"]["exclude"]["examples"] == [["i0", "i1"]]
    assert schemas["Rating"]["required"] == ["user", "item"]


def test_cached_lists_take_no_more_memory_than_they_may(folder: Path) -> None:
    """Many users and lengths; what the cache says it takes is what it takes."""
    most = 300_000
    cache = ModelCache(load_model(folder), list_bytes=most)
    asked = [ListRequest(f"u{u}", None, {}, ListOptions(n)) for n in range(1, 21) for u in range(40)]
    cache.make_lists(asked[:1])
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for request in asked:
        cache.make_lists([request])
        assert cache.lists.bytes <= most
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 100 < len(cache.lists) < len(asked)
    assert 0.8 * cache.lists.bytes < taken < 1.2 * cache.lists.bytes + 20_000
    (again,) = cache.make_lists(asked[-1:])
    assert isinstance(again, ListAnswer)
    assert again.items == ModelCache(load_model(folder)).make_lists(asked[-1:])[0].items  # type: ignore[union-attr]
    cache.lists.clear()
    assert (len(cache.lists), cache.lists.bytes) == (0, 0)


def test_an_index_finds_the_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aanmf.item_index import ItemIndex
    from aanmf.serving.app import create_app

    asked, best = [], ItemIndex.best
    monkeypatch.setattr(ItemIndex, "best", lambda *args: asked.append(args) or best(*args))
    model = make_model("mf", factors=4, epochs=2).fit(dataset())
    model.save(tmp_path / "model")
    with serving(create_app(tmp_path / "model", index=True)) as url, httpx.Client(base_url=url, timeout=30) as client:
        late = time.monotonic() + 60
        for n in range(1, 1000):  # each list another one: those that were made are kept
            client.post("/v1/recommend", json={"user": model.fitted_.users.ids[0], "n": n + 3})
            if asked:
                break
            assert time.monotonic() < late
            time.sleep(0.1)
        asked.clear()
        for user in model.fitted_.users.ids[:10]:
            found = client.post("/v1/recommend", json={"user": user, "n": 3}).json()["items"]
            assert ids(found) == model.recommend(user, n=3)["item"].to_list()
    assert len(asked) == 10


def test_an_index_of_a_model_that_can_have_none_is_an_error(tmp_path: Path) -> None:
    from aanmf.serving.app import create_app

    make_model("ease").fit(dataset()).save(tmp_path / "model")
    with pytest.raises(ConfigError, match="no index"):
        create_app(tmp_path / "model", index=True)


def test_cached_lists_are_measured(start: Start) -> None:
    client = start(limits=Limits(list_bytes=100_000))
    for n in range(1, 21):
        for u in range(20):
            assert client.post("/v1/recommend", json={"user": f"u{u}", "n": n}).status_code == 200
    taken = re.search(r"^aanmf_cached_lists_bytes (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert taken and 50_000 < float(taken[1]) <= 100_000
