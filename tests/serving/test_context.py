"""Context over HTTP and on the page: predictions, lists and explanations in it, and what is wrong with a request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aanmf.recommender import Recommender
from aanmf.serving.examples import request_examples
from aanmf.serving.model_cache import ListRequest, ModelCache, PredictRequest
from tests.serving.conftest import Start, httpx, serving
from tests.serving.test_api import told
from tests.serving.test_page import titles
from tests.test_context import COMPANY, START, planted, small

FAMILY, ALONE = {"company": "family", "timestamp": START + 91_000}, {"company": "alone"}


@pytest.fixture(scope="module")
def model() -> Recommender:
    """A model in which the company of a rating counts."""
    return small(members=1, epochs=5).fit(planted())


@pytest.fixture(scope="module")
def asked(model: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of the service."""
    from aanmf.serving.app import create_app

    folder = tmp_path_factory.mktemp("context") / "model"
    model.save(folder)
    with serving(create_app(folder, store="sqlite://")) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def items(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    return response.json()["items"]


def test_predict(asked: Any, model: Recommender) -> None:
    pairs = [["3", "7"], ["5", "8"]]
    for context in (FAMILY, ALONE, {}, {"timestamp": "2020-09-13 14:23"}):
        found = asked.post("/v1/predict", json={"pairs": pairs, "context": context, "interval": 0.9}).json()
        expected = model.predict(["3", "5"], ["7", "8"], 0.9, context=context)
        for name, column in (("ratings", "rating"), ("low", "low"), ("high", "high")):
            assert found[name] == pytest.approx(expected[column].to_list(), abs=1e-4)


def test_requests_that_are_answered_together_keep_their_context(model: Recommender) -> None:
    """A request without a time must not take it from the others."""
    cache, pairs = ModelCache(model), [("3", "7"), ("5", "8")]
    contexts = [FAMILY, None, ALONE, {**ALONE, "timestamp": START}, FAMILY]
    together = cache.predict([PredictRequest(pairs, None, each) for each in contexts])
    for found, context in zip(together, contexts, strict=True):
        expected = model.predict(["3", "5"], ["7", "8"], context=context)
        assert found["ratings"] == pytest.approx(expected["rating"].to_list(), abs=1e-4)


def test_lists(asked: Any, model: Recommender) -> None:
    lists = []
    for context in (FAMILY, ALONE, None):
        for name, user, ratings in (("user", "3", {}), ("attributes", {"gender": "F"}, {"1": 5.0})):
            body = {name: user, "ratings": ratings, "context": context, "n": 5}
            found = items(asked.post("/v1/recommend", json=body))
            expected = model.recommend(user, 5, ratings=ratings, context=context)
            assert [row["item"] for row in found] == expected["item"].to_list()
            assert [row["rating"] for row in found] == pytest.approx(expected["rating"].to_list(), abs=1e-4)
            lists.append(found)
    assert lists[0] != lists[2] != lists[4]


def test_users_of_one_request_have_contexts_of_their_own(asked: Any) -> None:
    users = [{"user": "3", "context": {"company": each}} for each in COMPANY]
    many = asked.post("/v1/recommend-many", json={"users": users, "n": 4}).json()["lists"]
    alone = [items(asked.post("/v1/recommend", json={**each, "n": 4})) for each in users]
    assert [each["items"] for each in many] == alone
    ratings = [each[0]["rating"] for each in alone]
    assert ratings[0] < ratings[2]


def test_cached_lists_belong_to_their_context(model: Recommender) -> None:
    cache = ModelCache(model)
    for context in (FAMILY, ALONE, None):
        first, second = (cache.make_lists([ListRequest("3", None, {}, context=context)])[0] for _ in range(2))
        assert first == second
    assert len(cache.lists) == 3


def test_explain(asked: Any, model: Recommender) -> None:
    found = asked.post("/v1/explain", json={"user": "3", "item": "7", "context": FAMILY, "top": 1000}).json()
    expected = model.explain("3", "7", context=FAMILY)
    assert found["prediction"] == pytest.approx(expected.prediction, abs=1e-4)
    parts = {part["name"]: part["value"] for part in found["parts"] if part["kind"] == "context"}
    assert parts["company"] == "family"
    assert parts["timestamp"] == "2020-09-14 13:43"


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"company": "boss"}, ["context.company", "'alone', 'family' or 'friends'", "'boss'"]),
        ({"weather": "rain"}, ["context.weather: unknown attribute", "company", "table", "timestamp"]),
        ({"hour": "12"}, ["context.hour: unknown attribute"]),
        ({"company": ["family"]}, ["context.company"]),
        ({"timestamp": "tomorrow"}, ["'timestamp'", "'tomorrow' is not a time", "2024-12-31 20:15"]),
        ({"timestamp": 1e300}, ["'timestamp'", "is not a time"]),
        ("family", ["context"]),
    ],
    ids=str,
)
def test_a_wrong_context_is_told_why(asked: Any, context: object, words: list[str]) -> None:
    for path, body in (
        ("predict", {"pairs": [["3", "7"]]}),
        ("recommend", {"user": "3"}),
        ("explain", {"user": "3", "item": "7"}),
    ):
        message = told(asked.post(f"/v1/{path}", json={**body, "context": context}), 422)
        assert all(word in message for word in words), message


@pytest.mark.parametrize("time", [2_000_000_000, 1_600_000_000_000, "2033-05-18", -1e9])
def test_any_time_is_answered(asked: Any, time: object) -> None:
    """In the future, in milliseconds, before 1970."""
    assert asked.post("/v1/predict", json={"pairs": [["3", "7"]], "context": {"timestamp": time}}).status_code == 200


def test_a_model_without_context_says_so(client: Any) -> None:
    message = told(client.post("/v1/recommend", json={"user": "u3", "context": {"company": "family"}}), 422)
    assert message == "context: this model has learned from no context; leave it out"
    assert items(client.post("/v1/recommend", json={"user": "u3", "context": None}))
    page = client.get("/?user=u3&context.company=family")
    assert page.status_code == 422
    assert "this model knows no such context. Available: none" in page.text
    assert "Recommend in this context" not in client.get("/?user=u3").text


def test_the_service_says_what_context_it_knows(asked: Any, model: Recommender) -> None:
    known = asked.get("/v1/model").json()["context"]
    assert [(each["name"], each["kind"], each["values"]) for each in known] == [
        ("company", "categorical", ["alone", "family", "friends"]),
        ("table", "categorical", ["no. 0", "no. 1"]),
        ("timestamp", "time", []),
    ]
    schemas = asked.get("/openapi.json").json()["components"]["schemas"]
    assert set(schemas["Context"]["properties"]) == {"company", "table", "timestamp"}
    for path, body in request_examples(model.fitted_).items():
        assert asked.post(path, json=body).status_code == 200, path


# ------------------------------------------------------------------ the page


def test_the_list_in_a_context(asked: Any, model: Recommender) -> None:
    page = asked.get("/", params={"user": "3", "context.company": "family", "context.timestamp": "2020-09-13T14:23"})
    listed = model.recommend("3", 10, context={"company": "family", "timestamp": "2020-09-13 14:23"})
    assert titles(page) == listed["label"].to_list()
    assert "<option selected>family</option>" in page.text
    assert 'type="datetime-local" value="2020-09-13T14:23"' in page.text
    why = re.search(r'href="(/item\?[^"]+)">Why', page.text)
    assert why is not None
    assert "context.company=family" in why[1]


def test_the_form_keeps_how_the_list_was_chosen(asked: Any) -> None:
    page = asked.get("/?user=3&n=20&diversity=0.5&is.genres=drama&seen=1&rank_by=low").text
    form = page.partition('aria-label="Context"')[2].partition("</form>")[0]
    hidden = re.findall(r'type="hidden" name="([^"]+)" value="([^"]+)"', form)
    assert dict(hidden) == {
        **{"user": "3", "n": "20", "diversity": "0.5", "is.genres": "drama", "seen": "1", "rank_by": "low"}
    }


def test_why_in_a_context(asked: Any, model: Recommender) -> None:
    page = asked.get("/item?user=3&item=7&context.company=family").text
    prediction = model.predict("3", "7", context={"company": "family"})["rating"][0]
    assert f"<b>{prediction:.2f}</b>" in page
    assert "for the context" in page
    assert "<dt>company</dt><dd>family</dd>" in page
    other = {"F": "M", "M": "F"}[model.fitted_.users.table.columns["gender"][2]]
    then = asked.get(f"/what-if?user=3&item=7&context.company=family&if.gender={other}").text
    assert f"instead of {prediction:.2f}" in then


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("context.company=boss", "family"),
        ("context.weather=rain", "this model knows no such context. Available: company, table, timestamp"),
        ("context.timestamp=tomorrow", "is not a time"),
    ],
)
def test_a_wrong_context_is_told_on_the_page(asked: Any, query: str, words: str) -> None:
    page = asked.get(f"/?user=3&{query}")
    assert page.status_code == 422
    assert words in page.text


def test_what_the_model_left_out_is_not_asked(start: Start, tmp_path: Path) -> None:
    small(members=1, epochs=2, context=False).fit(planted()).save(tmp_path / "model")
    page = start(tmp_path / "model").get("/?user=3").text
    assert 'name="context.timestamp"' in page
    assert 'name="context.company"' not in page
