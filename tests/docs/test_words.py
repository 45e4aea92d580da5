"""The check of words finds what it is for, and reads what it should."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests import scripts


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return scripts.script("docs/check_words.py", monkeypatch)


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("It is put in place at once.", "'put in place': write installed"),
        ("| colour | color |\n|---|---|\n", "'color': write colour"),
        ("Files of parquet are read.", "'parquet': write Parquet"),
        ("Words " * 31 + ".", "a sentence of 31 words (at most 30)"),
        ("## How Lists are made", "'Lists' in a heading"),
        ("lists are made here.", "begins with a small letter: lists are made here."),
        ("- a list, made anew", "'anew': write again"),
    ],
)
def test_faults_of_a_page(check: ModuleType, page: str, found: str) -> None:
    (line,) = check.findings(check.of_markdown(page, "page.md"))
    assert found in line and line.startswith("page.md:1: ")


@pytest.mark.parametrize(
    "page",
    [
        "`put in place` and `parquet` are names of the code.",
        "```python\ncolor = 1  # anew\n```\n",
        "The paper is *On the Behavior of Neighbors*, and $color$ a formula.",
        "Words " * 20 + "end here. " + "Others " * 20 + "follow.",
        "## How AANMF++ reads CSV and Parquet files",
        "- an item of a list may begin with a small letter",
        "AutoML is a word with capitals; see <https://example.org/parquet>.",
    ],
)
def test_what_is_no_fault(check: ModuleType, page: str) -> None:
    assert check.findings(check.of_markdown(page, "page.md")) == []


@pytest.mark.parametrize(
    ("which", "least", "known"),
    [
        ("documents", 500, "Clicks, purchases, views"),
        ("docstrings", 200, "Ratings of items by users, with the attributes of both."),
        ("help", 100, "Write the predictions here (CSV or Parquet)."),
        ("messages", 150, "the table has no rows"),
        ("page", 30, "Why?"),
    ],
)
def test_all_texts_are_read(check: ModuleType, which: str, least: int, known: str) -> None:
    texts = [each.text for each in check.TEXTS[which]()]
    assert len(texts) > least
    assert any(known in text for text in texts)
