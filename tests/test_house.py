"""The house stays readable: no module and no class of the package grows too long for one sitting."""

from __future__ import annotations

import ast
from pathlib import Path

import aanmf

HOME = Path(aanmf.__file__).parent
MODULE_LINES, CLASS_LINES = 350, 250


def test_no_module_is_too_long() -> None:
    lengths = {str(path.relative_to(HOME)): len(path.read_text().splitlines()) for path in HOME.rglob("*.py")}
    assert len(lengths) > 50, "the modules were not found"
    too_long = {name: n for name, n in lengths.items() if n > MODULE_LINES}
    assert not too_long, f"more than {MODULE_LINES} lines: divide them by what their parts are about"


def test_no_class_is_too_long() -> None:
    lengths: dict[str, int] = {}
    for path in HOME.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                lengths[f"{path.relative_to(HOME)}: {node.name}"] = (node.end_lineno or 0) - node.lineno + 1
    assert len(lengths) > 100, "the classes were not found"
    too_long = {name: n for name, n in lengths.items() if n > CLASS_LINES}
    assert not too_long, f"more than {CLASS_LINES} lines: divide them by what their parts are about"
