"""The service says over HTTP what the library says in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aanmf import AANMFpp
from aanmf.recommender import Recommender, load_model
from tests.conftest import small_dataset
from tests.serving.conftest import Start


@pytest.fixture(scope="module")
def model(folder: Path) -> Recommender:
    return load_model(folder)


def told(response: Any, status: int) -> str:
    """The message of a refusal."""
    assert response.status_code == status, response.text
    return response.json()["error"]["message"]


def test_predict(client: Any, model: Recommender) -> None:
    pairs = [["u0", "i3"], ["u7", "i0"], ["u41", "i20"], ["nobody", "nothing"], ["u41", "i1"]]
    answer = client.post("/v1/predict", json={"pairs": pairs}).json()
    expected = model.predict([u for u, _ in pairs], [i for _, i in pairs])
    assert answer["ratings"] == pytest.approx(expected["rating"].to_list(), abs=1e-4)
    assert answer["fallbacks"] == expected["fallback"].to_list()
    assert answer["fallbacks"][:1] == [None]
    assert answer["fallbacks"][3] == "unknown user, unknown item"


def test_a_model_too_large_for_a_matrix_says_the_same(
    start: Start, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aanmf.serving.model_cache.SCORE_BYTES", 0)
    other = start()
    pairs = [[f"u{n % 43}", f"i{n % 22}"] for n in range(100)]  # u42 and i21 are not known
    both = [each.post("/v1/predict", json={"pairs": pairs}).json() for each in (client, other)]
    assert both[0]["ratings"] == pytest.approx(both[1]["ratings"], abs=2e-4)
    assert both[0]["fallbacks"] == both[1]["fallbacks"]
    lists = [each.post("/v1/recommend", json={"user": "u3", "n": 9}).json()["items"] for each in (client, other)]
    assert [row["item"] for row in lists[0]] == [row["item"] for row in lists[1]]


def test_numbers_are_ids(client: Any) -> None:
    answer = client.post("/v1/predict", json={"pairs": [[7, "i0"]]}).json()
    assert answer["fallbacks"] == ["unknown user"]


def test_recommend_to_known_users_together(client: Any, model: Recommender) -> None:
    for user in ("u0", "u3", "u39"):
        items = client.post("/v1/recommend", json={"user": user, "n": 5}).json()["items"]
        expected = model.recommend(user, n=5)
        assert [each["item"] for each in items] == expected["item"].to_list()
        assert [each["label"] for each in items] == expected["label"].to_list()
        assert [each["rating"] for each in items] == pytest.approx(expected["rating"].to_list(), abs=1e-4)


def test_recommend_to_a_new_user(client: Any, model: Recommender) -> None:
    attributes = {"gender": "F", "hobbies": ["chess", "go"], "age": 31, "voice": [0.0, 1.0, 0.5]}
    items = client.post("/v1/recommend", json={"attributes": attributes, "n": 4}).json()["items"]
    assert [each["item"] for each in items] == model.recommend_for(attributes, n=4)["item"].to_list()


def test_recommend_with_ratings_of_the_request(client: Any, model: Recommender) -> None:
    asked = {"attributes": {"gender": "F"}, "ratings": {"i1": 5, "i2": 1}, "n": 21}
    answer = client.post("/v1/recommend", json=asked).json()
    assert answer["new_ratings"] == 2
    found = {each["item"] for each in answer["items"]}
    assert not found & {"i1", "i2"}
    expected = model.recommend_for({"gender": "F"}, n=21, ratings={"i1": 5.0, "i2": 1.0})
    assert [each["item"] for each in answer["items"]] == expected["item"].to_list()
    assert "nothing" in told(client.post("/v1/recommend", json={"user": "u1", "ratings": {"nothing": 3}}), 404)


def test_explain(client: Any, model: Recommender) -> None:
    answer = client.post("/v1/explain", json={"user": "u0", "item": "i3"}).json()
    expected = model.explain("u0", "i3").parts.to_dicts()
    assert [each["name"] for each in answer["parts"]] == [each["name"] for each in expected]
    for got, wanted in zip(answer["parts"], expected, strict=True):
        assert got["attention"] == pytest.approx(wanted["attention"])
        assert got["contribution"] == pytest.approx(wanted["contribution"])
    added = sum(each["contribution"] for each in answer["parts"])
    assert answer["base"] + added == pytest.approx(answer["prediction"], abs=1e-4)
    assert answer["prediction"] == pytest.approx(model.predict("u0", "i3")["rating"][0], abs=1e-4)
    assert answer["label"] == "Film No. 3, The"
    new = client.post("/v1/explain", json={"attributes": {"gender": "M"}, "item": "i3"}).json()
    assert [each["value"] for each in new["parts"] if each["kind"] == "user attribute"] == ["M"]


def test_explain_with_other_ratings(start: Start, model: Recommender) -> None:
    client = start(store="sqlite://")

    def explained(**body: object) -> dict[str, Any]:
        response = client.post("/v1/explain", json={"item": "i3", **body})
        assert response.status_code == 200, response.text
        return response.json()

    asked = explained(user="u0", ratings={"i20": 5.0})
    assert asked["prediction"] == pytest.approx(model.explain("u0", "i3", ratings={"i20": 5.0}).prediction, abs=1e-4)
    client.post("/v1/ratings", json={"ratings": [{"user": "u0", "item": "i20", "rating": 5.0}]})
    assert explained(user="u0") == asked  # stored ratings count
    assert explained(user="u0", without=["i20"])["prediction"] == pytest.approx(
        model.explain("u0", "i3").prediction, abs=1e-4
    )
    new = explained(ratings={"i20": 5.0}, top=1)
    assert new["prediction"] == pytest.approx(model.explain({}, "i3", ratings={"i20": 5.0}).prediction, abs=1e-4)
    difference = explained(user="u1", against="i4")
    assert (difference["of"], difference["against"]) == ("rating", "i4")
    assert difference["prediction"] == pytest.approx(
        model.explain("u1", "i3").prediction - model.explain("u1", "i4").prediction, abs=1e-4
    )
    refused = client.post("/v1/explain", json={"user": "u1", "item": "i3", "without": ["i19x"]})
    assert "i19x" in told(refused, 404)
    assert "the attributes or ratings" in told(client.post("/v1/explain", json={"item": "i3"}), 422)


def test_search(client: Any) -> None:
    assert client.get("/v1/users", params={"query": "u4", "n": 2}).json() == {
        "found": [{"id": "u4", "label": None}, {"id": "u40", "label": None}],
        "more": True,
    }
    assert [each["id"] for each in client.get("/v1/items", params={"query": "no. 7"}).json()["found"]] == ["i7"]
    assert client.get("/v1/items", params={"query": "ŻÓŁW"}).json()["found"] == [
        {"id": "i20", "label": "Żółw <b>&amp;"}
    ]
    assert client.get("/v1/items", params={"query": "' OR 1=1 --"}).json() == {"found": [], "more": False}


def test_card(client: Any, model: Recommender) -> None:
    card = client.get("/v1/model").json()
    assert (card["users"], card["items"], card["ratings"], card["scale"]) == (42, 21, 600, [1.0, 5.0])
    assert card["settings"]["factors"] == 4
    names = {each["name"]: each for each in card["attributes"]["users"]}
    assert names["gender"]["values"] == ["F", "M"]
    assert names["voice"]["size"] == 3
    assert card["data"]["fingerprint"] == model.fitted_.data["fingerprint"]


def test_openapi_knows_the_attributes_of_the_model(client: Any) -> None:
    document = client.get("/openapi.json").json()
    attributes = document["components"]["schemas"]["UserAttributes"]["properties"]
    assert list(attributes) == ["gender", "hobbies", "age", "voice"]
    assert attributes["gender"]["anyOf"][0]["enum"] == ["F", "M"]
    assert set(document["paths"]) >= {"/v1/predict", "/v1/recommend", "/v1/explain", "/v1/ratings", "/v1/users"}


def test_new_ratings_count_at_once(start: Start, folder: Path, tmp_path: Path, model: Recommender) -> None:
    client = start(store=f"sqlite:///{tmp_path / 'r.sqlite'}")
    asked = {"user": "u1", "n": 21}
    before = [each["item"] for each in client.post("/v1/recommend", json=asked).json()["items"]]
    new = [{"user": "u1", "item": before[0], "rating": 1}, {"user": "u1", "item": before[2], "rating": 2.5}]
    assert client.post("/v1/ratings", json={"ratings": new}).json() == {"stored": 2}
    answer = client.post("/v1/recommend", json=asked).json()
    assert answer["new_ratings"] == 2
    expected = model.recommend("u1", 21, ratings={before[0]: 1.0, before[2]: 2.5})
    assert [each["item"] for each in answer["items"]] == expected["item"].to_list()
    assert not {before[0], before[2]} & {each["item"] for each in answer["items"]}
    # an id that the model has not seen is somebody from the first rating on
    assert "'stranger'" in told(client.post("/v1/recommend", json={"user": "stranger"}), 404)
    client.post("/v1/ratings", json={"ratings": [{"user": "stranger", "item": "i1", "rating": 5}]})
    answer = client.post("/v1/recommend", json={"user": "stranger", "n": 3}).json()
    assert [each["item"] for each in answer["items"]] == model.recommend_for({}, 3, ratings={"i1": 5.0})[
        "item"
    ].to_list()


def test_without_a_store_there_is_nothing_to_rate(start: Start) -> None:
    client = start()
    assert client.post("/v1/ratings", json={"ratings": []}).status_code == 404
    assert "/v1/ratings" not in client.get("/openapi.json").json()["paths"]


def test_intervals_are_refused_where_there_are_none(client: Any) -> None:
    message = told(client.post("/v1/predict", json={"pairs": [["u1", "i1"]], "interval": 0.9}), 422)
    assert "interval" in message
    assert client.get("/v1/model").json()["has_interval"] is False


def test_intervals_of_a_model_that_has_them(start: Start, tmp_path: Path) -> None:
    model = AANMFpp(factors=4, epochs=1, members=1).fit(small_dataset())
    model.save(tmp_path / "m")
    client = start(tmp_path / "m", store="sqlite://")
    pairs = [["u0", "i3"], ["u7", "i0"]]
    answer = client.post("/v1/predict", json={"pairs": pairs, "interval": 0.8}).json()
    expected = model.predict(["u0", "u7"], ["i3", "i0"], interval=0.8)
    assert answer["low"] == pytest.approx(expected["low"].to_list(), abs=1e-4)
    assert answer["high"] == pytest.approx(expected["high"].to_list(), abs=1e-4)
    items = client.post("/v1/recommend", json={"user": "u0", "interval": 0.9}).json()["items"]
    assert all(each["low"] <= each["rating"] <= each["high"] for each in items)
    assert "90 % between" in client.get("/?user=u0").text
    client.post("/v1/ratings", json={"ratings": [{"user": "u0", "item": items[0]["item"], "rating": 2}]})
    answer = client.post("/v1/recommend", json={"user": "u0", "interval": 0.9}).json()
    assert answer["new_ratings"] == 1
    assert all(each["low"] <= each["rating"] <= each["high"] for each in answer["items"])
    assert "90 % between" in client.get("/?user=u0").text


def test_intervals_of_new_users(start: Start, tmp_path: Path) -> None:
    model = AANMFpp(factors=4, epochs=1, members=1).fit(small_dataset())
    model.save(tmp_path / "m")
    client = start(tmp_path / "m")
    asked = {"attributes": {"gender": "F"}, "n": 5, "interval": 0.8}
    for ratings in ({}, {"i3": 5}):
        items = client.post("/v1/recommend", json={**asked, "ratings": ratings}).json()["items"]
        expected = model.recommend_for({"gender": "F"}, 5, ratings=ratings, interval=0.8)
        assert [each["item"] for each in items] == expected["item"].to_list()
        assert [each["low"] for each in items] == pytest.approx(expected["low"].to_list(), abs=1e-4)
    assert "90 % between" in client.get("/?new=1&a.gender=F").text


def test_health_and_metrics(start: Start) -> None:
    client = start(store="sqlite://")
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["status"] == "ready"
    client.post("/v1/predict", json={"pairs": [["u1", "i1"]] * 3})
    text = client.get("/metrics").text
    assert "aanmf_predictions_total 3.0" in text
    assert 'aanmf_requests_total{method="POST",route="/v1/predict",status="200"} 1.0' in text
