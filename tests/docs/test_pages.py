"""Every block of README and the documents runs, or says why not; the notebooks run; every page is on the site."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aanmf
from aanmf import DampedMeans, Popularity
from tests.docs.pages import Page, blocks

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCES = Path(aanmf.__file__).parents[1]
ELSEWHERE = {"_build", "research"}
"""Folders whose pages are not written for readers."""
QUOTES = "docs/walkthrough.md"
"""Its blocks are quotes of the code: see test_walkthrough.py."""
OF_REAL_DATA = "docs/restaurant.md"
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
    if not ELSEWHERE & set(path.relative_to(ROOT).parts)
}
RUN = [
    name
    for name, path in PAGES.items()
    if name not in (QUOTES, OF_REAL_DATA) and any(block.runs for block in blocks(path.read_text(encoding="utf-8")))
]
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services and kernels start in other folders and import the package that is under test."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")]))


def run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    at_work = Page(PAGES[page])
    try:
        assert at_work.run() > 0
    finally:
        at_work.close()


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(page, tmp_path, monkeypatch)


@pytest.mark.slow
def test_page_of_the_restaurants(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AANMF_DATA", str(real_data))
    run(OF_REAL_DATA, tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_example_of_the_readme_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """Up to digits that differ from machine to machine; the simple models score what it says below."""
    page = PAGES["README.md"].read_text(encoding="utf-8")
    found = blocks(page)
    (shown,) = [block.text for block in found if block.kind == "text"]
    names: dict[str, Any] = {}
    exec(next(block.text for block in found if block.kind == "python"), names)
    printed, numbers = capsys.readouterr().out, re.compile(r"-?\d+\.\d+")
    assert numbers.sub("x", printed) == numbers.sub("x", shown)
    there, here = (np.array([float(each) for each in numbers.findall(text)]) for text in (shown, printed))
    assert np.abs(there - here).max() < 0.02
    for model, metric, said in ((DampedMeans, "rmse", "an RMSE of"), (Popularity, "ndcg@10", "an NDCG@10 of")):
        score = model().fit(names["train"]).evaluate(names["test"], [metric])[metric]
        assert f"{said} {score:.3f}." in page


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(notebook: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="pip install 'aanmf[docs]'")
    nbclient = pytest.importorskip("nbclient", reason="pip install 'aanmf[docs]'")
    book = nbformat.read(notebook, as_version=4)
    assert all(not cell.get("outputs") for cell in book.cells), "commit notebooks without outputs"
    nbclient.NotebookClient(book, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()


def test_a_page_that_fails_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for block in ("```python\n1 / 0\n```\n", "```bash\nfalse\n```\n", "```bash\naanmf train nowhere.csv\n```\n"):
        page.write_text(block)
        with pytest.raises(Exception, match=r"division|status 1|aanmf train"):
            Page(page).run()


def test_marks_skip_a_block_or_make_it_smaller() -> None:
    (left_out,) = blocks("<!-- not run: takes hours -->\n```bash\nsleep 9999\n```\n")
    assert not left_out.runs and left_out.skipped == "takes hours"
    (changed,) = blocks("<!-- in tests: 9999 -> 0; sleep -> echo -->\n```bash\nsleep 9999\n```\n")
    assert changed.runs and changed.text == "echo 0\n"
    (plain,) = blocks("text\n\n```python\nx = 1\n```\n")
    assert plain.runs
    with pytest.raises(AssertionError, match="'8' is not in the block"):
        blocks("<!-- in tests: 8 -> 7 -->\n```bash\nsleep 9\n```\n")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_states_its_language(page: str) -> None:
    """Blocks of other languages (`text`, `toml`, a directive of Sphinx) do not run."""
    found = blocks(PAGES[page].read_text(encoding="utf-8"))
    kinds = {block.kind for block in found}
    assert "" not in kinds, "write ```text for what is no code"
    assert not {"sh", "shell", "py", "python3"} & kinds, "write ```bash or ```python: these run"
    assert all(block.skipped for block in found if block.kind == "console"), "write ```bash, or why it does not run"


def test_every_page_is_on_the_site() -> None:
    index = (DOCS / "index.md").read_text()
    listed = {line.strip() for line in index.splitlines()}
    for page in DOCS.glob("*.md"):
        assert page.stem in listed | {"index"} or page.stem.startswith("performance"), (
            f"{page.name}: put it into index.md"
        )
