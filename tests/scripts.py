"""Scripts beside the package, as modules: those that measure, and those that make documents."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def script(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/NAME.py` or `docs/NAME.py`; gone from `sys.modules` after the test."""
    file = ROOT / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(str(file.parent))  # as Python does for a script
    monkeypatch.setitem(sys.modules, file.stem, module)
    spec.loader.exec_module(module)
    return module
