"""Modules, names and files that the documents mention exist."""

from __future__ import annotations

import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    if "results" not in page.parts and "_build" not in page.parts
)
FOLDERS = "src|docs|benchmarks|tests|aanmf|cli|data|models|training|serving|evaluation|experiments|decisions"
FILE = re.compile(rf"(?<![\w/:.-])((?:{FOLDERS})/[\w./+-]+\.(?:py|md))\b")
NAME = re.compile(r"(?<![\w/])aanmf(?:\.[A-Za-z_]\w*)+(?!\.?/)")
MADE = {"aanmf.X", "models/x.py", "cli/x.py", "benchmarks/out/performance.md"}
"""By the reader."""


def exists(name: str) -> bool:
    """Whether `aanmf.x.y` is a module, or a name in one; `aanmf.py` and the like are files."""
    if name.rpartition(".")[2] in ("py", "toml", "md"):
        return True
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return (ROOT / "src" / f"{name.replace('.', '/')}.py").exists()  # needs a library that is not here
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_named_modules_and_files_exist(page: Path) -> None:
    text = page.read_text()
    assert not [name for name in set(NAME.findall(text)) - MADE if not exists(name)]
    homes = (ROOT, ROOT / "src", ROOT / "src" / "aanmf", page.parent)
    assert not [name for name in set(FILE.findall(text)) - MADE if not any((home / name).exists() for home in homes)]


def members(page: Path) -> list[str]:
    """`aanmf.x.y` for each name that a page of the reference draws from a module or a class."""
    found = re.findall(r"^\.\. auto\w+:: (aanmf[\w.]*)\n +:members: (.+)$", page.read_text(), re.MULTILINE)
    return [f"{home}.{name}" for home, names in found for name in names.split(", ")]


def test_members_of_the_reference_exist() -> None:
    names = [name for page in (ROOT / "docs" / "reference").glob("*.md") for name in members(page)]
    assert len(names) > 30
    assert not [name for name in names if not exists(name)]


def test_the_architecture_has_the_layers_in_their_order() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [re.findall(r"aanmf\.\w+", layer) for layer in contracts[0]["layers"]]
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page[page.index("| layer") : page.index("## Sixteen names")]
    shown = [re.findall(r"`(aanmf\.\w+)`", line.split("|")[1]) for line in table.splitlines() if line.startswith("|")]
    names = [name for line in shown for name in line]
    place = {name: at for at, layer in enumerate(layers) for name in layer}
    assert sorted(names) == sorted(place)
    assert [place[name] for name in names] == sorted(place[name] for name in names)


@pytest.mark.parametrize("name", ["aanmf.registry", "aanmf.models.mf.spread", "aanmf.data.dataset.Nothing"])
def test_names_that_are_gone_are_found(name: str) -> None:
    (found,) = NAME.findall(f"see `{name}`")
    assert found == name and not exists(name)
