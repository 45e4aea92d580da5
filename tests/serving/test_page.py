"""The page without a browser: what it says, and what it refuses."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aanmf import MF, AANMFpp
from aanmf.explanation import attention
from aanmf.predictor import Predictor
from aanmf.profile import Profile
from aanmf.ranking import ListOptions, make_lists
from aanmf.recommender import Recommender, load_model
from aanmf.serving.attention import attention_maps
from aanmf.serving.charts import signed
from aanmf.serving.examples import as_command, request_examples
from aanmf.serving.page_user import changed
from tests.conftest import small_dataset
from tests.serving.conftest import LABELS, Start


@pytest.fixture(scope="module")
def model(folder: Path) -> Recommender:
    return load_model(folder)


def ranked(predictor: Predictor, profile: Profile, n: int) -> list[dict[str, object]]:
    return make_lists(predictor, [profile], ListOptions(n))[0].rows()


def titles(response: Any) -> list[str]:
    """Of the items recommended."""
    return [unescape(title) for title in re.findall("<h3><a [^>]*>(.*?)</a></h3>", response.text)]


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


def test_a_new_user(client: Any, model: Recommender) -> None:
    asked = {"new": "1", "a.gender": "F", "a.hobbies": ["chess", "go"], "a.age": "31", "r.i3": "5", "r.i4": "1"}
    page = client.get("/", params=asked)
    assert "Recommended to you gender F hobbies chess, go age 31" in text_of(page)
    ratings = {"i3": 5.0, "i4": 1.0}
    expected = model.recommend_for({"gender": "F", "hobbies": ["chess", "go"], "age": 31.0}, ratings=ratings)
    assert titles(page) == expected["label"].to_list()
    changed = client.get(unescape(re.findall('href="(/describe[^"]*)"', page.text)[0])).text
    assert "<option selected>F</option>" in changed
    assert re.findall(r'name="r\.(\w+)" value="(\d)" checked', changed) == [("i3", "5"), ("i4", "1")]


def test_a_rating_is_taken_back(client: Any, model: Recommender) -> None:
    page = client.get("/?new=1&r.i3=5&r.i4=1").text
    back = client.get(unescape(re.findall('href="([^"]*)" aria-label="Take back the rating of Film No. 3', page)[0]))
    assert titles(back) == model.recommend_for({}, ratings={"i4": 1.0})["label"].to_list()


def test_what_a_form_left_empty_leaves_the_address(client: Any) -> None:
    moved = client.get("/?new=1&a.gender=&a.hobbies=go&r.i3=&r.i4=2&is.genres=")
    assert (moved.status_code, moved.headers["location"]) == (303, "/?new=1&a.hobbies=go&r.i4=2")


def test_any_item_can_be_rated(client: Any, model: Recommender) -> None:
    """A search offers what it finds, and keeps what was rated."""
    page = client.get("/describe?new=1&r.i3=4&query=no. 1").text
    offered = [unescape(each) for each in re.findall("<legend>(.*?)(?: <small>|</legend>)", page)]
    found = client.get("/v1/items", params={"query": "no. 1", "n": 12}).json()["found"]
    assert offered == [LABELS[3], *(each["label"] for each in found)]
    assert re.findall(r'name="r\.(\w+)" value="(\d)" checked', page) == [("i3", "4")]
    assert re.findall(r'name="r\.i1" value="(.*?)"', page) == ["", "1", "2", "3", "4", "5"]
    assert "No item is called so" in client.get("/describe?query=xyz").text


def test_why_accounts_for_the_whole_rating(client: Any, model: Recommender) -> None:
    found = model.explain("u0", "i3", top=1000)
    text = text_of(client.get("/item?user=u0&item=i3"))
    assert f"Predicted rating {found.prediction:.2f} of 5: {found.base:.2f}, about the mean rating" in text
    rows = re.findall(r'<td role="cell" class="number">(.*?)</td>', client.get("/item?user=u0&item=i3").text)
    numbers = [float(each.replace("−", "-")) for each in rows]
    assert numbers[0] + sum(numbers[1:-1]) == pytest.approx(numbers[-1], abs=0.005 * len(numbers))
    assert numbers[-1] == pytest.approx(found.prediction, abs=0.005)


def test_why_this_and_not_another(client: Any, model: Recommender) -> None:
    found = model.explain("u0", "i3", against="i4")
    text = text_of(client.get("/item?user=u0&item=i3&against=i4"))
    assert f"Why {LABELS[3]} and not {LABELS[4]} for user u0?" in text
    assert f"Predicted rating {signed(found.prediction)} compared with {LABELS[4]}" in text


def test_similar_items(client: Any, model: Recommender) -> None:
    page = client.get("/item?item=i3").text
    found = re.findall(r'<a href="/item\?item=\w+">(.*?)</a>', page[page.index("Similar items") :])
    assert [unescape(each) for each in found] == model.similar("i3")["label"].to_list()


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/?user=nobody", 404, "user &#39;nobody&#39; is not in the training data"),
        ("/?new=1&a.gender=X", 422, "Input should be &#39;F&#39; or &#39;M&#39;"),
        ("/?new=1&a.shoe=42", 422, "shoe"),
        ("/?new=1&a.age=nan", 422, "finite number"),
        ("/?new=1&r.i1=seven", 422, "r.i1=&#39;seven&#39;: give a number"),
        ("/?new=1&r.i1=7", 422, "7.0 for item &#39;i1&#39; is not a number from 1 to 5"),
        ("/?new=1&r.x=3", 404, "item &#39;x&#39; is not in the training data"),
        ("/item?user=u1", 404, "item &#39;&#39; is not in the training data"),
        ("/item?user=u1&item=i1&of=taste", 422, "give one of rating, match"),
        ("/item?user=u1&item=i1&against=x", 404, "item &#39;x&#39; is not in the training data"),
        ("/what-if?item=i1", 422, "name a user"),
        ("/?user=u1&rank_by=best", 422, "rank_by=&#39;best&#39;. Available: match, rating, low"),
        ("/?user=u1&rank_by=match", 422, "does not rank by match"),
        ("/?user=u1&diversity=2", 422, "give a number from 0 to 1"),
        ("/?user=u1&diversity=much", 422, "diversity=&#39;much&#39;: give a number"),
        ("/?user=u1&n=1000000", 422, "Available: 10, 20, 50"),
        ("/?user=u1&is.genres=opera", 422, "no item has genres &#39;opera&#39;"),
        ("/?user=u1&is.shoe=42", 422, "shoe"),
        ("/?user=u1&from.genres=1", 422, "genres"),
        ("/?user=u1&is.genres=opera", 422, "no item has genres"),
        ("/item?item=nothing", 404, "item &#39;nothing&#39; is not in the training data"),
        ("/item?user=nobody&item=i1", 404, "user &#39;nobody&#39; is not in the training data"),
        ("/what-if?user=u1&if.shoe=1", 422, "choose one of gender, hobbies, age, voice"),
        ("/what-if?user=u1&if.gender=X", 422, "allowed: &#39;F&#39;, &#39;M&#39;"),
        ("/what-if?user=u1&if.voice=1", 422, "voice"),
        ("/what-if?user=u1&without=i20", 422, "the user has not rated item &#39;i20&#39;"),
        ("/map?by=shoe", 422, "Available: genres"),
        ("/?user=<script>alert(1)</script>", 404, "&lt;script&gt;"),
    ],
)
def test_a_wrong_address_is_told_why(client: Any, path: str, status: int, words: str) -> None:
    page = client.get(path)
    assert page.status_code == status
    assert words in page.text
    assert "<script>alert" not in page.text


def test_an_error_repeats_the_form(client: Any) -> None:
    page = client.get("/?new=1&a.gender=X&a.age=31&a.hobbies=go&r.i3=4").text
    assert 'name="a.age" type="number" step="any" value="31"' in page
    assert "<option selected>go</option>" in page
    assert re.findall(r'name="r\.(\w+)" value="(\d)" checked', page) == [("i3", "4")]
    assert 'required autocomplete="off" value="nobody"' in client.get("/?user=nobody").text


def test_nothing_is_loaded_from_elsewhere(client: Any) -> None:
    for path in ("/", "/?user=u1", "/map", "/card", "/docs", "/static/style.css"):
        assert not re.search(r"""(src|href|url|@import)\s*[=(]?\s*["']?(https?:)?//""", client.get(path).text)


def test_card_and_routes(client: Any) -> None:
    text = text_of(client.get("/card"))
    for words in ("AANMF", "ratings 600", "scale 1 to 5", "factors 4", "hobbies multi-valued chess, go, tennis"):
        assert words in text
    assert "POST /v1/predict" in text_of(client.get("/docs"))


def test_the_card_says_what_was_chosen_and_how_well_it_did(start: Start, tmp_path: Path) -> None:
    model = AANMFpp(factors=4, epochs=1, members=1).fit(small_dataset())
    model.save(tmp_path / "m")
    text = text_of(start(tmp_path / "m").get("/card"))
    assert f"l2 {model.chosen_['l2']:.4g} chosen on held-out ratings" in text
    error = model.fitted_.training_log.validation_rmse
    assert error is not None
    assert f"RMSE {error:.4f} on ratings held out for validation (10 % of the training ratings)" in text


def test_the_examples_are_answered(client: Any, folder: Path) -> None:
    bodies = request_examples(load_model(folder).fitted_)
    document = client.get("/openapi.json").json()["paths"]
    assert set(bodies) == {path for path, methods in document.items() if "post" in methods}
    shown = unescape(client.get("/docs").text)
    for path, body in bodies.items():
        assert client.post(path, json=body).status_code == 200
        assert document[path]["post"]["requestBody"]["content"]["application/json"]["example"] == body
        assert as_command(body) in shown


def test_stored_ratings_count_on_every_page(start: Start, tmp_path: Path, model: Recommender) -> None:
    client = start(store=f"sqlite:///{tmp_path / 'r.sqlite'}")
    assert "given since training" not in client.get("/?user=u2").text
    stored = [{"user": user, "item": "i20", "rating": 1} for user in ("u2", "newcomer")]
    client.post("/v1/ratings", json={"ratings": stored})
    assert "1 rating given since training counts too" in text_of(client.get("/?user=u2"))
    for user, known in (("u2", "u2"), ("newcomer", {})):
        found = model.explain(known, "i3", ratings={"i20": 1})
        assert f"Predicted rating {found.prediction:.2f} of 5" in text_of(client.get(f"/item?user={user}&item=i3"))
        then = model.explain(known, "i3").prediction
        page = client.get(f"/what-if?user={user}&item=i3&without=i20")
        assert f"{LABELS[3]}: {then:.2f} instead of {found.prediction:.2f}" in text_of(page)


def test_what_if_an_item_were_not_rated(start: Start, tmp_path: Path) -> None:
    data = small_dataset()
    model = AANMFpp(factors=4, epochs=1, members=1).fit(data)
    model.save(tmp_path / "m")
    item = f"i{data.item[data.user == 0][0]}"
    client = start(tmp_path / "m")
    now, then = (model.explain("u0", "i3", without=without).prediction for without in ((), [item]))
    page = client.get(f"/what-if?user=u0&item=i3&without={item}")
    assert f"i3: {then:.2f} instead of {now:.2f} ({signed(then - now)})" in text_of(page)
    listed = page.text[page.text.index("The list then") :]
    expected = model.recommend("u0", without=[item])["item"].to_list()
    assert re.findall(r'item\?user=u0&amp;item=(\w+)"', listed) == expected
    assert f'value="{item}" checked' in page.text  # and can be taken back


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
    assert client.get("/item?user=u1&item=i1").status_code == 200


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
