"""A small model behind a real server, in a thread of the test's own process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from aanmf import AANMF
from tests.conftest import small_dataset

pytest.importorskip("fastapi", reason="the service's tests need aanmf[serve]")
httpx = pytest.importorskip("httpx", reason="the service's tests need httpx")

LABELS = (*(f"Film No. {i}, The" for i in range(20)), "Żółw <b>&amp;")
Start = Callable[..., Any]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 42 users and 21 titled items with attributes of every kind."""
    from dataclasses import replace

    data = small_dataset()
    data = replace(data, items=replace(data.items, labels=LABELS))
    path = tmp_path_factory.mktemp("served") / "model"
    AANMF(factors=4, epochs=2, refit=False).fit(data).save(path)
    return path


@contextmanager
def serving(app: Any, connections: int = 100) -> Iterator[str]:
    """Runs an application on a free port and yields its address."""
    import uvicorn

    from aanmf.serving.connections import GuardedProtocol

    given: Any = {"log_config": None, "access_log": False, "timeout_graceful_shutdown": 5}
    given |= {"http": GuardedProtocol, "limit_concurrency": connections, "proxy_headers": False}
    server = uvicorn.Server(uvicorn.Config(app, port=0, **given))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts the service with options of `create_app` and returns a client."""
    from aanmf.serving.app import create_app

    with ExitStack() as stack:

        def begin(model_dir: Path = folder, **options: Any) -> Any:
            url = stack.enter_context(serving(create_app(model_dir, **options)))
            return stack.enter_context(httpx.Client(base_url=url, timeout=30))

        yield begin


@pytest.fixture(scope="session")
def client(folder: Path) -> Iterator[Any]:
    """A client of one service that keeps ratings in memory; tests that count or break things start their own."""
    from aanmf.serving.app import create_app

    with serving(create_app(folder, store="sqlite://")) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client
