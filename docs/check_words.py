"""Checks the texts that readers see, for plain words, short sentences and capitals: part of `make check`.

    python docs/check_words.py [documents] [docstrings] [help] [messages] [page] [--dump]

Without names it reads all of them: README, other documents and notebooks; docstrings of the API; help texts; error
messages; the page of the service. `--dump` prints the texts instead of what is wrong with them.

A finding names the file, the line, the rule and what to write instead. The words are those of `docs/words.toml`.
"""

from __future__ import annotations

import argparse
import ast
import html
import inspect
import itertools
import json
import pkgutil
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer.main
from markdown_it import MarkdownIt
from markdown_it.token import Token

from aanmf.cli import application

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "aanmf"
MOST_WORDS = 30
"""In a sentence."""
CODE = "`code`"
"""Stands for a piece of code or a formula: one word that no rule looks into."""
SENTENCE_END = re.compile(r"(?<=[.!?:])\)?\s+(?=[\"(*]*[A-Z`\d])")
FORMULA = re.compile(r"\$\$?[^$]+\$\$?")
TITLE = re.compile(r"\*[^*]+\*")
"""In italics: the name of a work."""
MADE_BY_SCRIPTS = ("_build", "research", "ml-100k", "ml-1m")
"""Folders of `docs` whose pages a command wrote, and the notebook of a researcher."""


@dataclass(frozen=True)
class Text:
    """A piece of text.

    Attributes:
        place: file and line, or what is helped with.
        text: without markup; code is `CODE`.
        kind: `heading`, `paragraph` (full sentences), `item` (of a list) or `fragment` (a cell, a help text, an error).
    """

    place: str
    text: str
    kind: str


# ---------------------------------------------------------------- where texts come from


def documents() -> Iterator[Text]:
    """The paragraphs, headings and cells of README, the other documents at the top, and `docs`."""
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        if not set(page.relative_to(ROOT).parts) & set(MADE_BY_SCRIPTS):
            yield from of_markdown(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))
    for book in sorted((ROOT / "docs").rglob("*.ipynb")):
        for at, cell in enumerate(json.loads(book.read_text(encoding="utf-8"))["cells"]):
            if cell["cell_type"] == "markdown":
                yield from of_markdown("".join(cell["source"]), f"{book.relative_to(ROOT)}, cell {at}")


def of_markdown(text: str, place: str) -> Iterator[Text]:
    """The texts of a page of Markdown."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in itertools.pairwise(tokens):
        if token.type == "inline" and token.map:
            kind = {"heading_open": "heading", "paragraph_open": "paragraph"}.get(before.type, "fragment")
            kind = "item" if before.hidden else kind
            words = FORMULA.sub(CODE, TITLE.sub(CODE, "".join(map(_plain, token.children or ())))).strip()
            if words and not words.startswith(("```", ":::")):
                yield Text(f"{place}:{token.map[0] + 1}", words, kind)


def _plain(token: Token) -> str:
    if token.type == "code_inline":
        return CODE
    if token.type in ("softbreak", "hardbreak"):
        return " "
    if token.type in ("em_open", "em_close"):
        return "*"
    return token.content if token.type in ("text", "image") else ""


def helps() -> Iterator[Text]:
    """The help texts of all commands and options."""
    command: Any = typer.main.get_command(application())
    for name, sub in [("", command), *command.commands.items()]:
        place = f"aanmf {name}".strip()
        for paragraph in re.split(r"\n\n+", inspect.cleandoc(sub.help or "")):
            yield Text(f"{place} --help", _without_code(" ".join(paragraph.split())), "paragraph")
        for option in (each for each in sub.params if "completion" not in (each.name or "")):  # those are typer's
            if text := getattr(option, "help", None):
                yield Text(f"{place} {option.opts[0]}", _without_code(text), "fragment")


def messages() -> Iterator[Text]:
    """What is raised: the texts of errors, with `CODE` where a value is filled in."""
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                for argument in node.exc.args:
                    if text := _spelled(argument):
                        yield Text(f"{path.relative_to(ROOT)}:{node.lineno}", _without_code(text), "fragment")


def _spelled(node: ast.expr) -> str:
    """A string as it stands in the code; a filled-in value is `CODE`."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_spelled(part) or CODE for part in node.values)
    if isinstance(node, ast.BinOp):
        return _spelled(node.left) + _spelled(node.right)
    return ""


def docstrings() -> Iterator[Text]:
    """The docstrings that `docs/reference` shows, but those of internals: paragraphs without examples."""
    listings = (each for each in (ROOT / "docs" / "reference").glob("*.md") if each.stem != "internals")
    for listing in sorted(listings):
        for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)", listing.read_text(encoding="utf-8"), re.MULTILINE):
            shown = pkgutil.resolve_name(name if name.startswith("aanmf.") else f"aanmf.{name}")
            for member, doc in _docstrings_of(shown):
                for part in re.split(r"\n\s*\n|\n(?=\s*\w[\w, ]*: )", doc):
                    if ">>>" not in part:
                        yield Text(f"{name} {member}".strip(), _without_code(" ".join(part.split())), "fragment")


def _docstrings_of(shown: object) -> Iterator[tuple[str, str]]:
    """The docstring of a module, a class or a function, and those of its public members."""
    home = getattr(shown, "__module__", getattr(shown, "__name__", ""))
    yield "", inspect.getdoc(shown) or ""
    for name, member in vars(shown).items():
        if getattr(getattr(member, "fget", member), "__module__", None) == home and not name.startswith("_"):
            yield name, inspect.getdoc(member) or ""


def page() -> Iterator[Text]:
    """What the templates of the service say."""
    for path in sorted((SOURCES / "serving" / "templates").glob("*.html")):
        text = re.sub(r"<(style|script)\b.*?</\1>|{#.*?#}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        text = re.sub(r"{%.*?%}", "\n\n", re.sub(r"{{.*?}}", CODE, text, flags=re.DOTALL), flags=re.DOTALL)
        for piece in re.split(r"</?(?!a\b|b\b|em\b|span\b|strong\b)[a-z][^>]*>|\n\n+", text):
            words = " ".join(html.unescape(re.sub(r"<[^>]*>", "", piece)).split())
            if re.search(r"[A-Za-z]", words.replace(CODE, "")):
                yield Text(str(path.relative_to(ROOT)), words, "fragment")


def _without_code(text: str) -> str:
    """Text whose quoted code, options and assignments are `CODE`."""
    return re.sub(r"`[^`]*`|--[\w-]+|\S+=\S*|'[^' ]*'", CODE, text)


TEXTS: dict[str, Callable[[], Iterator[Text]]] = {
    "documents": documents,
    "help": helps,
    "messages": messages,
    "docstrings": docstrings,
    "page": page,
}


# ---------------------------------------------------------------- rules


@cache
def _word_list() -> dict[str, Any]:
    return tomllib.loads((ROOT / "docs" / "words.toml").read_text(encoding="utf-8"))


@cache
def _unwanted() -> tuple[re.Pattern[str], dict[str, str]]:
    """A pattern of all unwanted words, and what to write instead of each."""
    instead = {word.lower(): better for word, better in _word_list()["instead"].items()}
    longest_first = sorted(instead, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w/-]| \d)", re.IGNORECASE), instead


def words(text: Text) -> Iterator[str]:
    """Words that have a plainer, a British or a better known form, and names that are written otherwise."""
    pattern, instead = _unwanted()
    for found in pattern.findall(text.text):
        yield f"{found!r}: write {instead[found.lower()]}"
    for name in _word_list()["names"] if text.kind != "fragment" else ():
        for found in re.findall(rf"(?<![\w./:-]){re.escape(name)}(?![\w/#:-]|\.\w)", text.text, re.IGNORECASE):
            if found != name:
                yield f"{found!r}: write {name}"


def length(text: Text) -> Iterator[str]:
    """Sentences that are too long to be followed at first reading."""
    for sentence in SENTENCE_END.split(text.text):
        n = len(re.findall(r"[`\w][\w'’.,:/`-]*", sentence))
        if n > MOST_WORDS:
            yield f"a sentence of {n} words (at most {MOST_WORDS}): {sentence[:60]}..."


def capitals(text: Text) -> Iterator[str]:
    """Headings are in sentence case; a paragraph begins with a capital."""
    names = {*_word_list()["names"], *_word_list()["proper"]}
    first = text.text.split()[0].strip(",.:")
    if text.kind in ("heading", "paragraph") and first[0].islower() and first not in names:
        yield f"begins with a small letter: {text.text[:40]}"
    if text.kind == "heading":
        for sentence in SENTENCE_END.split(text.text):
            for word in re.findall(r"(?<=\s)[A-Z][a-z]+\b", sentence):
                if word not in names:
                    yield f"{word!r} in a heading: only its first word and names have a capital"


RULES: tuple[Callable[[Text], Iterator[str]], ...] = (words, length, capitals)


def findings(texts: Iterator[Text]) -> list[str]:
    """What is wrong with texts, a line each."""
    return [f"{text.place}: {found}" for text in texts for rule in RULES for found in rule(text)]


def main() -> None:
    """Prints the findings, and fails if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", choices=[[], *TEXTS], help="which texts (default: all)")
    parser.add_argument("--dump", action="store_true", help="print the texts")
    asked = parser.parse_args()
    chosen = [TEXTS[name] for name in asked.which or TEXTS]
    if asked.dump:
        for text in (text for texts in chosen for text in texts()):
            sys.stdout.write(f"{text.place}: {text.text}\n")
        return
    found = [line for texts in chosen for line in findings(texts())]
    sys.stdout.write("".join(f"{line}\n" for line in found))
    if found:
        sys.exit(f"{len(found)} findings; the words to use are in docs/words.toml")


if __name__ == "__main__":
    main()
