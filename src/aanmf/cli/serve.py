"""`aanmf serve`: a model over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aanmf.cli.options import AsJson, ModelFolder
from aanmf.cli.output import emit, notice, out

StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Database of new ratings: sqlite:///FILE or postgresql://USER@HOST/NAME; `none` disables rating storage. "
        "[default: MODEL-ratings.sqlite beside the model]",
    ),
]
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    folder: ModelFolder,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; the default is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="File with the token that every request must show."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="A name by which clients call the service, besides those of this machine; *: any. Repeatable.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes.")] = 1,
    store: StoreUrl = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=0, help="Requests per second and client; 0: any. [default: 0; 100 beyond loopback]"),
    ] = None,
    body: Annotated[int, typer.Option("--max-body", metavar="BYTES", min=1024, help="Largest body.")] = 2 << 20,
    pairs: Annotated[int, typer.Option("--max-pairs", min=1, help="Most pairs or ratings of one request.")] = 10_000,
    seconds: Annotated[float, typer.Option("--timeout", min=0.1, help="Most seconds for one answer.")] = 30.0,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
    as_json: AsJson = False,
) -> None:
    """Serve a model over HTTP: predictions, recommendations, new ratings, and a page to look at.

    A new model in the folder (from aanmf update or train --out) is loaded at once. On SIGTERM, the service finishes
    open requests, then exits.
    """
    from aanmf.data.sql import without_password
    from aanmf.serving.limits import Limits
    from aanmf.serving.run import Options, default_store, run

    check_log_level(log_level)
    open_to_all = host not in LOOPBACK
    rate = (100.0 if open_to_all else 0.0) if rate is None else rate
    if open_to_all and token_file is None:
        notice(f"{host}: anyone who reaches this address may use the service; --token-file requires a token")
    options = Options(
        model_dir=folder,
        host=host,
        port=port,
        token_file=token_file,
        hosts=tuple(allow_host or ()),
        workers=workers,
        store=None if store == "none" else store or default_store(folder),
        limits=Limits(body=body, pairs=pairs, rate=rate or None, seconds=seconds),
        log_level=log_level,
    )
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if as_json:
        database = options.store and without_password(options.store)
        emit({"url": where, "model": str(folder), "store": database, "workers": workers})
    else:
        out().print(f"Serving {folder} at [bold]{where}/[/] (routes: {where}/docs). Press Ctrl-C to stop.")
    run(options)


def check_log_level(level: str) -> None:
    """Raises ConfigError for anything but a log level."""
    from aanmf.errors import ConfigError

    levels = ("debug", "info", "warning", "error")
    if level not in levels:
        raise ConfigError(f"--log-level {level}: choose one of {', '.join(levels)}")
