"""Journeys through the page in a real browser: `make test-browser`.

With AANMF_SCREENSHOTS=DIR every journey leaves pictures there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aanmf.recommender import load_model
from tests.serving.conftest import serving

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


def titles(page: Any) -> list[str]:
    return [text.partition("\n")[0] for text in page.locator(".items h3").all_inner_texts()]


def test_a_known_user(page: Any, folder: Path) -> None:
    page.goto("/")
    page.get_by_label("Id").fill("u3")
    page.get_by_role("button", name="Recommend").first.click()
    page.get_by_role("heading", name="Recommended to user u3").wait_for()
    assert titles(page) == load_model(folder).recommend("u3", n=10)["label"].to_list()
    popular = page.get_by_role("region", name="Bestsellers")
    both = set(titles(page)) & set(popular.get_by_role("link").all_inner_texts())
    assert popular.get_by_text("in both lists").count() == len(both) == page.get_by_text("also a bestseller").count()
    assert both


def test_a_new_user_by_attributes(page: Any, folder: Path) -> None:
    page.goto("/")
    page.get_by_label("gender").select_option("M")
    page.get_by_label("hobbies").select_option(["go", "tennis"])
    page.get_by_label("age", exact=True).fill("33")
    page.get_by_role("button", name="Recommend").last.click()
    page.get_by_role("heading", name="Recommended to a new user").wait_for()
    described = {"gender": "M", "hobbies": ["go", "tennis"], "age": 33.0}
    assert titles(page) == load_model(folder).recommend_for(described, n=10)["label"].to_list()
    page.get_by_text("Choose or describe another user").click()
    assert page.get_by_label("gender").first.input_value() == "M"  # it can be changed from there


def test_the_list_as_chosen(page: Any, folder: Path) -> None:
    page.goto("/?user=u3")
    page.get_by_label("Diversity").focus()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    page.get_by_label("Also items already rated").check()
    page.get_by_text("Filter by genres").click()
    page.get_by_label("genres").select_option("war")
    page.get_by_role("button", name="Update the list").click()
    page.get_by_text("with a diversity of 0.9").wait_for()
    options = {"where": {"genres": "war"}, "seen": True, "diversity": 0.9}
    chosen = load_model(folder).recommend("u3", n=10, **options)["label"].to_list()
    assert titles(page) == chosen != load_model(folder).recommend("u3", n=10)["label"].to_list()
    popular = page.get_by_role("region", name="Bestsellers").get_by_role("listitem")
    war = {f"Film No. {i}, The" for i in range(1, 20, 2)}
    assert {text.partition("\n")[0].removesuffix(" in both lists") for text in popular.all_inner_texts()} == war
    assert page.get_by_label("genres").input_value() == "war"  # the form keeps what was chosen
    assert page.get_by_label("Diversity").input_value() == "0.9"


def test_similar_items(page: Any, folder: Path) -> None:
    page.goto("/?user=u3")
    page.get_by_role("link", name="Similar items").first.click()
    found = page.locator("#explanation li, #more-1 li")
    found.first.wait_for()
    best = load_model(folder).recommend("u3", n=1)["item"][0]
    assert [text.partition("\n")[0].strip() for text in found.all_inner_texts()] == load_model(folder).similar(best)[
        "label"
    ].to_list()
    found.get_by_role("link").first.click()
    page.get_by_role("heading", name="Similar to Film").wait_for()
    page.get_by_role("link", name="Back to the list").click()
    page.get_by_role("heading", name="Recommended to user u3").wait_for()


def test_why(page: Any, folder: Path) -> None:
    page.goto("/?user=u3")
    page.get_by_role("link", name="Why").first.click()
    table = page.locator("table.why")
    table.wait_for()
    best = load_model(folder).recommend("u3", n=1)["item"][0]
    lines = table.get_by_role("row").all_inner_texts()
    for row in load_model(folder).explain("u3", best).parts.to_dicts():
        told = (row["kind"], row["name"] or "", f"{row['contribution']:+.2f}")
        assert any(all(word in line for word in told) for line in lines), told
    if page.locator(".items").count():  # with JavaScript the list stays where it is
        assert page.url.endswith("/?user=u3")
        assert len(titles(page)) == 7


def test_what_if(page: Any) -> None:
    page.goto("/?user=u3")
    page.get_by_role("region", name="What if").get_by_label("gender").select_option("F")
    page.get_by_role("button", name="Compare with another gender").click()
    page.get_by_role("heading", name="What if gender were F?").wait_for()
    now, then = page.locator("ol.short").all()
    assert (now.locator("li").count(), then.locator("li").count()) == (7, 7)
    assert now.inner_text() != then.inner_text()
    assert page.get_by_role("heading", name="As it is: M").is_visible()


def test_heat_map_and_card(page: Any) -> None:
    page.goto("/")
    page.get_by_role("link", name="Attention map").click()
    page.get_by_role("heading", name="What the model attends to").wait_for()
    heads = page.locator("table.heat thead th").all_inner_texts()
    assert heads == ["genres", "gender", "hobbies", "age", "voice", "ratings"]
    assert page.locator("table.heat tbody th").all_inner_texts() == ["drama", "war"]
    assert page.locator("nav [aria-current]").first.inner_text() == "Attention map"
    page.get_by_role("link", name="Model card").click()
    page.get_by_role("heading", name="Model card").wait_for()
    assert page.get_by_role("row", name="ratings 600").is_visible()


@pytest.mark.parametrize("page", ["script"], indirect=True)
def test_by_keyboard_alone(page: Any) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "user"
    page.keyboard.type("u5")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Recommended to user u5").wait_for()
    for field in page.locator("input:not([type=hidden]), select").all():
        assert page.locator(f"label[for={field.get_attribute('id')}]").count() == 1


@pytest.mark.parametrize("page", ["script"], indirect=True)
def test_suggestions_while_typing(page: Any) -> None:
    page.goto("/")
    with page.expect_response(lambda response: "/users?user=u41" in response.url):
        page.get_by_label("Id").press_sequentially("u41")
    page.wait_for_function("document.querySelectorAll('#users option').length == 1")
    assert page.locator("#users option").get_attribute("value") == "u41"


def test_a_fault_is_said_in_the_page(chromium: Any, url: str) -> None:
    with chromium.new_context(base_url=url) as training:
        page = training.new_page()
        page.goto("/")
        page.get_by_label("Id").fill("nobody")
        page.get_by_role("button", name="Recommend").first.click()
        assert "'nobody' is not in the training data" in page.get_by_role("alert").inner_text()
