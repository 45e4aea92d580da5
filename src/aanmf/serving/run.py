"""Starts the service under uvicorn, in this process or in several."""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from aanmf.errors import ConfigError, MissingExtraError
from aanmf.serving.hosts import hosts_of
from aanmf.serving.limits import Limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp

VARIABLE = "AANMF_SERVE"
"""Environment variable that hands the options to worker processes; the token itself is not in it."""
DRAIN_SECONDS = 30


class Options(BaseModel):
    """What `aanmf serve` was asked for."""

    model_dir: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None
    hosts: tuple[str, ...] = ()
    """Names it may be called by, besides those of the address that it listens on."""
    workers: int = 1
    store: str | None = None
    limits: Limits = Limits()
    index: bool = False
    log_level: str = "info"


def default_store(model_dir: Path) -> str:
    """SQLite beside the model folder (in it, it would go with the next model)."""
    folder = model_dir.absolute()
    return f"sqlite:///{folder.parent / (folder.name + '-ratings.sqlite')}"


def read_token(path: Path | None) -> str | None:
    """The first line of a file.

    Raises:
        ConfigError: no such file, or a token that is easily guessed.
    """
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {path}: cannot be read ({error})") from None
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"--token-file {path}: needs one line of at least 16 letters and digits without blanks")
    return token


def run(options: Options) -> None:
    """Serves until SIGTERM or Ctrl-C; finishes open requests before it returns.

    Raises:
        ConfigError, ModelFolderError, StoreError: the service could not have started.
        MissingExtraError: a library is missing.
    """
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise MissingExtraError("the service needs uvicorn: pip install 'aanmf[serve]'") from None
    common: dict[str, Any] = {
        "host": options.host,
        "port": options.port,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,  # or any client could claim to be another one
        "timeout_keep_alive": 30,
        "timeout_graceful_shutdown": DRAIN_SECONDS,
        "http": "aanmf.serving.connections:GuardedProtocol",
        "limit_concurrency": options.limits.connections,
    }
    if options.workers == 1:
        uvicorn.run(build(options), **common)
        return
    from aanmf.serving.app import create_app

    create_app(options.model_dir, token=read_token(options.token_file), store=options.store)  # faults show here, once
    with _shared_metrics():
        os.environ[VARIABLE] = options.model_dump_json()
        uvicorn.run("aanmf.serving.run:worker", factory=True, workers=options.workers, **common)


def build(options: Options) -> ASGIApp:
    """The application, with this process set up for it."""
    import torch

    from aanmf.serving.app import create_app
    from aanmf.serving.logs import log_to_stderr

    torch.set_num_threads(1)  # batches are small: threads of their own would only wait for each other
    sys.setswitchinterval(0.0005)  # the event loop and the model's thread take turns more often
    token = read_token(options.token_file)
    hosts = hosts_of(options.host, options.hosts)
    app = create_app(
        options.model_dir, token=token, store=options.store, limits=options.limits, hosts=hosts, index=options.index
    )
    log_to_stderr(options.log_level)
    gc.collect()
    gc.freeze()  # or every collection would go through the model
    return app


def worker() -> ASGIApp:
    """One of several processes; called by uvicorn."""
    return build(Options.model_validate(json.loads(os.environ[VARIABLE])))


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """A folder where the workers add up their counters."""
    with tempfile.TemporaryDirectory(prefix="aanmf-metrics-") as folder:
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", folder)
        yield
