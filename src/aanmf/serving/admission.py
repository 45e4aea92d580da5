"""What every request passes first: who may ask, how much, how long; and what is logged about it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import itertools
import secrets
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from pydantic_core import to_json

from aanmf.serving.hosts import LOOPBACK, is_allowed, is_same_site, name_in
from aanmf.serving.limits import Limits, RateLimit
from aanmf.serving.logs import logger
from aanmf.serving.metrics import Metrics
from aanmf.serving.queue_bound import QueueBound

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = ("/healthz", "/readyz", "/static/")
"""Paths that need no token and are not counted against a client's rate."""
HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
]
CLOSE = [(b"connection", b"close")]
ALWAYS = (*OPEN, "/metrics")
"""Paths that are answered however much is in work."""
BUSY = "too many requests are in work already; try again in a second"
AGAIN = [(b"retry-after", b"1")]


class RefusedError(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, message: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or []


class Service(Protocol):
    """What is admitted to: `current` answers HTTP requests, the service itself all else."""

    @property
    def current(self) -> ASGIApp:
        """The routes of the current model."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what is not HTTP."""
        ...


class Admission:
    """ASGI middleware: rate, token, size and time limits; security headers; metrics and a log line per request.

    The body of a request is read before it is passed on, so that no route waits for a slow client or holds more than
    allowed: `scope["aanmf.body"]`.
    """

    def __init__(
        self, service: Service, limits: Limits, token: str | None, metrics: Metrics, hosts: Collection[str] = LOOPBACK
    ) -> None:
        self.service, self.limits, self.metrics, self.hosts = service, limits, metrics, hosts
        self._held = 0  # bytes of bodies that are being read
        self._queue = QueueBound(limits.requests, limits.wait)  # requests that are being answered
        self._token = token.encode() if token else None
        self._refused, self._told = 0, 0.0  # early refusals since the last log line about them, and when that was
        self._run, self._number = secrets.token_hex(4).encode(), itertools.count(1)
        self._rate = RateLimit(limits.rate) if limits.rate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.service(scope, receive, send)
            return
        start, request, status = time.perf_counter(), b"%s-%x" % (self._run, next(self._number)), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS, (b"x-request-id", request)]
            await send(message)

        scope["aanmf.trusted"] = not self._token or hmac.compare_digest(_given_token(scope), self._token)
        try:
            self._admit(scope)
            if scope["method"] not in ("GET", "HEAD"):
                scope["aanmf.body"] = await self._read_body(receive)
            with self._in_work(scope["path"]):
                async with asyncio.timeout(self.limits.seconds):
                    await self.service.current(scope, receive, send_with_headers)
        except RefusedError as refused:
            await _refuse(send_with_headers, refused)
        except TimeoutError:
            if not status:
                late = f"no answer within {self.limits.seconds:g} s; ask for less, or again later"
                await _refuse(send_with_headers, RefusedError(503, late, [(b"retry-after", b"5")]))
        except Exception:
            logger.exception("fault", extra={"fields": {"request": request.decode()}})
            if not status:
                fault = RefusedError(500, "this is a fault of the service; its log says more")
                await _refuse(send_with_headers, fault)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._note(request, scope["method"], route, status, time.perf_counter() - start)

    def _admit(self, scope: Scope) -> None:
        """Refuses a client that calls another name, asks too often, writes for another site, or has not the token."""
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        if not is_allowed(name_in(host), self.hosts):
            fault = f"{host.decode('latin-1')[:100]!r} (Host) is not its name: start the service with --allow-host NAME"
            raise RefusedError(403, fault, CLOSE)
        if origin and scope["method"] not in ("GET", "HEAD") and not is_same_site(origin, host):
            raise RefusedError(403, "a page of another site (Origin) may not write here", CLOSE)
        if scope["path"].startswith(OPEN):
            return
        if self._rate and (wait := self._rate.wait(scope["client"][0] if scope.get("client") else "")):
            seconds = str(int(wait) + 1).encode()
            raise RefusedError(429, f"more than {self._rate.rate:g} requests per second", [(b"retry-after", seconds)])
        if not scope["aanmf.trusted"]:
            program = scope["path"].startswith("/v1/")
            scheme = b'Bearer realm="aanmf"' if program else b'Basic realm="aanmf", charset="UTF-8"'
            how = "give the service's token: Authorization: Bearer TOKEN (a browser: any name, the token as password)"
            raise RefusedError(401, how, [(b"www-authenticate", scheme)])

    @contextmanager
    def _in_work(self, path: str) -> Iterator[None]:
        """Counts a request while it is answered, from when all of it has arrived; refuses it if it would wait long."""
        if path.startswith(ALWAYS):
            yield
            return
        admitted = self._queue.enter()
        self.metrics.bound.set(self._queue.bound)
        if not admitted:
            self.metrics.overload.inc()
            raise RefusedError(503, BUSY, AGAIN)
        self.metrics.in_work.inc()
        try:
            yield
        finally:
            self._queue.leave()
            self.metrics.in_work.dec()

    def error_response(self, method: bytes, target: bytes) -> bytes | None:
        """The answer to a request whose head has come while too many are in work; None: `__call__` answers it."""
        path = target.decode("latin-1")
        if method == b"HEAD" or path.startswith(ALWAYS) or not self._queue.refuses():
            return None
        request = b"%s-%x" % (self._run, next(self._number))
        self.metrics.overload.inc()
        self._count(method.decode("latin-1"), "other", 503, 0.0)
        self._refused += 1
        if time.monotonic() >= self._told + 1.0:
            self._tell_refused()
        fields = (*HEADERS, (b"x-request-id", request), *AGAIN)
        return BUSY_HEAD + b"".join(b"%s: %s\r\n" % field for field in fields) + b"\r\n" + BUSY_BODY

    def _note(self, request: bytes, method: str, route: str, status: int, seconds: float) -> None:
        """Counts and logs an answer."""
        self._count(method, route, status, seconds)
        fields = {"request": request.decode(), "method": _method(method), "route": route, "status": status}
        logger.info("request", extra={"fields": fields | {"ms": round(1000 * seconds, 2)}})
        if self._refused and time.monotonic() >= self._told + 1.0:
            self._tell_refused()

    def _tell_refused(self) -> None:
        """Logs early refusals: one line a second in all, since a line for each would take time from those in work."""
        logger.info("overload", extra={"fields": {"refused": self._refused}})
        self._refused, self._told = 0, time.monotonic()

    def _count(self, method: str, route: str, status: int, seconds: float) -> None:
        self.metrics.requests.labels(_method(method), route, status).inc()
        self.metrics.seconds.labels(route).observe(seconds)

    async def _read_body(self, receive: Receive) -> bytes:
        """The whole body. One that is too large is read on and dropped, within reason: so the client sees the answer.

        Raises:
            RefusedError: it is too large, or does not arrive in time.
        """
        parts: list[bytes] = []
        size, more, most = 0, True, self.limits.body
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                while more and size <= 32 * most:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RefusedError(400, "the client has gone")
                    more, part = message.get("more_body", False), message.get("body", b"")
                    size += len(part)
                    if size <= most:
                        parts.append(part)
                        self._held += len(part)
                    if self._held > self.limits.bodies:
                        raise RefusedError(503, "too many large requests at once", [(b"retry-after", b"1"), *CLOSE])
        except TimeoutError:
            late = f"the body did not arrive within {self.limits.body_seconds:g} s"
            raise RefusedError(408, late, CLOSE) from None
        finally:
            self._held -= sum(map(len, parts))
        if size > most:
            raise RefusedError(413, f"the body is larger than {most:,} bytes: send less at once", CLOSE)
        return b"".join(parts)


def _method(method: str) -> str:
    """As it is counted and logged: clients may send any word."""
    return method if method in ("GET", "HEAD", "POST") else "other"


def _given_token(scope: Scope) -> bytes:
    """The token of a Bearer header, or the password of a Basic one; empty if there is none."""
    kind, _, rest = _header(scope, b"authorization").partition(b" ")
    if kind.lower() == b"bearer":
        return rest.strip()
    if kind.lower() == b"basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _header(scope: Scope, wanted: bytes) -> bytes:
    """The first header of a name; empty if there is none."""
    return next((value for name, value in scope["headers"] if name == wanted), b"")


def _body_of(message: str) -> bytes:
    return to_json({"error": {"kind": "Refused", "message": message}})


BUSY_BODY = _body_of(BUSY)
BUSY_HEAD = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(
    BUSY_BODY
)


async def _refuse(send: Send, refused: RefusedError) -> None:
    body = _body_of(refused.message)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *refused.headers]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
