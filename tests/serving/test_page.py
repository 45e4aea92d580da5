"""The page without a browser: what it says, and what it refuses."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aanmf import MF
from aanmf.explanation import attention
from aanmf.predictor import Predictor
from aanmf.profile import Profile
from aanmf.ranking import ListOptions, make_lists
from aanmf.recommender import Recommender, load_model
from aanmf.serving.attention import attention_maps
from aanmf.serving.page_user import changed
from tests.conftest import small_dataset
from tests.serving.conftest import Start


@pytest.fixture(scope="module")
def model(folder: Path) -> Recommender:
    return load_model(folder)


def ranked(predictor: Predictor, profile: Profile, n: int) -> list[dict[str, object]]:
    return make_lists(predictor, [profile], ListOptions(n))[0].rows()


def titles(response: Any) -> list[str]:
    """Of the items recommended."""
    return [unescape(title) for title in re.findall("<h3>(.*?)</h3>", response.text)]


def text_of(response: Any) -> str:
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    return " ".join(re.sub(r"<[^>]*>", " ", response.text).split())


def test_a_known_user(client: Any, model: Recommender) -> None:
    page = client.get("/", params={"user": "u0"})
    text = text_of(page)
    assert "Recommended to user u0" in text
    for row in model.recommend("u0", n=10).to_dicts():
        assert f"{row['label']}" in page.text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        assert f"{row['rating']:.2f}" in text
    assert "gender F" in text


def test_titles_are_text(client: Any) -> None:
    page = client.get("/why", params={"user": "u0", "item": "i20"}).text
    assert "Żółw &lt;b&gt;&amp;amp;" in page
    assert "<b>&amp;" not in page


def test_a_new_user(client: Any, model: Recommender) -> None:
    asked = {"new": "1", "a.gender": "F", "a.hobbies": ["chess", "go"], "a.age": "31", "a.voice": ""}
    page = client.get("/", params=asked)
    assert "a new user (gender F, hobbies chess and go, age 31)" in text_of(page)
    best = model.recommend_for({"gender": "F", "hobbies": ["chess", "go"], "age": 31.0}, n=1)["label"][0]
    assert titles(page)[0] == best
    assert "<option selected>F</option>" in page.text


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/?user=nobody", 404, "user &#39;nobody&#39; is not in the training data"),
        ("/?new=1&a.gender=X", 422, "Input should be &#39;F&#39; or &#39;M&#39;"),
        ("/?new=1&a.shoe=42", 422, "shoe"),
        ("/?new=1&a.age=nan", 422, "finite number"),
        ("/why?user=u1", 404, "item &#39;&#39; is not in the training data"),
        ("/why?item=i1", 422, "name a user"),
        ("/?user=u1&rank_by=best", 422, "rank_by=&#39;best&#39;. Available: match, rating, low"),
        ("/?user=u1&rank_by=match", 422, "does not rank by match"),
        ("/?user=u1&diversity=2", 422, "give a number from 0 to 1"),
        ("/?user=u1&diversity=much", 422, "diversity=&#39;much&#39;: give a number"),
        ("/?user=u1&n=1000000", 422, "Available: 10, 20, 50"),
        ("/?user=u1&is.genres=opera", 422, "no item has genres &#39;opera&#39;"),
        ("/?user=u1&is.shoe=42", 422, "shoe"),
        ("/?user=u1&from.genres=1", 422, "genres"),
        ("/?is.genres=opera", 422, "no item has genres"),
        ("/similar?item=nothing", 404, "item &#39;nothing&#39; is not in the training data"),
        ("/similar?user=nobody&item=i1", 404, "user &#39;nobody&#39; is not in the training data"),
        ("/what-if?user=u1&change=shoe&value=1", 422, "choose one of gender, hobbies, age, voice"),
        ("/what-if?user=u1&change=gender&value=", 422, "say which gender"),
        ("/what-if?user=u1&change=gender&value=X", 422, "allowed: &#39;F&#39;, &#39;M&#39;"),
        ("/what-if?user=u1&change=voice&value=1", 422, "voice"),
        ("/map?by=shoe", 422, "Available: genres"),
        ("/?user=<script>alert(1)</script>", 404, "&lt;script&gt;"),
    ],
)
def test_a_wrong_address_is_told_why(client: Any, path: str, status: int, words: str) -> None:
    page = client.get(path)
    assert page.status_code == status
    assert words in page.text
    assert "<script>alert" not in page.text


def test_nothing_is_loaded_from_elsewhere(client: Any) -> None:
    for path in ("/", "/?user=u1", "/map", "/card", "/docs", "/static/style.css"):
        assert not re.search(r"""(src|href|url|@import)\s*[=(]?\s*["']?(https?:)?//""", client.get(path).text)


def test_card_and_routes(client: Any) -> None:
    text = text_of(client.get("/card"))
    for words in ("AANMF", "ratings 600", "scale 1 to 5", "factors 4", "hobbies multi-valued chess, go, tennis"):
        assert words in text
    assert "POST /v1/predict" in text_of(client.get("/docs"))


def test_stored_ratings_count_on_the_page(start: Start, tmp_path: Path) -> None:
    client = start(store=f"sqlite:///{tmp_path / 'r.sqlite'}")
    assert "given since training" not in client.get("/?user=u2").text
    client.post("/v1/ratings", json={"ratings": [{"user": "u2", "item": "i3", "rating": 4}]})
    assert "1 rating given since training counts too" in text_of(client.get("/?user=u2"))


def test_heat_map_is_the_mean_of_the_attention(model: Recommender, client: Any) -> None:
    """Against the library's own map, which is made from the raw columns."""
    (found,) = attention_maps(model.predictor_)
    expected = model.attention_map(small_dataset(), by="genres").table
    assert [row[0] for row in found.rows] == expected["genres"].to_list() == ["drama", "war"]
    assert [row[2] for row in found.rows] == expected["n"].to_list()
    for (_, weights, _), row in zip(found.rows, expected.rows(named=True), strict=True):
        assert weights == pytest.approx([row[name] for name in found.attributes], abs=1e-6)
    shown = f"{100 * found.rows[1][1][0]:.1f} %"
    assert shown in text_of(client.get("/map"))


def test_a_model_without_attention_has_no_map(start: Start, tmp_path: Path) -> None:
    MF(factors=2, epochs=1).fit(small_dataset()).save(tmp_path / "mf")
    client = start(tmp_path / "mf")
    assert "has no attention to show" in text_of(client.get("/map"))
    assert client.get("/?user=u1").status_code == 200
    assert client.get("/why?user=u1&item=i1").status_code == 200


def test_attention_on_items(model: Recommender) -> None:
    user, attributes = model.predictor_.repeated(model.predictor_.profile("u0"), 2)
    weights = attention(model.predictor_, user, np.array([3, 7]), attributes)
    np.testing.assert_array_equal(attention(model.predictor_, user, np.array([3, 7])), weights)  # the user's own
    for row, item in zip(weights, ("i3", "i7"), strict=True):
        parts = model.explain("u0", item, top=1000).parts.drop_nulls("attention")
        told = dict(parts.select("name", "attention").iter_rows())
        assert dict(zip(["gender", "hobbies", "age", "voice"], row, strict=True)) == pytest.approx(told | {}, abs=1e-6)


def test_what_if_changes_one_attribute(model: Recommender) -> None:
    """A new user described with the other value is the same as one described, then changed."""
    described = {"gender": "F", "hobbies": ["go"], "age": 31.0, "voice": [1.0, 1.0, 0.3]}
    predictor = model.predictor_
    profile, encoder = predictor.profile(described), predictor.users.encoder
    for name, value in (("gender", "M"), ("hobbies", "chess"), ("age", 50.0)):
        wanted = predictor.profile(described | {name: value})
        other = changed(predictor, profile, name, value)
        assert sorted(encoder.describe(predictor.attributes(other))) == sorted(
            encoder.describe(predictor.attributes(wanted))
        )
        expected = [row["rating"] for row in ranked(predictor, wanted, 21)]
        assert [row["rating"] for row in ranked(predictor, other, 21)] == pytest.approx(expected, abs=1e-4)
    same = changed(predictor, profile, "gender", "F")
    assert [r["item"] for r in ranked(predictor, same, 5)] == [r["item"] for r in ranked(predictor, profile, 5)]


def test_what_if_keeps_who_the_user_is(model: Recommender) -> None:
    predictor = model.predictor_
    profile = predictor.profile("u0")
    same = [row["item"] for row in ranked(predictor, changed(predictor, profile, "gender", "F"), 21)]
    assert same == model.recommend("u0", n=21)["item"].to_list()
    data = small_dataset()
    rated = {f"i{i}" for i in data.item[data.user == 0]}
    assert rated
    assert not rated & set(same)
    other = changed(predictor, profile, "gender", "M").attributes
    with torch.inference_mode():
        one = model.module_(torch.tensor([0]), torch.tensor([3]), other)
        own = model.module_(torch.tensor([0]), torch.tensor([3]))
    assert one.item() != own.item()
