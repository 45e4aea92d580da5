"""What must not pass does not, and the answer says why."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from aanmf.serving import connections
from aanmf.serving.app import create_app
from aanmf.serving.hosts import hosts_of, is_allowed
from aanmf.serving.limits import Limits, RateLimit
from aanmf.serving.logs import JsonLines
from aanmf.serving.queue_bound import CROWDED_SECONDS, LEAST, LEAST_CROWDED, QueueBound
from tests.serving.conftest import Start, httpx, serving
from tests.serving.test_api import told

PREDICT, RECOMMEND, RATINGS = "/v1/predict", "/v1/recommend", "/v1/ratings"


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (PREDICT, "{", "not JSON"),
        (PREDICT, "", "not JSON"),
        (PREDICT, "[]", "Input should be"),
        (PREDICT, '{"pairs": []}', "pairs: List should have at least 1"),
        (PREDICT, '{"pairs": "u1,i1"}', "pairs: Input should be a valid array"),
        (PREDICT, '{"pairs": [["u1"]]}', "pairs.0.1: Field required"),
        (PREDICT, '{"pairs": [["u1", {"a": 1}]]}', "pairs.0.1: Input should be a valid string"),
        (PREDICT, '{"pairs": [["u1", "a\\u0000b"]]}', "pairs.0.1: String should match"),
        (PREDICT, '{"pairs": [["u1", "\\ud800"]]}', "not JSON"),
        (PREDICT, '{"pairs": [["u1", "' + "x" * 201 + '"]]}', "at most 200"),
        (PREDICT, '{"pairs": [["u1", "i1"]], "interval": NaN}', "interval"),
        (PREDICT, '{"pairs": [["u1", "i1"]], "interval": 1}', "interval: Input should be less than 1"),
        (PREDICT, '{"pairs": [["u1", "i1"]], "extra": 1}', "extra: Extra inputs are not permitted"),
        (PREDICT, "[" * 100_000, "not JSON"),
        (RECOMMEND, "{}", "give a user's id"),
        (RECOMMEND, '{"user": "u1", "n": 0}', "n: Input should be greater than or equal to 1"),
        (RECOMMEND, '{"user": "u1", "n": 100000}', "n: Input should be less than or equal to 1000"),
        (RECOMMEND, '{"user": "u1", "n": 1.5}', "n: Input should be a valid integer"),
        (RECOMMEND, '{"user": true}', "user: Input should be a valid string"),
        (RECOMMEND, '{"user": "u1", "attributes": {"gender": "F"}}', "known to the model"),
        (RECOMMEND, '{"attributes": {"gender": "X"}}', "attributes.gender: Input should be 'F' or 'M' (given: 'X')"),
        (RECOMMEND, '{"attributes": {"hobbies": ["knitting"]}}', "'chess', 'go' or 'tennis'"),
        (RECOMMEND, '{"attributes": {"age": "old"}}', "attributes.age: Input should be a valid number"),
        (RECOMMEND, '{"attributes": {"age": Infinity}}', "attributes.age: Input should be a finite number"),
        (RECOMMEND, '{"attributes": {"voice": [1, 2]}}', "attributes.voice: List should have at least 3"),
        (RECOMMEND, '{"attributes": {"shoe": 42}}', "Available: gender, hobbies, age, voice"),
        (RATINGS, '{"ratings": [{"user": "u1", "item": "i1", "rating": 6}]}', "less than or equal to 5"),
        (RATINGS, '{"ratings": [{"user": "u1", "item": "i1", "rating": NaN}]}', "finite number"),
        (RATINGS, '{"ratings": [{"user": "u1", "rating": 3}]}', "ratings.0.item: Field required"),
    ],
)
def test_a_wrong_request_is_told_why(client: Any, path: str, body: str, words: str) -> None:
    response = client.post(path, content=body, headers={"content-type": "application/json"})
    assert words in told(response, 422)
    assert len(response.text) < 1000


def test_unknown_items_cannot_be_rated(client: Any) -> None:
    body = {"ratings": [{"user": "u1", "item": "../../etc/passwd", "rating": 3}]}
    assert "'../../etc/passwd'" in told(client.post(RATINGS, json=body), 404)


def test_other_content_is_refused(client: Any) -> None:
    """A form on another page can send text, but not JSON."""
    assert "application/json" in told(client.post(PREDICT, content='{"pairs": [["u1", "i1"]]}'), 415)


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/%00", "/v1//predict"]
)
def test_paths_that_lead_nowhere(client: Any, path: str) -> None:
    """Sent as written: a client library would tidy them up."""
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400", b"HTTP/1.1 307"))
    assert b"create_app" not in answer


def test_queries_are_checked(client: Any) -> None:
    assert "n: Input should be less than or equal to 100" in told(client.get("/v1/items", params={"n": 101}), 422)
    assert "query: String should have at most 200" in told(client.get("/v1/items", params={"query": "x" * 201}), 422)


def test_too_much_at_once(client: Any) -> None:
    million = b'{"pairs": [' + b",".join([b'["u1","i1"]'] * 1_000_000) + b"]}"
    for body in (million, b"x" * 10_000_000):
        response = client.post(PREDICT, content=body, headers={"content-type": "application/json"})
        assert "larger than 2,097,152 bytes" in told(response, 413)
    body = {"pairs": [["u1", "i1"]] * 10_001}
    assert "at most 10000 items" in told(client.post(PREDICT, json=body), 422)


def test_token(start: Start) -> None:
    client = start(token="correct-horse-battery")
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").json() == {"status": "ready"}
    trusted = client.get("/readyz", auth=("anyone", "correct-horse-battery")).json()
    assert set(trusted) == {"status", "version", "age_seconds"}
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic ???"}, {"authorization": "Bearer"}):
        response = client.get("/v1/model", headers=header)
        assert "token" in told(response, 401)
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert client.get("/v1/model", headers={"authorization": "Bearer correct-horse-battery"}).status_code == 200
    assert client.get("/metrics").headers["www-authenticate"].startswith("Basic")
    assert client.get("/metrics", auth=("anyone", "correct-horse-battery")).status_code == 200


def test_rate_by_hand() -> None:
    limit = RateLimit(rate=2.0, most_clients=2)
    assert [limit.wait("a", now=0.0) for _ in range(4)] == [0.0] * 4  # two seconds' worth at once
    assert limit.wait("a", now=0.0) == pytest.approx(0.5)
    assert limit.wait("b", now=0.0) == 0.0
    assert limit.wait("a", now=0.5) == 0.0
    assert limit.wait("a", now=0.5) == pytest.approx(0.5)
    limit.wait("c", now=0.6)  # "b" was quiet for longest: forgotten
    assert set(limit._buckets) == {"a", "c"}


def test_rate_of_a_client(start: Start) -> None:
    client = start(limits=Limits(rate=1.0))
    codes = [client.get("/v1/model").status_code for _ in range(4)]
    assert codes == [200, 200, 429, 429]
    assert client.get("/healthz").status_code == 200
    assert int(client.get("/v1/model").headers["retry-after"]) >= 1


def test_a_slow_body_is_not_waited_for(start: Start) -> None:
    client = start(limits=Limits(body_seconds=0.2))
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_late_answer_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from aanmf.serving.model_cache import ModelCache

    client = start(limits=Limits(seconds=0.2))
    monkeypatch.setattr(ModelCache, "explain", lambda *_: time.sleep(0.6))
    assert "no answer within 0.2 s" in told(client.post("/v1/explain", json={"user": "u1", "item": "i1"}), 503)


def test_too_many_waiting(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from aanmf.serving.model_cache import ModelCache

    client = start(limits=Limits(requests=1))
    explain = ModelCache.explain
    monkeypatch.setattr(ModelCache, "explain", lambda *asked: time.sleep(0.5) or explain(*asked))
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.post, "/v1/explain", json={"user": "u1", "item": "i1"}) for _ in range(3)]
        time.sleep(0.2)
        busy = client.get("/metrics").text  # answered all the same
        answers = sorted((each.result() for each in asked), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200, 503, 503]
    assert "too many requests are in work already" in told(answers[-1], 503)
    assert answers[-1].headers["retry-after"] == "1"
    assert "aanmf_requests_in_work 1.0" in busy
    assert "aanmf_requests_bound 1.0" in busy
    assert "aanmf_requests_overload_total 2.0" in client.get("/metrics").text
    assert client.post("/v1/explain", json={"user": "u1", "item": "i1"}).status_code == 200


def test_as_many_are_in_work_as_are_answered_in_time() -> None:
    bound = QueueBound(most=64, seconds=0.05)

    def answers(seconds: float, n: int) -> int:
        """The bound after n answers, one every so many seconds, with 16 requests in work."""
        nonlocal now
        for _ in range(n):
            while bound.in_work < LEAST:
                assert bound.enter(now)
            now += seconds
            bound.leave(now)
        return bound.bound

    now = 0.0
    assert bound.bound == 64  # nothing is known yet
    assert answers(0.002, 1000) == 25
    assert answers(0.0001, 1000) == 64  # 500 are answered in the time, but no more than `most` are in work
    assert answers(0.1, 1000) == LEAST
    assert answers(0.002, 1000) == 25
    while bound.enter(now):
        pass
    assert bound.in_work == 25


def test_fewer_are_in_work_while_others_are_refused() -> None:
    """So many clients as are never refused may wait long for each other; more than that are told to come back."""
    bound, now = QueueBound(most=64, seconds=0.05), 0.0
    for _ in range(500):  # an answer every 10 ms: 5 in the time that a request may wait
        while bound.in_work < LEAST:
            assert bound.enter(now)
        now += 0.01
        bound.leave(now)
    assert bound.enter(now)  # LEAST clients, and each is answered
    assert not bound.enter(now)  # one more
    admitted = []
    for _ in range(50):
        now += 0.01
        bound.leave(now)
        admitted.append(bound.enter(now))
    assert bound.in_work == 5
    assert not any(admitted[: LEAST - 6]) and all(admitted[LEAST - 5 :])
    for _ in range(200):  # slower answers: 1 in the time
        now += 0.05
        bound.leave(now)
        while bound.enter(now):
            pass
    assert bound.in_work == LEAST_CROWDED
    now += CROWDED_SECONDS
    while bound.enter(now):
        pass
    assert bound.in_work == LEAST


def test_a_pause_is_not_the_time_of_an_answer() -> None:
    bound = QueueBound(most=64, seconds=0.05)
    for hour in range(3):
        assert bound.enter(3600.0 * hour)
        bound.leave(3600.0 * hour + 0.002)
    assert bound.bound == 25


def test_answers_that_come_together_count_as_one_after_the_other() -> None:
    bound, now = QueueBound(most=64, seconds=0.05), 0.0
    for _ in range(100):  # 20 answers every 50 ms: one every 2.5 ms
        while bound.in_work < 20:
            bound.in_work += 1
        now += 0.05
        for _ in range(20):
            bound.leave(now)
    assert LEAST <= bound.bound <= 24


def test_a_wait_that_may_be_longer_admits_more() -> None:
    bounds = []
    for seconds in (0.05, 0.1):
        bound = QueueBound(most=64, seconds=seconds)
        bound.enter(0.0)
        bound.leave(0.002)
        bounds.append(bound.bound)
    assert bounds == [25, 50]


def test_a_fault_of_ours_is_no_traceback(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from aanmf.serving.model_cache import ModelCache

    client = start()
    monkeypatch.setattr(ModelCache, "explain", lambda *_: 1 / 0)
    response = client.post("/v1/explain", json={"user": "u1", "item": "i1"})
    assert response.status_code == 500
    assert "ZeroDivision" not in response.text
    monkeypatch.undo()
    assert client.post("/v1/explain", json={"user": "u1", "item": "i1"}).status_code == 200


def test_logs_hold_no_personal_data(start: Start) -> None:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonLines().format(record))

    logger, handler = logging.getLogger("aanmf.serving"), Keep()
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        client = start(token="correct-horse-battery")
        bearer = {"authorization": "Bearer correct-horse-battery"}
        client.post(RECOMMEND, json={"user": "u17"}, headers=bearer)
        client.get("/v1/users", params={"query": "u17"}, headers=bearer)
        client.get("/u17")
    finally:
        logger.removeHandler(handler)
    noted = [json.loads(line) for line in lines]
    requests = [(each["route"], each["status"]) for each in noted if each["event"] == "request"]
    assert requests == [(RECOMMEND, 200), ("/v1/users", 200), ("other", 401)]
    for word in ("u17", "127.0.0.1", "correct-horse"):
        assert not any(word in line for line in lines)


def test_every_answer_has_the_headers_of_safety(client: Any) -> None:
    for path in ("/healthz", "/nothing", "/v1/model"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


# -------------------- connections


@contextmanager
def connected(client: Any) -> Iterator[socket.socket]:
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as connection:
        yield connection


def answered(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    answer = b""
    with suppress(ConnectionResetError, TimeoutError):
        while part := connection.recv(65536):
            answer += part
    return answer


BEGUN = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
WHOLE = BEGUN + b"Connection: close\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        BEGUN + b"X: " + b"a" * 40_000,
        BEGUN + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
        BEGUN + b"X: a\r\n" * 10_000,
        b"GET /" + b"a" * 40_000,
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_a_head_that_is_too_large(start: Start, head: bytes) -> None:
    client = start(token="correct-horse-battery")
    with connected(client) as connection:
        connection.sendall(head)
        assert answered(connection).startswith((b"HTTP/1.1 431", b"HTTP/1.1 414"))
    assert client.get("/healthz").status_code == 200


def test_endless_headers_take_no_memory(start: Start) -> None:
    client = start()
    with connected(client) as connection:
        connection.sendall(BEGUN)
        sent = 0
        with suppress(OSError):
            while sent < 100_000_000:
                connection.sendall(b"X: " + b"a" * 65_000)
                sent += 65_000
        assert sent < 100_000_000


def test_trailers_without_end(start: Start) -> None:
    client = start()
    with connected(client) as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"
        )
        with suppress(OSError):
            for _ in range(1000):
                connection.sendall(b"X: " + b"a" * 1000 + b"\r\n")
        assert b" 431 " in answered(connection)


@pytest.mark.parametrize("begun", [b"", BEGUN, WHOLE.replace(b"close", b"keep-alive") + BEGUN])
def test_a_head_that_does_not_come(start: Start, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    client = start()
    with connected(client) as connection:
        connection.sendall(begun)
        begin = time.monotonic()
        assert answered(connection).rpartition(b"HTTP/1.1 ")[2].startswith(b"408")
        assert time.monotonic() - begin < 5


def test_a_slow_head_in_time_is_answered(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 5)
    with connected(start()) as connection:
        for at in range(0, len(WHOLE), 10):
            connection.sendall(WHOLE[at : at + 10])
            time.sleep(0.01)
        assert answered(connection).startswith(b"HTTP/1.1 200")


def test_more_connections_than_there_may_be(folder: Path) -> None:
    with serving(create_app(folder), connections=5) as url, ExitStack() as stack:
        client = httpx.Client(base_url=url)
        held = [stack.enter_context(connected(client)) for _ in range(5)]
        time.sleep(0.2)
        with connected(client) as one_more:
            assert answered(one_more).startswith(b"HTTP/1.1 503")
        held[0].sendall(WHOLE)
        assert answered(held[0]).startswith(b"HTTP/1.1 200")
        assert client.get("/healthz").status_code == 200  # in its place
        client.close()


def test_half_a_body_does_not_hold_up_the_end(folder: Path) -> None:
    with ExitStack() as stack:
        with serving(create_app(folder)) as url:
            client = stack.enter_context(httpx.Client(base_url=url))
            connection = stack.enter_context(connected(client))
            connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n{")
            time.sleep(0.3)
            begin = time.monotonic()
        assert time.monotonic() - begin < 4


def test_bodies_together_are_bounded(start: Start) -> None:
    client = start(limits=Limits(bodies=300_000))
    head = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 200000\r\n\r\n"
    with connected(client) as one, connected(client) as other:
        one.sendall(head + b"{" * 190_000)
        time.sleep(0.2)
        other.sendall(head + b"{" * 190_000)
        assert answered(other).startswith(b"HTTP/1.1 503")
    body = {"pairs": [["u1", "i1"]]}
    assert client.post(PREDICT, json=body).status_code == 200


# -------------------- refused before they are whole


@contextmanager
def busy(start: Start, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a service that works on as many requests as it may, until the block ends."""
    from aanmf.serving.model_cache import ModelCache

    explain, done = ModelCache.explain, threading.Event()
    monkeypatch.setattr(ModelCache, "explain", lambda *asked: done.wait(20) and explain(*asked))
    client = start(limits=Limits(requests=1))
    asked = threading.Thread(target=lambda: client.post("/v1/explain", json={"user": "u1", "item": "i1"}))
    asked.start()
    try:
        while "aanmf_requests_in_work 1.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        yield client
    finally:
        done.set()
        asked.join()


def read_answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of one answer; the connection stays open."""
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, f"the connection was closed after {answer}"
        answer += byte
    length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return answer, b"".join(connection.recv(1) for _ in range(length))


MANY = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "


def test_a_busy_service_refuses_at_once_and_the_connection_goes_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"pairs": [["u1", "i1"]] * 9_000}).encode()  # beyond what is read at a time
    assert len(body) > 4 * connections.HEAD_BYTES // 2
    with busy(start, monkeypatch) as client, connected(client) as connection:
        for _ in range(3):
            connection.sendall(MANY + b"%d\r\n\r\n" % len(body) + body)
            head, told_ = read_answer(connection)
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"server: uvicorn" not in head  # no task was begun for it
            assert b"retry-after: 1\r\n" in head
            assert b"x-content-type-options: nosniff\r\n" in head
            assert json.loads(told_)["error"]["message"].startswith("too many requests are in work")
        connection.sendall(BEGUN + b"\r\n")
        assert read_answer(connection)[0].startswith(b"HTTP/1.1 200 ")
        assert 'aanmf_requests_total{method="POST",route="other",status="503"} 3.0' in client.get("/metrics").text
        assert client.head("/").status_code == 503
        assert client.request("POST", PREDICT, content=b"{}", headers={"connection": "close"}).status_code == 503
        kept = connection.dup()
    with kept:
        kept.sendall(MANY + b"%d\r\n\r\n" % len(body) + body)
        assert read_answer(kept)[0].startswith(b"HTTP/1.1 200 ")


def test_early_refusals_share_a_log_line(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> list[int]:
        return [vars(each)["fields"]["refused"] for each in caplog.records if each.message == "overload"]

    caplog.set_level("INFO", "aanmf.serving")
    with busy(start, monkeypatch) as client, connected(client) as connection:
        for _ in range(20):
            connection.sendall(MANY + b"2\r\n\r\n{}")
            assert read_answer(connection)[0].startswith(b"HTTP/1.1 503 ")
        assert len(refused()) < 10
        time.sleep(1.0)
        client.get("/healthz")
        while sum(refused()) < 20:  # the line is written after the answer
            time.sleep(0.01)
        assert sum(refused()) == 20


def test_the_body_of_a_refused_request_is_not_waited_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with busy(start, monkeypatch) as client, connected(client) as connection:
        connection.sendall(MANY + b"1000000\r\n\r\n{")
        assert read_answer(connection)[0].startswith(b"HTTP/1.1 503 ")
        begin = time.monotonic()
        assert answered(connection) == b""  # closed
        assert time.monotonic() - begin < 5


def test_requests_of_one_connection_are_answered_in_order(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with busy(start, monkeypatch) as client, connected(client) as connection:
        connection.sendall(BEGUN + b"\r\n" + MANY + b"2\r\n\r\n{}" + BEGUN + b"\r\n")
        statuses = [read_answer(connection)[0][9:12] for _ in range(3)]
        assert statuses == [b"200", b"503", b"200"]


# -------------------- hosts and origins


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:1234", 200),
        ("localhost:8000", 200),
        ("[::1]:8000", 200),
        ("LOCALHOST", 200),
        ("attacker.example", 403),
        ("localhost.attacker.example", 403),
        ("127.0.0.1.attacker.example:80", 403),
        ("", 403),
        ("[::1", 403),
    ],
)
def test_the_service_answers_to_its_own_names(client: Any, host: str, status: int) -> None:
    """A page of another site may give its own name the address of this machine (DNS rebinding)."""
    response = client.get("/v1/model", headers={"host": host})
    assert response.status_code == status
    if status == 403:
        assert "--allow-host" in told(response, 403)


def test_names_can_be_added(start: Start) -> None:
    client = start(hosts=("ratings.example", "localhost"))
    assert client.get("/v1/model", headers={"host": "ratings.example:443"}).status_code == 200
    assert client.get("/v1/model", headers={"host": "127.0.0.1"}).status_code == 403
    client = start(hosts=("*",))
    assert client.get("/v1/model", headers={"host": "anything.example"}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://127.0.0.1:PORT", 200),
        ("http://127.0.0.1:1", 403),
        ("http://localhost:PORT", 403),
        ("https://attacker.example", 403),
        ("null", 403),
    ],
)
def test_other_sites_cannot_write(start: Start, origin: str | None, status: int) -> None:
    client = start(store="sqlite://")
    headers = {} if origin is None else {"origin": origin.replace("PORT", str(client.base_url.port))}
    body = {"ratings": [{"user": "u1", "item": "i1", "rating": 3}]}
    response = client.post(RATINGS, json=body, headers=headers)
    assert response.status_code == status
    if status == 403:
        assert "Origin" in told(response, 403)
    assert client.get("/v1/model", headers=headers).status_code == 200  # which a browser does not show to the site


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", {"127.0.0.1", "::1", "localhost"}), ("localhost", {"127.0.0.1", "::1", "localhost"})],
)
def test_names_of_a_loopback_service(host: str, expected: set[str]) -> None:
    assert hosts_of(host) == expected


def test_names_of_a_service_on_all_addresses() -> None:
    names = hosts_of("0.0.0.0")
    assert {"localhost", socket.gethostname().lower()} <= names
    assert is_allowed("192.0.2.7", names) and is_allowed("2001:db8::1", names)  # no name that could lie
    assert not is_allowed("attacker.example", names)
    assert hosts_of("192.0.2.7", ["Ratings.Example"]) >= {"192.0.2.7", "ratings.example"}
    assert not is_allowed("192.0.2.8", hosts_of("127.0.0.1"))
