"""Reports as Markdown and HTML."""

from __future__ import annotations

from html.parser import HTMLParser

from aanmf.experiments.document import Figure, Heading, Table, Text, to_html, to_markdown

BLOCKS = [
    Heading("Title & more", 1),
    Heading("RQ1: errors"),
    Text("See *this* and `code <x>`:", ("one", "two")),
    Table("t", "A table", ("model", "RMSE", "left out"), (("a|b", 0.91234, None), ("<c>", 1.0, None)), note="A note."),
    Figure("fig4", "Curves", "theirs"),
]


def test_markdown() -> None:
    text = to_markdown(BLOCKS)
    assert "# Title & more\n\n## RQ1: errors" in text
    assert "See *this* and `code <x>`:\n\n- one\n- two" in text
    assert "| model | RMSE | left out |\n| --- | ---: | --- |\n| a\\|b | 0.9123 | - |" in text
    assert "![Curves](figures/fig4.svg)" in text
    assert "*In the paper:* theirs" in text


class Balance(HTMLParser):
    """Checks that every tag that is opened is closed in its turn, and collects the text."""

    void = {"meta", "img", "br"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_is_well_formed_and_escaped() -> None:
    page = to_html("Title & more", BLOCKS)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert "<c>" in parser.texts and "code <x>" in parser.texts
    assert '<td class="n">0.9123</td>' in page
    assert '<img src="figures/fig4.svg" alt="Curves">' in page
    assert '<a href="#rq1-errors">' in page and 'id="rq1-errors"' in page
    assert "<script" not in page
