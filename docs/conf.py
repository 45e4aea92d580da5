"""Sphinx: `make docs` builds the site into docs/_build/html."""

import logging
import re
from importlib.metadata import version as version_of
from typing import Any

import click
import typer.main
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from typer.cli import get_docs_for_click

from aanmf.cli import application
from aanmf.models.catalog import CATALOG

project = "aanmf"
author = "the aanmf authors"
copyright = author
release = version = version_of("aanmf")
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
autosummary_generate = False  # its tables link to the pages of docs/reference
exclude_patterns = ["_build", "research/*.py"]
html_theme = "furo"
html_title = "aanmf"
html_static_path = ["_static"]
html_css_files = ["site.css"]
nb_execution_mode = "auto"  # notebooks are kept without outputs
nb_execution_raise_on_error = True
nb_execution_timeout = 600
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_url_schemes = {"http": None, "https": None, "code": "_modules/{{path}}.html"}
default_role = "code"  # `this` in a docstring
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
copybutton_prompt_text = "$ "
html_math_renderer = "mathml"  # no script and no other site is needed to show equations


def _link_to_code(app: Any, page: str, source: list[str]) -> None:
    """A link to a file of the package leads to the page that shows it."""
    source[0] = re.sub(r"\]\((?:\.\./)+src/([\w/]+)\.py\)", r"](code:\1)", source[0])


def _commands() -> str:
    """The help of every command, as Markdown."""
    command = typer.main.get_command(application())
    made = get_docs_for_click(obj=command, ctx=click.Context(command, info_name="aanmf"), name="aanmf")
    return made.partition("## ")[1] + made.partition("## ")[2]


def _models() -> str:
    """A table of the catalogue, and the settings of each model, as Markdown."""
    lines = ["| class | name | what it is |", "|---|---|---|"]
    for spec in CATALOG.values():
        given = ", ".join(f"{name}={value!r}" for name, value in spec.settings.items())
        lines.append(f"| `{spec.class_name}({given})` | `{spec.name}` | {spec.summary} |")
    lines += ["", "```{eval-rst}", ".. currentmodule:: aanmf", ""]
    for name, config in {spec.class_name: spec.config for spec in CATALOG.values()}.items():
        module, _, settings = config.rpartition(":")
        lines += [f".. autoclass:: {name}()", "", f".. autoclass:: {module}.{settings}()", "   :members:"]
        lines += ["   :inherited-members: BaseModel", "   :exclude-members: model_config", ""]
    return "\n".join([*lines, "```", ""])


MADE = {"cli": ("<!-- help of every command -->", _commands), "reference/models": ("<!-- models -->", _models)}
"""Parts of pages that are made from the code."""


def _fill(app: Any, page: str, source: list[str]) -> None:
    """Puts what is made from the code into its page."""
    if page in MADE:
        mark, make = MADE[page]
        assert mark in source[0], f"{page}: {mark} is gone"
        source[0] = source[0].replace(mark, make())


def _show_equations(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Indented lines of a module's docstring are equations: shown as they stand."""
    if what != "module":
        return
    shown, inside = list[str](), False
    for line in lines:
        if line.startswith("    ") and not inside:
            shown += ["::", ""]
        inside = line.startswith("    ") or (inside and not line.strip())
        shown.append(line)
    lines[:] = shown


def _write_formula(page: Any, node: nodes.math) -> None:
    page.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _write_equation(page: Any, node: nodes.math_block) -> None:
    page.body.append(f'<div class="equation">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.add_html_math_renderer("mathml", (_write_formula, None), (_write_equation, None))
    app.connect("source-read", _link_to_code)
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _show_equations)
    # pages of results may not be there yet; Sphinx gives this warning no type to suppress it by
    named = logging.getLogger("sphinx.sphinx.directives.other")
    named.addFilter(lambda record: getattr(record, "subtype", None) != "empty_glob")
