"""What the command line prints: results to stdout, progress, notices and errors to stderr.

Of several processes that torchrun started, the first one prints results and notices; each prints its errors.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aanmf.experiments.document import cell

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table


def out() -> Console:
    """The console of results."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False, quiet=not reports())


def reports() -> bool:
    """Whether this process is the only one, or the first of those that torchrun started."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def err() -> Console:
    """The console of progress, notices and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def emit(document: dict[str, Any]) -> None:
    """The one JSON document of a command run with `--json`."""
    import sys

    if reports():
        sys.stdout.write(to_json(document))
        sys.stdout.flush()


def emit_error(kind: str, message: str, as_json: bool, *, shown: bool = False) -> None:
    """One line on stderr (unless `shown` already), and the JSON of a failure where it is asked for."""
    if not shown:
        err().print(f"[bold red]error:[/] {_escape(message)}", soft_wrap=True)
    if as_json:
        emit({"error": {"kind": kind, "message": message}})


def notice(message: str) -> None:
    """Something the user should know, on stderr."""
    if reports():
        err().print(f"[yellow]note:[/] {_escape(message)}", soft_wrap=True)


def table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> RenderableType:
    """A table under its title; columns of numbers are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for j, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[j], int | float | None) for row in rows)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell(value)) for value in row))
    return _titled(title, made)


def fits(shown: RenderableType) -> bool:
    """Whether a table is no wider than the console, so that no cell is broken into lines."""
    from rich.measure import Measurement

    console = out()
    return Measurement.get(console, console.options.update(max_width=10_000), shown).maximum <= console.width


def facts(title: str | None, pairs: Sequence[tuple[str, object]]) -> RenderableType:
    """Names and values, one per line."""
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(name, Text(cell(value)))
    return _titled(title, made)


def _titled(title: str | None, body: Table) -> RenderableType:
    """A title that is not squeezed to the width of the table, the table, and an empty line."""
    from rich.console import Group
    from rich.text import Text

    return Group(*([Text(title, style="bold")] if title else []), body, "")


def program() -> str:
    """The command as a reader of a message can type it here: `aanmf`, or with its folder where that is not on PATH."""
    import shlex
    import shutil
    import sys
    from pathlib import Path

    started, found = Path(sys.argv[0]), shutil.which("aanmf")
    if started.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m aanmf"
    if started.stem != "aanmf" or not started.exists() or (found and Path(found).samefile(started)):
        return "aanmf"
    return shlex.quote(str(started))


@contextmanager
def progress(*columns: ProgressColumn, shown: bool = True) -> Iterator[Progress]:
    """A progress display on stderr, where that is a terminal; it is gone when the work is done."""
    from rich.progress import Progress

    console = err()
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as made:
        yield made


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def to_json(document: Any) -> str:
    """JSON text, with null for NaN and infinity, which JSON does not have."""
    return json.dumps(_finite(document), ensure_ascii=False, indent=2) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
