"""Titles, ids, attributes and addresses that hold markup are shown as text, on every page."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest

from aanmf import AANMF
from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.data.schema import Attribute, Kind
from tests.serving.conftest import serving

httpx = pytest.importorskip("httpx")
EVIL = """"'><x-evil onclick=alert(1)>&amp;<script>alert(2)</script>{{ 7 * 7 }}"""
"""Closes an attribute, opens elements, and is a template."""


class Elements(HTMLParser):
    """What a page is made of: elements, attributes, and the text between and within them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.names, self.texts, self.scripts = set[str](), set[str](), list[str](), list[str | None]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names.update(name for name, _ in attrs)
        self.texts += [value for _, value in attrs if value]
        if tag == "script":
            self.scripts.append(dict(attrs).get("src"))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def hostile_dataset() -> RatingDataset:
    rng = np.random.default_rng(0)
    kinds = (Attribute(name=f"kind {EVIL}", kind=Kind.CATEGORICAL), Attribute(name="age", kind=Kind.NUMERIC))
    users = pl.DataFrame({kinds[0].name: [f"{EVIL} {u % 2}" for u in range(12)], "age": [20.0 + u for u in range(12)]})
    genre = Attribute(name=f"genre {EVIL}", kind=Kind.CATEGORICAL)
    items = pl.DataFrame({genre.name: [f"{EVIL} {i % 3}" for i in range(10)]})
    pairs = rng.permutation(120)[:70]
    return RatingDataset(
        users=EntityTable(Vocabulary(f"u{u} {EVIL}" for u in range(12)), users, kinds),
        items=EntityTable(
            Vocabulary(f"i{i} {EVIL}" for i in range(10)), items, (genre,), tuple(f"Film {i} {EVIL}" for i in range(10))
        ),
        user=pairs // 10,
        item=pairs % 10,
        rating=rng.integers(1, 6, 70).astype(np.float32),
        scale=(1.0, 5.0),
        name=f"data {EVIL}",
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from aanmf.serving.app import create_app

    path = tmp_path_factory.mktemp("hostile") / "model"
    AANMF(factors=2, epochs=1, refit=False).fit(hostile_dataset()).save(path)
    with serving(create_app(path, store="sqlite://")) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


USER, ITEM, OTHER, EVIL_URL = quote(f"u0 {EVIL}"), quote(f"i0 {EVIL}"), quote(f"i1 {EVIL}"), quote(EVIL)
KIND, VALUE = quote(f"kind {EVIL}"), quote(f"{EVIL} 1")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        (f"/?user={USER}", 200),
        (f"/?user={USER}&seen=1&n=50", 200),
        (f"/?new=1&a.{KIND}={VALUE}&r.{ITEM}=5", 200),
        (f"/describe?new=1&a.{KIND}={VALUE}&r.{ITEM}=5&query=film", 200),
        (f"/users?user={USER}", 200),
        (f"/item?user={USER}&item={ITEM}", 200),
        (f"/item?user={USER}&item={ITEM}&against={OTHER}", 200),
        (f"/item?new=1&r.{OTHER}=5&item={ITEM}", 200),
        (f"/item?item={ITEM}", 200),
        (f"/what-if?user={USER}&item={ITEM}&if.{KIND}={VALUE}", 200),
        (f"/what-if?new=1&r.{OTHER}=5&r.{ITEM}=1&without={OTHER}", 200),
        ("/map", 200),
        ("/card", 200),
        ("/docs", 200),
        (f"/?user={EVIL_URL}", 404),
        (f"/?new=1&r.{EVIL_URL}=5", 404),
        (f"/?new=1&r.{ITEM}={EVIL_URL}", 422),
        (f"/?new=1&a.{KIND}={EVIL_URL}", 422),
        (f"/?user={USER}&rank_by={EVIL_URL}", 422),
        (f"/?user={USER}&is.{EVIL_URL}={EVIL_URL}", 422),
        (f"/item?user={USER}&item={EVIL_URL}", 404),
        (f"/item?user={USER}&item={ITEM}&of={EVIL_URL}", 422),
        (f"/what-if?user={USER}&if.{EVIL_URL}=1", 422),
        (f"/what-if?user={USER}&if.{KIND}={EVIL_URL}", 422),
        (f"/map?by={EVIL_URL}", 422),
        (f"/describe?query={EVIL_URL}", 200),
    ],
)
def test_markup_is_text(hostile: Any, path: str, status: int) -> None:
    page = hostile.get(path)
    assert page.status_code == status
    found = Elements(page.text)
    assert "x-evil" not in found.tags
    assert not {name for name in found.names if name.startswith("on")}
    assert found.scripts in ([], ["/static/htmx.min.js"])
    assert any(EVIL in text or repr(EVIL)[1:-1] in text for text in found.texts)  # it is there, letter by letter
    assert "7 * 7" in page.text  # and is no template


def test_titles_are_searched_as_they_are(hostile: Any) -> None:
    found = Elements(hostile.get(f"/describe?query={quote('Film 7 ' + EVIL)}").text)
    assert sum(text.startswith(f"Film 7 {EVIL}") for text in found.texts) >= 1
