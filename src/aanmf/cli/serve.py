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
        help="Store new ratings in sqlite:///FILE or postgresql://USER@HOST/NAME; `none` disables rating storage. "
        "[default: MODEL-ratings.sqlite next to the model]",
    ),
]
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    folder: ModelFolder,
    host: Annotated[
        str, typer.Option("--host", help="Listen on this address; the default is reachable from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Listen on this port; 0: any free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="Require the token in this file with every request."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Answer requests for this host name, besides those of this machine; *: any. Repeatable.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Run this many processes.")] = 1,
    store: StoreUrl = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            min=0,
            help="Allow this many requests per second and client; 0: no limit. [default: 0; 100 beyond loopback]",
        ),
    ] = None,
    body: Annotated[
        int, typer.Option("--max-body", metavar="BYTES", min=1024, help="Refuse larger request bodies.")
    ] = 2 << 20,
    pairs: Annotated[
        int, typer.Option("--max-pairs", min=1, help="Allow this many pairs or ratings in a request.")
    ] = 10_000,
    requests: Annotated[
        int, typer.Option("--max-requests", min=1, help="Answer at most this many requests at a time per process.")
    ] = 64,
    wait: Annotated[
        float,
        typer.Option(
            "--max-wait",
            metavar="SECONDS",
            min=0.001,
            help="Refuse a request that would wait longer than this for those in work; 16 are always answered.",
        ),
    ] = 0.015,
    seconds: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Give up on a request after this many seconds.")
    ] = 30.0,
    index: Annotated[
        bool,
        typer.Option(
            "--index", help="Find lists by an index of items: for very many items; a few of the best may be missing."
        ),
    ] = False,
    log_level: Annotated[
        str, typer.Option("--log-level", help="Log messages of this level and above: debug, info, warning or error.")
    ] = "info",
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
        limits=Limits(body=body, pairs=pairs, requests=requests, wait=wait, rate=rate or None, seconds=seconds),
        log_level=log_level,
        index=index,
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
