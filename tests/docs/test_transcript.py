"""docs/own-files.md is what its commands print: the script that runs them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests import scripts

PAGE = """# Title

```console
$ word=hello; echo "first  "
$ echo $word \\
    again
old
```

Text.

```console
$ echo $word, last
```
"""


@pytest.fixture
def transcript(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("playwright", reason="pip install 'aanmf[test-serve]'")
    pytest.importorskip("PIL", reason="pip install 'aanmf[test-serve]'")
    return scripts.script("docs/transcript.py", monkeypatch)


def test_the_page_gets_what_its_commands_print_in_one_shell(transcript: ModuleType, tmp_path: Path) -> None:
    written = transcript.in_shell(PAGE, tmp_path)
    assert written == PAGE.replace('"first  "', '"first  "\nfirst\n').replace("old", "hello again").replace(
        "last\n", "last\nhello, last\n"
    )
    assert transcript.in_shell(written, tmp_path) == written


def test_a_command_that_fails_ends_the_run(transcript: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ls nowhere\n.*No such file"):
        transcript.in_shell(PAGE.replace("echo $word, last", "ls nowhere"), tmp_path)
    with pytest.raises(ValueError, match="no line of this block"):
        transcript.in_shell("```console\necho\n```\n", tmp_path)


def test_cells_show_text_and_tables(transcript: ModuleType) -> None:
    outputs = [
        {"text": ["/x/ipykernel_1/2.py:3: a \n", "b\n"]},
        {"data": {"text/plain": ["table"], "text/html": ["<table>"]}},
    ]
    assert transcript._shown(outputs) == "list.ipynb:3: a\nb\ntable"


def test_the_page_is_filled(transcript: ModuleType) -> None:
    page = transcript.PAGE.read_text(encoding="utf-8")
    assert sum(map(len, map(transcript.commands, transcript.CONSOLE.findall(page)))) >= 10
    cells = transcript.CELL.findall(page)
    assert len(cells) >= 3
    assert all(shown.strip() for _, shown in cells)
    assert "error" not in cells[-1][1]
