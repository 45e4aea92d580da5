"""Modules and files that the documents name exist."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    if "results" not in page.parts and "_build" not in page.parts
)
FOLDERS = ("src/aanmf", "docs", "benchmarks", "tests", "cli", "data", "models", "training", "serving", "evaluation")
FILE = re.compile(rf"`((?:aanmf|{'|'.join(FOLDERS)})/[\w./-]+\.(?:py|md))`")


def exists(module: str) -> bool:
    """Whether `aanmf.x.y` is a module, or a name in one."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        parent, _, name = module.rpartition(".")
        return parent != "aanmf" and exists(parent) and name[:1].isupper()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_named_modules_and_files_exist(page: Path) -> None:
    text = page.read_text()
    modules = {name.rstrip(".") for name in re.findall(r"`(aanmf(?:\.[a-z_]+)+)", text)}
    files = {name for name in FILE.findall(text)}
    assert not [name for name in modules if not exists(name)]
    homes = (ROOT, ROOT / "src", ROOT / "src" / "aanmf", page.parent)
    made = {"models/x.py", "cli/x.py", "benchmarks/out/performance.md"}  # by the reader
    assert not [name for name in files - made if not any((home / name).exists() for home in homes)]
