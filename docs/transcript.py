"""Runs what is in docs/own-files.md and writes what it prints into the page: `make transcript DATA=FOLDER`.

In the page, a block of ```console holds commands after `$ ` and what they printed; they run in one shell, in a folder
with a copy of DATA and the wheel of this checkout. A block of ```python is a cell of one notebook, and the block of
```text after it what the cell shows. Pictures of the notebook and of the page of the service are taken at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from screenshots import IMAGES, WIDE, chromium, picture, serving

DOCS = Path(__file__).parent
PAGE = DOCS / "own-files.md"
WIDTH = 100
NEEDED = "ipykernel nbclient nbconvert"
"""What a notebook needs, as packages of the environment that the page makes."""
NOTEBOOK = "list.ipynb"
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
CELL = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    """The commands of a block; lines after one that ends in a backslash belong to it."""
    found = re.findall(r"^\$ ((?:[^\n]*\\\n)*[^\n]*)$", block, re.MULTILINE)
    if not found:
        raise ValueError(f"no line of this block begins with '$ ':\n{block}")
    return found


def in_shell(page: str, folder: Path) -> str:
    """The page with what its commands print now, run one after the other in one shell.

    Raises:
        RuntimeError: a command failed.
    """
    end = "=== end of a command:"
    all_commands = [each for block in CONSOLE.findall(page) for each in commands(block)]
    script = "".join(f"{each}\nprintf '\\n{end} %s\\n' $?\n" for each in all_commands)
    run = {
        "COLUMNS": str(WIDTH),
        "LINES": "50",
        "OMP_NUM_THREADS": "2",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_QUIET": "3",
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AANMF", "VIRTUAL"))}
    done = subprocess.run(
        ["bash"], input=script, cwd=folder, env=clean | run, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    printed = re.split(rf"^{end} (\d+)\n", done.stdout, flags=re.MULTILINE)
    shown = {}
    for place, command in enumerate(all_commands):
        if printed[2 * place + 1] != "0":
            raise RuntimeError(f"{command}\n{printed[2 * place]}")
        lines = [line.rstrip() for line in printed[2 * place].splitlines()]
        shown[command] = "\n".join(lines).strip("\n")
    blocks = ("\n\n".join(f"$ {each}\n{shown[each]}".rstrip() for each in commands(b)) for b in CONSOLE.findall(page))
    return CONSOLE.sub(lambda _: f"```console\n{next(blocks)}\n```", page)


def in_notebook(page: str, folder: Path) -> tuple[str, Path]:
    """The page with what its cells show now, and the notebook as HTML."""
    python = folder / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", *NEEDED.split()], check=True)
    cells = [{"cell_type": "code", "source": code.rstrip()} for code, _ in CELL.findall(page)]
    blank = {"metadata": {}, "outputs": [], "execution_count": None}
    notebook = {"cells": [each | blank for each in cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    path = folder / NOTEBOOK
    path.write_text(json.dumps(notebook), encoding="utf-8")
    subprocess.run(
        [python, "-m", "nbconvert", "--execute", "--inplace", "--log-level", "ERROR", path], check=True, cwd=folder
    )
    subprocess.run([python, "-m", "nbconvert", "--to", "html", "--log-level", "ERROR", path], check=True, cwd=folder)
    texts = (_shown(cell["outputs"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
    written = CELL.sub(lambda found: f"```python\n{found[1]}```\n\n```text\n{next(texts)}\n```", page)
    return written, path.with_suffix(".html")


def _shown(outputs: list[dict[str, Any]]) -> str:
    """What a cell shows, as text."""
    found = "".join("".join(each["data"]["text/plain"] if "data" in each else each["text"]) for each in outputs)
    found = re.sub(r"\S*ipykernel_\d+\S*\.py", NOTEBOOK, found)  # a file for each cell, in a folder for the moment
    return "\n".join(line.rstrip() for line in found.strip("\n").splitlines())


def pictures(folder: Path, html: Path) -> None:
    """Of the notebook, and of a list on the page of the service."""
    with chromium() as browser, serving(folder / "places") as url:
        for name, address in (("own-notebook", html.as_uri()), ("own-page", f"{url}/?user=U1001")):
            (IMAGES / f"{name}.png").write_bytes(picture(browser, address, WIDE, "light", 760))


def main() -> None:
    """Runs the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a folder with the folders filmtrust and restaurant, as downloaded")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("filmtrust", "restaurant"):
            shutil.copytree(asked.data / name, folder / name, copy_function=shutil.copyfile)
        built = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(DOCS.parent)]
        subprocess.run(built, check=True)
        page, html = in_notebook(in_shell(PAGE.read_text(encoding="utf-8"), folder), folder)
        pictures(folder, html)
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
