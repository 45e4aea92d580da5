"""Runs a page of the documents: its blocks of Python and of the shell, from top to bottom, in one folder.

An HTML comment in the line before a block changes that:

    <!-- not run: REASON -->                 it does not run here
    <!-- in tests: TEXT -> OTHER; ... -->    it runs with other texts, so that it takes seconds
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aanmf.cli import main

BLOCK = re.compile(r"^```([^\s`]*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MARKED = re.compile(r"(?:^<!-- (not run|in tests): ([^\n]*?) -->\n)?" + BLOCK.pattern, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        kind: its language; empty: none is stated.
        text: what is in it, with the changes for tests.
        skipped: the reason why it does not run; empty: it runs if its language is Python or that of the shell.
    """

    kind: str
    text: str
    skipped: str = ""

    @property
    def runs(self) -> bool:
        return self.kind in ("python", "bash") and not self.skipped


def blocks(page: str) -> list[Block]:
    """The blocks of a page.

    Raises:
        AssertionError: a mark changes a text that its block does not have.
    """
    found: list[Block] = []
    for mark, words, kind, text in _MARKED.findall(page):
        for change in words.split("; ") if mark == "in tests" else ():
            old, _, new = change.partition(" -> ")
            assert old in text, f"in tests: {old!r} is not in the block"
            text = text.replace(old, new)
        found.append(Block(kind, text, words if mark == "not run" else ""))
    return found


class Page:
    """A page at work in a folder; `close` ends the services that it started."""

    def __init__(self, path: Path) -> None:
        self.blocks = blocks(path.read_text(encoding="utf-8"))
        self.names: dict[str, Any] = {"__name__": "__page__"}
        self.started: list[subprocess.Popen[bytes]] = []
        self.ports: dict[str, str] = {}

    def run(self) -> int:
        """Runs the blocks in the current folder; returns how many there were.

        Raises:
            AssertionError: a command failed.
            Exception: what a block of Python raised.
        """
        run = {"python": self._python, "bash": self._shell}
        mine = [block for block in self.blocks if block.runs]
        for block in mine:
            run[block.kind](block.text)
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
            for port, free in self.ports.items():
                line = line.replace(f":{port}", f":{free}")
            words = shlex.split(os.path.expandvars(line), comments=True)
            if words[:2] == ["aanmf", "serve"]:
                self._serve(words)
            elif words[:1] == ["aanmf"]:  # in this process: a new one would import torch again
                assert main(words[1:]) == 0, line
            elif words:
                assert shutil.which(words[0]), f"{words[0]} is not installed"
                subprocess.run(["bash", "-c", line], check=True, timeout=60)

    def _serve(self, words: list[str]) -> None:
        """Starts a service on a free port; later lines ask that one."""
        named = words.index("--port") if "--port" in words else len(words)
        port = words[named + 1] if named < len(words) else "8000"
        with socket.socket() as any_free:
            any_free.bind(("127.0.0.1", 0))
            self.ports[port] = str(any_free.getsockname()[1])
        command = [*words[:named], *words[named + 2 :], "--port", self.ports[port]]
        self.started.append(subprocess.Popen([sys.executable, "-m", *command]))
        until = time.monotonic() + 150
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[port]}/readyz", timeout=5) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                assert self.started[-1].poll() is None, "the service ended"
                assert time.monotonic() < until, "the service did not get ready"
                time.sleep(0.1)
