"""The walk-through quotes the code as it is: each quoted run of lines stands in the file that its block names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import aanmf
from tests.docs.pages import BLOCK

DOCS = Path(__file__).parents[2] / "docs"
SOURCES = Path(aanmf.__file__).parent
PAGE = (DOCS / "walkthrough.md").read_text(encoding="utf-8")
STEPS = ("Eq 1-3", "Algorithm 1", "Weighted attributes", "Sum pooling", "Eq 4, Eq 6", "Eq 5", "Eq 7")


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def missing(block: str) -> str | None:
    """The first quoted run of lines (runs are parted by `...`) that the named file does not have; None: it has all."""
    name, *quoted = block.splitlines()
    source = lines((SOURCES / name.removeprefix("# ")).read_text(encoding="utf-8"))
    for run in re.split(r"^\s*\.\.\.$", "\n".join(quoted), flags=re.MULTILINE):
        wanted = lines(run)
        if not any(source[at : at + len(wanted)] == wanted for at in range(len(source))):
            return run
    return None


@pytest.mark.parametrize("block", [text for kind, text in BLOCK.findall(PAGE) if kind == "python"])
def test_quoted_lines_are_in_the_code(block: str) -> None:
    assert missing(block) is None


def test_a_line_that_is_not_in_the_code_is_found() -> None:
    assert missing("# models/layers.py\nreturn p + weighted_sum(values, index, weight)\n") is None
    for changed in ("return p - weighted_sum(values, index, weight)", "return p\n...\nreturn p + 1"):
        assert missing(f"# models/layers.py\n{changed}\n") is not None


def test_every_step_of_the_paper_has_its_equation_and_its_code() -> None:
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    for step in STEPS:
        (section,) = (each for each in sections if step in each.partition("\n")[0])
        assert "$$" in section, step
        assert "```python\n# " in section, step
