"""Journeys through the page in a real browser: `make test-browser`.

With AANMF_SCREENSHOTS=DIR every journey leaves pictures there.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aanmf.ranking import ListOptions, make_lists
from aanmf.recommender import Recommender, load_model
from aanmf.serving.charts import signed
from aanmf.serving.page_user import changed
from tests.serving.conftest import LABELS, serving
from tests.test_context import planted, small

playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright (aanmf[dev])")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="browser tests need Debian's chromium: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
PHONE = {"width": 375, "height": 700}


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    from aanmf.serving.app import create_app

    with serving(create_app(folder, store="sqlite://")) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=["script", "no script"])
def page(chromium: Any, url: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page with JavaScript, and one without; it must say nothing on the console and ask nobody else."""
    training = chromium.new_context(
        base_url=url,
        java_script_enabled=request.param == "script",
        color_scheme="dark" if "map" in request.node.name else "light",
    )
    page, said, asked = training.new_page(), [], []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda sent: asked.append(sent.url))
    yield page
    if folder := os.environ.get("AANMF_SCREENSHOTS"):
        name = request.node.name.replace("[", "-").replace(" ", "-").rstrip("]")
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
        page.set_viewport_size(PHONE)
        page.screenshot(path=f"{folder}/{name}-phone.png", full_page=True)
    page.set_viewport_size(PHONE)
    if request.param == "script":
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    training.close()
    assert not said
    assert asked
    assert all(each.startswith((url, "data:")) for each in asked), asked


def pictures(page: Any, name: str) -> None:
    """Screenshots of a page, where they are asked for."""
    if folder := os.environ.get("AANMF_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def titles(page: Any) -> list[str]:
    return page.locator(".items h3 a").all_inner_texts()


def test_pick_a_user(page: Any, folder: Path) -> None:
    page.goto("/")
    assert page.get_by_role("heading", name="Recommendations, with reasons").is_visible()
    page.get_by_role("link", name="user u3").click()
    page.get_by_role("heading", name="Recommended to user u3").wait_for()
    assert titles(page) == load_model(folder).recommend("u3", n=10)["label"].to_list()
    reasons = page.get_by_text(re.compile("Because user u3 rated")).all_inner_texts()
    assert len(reasons) == len(titles(page))
    popular = page.get_by_role("region", name="Bestsellers")
    both = set(titles(page)) & set(popular.get_by_role("link").all_inner_texts())
    assert popular.get_by_text("in both lists").count() == len(both) == page.get_by_text("also a bestseller").count()
    assert both


def test_a_user_by_id(page: Any, folder: Path) -> None:
    page.goto("/")
    page.get_by_label("Or a user's id").fill("u7")
    page.get_by_role("button", name="Recommend", exact=True).click()
    page.get_by_role("heading", name="Recommended to user u7").wait_for()
    assert titles(page) == load_model(folder).recommend("u7", n=10)["label"].to_list()


def test_describe_and_rate(page: Any, folder: Path) -> None:
    """Attributes, a rating of a well-known item and one of an item that is searched for."""
    page.goto("/")
    page.get_by_label("gender").select_option("M")
    page.get_by_label("hobbies").select_option(["go", "tennis"])
    page.get_by_label("age", exact=True).fill("33")
    known = page.locator("#rate fieldset").first
    title = known.locator("legend").inner_text().partition("\n")[0]
    known.get_by_role("radio", name="5").check()
    page.get_by_label("Rate a few items").fill("no. 13")
    if page.evaluate("typeof htmx") == "undefined":
        page.get_by_role("button", name="Search").click()
    page.get_by_role("group", name=LABELS[13]).get_by_role("radio", name="1").check()
    assert page.get_by_role("group", name=title).get_by_role("radio", name="5").is_checked()
    page.get_by_role("button", name="Recommend to me").click()
    page.get_by_role("heading", name="Recommended to you").wait_for()
    described, ratings = {"gender": "M", "hobbies": ["go", "tennis"], "age": 33.0}, {f"i{LABELS.index(title)}": 5.0}
    expected = load_model(folder).recommend_for(described, n=10, ratings={**ratings, "i13": 1.0})
    assert titles(page) == expected["label"].to_list()
    assert "=&" not in page.url  # empty fields are not kept
    page.get_by_role("link", name=f"Take back the rating of {LABELS[13]}").click()
    page.get_by_role("link", name=f"Take back the rating of {LABELS[13]}").wait_for(state="detached")
    assert titles(page) == load_model(folder).recommend_for(described, n=10, ratings=ratings)["label"].to_list()
    page.get_by_role("link", name="Rate more, or change something").click()
    page.get_by_role("heading", name="Describe yourself").wait_for()
    assert page.get_by_label("gender").input_value() == "M"  # it can be changed from there


def test_the_list_as_chosen(page: Any, folder: Path) -> None:
    page.goto("/?user=u3")
    page.get_by_text("Change the list").click()
    page.get_by_label("Variety").focus()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    page.get_by_label("Also items already rated").check()
    page.get_by_label("genres").select_option("war")
    page.get_by_role("button", name="Update the list").click()
    page.get_by_text("with a variety of 0.9").wait_for()
    options = {"where": {"genres": "war"}, "seen": True, "diversity": 0.9}
    chosen = load_model(folder).recommend("u3", n=10, **options)["label"].to_list()
    assert titles(page) == chosen != load_model(folder).recommend("u3", n=10)["label"].to_list()
    popular = page.get_by_role("region", name="Bestsellers").get_by_role("link")
    assert set(popular.all_inner_texts()) == {LABELS[i] for i in range(1, 20, 2)}
    assert page.get_by_label("genres").input_value() == "war"  # the form keeps what was chosen
    assert page.get_by_label("Variety").input_value() == "0.9"


def test_why(page: Any, folder: Path) -> None:
    page.goto("/?user=u3")
    page.get_by_role("link", name="Why?").first.click()
    page.get_by_role("heading", name="Why Film").wait_for()
    best = load_model(folder).recommend("u3", n=1)["item"][0]
    found = load_model(folder).explain("u3", best)
    chart = page.get_by_role("table", name="From the base to the prediction")
    lines = chart.get_by_role("row").all_inner_texts()
    for row in found.parts.filter(found.parts["contribution"].abs() > 0.005).to_dicts():
        told = (row["name"] or "", signed(row["contribution"]))
        assert any(all(word in line for word in told) for line in lines) or row["kind"] == "item", told
    bars = chart.locator("rect").all()
    boxes = [bar.bounding_box() for bar in bars]
    assert len(boxes) == len(lines) - 3
    dots = [dot.bounding_box() for dot in chart.locator("circle").all()]
    scale = (dots[1]["x"] - dots[0]["x"]) / (found.prediction - found.base)
    signs = [-1 if "minus" in (bar.get_attribute("class") or "") else 1 for bar in bars]
    moved = sum(sign * box["width"] for sign, box in zip(signs, boxes, strict=True))
    assert moved == pytest.approx(dots[1]["x"] - dots[0]["x"], abs=1 + 2 * len(boxes))  # the way from dot to dot
    assert all(box["width"] <= abs(scale) * 4 for box in boxes)
    assert page.get_by_role("heading", name="Attention").is_visible()
    similar = page.get_by_role("region", name="Similar items").get_by_role("link")
    assert similar.all_inner_texts() == load_model(folder).similar(best)["label"].to_list()
    similar.first.click()
    page.get_by_role("heading", name=f"Why {load_model(folder).similar(best)['label'][0]}").wait_for()
    page.get_by_role("link", name="Back to the list").click()
    page.get_by_role("heading", name="Recommended to user u3").wait_for()


def test_why_this_and_not_that(page: Any, folder: Path) -> None:
    page.goto("/item?user=u3&item=i5")
    other = page.get_by_label("Why this and not").locator("option").first
    label, item = other.inner_text(), other.get_attribute("value")
    page.get_by_role("button", name="Compare them").click()
    page.get_by_role("heading", name=f"Why {LABELS[5]} and not {label} for user u3?").wait_for()
    found = load_model(folder).explain("u3", "i5", against=item)
    assert page.get_by_text(f"Predicted rating {signed(found.prediction)} compared with {label}").is_visible()


def test_what_if(page: Any, folder: Path) -> None:
    """The rating and the list move: at once where there is JavaScript, else by a button."""
    page.goto("/item?user=u3&item=i5")
    page.get_by_label("gender").select_option("F")
    if page.evaluate("typeof htmx") == "undefined":
        page.get_by_role("button", name="Compare", exact=True).click()
    then = page.locator("#then")
    then.get_by_role("heading", name="If gender were F instead of M").wait_for()
    model = load_model(folder)
    profile = changed(model.predictor_, model.predictor_.profile("u3"), "gender", "F")
    (expected,) = make_lists(model.predictor_, [profile], ListOptions(10))
    assert then.get_by_role("link").all_inner_texts() == expected.table()["label"].to_list()
    now = model.explain("u3", "i5").prediction
    rating = float(model.predictor_.ratings_for(profile, np.array([5]))[0])
    assert then.get_by_text(f"{LABELS[5]}: {rating:.2f} instead of {now:.2f}").is_visible()


def test_if_it_were_not_rated(page: Any, folder: Path) -> None:
    page.goto("/item?new=1&r.i3=5&r.i4=1&item=i5")
    page.get_by_role("group", name="as if not rated").get_by_label(LABELS[3]).check()
    if page.evaluate("typeof htmx") == "undefined":
        page.get_by_role("button", name="Compare", exact=True).click()
    then = page.locator("#then")
    then.get_by_role("heading", name=re.compile(f"If .?{LABELS[3]}.? were not rated")).wait_for()
    expected = load_model(folder).recommend_for({}, n=10, ratings={"i4": 1.0})["label"].to_list()
    assert then.get_by_role("link").all_inner_texts() == expected


@pytest.mark.parametrize("page", ["script"], indirect=True)
def test_a_slider_moves_the_list(page: Any) -> None:
    page.goto("/?user=u3")
    slider = page.get_by_label("age", exact=True)
    age = float(slider.input_value())
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name=f"If age were {age + 1:g} instead of {age:g}").wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_text("Nothing is changed yet").wait_for()
    assert page.url.endswith("/?user=u3")


def test_heat_map_and_card(page: Any) -> None:
    page.goto("/")
    page.get_by_role("link", name="Attention").click()
    page.get_by_role("heading", name="What the model attends to").wait_for()
    heads = page.locator("table.heat thead th").all_inner_texts()
    assert heads == ["genres", "gender", "hobbies", "age", "voice"]
    rows = page.locator("table.heat tbody th").all_inner_texts()
    assert [row.partition("\n")[0].strip() for row in rows] == ["drama", "war"]
    assert page.locator("nav [aria-current]").first.inner_text() == "Attention"
    page.get_by_role("link", name="Model").click()
    page.get_by_role("heading", name="AANMF on small").wait_for()
    assert page.get_by_role("row", name="ratings 600").is_visible()


@pytest.mark.parametrize("page", ["script"], indirect=True)
def test_by_keyboard_alone(page: Any) -> None:
    """From the first key to a reason and a what-if, without a pointer."""

    def tab_to(wanted: str) -> None:
        named = "(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim()"
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate(named) == wanted:
                return
        raise AssertionError(f"the keyboard does not reach {wanted!r}")

    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    tab_to("Or a user's id")
    page.keyboard.type("u5")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Recommended to user u5").wait_for()
    for field in page.locator("input[id], select").all():
        assert page.locator(f"label[for='{field.get_attribute('id')}']").count() == 1
    first = titles(page)[0]
    tab_to(f"Why? {first}")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=f"Why {first}").wait_for()
    tab_to("gender")
    page.keyboard.press("F")
    page.get_by_role("heading", name="If gender were F").wait_for()


@pytest.mark.parametrize("page", ["script"], indirect=True)
def test_suggestions_while_typing(page: Any) -> None:
    page.goto("/")
    with page.expect_response(lambda response: "/users?user=u41" in response.url):
        page.get_by_label("Or a user's id").press_sequentially("u41")
    page.wait_for_function("document.querySelectorAll('#users option').length == 1")
    assert page.locator("#users option").get_attribute("value") == "u41"


def test_a_fault_is_said_in_the_page(chromium: Any, url: str) -> None:
    with chromium.new_context(base_url=url) as training:
        page = training.new_page()
        page.goto("/")
        page.get_by_label("Or a user's id").fill("nobody")
        page.get_by_role("button", name="Recommend", exact=True).click()
        assert "'nobody' is not in the training data" in page.get_by_role("alert").inner_text()
        assert page.get_by_label("Or a user's id").input_value() == "nobody"  # to be corrected


@pytest.fixture(scope="module")
def in_context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Recommender]]:
    """Address of a model that has learned from the context of ratings, and the model."""
    from aanmf.serving.app import create_app

    folder = tmp_path_factory.mktemp("context") / "model"
    model = small(members=1, epochs=5).fit(planted())
    model.save(folder)
    with serving(create_app(folder, store="sqlite://")) as address:
        yield address, model


@pytest.mark.parametrize("script", [True, False])
def test_choose_the_context(chromium: Any, in_context: tuple[str, Recommender], script: bool) -> None:
    """The list is made in the context that was chosen, and stays in it on the way to a reason and back."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    address, model = in_context
    with chromium.new_context(base_url=address, java_script_enabled=script) as context:
        page = context.new_page()
        page.goto("/?user=3&n=20")
        usual = titles(page)
        page.get_by_label("company").select_option("alone")
        page.get_by_label("timestamp (UTC)").fill("2020-09-13T14:23")
        page.get_by_role("button", name="Recommend in this context").click()
        page.wait_for_url(re.compile("context.company=alone"))
        asked = {"company": "alone", "timestamp": "2020-09-13 14:23"}
        listed = model.recommend("3", 20, context=asked)
        assert titles(page) == listed["label"].to_list() != usual
        assert page.get_by_label("company").input_value() == "alone"
        assert page.get_by_label("timestamp (UTC)").input_value() == "2020-09-13T14:23"
        pictures(page, f"context-{'script' if script else 'plain'}")
        page.get_by_role("link", name=re.compile("Why")).first.click()
        page.get_by_role("heading", name=re.compile("^Why")).wait_for()
        prediction = model.predict("3", listed["item"][0], context=asked)["rating"][0]
        assert page.get_by_text(re.compile(f"Predicted rating {prediction:.2f} of 5")).is_visible()
        assert page.get_by_text("for the context").is_visible()
        pictures(page, f"why-in-context-{'script' if script else 'plain'}")
        page.get_by_role("link", name="Back to the list").click()
        page.get_by_role("heading", name="Recommended to user 3").wait_for()
        assert titles(page) == listed["label"].to_list()[:10]
        page.set_viewport_size(PHONE)
        if script:
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
            assert not axe.run(page).response["violations"]


VIEWS = {
    "welcome": "/",
    "describe": "/describe?new=1&a.gender=F&r.i3=4&query=no. 1",
    "list": "/?user=u3&n=20&seen=1",
    "new list": "/?new=1&a.gender=F&r.i3=5&r.i4=1",
    "why": "/item?user=u3&item=i5",
    "why not": "/item?user=u3&item=i5&against=i4",
    "item": "/item?item=i5",
    "what if": "/what-if?user=u3&item=i5&if.gender=F&if.age=50",
    "map": "/map",
    "card": "/card",
    "docs": "/docs",
    "error": "/?new=1&a.gender=X",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 390])
def test_every_view_is_accessible(chromium: Any, url: str, width: int, scheme: str) -> None:
    """No violation of the rules of axe-core, and nothing to scroll sideways."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    size, faults = {"width": width, "height": 900}, dict[str, list[str]]()
    with chromium.new_context(base_url=url, viewport=size, color_scheme=scheme) as context:
        page = context.new_page()
        for name, path in VIEWS.items():
            page.goto(path)
            page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
            found = axe.run(page).response["violations"]
            faults[name] = [f"{each['impact']} {each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert not {name: each for name, each in faults.items() if each}
