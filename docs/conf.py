"""Sphinx: `make docs` builds the site into docs/_build/html."""

import logging
import re
from importlib.metadata import version as version_of
from typing import Any

project = "aanmf"
author = "the aanmf authors"
copyright = author
release = version = version_of("aanmf")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build", "research/*.py"]
html_theme = "furo"
html_title = "aanmf"
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


def _link_to_code(app: Any, page: str, source: list[str]) -> None:
    """A link to a file of the package leads to the page that shows it."""
    source[0] = re.sub(r"\]\((?:\.\./)+src/([\w/]+)\.py\)", r"](code:\1)", source[0])


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


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("source-read", _link_to_code)
    app.connect("autodoc-process-docstring", _show_equations)
    # pages of results may not be there yet; Sphinx gives this warning no type to suppress it by
    named = logging.getLogger("sphinx.sphinx.directives.other")
    named.addFilter(lambda record: getattr(record, "subtype", None) != "empty_glob")
