"""Pieces of HTML that notebooks show (`_repr_html_`).

Whatever is not HTML already is escaped: names, ids and titles come from other people's files. No piece has a background
or a colour of text of its own, so that it reads in light and in dark notebooks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Text that is HTML already; all other text is escaped where it becomes part of it."""


def text(value: object) -> Html:
    """A value as readers expect it: 12,345, 0.9321, yes, - for None."""
    match value:
        case Html():
            return value
        case None:
            return Html("–")
        case bool():
            return Html("yes" if value else "no")
        case int():
            return Html(f"{value:,}")
        case float():
            return Html(f"{value:.4g}" if math.isfinite(value) else "–")
        case list() | tuple():
            return Html(", ".join(map(text, value)))
    return Html(escape(str(value)))


def block(title: str, *parts: Html) -> Html:
    """A title, and pieces below it."""
    return Html(f"<div><strong>{text(title)}</strong>{''.join(parts)}</div>")


def line(words: str) -> Html:
    """A paragraph."""
    return Html(f'<p style="margin:.3em 0">{text(words)}</p>')


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values, one below the other."""
    return table((), pairs)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], decimals: int | None = None, shade_to: float | None = None
) -> Html:
    """A table: the first cell of a row names it, columns of numbers are aligned to the right.

    Args:
        columns: their names; empty: no row of names.
        rows: cells.
        decimals: of every float; None: four significant digits.
        shade_to: the number whose cell is shaded most, as in a heat map, and 0 not at all. None: no shading.
    """
    rows = list(rows)
    numeric = [bool(columns) and all(map(_is_number, cells)) for cells in zip(*rows, strict=True)]
    sides = ["right" if each else "left" for each in numeric] or ["left"] * len(columns)

    def row(cells: Sequence[object]) -> str:
        first, *rest = (
            f'style="text-align:{side}{_shade(cell, shade_to)}">{_digits(cell, decimals)}'
            for cell, side in zip(cells, sides, strict=True)
        )
        return f'<tr><th scope="row" {first}</th>{"".join(f"<td {each}</td>" for each in rest)}</tr>'

    names = "".join(
        f'<th scope="col" style="text-align:{side}">{text(name)}</th>'
        for name, side in zip(columns, sides, strict=False)
    )
    head = f"<thead><tr>{names}</tr></thead>" if columns else ""
    return Html(f"<table>{head}<tbody>{''.join(map(row, rows))}</tbody></table>")


def _digits(value: object, decimals: int | None) -> Html:
    fixed = decimals is not None and isinstance(value, float) and math.isfinite(value)
    return Html(f"{value:,.{decimals}f}") if fixed else text(value)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _shade(value: object, shade_to: float | None) -> str:
    """A blue whose opacity is the share of `shade_to`: text keeps its contrast on it in light and dark."""
    if not shade_to or not isinstance(value, float) or not value > 0:
        return ""
    return f";background-color:rgba(31,95,168,{0.6 * min(value / shade_to, 1):.2f})"


def fold(title: str, *parts: Html) -> Html:
    """Pieces that unfold under their title."""
    return Html(f"<details><summary>{text(title)}</summary>{''.join(parts)}</details>")
