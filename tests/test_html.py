"""HTML for notebooks: whatever is not HTML already is escaped, and numbers read as numbers."""

from __future__ import annotations

import math

import pytest

from aanmf import html
from aanmf.html import Html


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('<b> & "c"', "&lt;b&gt; &amp; &quot;c&quot;"),
        (Html("<b>"), "<b>"),
        (12345, "12,345"),
        (0.93214, "0.9321"),
        (math.nan, "–"),
        (None, "–"),
        (True, "yes"),
        ((1, "<i>"), "1, &lt;i&gt;"),
    ],
)
def test_values(value: object, shown: str) -> None:
    assert html.text(value) == shown


def test_a_piece_is_not_escaped_twice() -> None:
    assert html.fold("a < b", html.line("c < d")) == (
        '<details><summary>a &lt; b</summary><p style="margin:.3em 0">c &lt; d</p></details>'
    )


def test_columns_of_numbers_are_on_the_right_under_their_name() -> None:
    made = html.table(("name", "n", "mixed"), [("a", 1, 2), ("b", None, "x")])
    assert '<th scope="col" style="text-align:right">n</th>' in made
    assert '<th scope="col" style="text-align:left">mixed</th>' in made
    assert '<td style="text-align:right">–</td>' in made
    assert '<th scope="row" style="text-align:left">b</th>' in made


def test_a_table_without_rows_has_its_names() -> None:
    assert html.table(("a", "<b>"), []).count("<th ") == 2
    assert "<thead>" not in html.facts([("a", 1)])


def test_cells_are_shaded_by_their_share_of_the_most() -> None:
    made = html.table(("g", "x", "n"), [("a", 0.5, 7), ("b", 0.25, 8), ("c", 0.0, 9)], decimals=2, shade_to=0.5)
    assert ';background-color:rgba(31,95,168,0.60)">0.50' in made
    assert ';background-color:rgba(31,95,168,0.30)">0.25' in made
    assert 'style="text-align:right">0.00' in made
    assert 'style="text-align:right">7' in made
