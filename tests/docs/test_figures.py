"""The figures of the documents are those of the result files."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "benchmarks" / "figures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_documents_show_the_figures_of_the_files(figures: ModuleType) -> None:
    found = 0
    for page in figures.pages():
        text = page.read_text(encoding="utf-8")
        found += len(figures.FIGURE.findall(text))
        assert figures.filled(text) == text, f"{page.name}: run python benchmarks/figures.py"
    assert found >= 20


def test_a_changed_result_changes_the_document(
    figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "FOLDER", tmp_path)
    summary = [{"model": "mf", "rmse_mean": 0.91104, "rmse_std": 0.00449}]
    (tmp_path / "a.json").write_text(json.dumps({"summary": summary}))
    shown = figures.filled("| <!--a mf rmse-->1<!----> | <!--a mf rmse±--><!----> |")
    assert shown == "| <!--a mf rmse-->0.9110<!----> | <!--a mf rmse±-->0.9110 ± 0.0045<!----> |"
    with pytest.raises(KeyError, match="no model nfm"):
        figures.filled("<!--a nfm rmse-->1<!---->")
