"""A report as headings, texts, tables and figures, written as Markdown and as one HTML page."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the report's own."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph, a list, or both. `*this*` is emphasised, and code is written in backticks."""

    text: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table under its caption.

    Attributes:
        name: `table4-ml-100k`.
        caption: one line above.
        columns: their names.
        rows: cells; columns of numbers are aligned to the right.
        note: a line below.
        data: the same for machines; rows by column name where it is empty.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    note: str = ""
    data: list[dict[str, Any]] = field(default_factory=list)

    def records(self) -> list[dict[str, Any]]:
        """For machines."""
        return self.data or [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Figure:
    """A picture, `figures/NAME.svg` and `.png`; `paper` describes the paper's own."""

    name: str
    caption: str
    paper: str = ""


Block = Heading | Text | Table | Figure


def to_markdown(blocks: Sequence[Block]) -> str:
    """As Markdown (GitHub's tables); figures by their SVG."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """As one page without scripts; it needs nothing but the folder `figures` next to it."""
    contents = "".join(
        f'<a href="#{_anchor(block.text)}">{html.escape(block.text)}</a>'
        for block in blocks
        if isinstance(block, Heading) and block.level == 2
    )
    body = "\n".join(_html(block) for block in blocks)
    page = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return page.substitute(title=html.escape(title), contents=contents, body=body)


def cell(value: object) -> str:
    """A value as tables show it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4f}"
        case _:
            return str(value)


def _numeric(table: Table, column: int) -> bool:
    cells = [cell(row[column]) for row in table.rows]
    number = re.compile(r"[-+<]?[\d.,]+( ?%)?( [±/] .*)?")
    return any(map(number.fullmatch, cells)) and all(text == "-" or number.fullmatch(text) for text in cells)


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Text(text, items):
            return "\n".join([*([text, ""] if text and items else [text] if text else []), *(f"- {i}" for i in items)])
        case Table():
            marks = ["---:" if _numeric(block, at) else "---" for at in range(len(block.columns))]
            lines = [block.columns, marks, *([cell(each).replace("|", "\\|") for each in row] for row in block.rows)]
            table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
            return f"**{block.caption}**\n\n{table}" + (f"\n\n{block.note}" if block.note else "")
        case Figure(name, caption, paper):
            beside = f"\n\n*In the paper:* {paper}" if paper else ""
            return f"![{caption}](figures/{name}.svg)\n\n{caption}{beside}"


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f'<h{level} id="{_anchor(text)}">{_inline(text)}</h{level}>'
        case Text(text, items):
            listed = "".join(f"<li>{_inline(item)}</li>" for item in items)
            return (f"<p>{_inline(text)}</p>" if text else "") + (f"<ul>{listed}</ul>" if items else "")
        case Table():
            right = [' class="n"' if _numeric(block, at) else "" for at in range(len(block.columns))]
            head = "".join(f"<th{r}>{_inline(name)}</th>" for name, r in zip(block.columns, right, strict=True))
            rows = "".join(
                "<tr>" + "".join(f"<td{r}>{_inline(cell(x))}</td>" for x, r in zip(row, right, strict=True)) + "</tr>"
                for row in block.rows
            )
            note = f'<p class="note">{_inline(block.note)}</p>' if block.note else ""
            table = f"<table><caption>{_inline(block.caption)}</caption><tr>{head}</tr>{rows}</table>"
            return f'<section id="{block.name}"><div class="wide">{table}</div>{note}</section>'
        case Figure(name, caption, paper):
            beside = f"<aside><b>In the paper</b><br>{_inline(paper)}</aside>" if paper else ""
            image = f'<a href="figures/{name}.png"><img src="figures/{name}.svg" alt="{html.escape(caption)}"></a>'
            return f'<figure id="{name}">{image}<figcaption>{_inline(caption)}</figcaption>{beside}</figure>'


def _inline(text: str) -> str:
    escaped = html.escape(text, quote=False)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"(?<![\w*])\*([^*]+)\*(?![\w*])", r"<em>\1</em>", escaped)


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
