"""Examples in docstrings run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import aanmf
from aanmf.models.catalog import CLASSES

HOME = Path(aanmf.__file__).parent
MODULES = sorted(
    ".".join(("aanmf", *path.relative_to(HOME).with_suffix("").parts)).removesuffix(".__init__")
    for path in HOME.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
FURTHER = [
    "aanmf.attention_map.AttentionMap",
    "aanmf.data.options.ReadOptions",
    "aanmf.data.report.ReadingReport",
    "aanmf.evaluation.cross_validate.CrossValidation",
    "aanmf.explanation.Explanation",
    "aanmf.metrics.Scores",
]
"""Classes of what public functions return or take."""


def run(test: doctest.DocTest) -> doctest.TestResults:
    return doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name: str) -> None:
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder().find(module, name) if test.examples]
    assert tests, "the examples were not found"
    assert not sum(run(test).failed for test in tests)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CLASSES))
def test_example_of_a_model(name: str) -> None:
    docstring = inspect.getdoc(getattr(aanmf, name)) or ""
    test = doctest.DocTestParser().get_doctest(docstring, {}, name, None, None)
    assert test.examples
    assert not run(test).failed


@pytest.mark.parametrize("name", [*(f"aanmf.{each}" for each in aanmf.__all__), *FURTHER])
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(pkgutil.resolve_name(name)) or "")


def test_a_wrong_example_is_found() -> None:
    assert run(doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)).failed == 1
