"""Requests of every kind to a service in this process: JSON that is nearly right, and bytes that are no HTTP."""

from __future__ import annotations

import json
import logging
import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
from hypothesis import strategies as st

from aanmf import AANMF
from aanmf.data.context import ContextTable
from aanmf.data.dataset import RatingDataset
from aanmf.data.schema import Attribute, Kind
from aanmf.recommender import load_model
from aanmf.serving.app import create_app
from aanmf.serving.examples import request_examples
from tests.conftest import small_dataset
from tests.fuzz import Target
from tests.fuzz.folders import NASTY, json_changed
from tests.serving.conftest import serving

PARAMETERS = (
    "user",
    "item",
    "query",
    "n",
    "new",
    "of",
    "against",
    "without",
    "a.gender",
    "a.age",
    "r.i1",
    "if.age",
    "rank_by",
)
TEXTS = (
    "u1",
    "i1",
    "nobody",
    "",
    "0",
    "-1",
    "1e999",
    "5",
    "nan",
    "F",
    "match",
    "%00",
    "\0",
    "é",
    "a" * 300,
    "<b>",
    "'--",
    "../",
)
WORDS = (
    *(
        b"GET ",
        b"POST ",
        b"DELETE ",
        b"PRI * ",
        b"/",
        b"/v1/predict",
        b"/v1/ratings",
        b"/healthz",
        b"http://x/",
        b"//",
        b"*",
    ),
    *(
        b"?user=u1",
        b"%00",
        b"%zz",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b" HTTP/2.0\r\n",
        b" HTTP/9\r\n",
        b"\r\n",
        b"\n",
        b"\r",
    ),
    *(b"Host: 127.0.0.1\r\n", b"Host: localhost:1\r\n", b"Host: a\r\nHost: b\r\n", b"Host:\r\n", b"Origin: null\r\n"),
    *(
        b"Content-Length: 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Type: application/json\r\n",
    ),
    *(
        b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        b"Authorization: Basic Og==\r\n",
        b"X: \xff\r\n",
    ),
    *(
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"fffffffff\r\n",
        b"-1\r\n",
        b'{"pairs": [["u1", "i1"]]}',
        b"\0",
        b"\x16\x03\x01",
        b"a" * 40_000,
    ),
)
LAST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
SECONDS = 0.05
"""How long an answer to something broken is waited for."""


class Faults(logging.Handler):
    """Keeps what the service says about faults of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps it."""
        self.kept.append(f"{record.getMessage()} {record.exc_info and record.exc_info[1]!r}")


@contextmanager
def targets(place: Path) -> Iterator[dict[str, Target]]:
    """A service, and what is sent to it: no answer is a 5xx, no number is not finite, nothing is a fault."""
    AANMF(factors=4, epochs=2, refit=False, context=True).fit(in_context(small_dataset())).save(place / "model")
    bodies = request_examples(load_model(place / "model").fitted_)
    faults, loggers = Faults(), [logging.getLogger(name) for name in ("aanmf.serving", "uvicorn.error")]
    for each in loggers:
        each.addHandler(faults)
    try:
        with serving(create_app(place / "model", store="sqlite://")) as url, httpx.Client(base_url=url) as client:
            asked = st.one_of(
                st.tuples(st.just("POST"), st.sampled_from(sorted(bodies)), json_bodies(bodies)),
                st.tuples(st.sampled_from(("GET", "DELETE")), paths(), st.just(b"")),
            )
            sent = st.lists(st.sampled_from(WORDS) | st.binary(max_size=8), max_size=12).map(b"".join)
            yield {
                "requests": Target(asked, lambda case: answered(client, faults, *case)),
                "sockets": Target(sent, lambda content: survived(client, faults, content)),
            }
    finally:
        for each in loggers:
            each.removeHandler(faults)


def in_context(data: RatingDataset) -> RatingDataset:
    """The ratings with company and time, which requests may then hold too."""
    company = pl.DataFrame({"company": [("alone", "family")[k % 2] for k in range(len(data))]})
    context = ContextTable(company, (Attribute(name="company", kind=Kind.CATEGORICAL),), "timestamp")
    return replace(data, time=1_600_000_000 + 3600 * np.arange(len(data)), context=context)


def json_bodies(bodies: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """An example of some request, changed; or any JSON of its fields; or any bytes."""

    def changed(case: tuple[str, random.Random]) -> bytes:
        path, draw = case
        content = json.dumps(bodies[path]).encode()
        for _ in range(draw.choice((1, 1, 2, 3))):
            content = json_changed(content, draw)
        return content

    fields = st.sampled_from(
        (
            "user",
            "item",
            "users",
            "pairs",
            "ratings",
            "attributes",
            "n",
            "where",
            "exclude",
            "interval",
            "of",
            "seen",
            "context",
        )
    )
    values = st.recursive(
        st.sampled_from([each for each in NASTY if not isinstance(each, dict)]) | st.text(max_size=5) | st.floats(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields | st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    )
    any_json = st.dictionaries(fields, values, max_size=4).map(lambda body: json.dumps(body).encode())
    return (
        st.tuples(st.sampled_from(sorted(bodies)), st.randoms(use_true_random=True)).map(changed)
        | any_json
        | st.binary(max_size=20)
    )


def paths() -> st.SearchStrategy[str]:
    """Addresses of the page and the interface, with parameters."""
    bases = (
        "/",
        "/item",
        "/what-if",
        "/map",
        "/card",
        "/v1/users",
        "/v1/items",
        "/v1/user-data",
        "/v1/model",
        "/metrics",
    )
    values = st.sampled_from(TEXTS) | st.text(max_size=5)
    queries = st.lists(st.tuples(st.sampled_from(PARAMETERS), values), max_size=4)
    return st.tuples(st.sampled_from(bases), queries).map(
        lambda case: str(httpx.URL(case[0], params=_sendable(case[1])))
    )


def _sendable(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value.encode("utf-8", "replace").decode()) for name, value in pairs]


def answered(client: httpx.Client, faults: Faults, method: str, path: str, body: bytes) -> str:
    """`answered` or `refused`; every number of an answer is finite."""
    sent = {"content": body, "headers": {"content-type": "application/json"}} if method == "POST" else {}
    answer = client.request(method, path, **sent)
    assert answer.status_code < 500, f"{answer.status_code}: {answer.text[:300]} {faults.kept[-1:]}"
    if answer.status_code >= 400:
        return "refused"
    if answer.headers.get("content-type", "").startswith("application/json"):
        json.loads(answer.content, parse_constant=_not_finite)
    return "answered"


def _not_finite(text: str) -> None:
    raise AssertionError(f"an answer holds {text}")


def survived(client: httpx.Client, faults: Faults, content: bytes) -> str:
    """`answered`, `refused` or `closed`; the service logs no fault, and goes on."""
    known, answer = len(faults.kept), b""
    address = client.base_url.host, client.base_url.port or 80
    with suppress(OSError), socket.create_connection(address, timeout=SECONDS) as connection:
        connection.sendall(content + LAST)
        while part := connection.recv(65536):
            answer += part
    statuses = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:] if part[:3].isdigit()]
    assert not faults.kept[known:], faults.kept[known:]
    assert not any(status >= 500 and status not in (501, 503) for status in statuses), statuses
    return "closed" if not statuses else "answered" if max(statuses) < 400 else "refused"
