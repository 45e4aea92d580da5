"""Runs a page of the documents: its blocks of Python and of the shell, from top to bottom, in one folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from aanmf.cli import main

BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Page:
    """A page at work in a folder; `close` ends the services that it started."""

    def __init__(self, path: Path) -> None:
        self.blocks = [(kind, text) for kind, text in BLOCK.findall(path.read_text(encoding="utf-8"))]
        self.names: dict[str, Any] = {"__name__": "__page__"}
        self.started: list[subprocess.Popen[bytes]] = []

    def run(self) -> int:
        """Runs every block in the current folder; returns how many there were.

        Raises:
            AssertionError: a command failed.
            Exception: what a block of Python raised.
        """
        run = {"python": self._python, "bash": self._shell}
        mine = [(run[kind], text) for kind, text in self.blocks if kind in run]
        for do, text in mine:
            do(text)
        return len(mine)

    def close(self) -> None:
        """Ends the services."""
        for process in self.started:
            process.terminate()
        for process in self.started:
            process.wait(timeout=30)

    def _python(self, text: str) -> None:
        exec(compile(text, "<page>", "exec"), self.names)

    def _shell(self, text: str) -> None:
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(os.path.expandvars(line), comments=True)
            if words[:2] == ["aanmf", "serve"]:
                self._serve(words)
            elif words[:1] == ["aanmf"]:  # in this process: a new one would import torch again
                assert main(words[1:]) == 0, line
            elif words:
                assert shutil.which(words[0]), f"{words[0]} is not installed"
                subprocess.run(["bash", "-c", line], check=True, timeout=60)

    def _serve(self, words: list[str]) -> None:
        port = words[words.index("--port") + 1]
        self.started.append(subprocess.Popen([sys.executable, "-m", *words]))
        until = time.monotonic() + 150
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                assert self.started[-1].poll() is None, "the service ended"
                assert time.monotonic() < until, "the service did not get ready"
                time.sleep(0.1)
