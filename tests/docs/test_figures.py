"""The figures of the documents are those of the result files."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests import scripts


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return scripts.script("benchmarks/figures.py", monkeypatch)


@pytest.fixture
def results(figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of results with one file, `a`."""
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    rows = [
        {"model": "mf", "rmse_mean": 0.91104, "rmse_std": 0.00449, "listed_mean": 212.6},
        {"model": "nfm", "rmse_mean": 0.9, "rmse_std": 0.001},
    ]
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.json").write_text(json.dumps({"summary": rows}))
    return tmp_path


def test_documents_show_the_figures_of_the_files(figures: ModuleType) -> None:
    shown = set[str]()
    for page in figures.pages():
        text = page.read_text(encoding="utf-8")
        shown |= {name for name, _ in figures.TABLE.findall(text)}
        assert figures.filled(text) == text, f"{page.name}: run make figures"
        in_front = [match[0] for match in figures.FIGURE.finditer(text) if text[match.start() - 1] == "\n"]
        assert not in_front, f"{page.name}: a comment that begins a line ends the paragraph before it"
        assert text.count("<!-- figures:") == text.count("<!-- end of figures -->"), f"{page.name}: a table has no end"
    assert shown == set(figures.tables()), "a table of docs/results/tables.toml stands in no document"


def test_a_figure_in_a_sentence_is_that_of_its_file(figures: ModuleType, results: Path) -> None:
    shown = figures.filled("<!--a mf rmse-->1<!----> and <!--a mf rmse±--><!---->")
    assert shown == "<!--a mf rmse-->0.9110<!----> and <!--a mf rmse±-->0.9110 ± 0.0045<!---->"
    with pytest.raises(KeyError, match="no model fm"):
        figures.filled("<!--a fm rmse-->1<!---->")


def test_a_table_is_that_of_its_description(figures: ModuleType, results: Path) -> None:
    (results / "tables.toml").write_text("""
        [t]
        cell = "a {model} {metric}"
        columns = [{title = "RMSE", metric = "rmse±", best = "low"}, {title = "listed", metric = "listed"}]
        rows = [{title = "MF", model = "mf"}, {title = "NFM", model = "nfm"}]
    """)
    table = (
        "| | RMSE | listed |\n| --- | --- | --- |\n| MF | 0.9110 ± 0.0045 | 213 |\n| NFM | **0.9000 ± 0.0010** | - |\n"
    )
    page = "before\n\n<!-- figures: t -->\nwhat stood here\n<!-- end of figures -->\n\nafter\n"
    assert figures.filled(page) == page.replace("what stood here\n", table)


def test_a_row_without_any_figure_is_an_error(figures: ModuleType, results: Path) -> None:
    rows = [{"title": "MF", "model": "mf"}, {"title": "FM", "model": "fm"}]
    table = figures.Table(rows, [{"title": "RMSE", "metric": "rmse"}], "a {model} {metric}")
    with pytest.raises(ValueError, match="no result for 'FM'"):
        table.markdown()
