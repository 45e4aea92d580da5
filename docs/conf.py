"""Sphinx: `make docs` builds the site into docs/_build/html."""

import re
from importlib.metadata import version as version_of
from typing import Any

project = "aanmf"
author = "the aanmf authors"
copyright = author
release = version = version_of("aanmf")
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
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
suppress_warnings = ["toc.empty_glob"]  # pages of results that are not there yet
copybutton_prompt_text = "$ "


def _link_to_code(app: Any, page: str, source: list[str]) -> None:
    """A link to a file of the package leads to the page that shows it."""
    source[0] = re.sub(r"\]\((?:\.\./)+src/([\w/]+)\.py\)", r"](code:\1)", source[0])


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("source-read", _link_to_code)
