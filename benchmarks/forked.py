"""Processes for the scripts that kill them, forked from one that has imported all they need: they start at once."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx

PRELOADED = (
    *("aanmf.cli.train", "aanmf.cli.update", "aanmf.cli.serve", "aanmf.data.stream", "aanmf.serving.app"),
    *("aanmf.models.aanmf", "aanmf.training.trainer", "aanmf.training.progress", "aanmf.evaluation.baselines"),
    *("polars", "psycopg", "rich.progress", "scipy.stats", "torch._dynamo", "torch.distributed.tensor", "uvicorn"),
)
"""What a process would import by and by."""
START_SECONDS = 120
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(PRELOADED))


def start(log: Path, *arguments: str) -> BaseProcess:
    """`aanmf ARGUMENTS` as a process of its own; what it says is added to a file."""
    return call(log, _command, *arguments)


def call(log: Path, function: Callable[..., object], *arguments: object) -> BaseProcess:
    """A function of a module, called in a process of its own."""
    process = _context.Process(target=_logged, args=(log, function, arguments))
    process.start()
    return process


def finish(process: BaseProcess, log: Path) -> float:
    """Waits for the end of a process, and returns the seconds until then."""
    began = time.perf_counter()
    process.join()
    if process.exitcode:
        raise SystemExit(f"a process ended with {process.exitcode}:\n{log.read_text()[-3000:]}")
    return time.perf_counter() - began


def _logged(log: Path, function: Callable[..., object], arguments: Sequence[object]) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    function(*arguments)


def _command(*arguments: str) -> None:
    from aanmf.cli import main

    sys.exit(main(list(arguments)))


@contextmanager
def service(folder: Path, log: Path, *options: str) -> Iterator[tuple[BaseProcess, str]]:
    """`aanmf serve` as a process of its own, with its URL once it is ready; killed at the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start(log, "serve", str(folder), "--port", str(port), "--log-level", "error", *options)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
    try:
        while not _is_ready(url):
            if not process.is_alive() or time.monotonic() > end:
                raise SystemExit(f"the service did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        yield process, url
    finally:
        process.kill()
        process.join()


def _is_ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz").status_code == 200
    return False


@contextmanager
def clients(n: int, work: Callable[[int, threading.Event], None]) -> Iterator[None]:
    """Threads that work side by side, each knowing its number, until the event is set at the end."""
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(number, stop)) for number in range(n)]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        stop.set()
        for each in threads:
            each.join()
