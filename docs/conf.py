"""Sphinx: `make docs` builds the site into docs/_build/html."""

from importlib.metadata import version as version_of

project = "aanmf"
author = "the aanmf authors"
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
nb_execution_mode = "off"  # tests/docs executes the notebooks
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "dollarmath"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
suppress_warnings = ["myst.xref_missing", "toc.empty_glob"]  # links into the code work on the forge, not on the site
copybutton_prompt_text = "$ "
