"""Every block of the pages runs as written; the notebooks too; every page is on the site."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

import aanmf
from tests.docs.pages import BLOCK, Page

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["index.md", "tutorial.md", *sorted(f"howto/{each.name}" for each in (DOCS / "howto").glob("*.md"))]
SOURCES = Path(aanmf.__file__).parents[1]
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services and kernels start in other folders and import the package that is under test."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")]))


def run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    at_work = Page(DOCS / page)
    try:
        assert at_work.run() > 0
    finally:
        at_work.close()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(page, tmp_path, monkeypatch)


@pytest.mark.slow
def test_first_example_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints what stands below it, up to digits that differ from machine to machine; what follows it runs, too."""
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((DOCS.parent / "README.md").read_text(encoding="utf-8"))
    (shown,) = [text for kind, text in blocks if kind == "text"]
    example, *more = [text for kind, text in blocks if kind == "python"]
    names: dict[str, object] = {}
    exec(example, names)
    printed, numbers = capsys.readouterr().out, re.compile(r"-?\d+\.\d+")
    assert numbers.sub("x", printed) == numbers.sub("x", shown)
    there, here = (np.array([float(each) for each in numbers.findall(text)]) for text in (shown, printed))
    assert np.abs(there - here).max() < 0.02
    for text in more:
        exec(text, names)
    assert (tmp_path / "model").is_dir()


@pytest.mark.slow
def test_page_of_the_restaurants(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AANMF_DATA", str(real_data))
    run("restaurant.md", tmp_path, monkeypatch)


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


def test_every_page_is_on_the_site() -> None:
    index = (DOCS / "index.md").read_text()
    listed = {line.strip() for line in index.splitlines()}
    for page in DOCS.glob("*.md"):
        assert page.stem in listed | {"index"} or page.stem.startswith("performance"), (
            f"{page.name}: put it into index.md"
        )


def test_blocks_that_do_not_run_are_few() -> None:
    """Blocks without a language are equations and examples for other machines; the guides have none."""
    for page in PAGES:
        text = (DOCS / page).read_text()
        assert {kind for kind, _ in BLOCK.findall(text)} <= {"python", "bash"}, page
        assert not re.search(r"^```\n\S(?=[^`]*```)", text.replace("```\n\n", ""), re.MULTILINE), page
