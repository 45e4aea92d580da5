"""`create_app`: the service for one model folder, which takes up a new model as soon as the folder holds one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aanmf.errors import AanmfError, MissingExtraError
from aanmf.serving.limits import Limits
from aanmf.serving.served import ServedModel, folder_version
from aanmf.serving.store import RatingStore
from aanmf.storage import MANIFEST

try:
    from starlette.routing import Router

    from aanmf.serving.api import make_api
    from aanmf.serving.desk import Desk
    from aanmf.serving.guard import Guard
    from aanmf.serving.logs import flush_logs, logger
    from aanmf.serving.metrics import Metrics
    from aanmf.serving.page import add_page
except ModuleNotFoundError as error:
    raise MissingExtraError(f"the service needs {error.name}: pip install 'aanmf[serve]'") from None

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOK_EVERY = 0.5
"""Seconds between looks at the model folder."""


def create_app(
    model_dir: str | Path, *, token: str | None = None, store: str | None = None, limits: Limits | None = None
) -> Service:
    """The service as an ASGI application, for uvicorn or a test client.

    Args:
        model_dir: folder that `save` has written.
        token: what every request must show; None: nothing.
        store: URL of the database of new ratings; None: the service takes none.
        limits: bounds of requests.

    Raises:
        ModelFolderError: the folder holds no whole model.
        StoreError: the database cannot be opened.
    """
    return Service(Path(model_dir), token, RatingStore(store) if store else None, limits or Limits())


class Service:
    """The application: guard in front, then the routes of the model that is current when a request comes in.

    A request keeps its model to the end. A new model is loaded in a thread beside, gets routes of its own, and takes
    the place of the old one between two requests.
    """

    def __init__(self, folder: Path, token: str | None, store: RatingStore | None, limits: Limits) -> None:
        self.folder, self.limits, self.store, self.metrics = folder, limits, store, Metrics()
        self.desk = Desk(store, limits, self.metrics)
        self._seen = _stamp(folder)
        self.current = self._routes(ServedModel.load(folder))
        self._guarded: ASGIApp = Guard(self._dispatch, limits, token, self.metrics)
        self._router = Router(lifespan=self._lifespan)

    @property
    def served(self) -> ServedModel:
        """The current model."""
        return self.current.state.served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the start and end of the service."""
        if scope["type"] == "lifespan":
            await self._router.lifespan(scope, receive, send)
        else:
            await self._guarded(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.current(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncIterator[None]:
        self.desk.start()
        watching = asyncio.create_task(self._watch())
        logger.info("ready", extra={"fields": {"version": self.served.version}})
        try:
            yield
        finally:
            watching.cancel()
            await self.desk.stop()
            if self.store is not None:
                self.store.close()
            logger.info("stopped")
            flush_logs()

    def _routes(self, served: ServedModel) -> FastAPI:
        api = make_api(served, self.desk, self.limits)
        add_page(api, served, self.desk)
        api.state.served = served
        api.openapi()
        self.metrics.loads.labels("ok").inc()
        self.metrics.loaded.set(time.time())
        return api

    async def _watch(self) -> None:
        """Looks at the folder; where its manifest is another one, takes up the model in it."""
        while True:
            flush_logs()
            await asyncio.sleep(LOOK_EVERY)
            stamp = await asyncio.to_thread(_stamp, self.folder)
            if stamp is None or stamp == self._seen:  # None: the old folder is gone and the new one not there yet
                continue
            try:
                self.current = await asyncio.to_thread(self._load)
                logger.info("model taken up", extra={"fields": {"version": self.served.version}})
            except (AanmfError, OSError, ValueError, KeyError) as error:
                if await asyncio.to_thread(_stamp, self.folder) != stamp:
                    continue  # it was replaced while it was being read
                self.metrics.loads.labels("failed").inc()
                logger.error("model not taken up; the old one goes on", extra={"fields": {"fault": str(error)}})
            self._seen = stamp

    def _load(self) -> FastAPI:
        if folder_version(self.folder) == self.served.version:  # touched, not changed
            return self.current
        return self._routes(ServedModel.load(self.folder))


def _stamp(folder: Path) -> tuple[int, int, int] | None:
    """Changes when the manifest is another file; None where there is none."""
    try:
        stat = (folder / MANIFEST).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
