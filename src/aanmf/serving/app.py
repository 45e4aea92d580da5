"""`create_app`: the service for one model folder, which loads a new model as soon as the folder holds one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aanmf.errors import MissingExtraError
from aanmf.item_index import check_indexable
from aanmf.manifest import MANIFEST
from aanmf.serving.hosts import LOOPBACK
from aanmf.serving.limits import Limits
from aanmf.serving.store import RatingStore

try:
    from starlette.routing import Router

    from aanmf.serving.admission import Admission
    from aanmf.serving.api import make_api
    from aanmf.serving.dispatch import Backend
    from aanmf.serving.examples import add_examples
    from aanmf.serving.logs import flush_logs, logger
    from aanmf.serving.model_cache import ModelCache, folder_version
    from aanmf.serving.page import add_page
except ModuleNotFoundError as error:
    raise MissingExtraError(f"the service needs {error.name}: pip install 'aanmf[serve]'") from None

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

CHECK_SECONDS = 0.5
"""How often the model folder is checked."""


def create_app(
    model_dir: str | Path,
    *,
    token: str | None = None,
    store: str | None = None,
    limits: Limits | None = None,
    hosts: Collection[str] = LOOPBACK,
    index: bool = False,
) -> ASGIApp:
    """The service as an ASGI application, for uvicorn or a test client.

    Args:
        model_dir: folder that `save` has written.
        token: what every request must show; None: nothing.
        store: URL of the database of new ratings; None: the service stores none.
        limits: bounds of requests.
        hosts: names by which it may be called (`aanmf.serving.hosts`); `*`: any.
        index: whether lists are found by an index of items (`aanmf.item_index`).

    Raises:
        ModelFolderError: the folder holds no whole model.
        ConfigError: an index of a model that cannot have one.
        MissingExtraError: an index, and Faiss is not installed.
        StoreError: the database cannot be opened.
    """
    backend = Backend(RatingStore(store) if store else None, limits or Limits())
    return Admission(Service(Path(model_dir), backend, index), backend.limits, token, backend.metrics, hosts)


class Service:
    """The routes of the current model, and the start and end of the service.

    A request keeps its model to the end. A new model is loaded in a thread of its own, gets its own routes, and
    replaces the old one between two requests.
    """

    current: FastAPI

    def __init__(self, folder: Path, backend: Backend, index: bool = False) -> None:
        self.folder, self.backend, self.index = folder, backend, index
        self._seen = _stamp(folder)
        self._load()
        self._router = Router(lifespan=self._lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The start and end of the service; web sockets are closed."""
        if scope["type"] == "lifespan":
            await self._router.lifespan(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    @asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncIterator[None]:
        self.backend.start()
        watching = asyncio.create_task(self._watch())
        logger.info("ready", extra={"fields": {"version": self.version}})
        try:
            yield
        finally:
            watching.cancel()
            await self.backend.stop()
            logger.info("stopped")
            flush_logs()

    def _load(self) -> None:
        """Loads the model in the folder and makes its routes."""
        cache = ModelCache.load(self.folder, self.backend.store, self.backend.limits.list_bytes)
        if self.index:
            check_indexable(cache.predictor.spec)
            threading.Thread(target=self._build_index, args=(cache,), daemon=True).start()
        api = make_api(cache, self.backend)
        add_page(api, cache, self.backend)
        add_examples(api, cache.fitted)
        self.current, self.version, self.cache = api, cache.version, cache
        self.backend.metrics.loads.labels("ok").inc()
        self.backend.metrics.loaded.set(time.time())
        self.backend.metrics.saved.set(cache.saved)

    def _build_index(self, cache: ModelCache) -> None:
        """In a thread of its own: until it is built, lists are made by a look at all items."""
        start = time.perf_counter()
        cache.model.build_index()
        fields = {"version": cache.version, "seconds": round(time.perf_counter() - start, 1)}
        logger.info("index built", extra={"fields": fields})

    async def _watch(self) -> None:
        """Checks the folder; where its manifest has changed, loads the model in it."""
        while True:
            flush_logs()
            await asyncio.sleep(CHECK_SECONDS)
            await self._look_for_forgotten()
            stamp = await asyncio.to_thread(_stamp, self.folder)
            if stamp is None or stamp == self._seen:  # None: the old folder is gone and the new one not there yet
                continue
            if (fault := await asyncio.to_thread(self._try_to_load)) is not None:
                if await asyncio.to_thread(_stamp, self.folder) != stamp:
                    continue  # it was replaced while it was being read
                self.backend.metrics.loads.labels("failed").inc()
                logger.error("new model not loaded; the old one stays", extra={"fields": {"fault": fault}})
            self._seen = stamp

    async def _look_for_forgotten(self) -> None:
        """Drops cached lists where another process has forgotten a user."""
        store = self.backend.store
        try:
            if store is not None and await asyncio.to_thread(store.refresh):
                await self.backend.models.call(self.cache.lists.clear)
        except Exception as error:  # watching must go on
            logger.warning("the store of ratings does not answer", extra={"fields": {"fault": str(error)}})

    def _try_to_load(self) -> str | None:
        """Loads the model in the folder if it is another one; returns what went wrong, whatever it is."""
        try:
            if folder_version(self.folder) != self.version:  # changed, not only touched
                self._load()
                logger.info("model loaded", extra={"fields": {"version": self.version}})
        except BaseException as error:  # also what compiled libraries raise when they panic: watching must go on
            return f"{type(error).__name__}: {error}"
        return None


def _stamp(folder: Path) -> tuple[int, int, int] | None:
    """Changes when the manifest is another file; None where there is none."""
    try:
        stat = (folder / MANIFEST).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
