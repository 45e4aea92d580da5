"""The command `aanmf`. What takes long to import is imported inside the commands: `--help` is quick.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C. A failure is one line on stderr; with
`--json`, stdout holds one JSON document in that case too: `{"error": {"kind": ..., "message": ...}}`.
`AANMF_DEBUG=1` shows tracebacks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from aanmf.cli import data, demo, doctor, export, forget, reproduce, serve, train, tune, update, use, validate
from aanmf.cli.output import emit_error
from aanmf.errors import AanmfError
from aanmf.versions import package_version

_LISTED = {
    "Start": [("demo", demo.demo), ("doctor", doctor.doctor)],
    "Learn": [("data", data.data), ("train", train.train)],
    "Measure": [
        ("evaluate", validate.evaluate),
        ("cross-validate", validate.cross_validate),
        ("tune", tune.tune),
        ("reproduce", reproduce.reproduce),
    ],
    "Use": [("predict", use.predict), ("recommend", use.recommend), ("similar", use.similar), ("explain", use.explain)],
    "Serve": [("serve", serve.serve), ("update", update.update), ("export", export.export)],
    "Users' rights": [("user-data", forget.user_data), ("forget", forget.forget)],
}


def application() -> typer.Typer:
    """All commands."""
    app = typer.Typer(
        name="aanmf",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for panel, commands in _LISTED.items():
        for name, function in commands:
            app.command(name, rich_help_panel=panel)(function)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aanmf {package_version() or '(not installed)'}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Rating prediction with attributes of users and items: train, recommend, explain, serve."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; never raises."""
    args = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in args
    try:
        application()(args=args, prog_name="aanmf")
    except SystemExit as stop:  # the usual end of a command; wrong usage has been shown on stderr already
        usage = getattr(stop.__context__, "format_message", None)
        if as_json and usage:
            emit_error("UsageError", usage(), as_json, shown=True)
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except BrokenPipeError:  # `aanmf ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (AanmfError, OSError) as error:
        if os.environ.get("AANMF_DEBUG"):
            raise
        emit_error(type(error).__name__, str(error), as_json)
        return 1
    except Exception as error:
        if os.environ.get("AANMF_DEBUG"):
            raise
        hint = "this is a fault of aanmf: please report it, with what AANMF_DEBUG=1 shows"
        emit_error(type(error).__name__, f"{type(error).__name__}: {error} ({hint})", as_json)
        return 1
    return 0
