"""Bounds of a connection before its request is whole: the limits of `Admission` begin where these end."""

from __future__ import annotations

import asyncio
import http
from typing import Any

from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aanmf.serving.admission import Admission

HEAD_BYTES = 32 << 10
"""Of a request line with its headers, and of anything else that is no body (trailers, chunk extensions)."""
HEAD_SECONDS = 10.0
"""From the connection, or the first byte of a further request, to the end of the headers."""
UNFINISHED_SECONDS = 1.0
"""How long a stopping service waits for the rest of a body."""


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 of uvicorn and httptools, which keep what they get: heads here are bounded in bytes and in time.

    Connections beyond `limit_concurrency` of uvicorn's settings are answered with 503 and closed.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._most, self.limit_concurrency = self.limit_concurrency, None  # uvicorn counts requests by it too
        self._in_head, self._unseen = True, 0  # bytes since the last that were handed on
        self._late: asyncio.TimerHandle | None = None
        self._dropping = False  # the body of a request that was refused

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Begins to wait for a request."""
        super().connection_made(transport)
        if self._most is not None and len(self.connections) > self._most:
            self._refuse(503, f"{self._most:,} connections are open already; try again in a second")
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hands bytes to the parser, and refuses what grows without becoming a request."""
        if self.transport.is_closing():
            return
        self._unseen += len(data)
        super().data_received(data)
        if self._unseen > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"the request line and its headers take more than {HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        if self._late is None:
            self._wait_for_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; those after a body are left out."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: the request goes on to the application, unless it is too large."""
        self._stop_waiting()
        self._in_head = False
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) <= HEAD_BYTES:
            self._unseen = 0
            if not self._refuse_if_busy():
                super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body; after an error response there is no request that it could belong to."""
        if self._dropping:
            self._unseen = 0
        elif not self.transport.is_closing() and self.cycle is not None:
            self._unseen = 0
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._dropping:
            self._dropping, self._unseen = False, 0
            self._stop_waiting()
            self.on_response_complete()
        elif not self.transport.is_closing() and self.cycle is not None:
            self._unseen = 0 if self._unseen <= HEAD_BYTES else self._unseen
            super().on_message_complete()

    def shutdown(self) -> None:
        """The service stops: a request that is whole is answered, another one is waited for a moment longer."""
        super().shutdown()
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body:
            self.loop.call_later(UNFINISHED_SECONDS, self._drop_unfinished)

    def _drop_unfinished(self) -> None:
        if self.cycle.more_body and not self.cycle.response_complete:
            self.transport.close()

    def _refuse_if_busy(self) -> bool:
        """Answers at once a request that the application can only refuse: under overload most of them.

        Their bodies are dropped as they come, for `HEAD_SECONDS` at most. A task of its own for each would take the
        time in which others are answered. What is rare (HTTP/1.0, pipelined requests, ...) goes the usual way.
        """
        parser: Any = self.parser
        usual = parser.should_keep_alive() and parser.get_http_version() == "1.1" and not parser.should_upgrade()
        answered = self.cycle is None or (self.cycle.response_complete and not self.pipeline)
        if not usual or not answered or self.flow.write_paused or self.expect_100_continue:
            return False
        response = self.app.error_response(parser.get_method(), self.url) if isinstance(self.app, Admission) else None
        if response is None:
            return False
        self._dropping = True
        self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)
        self.transport.write(response)
        return True

    def _wait_for_head(self) -> None:
        self._late = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _head_is_late(self) -> None:
        self._refuse(408, f"the headers did not arrive within {HEAD_SECONDS:g} s")

    def _refuse(self, status: int, message: str) -> None:
        """Answers in place of the application, and closes the connection."""
        self._stop_waiting()
        body = to_json({"error": {"kind": "Refused", "message": message}})
        again = "retry-after: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n{again}\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
