"""What must not pass does not, and the answer says why."""

from __future__ import annotations

import json
import logging
import socket
import time
from typing import Any

import pytest

from aanmf.serving.limits import Limits, RateLimit
from aanmf.serving.logs import JsonLines
from tests.serving.conftest import Start
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
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
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
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


def test_a_late_answer_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from aanmf.serving.model_cache import ModelCache

    client = start(limits=Limits(seconds=0.2))
    monkeypatch.setattr(ModelCache, "explain", lambda *_: time.sleep(0.6))
    assert "no answer within 0.2 s" in told(client.post("/v1/explain", json={"user": "u1", "item": "i1"}), 503)


def test_too_many_waiting(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from aanmf.serving.model_cache import ModelCache

    client = start(limits=Limits(waiting=1))
    explain = ModelCache.explain
    monkeypatch.setattr(ModelCache, "explain", lambda *asked: time.sleep(0.5) or explain(*asked))
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.post, "/v1/explain", json={"user": "u1", "item": "i1"}) for _ in range(3)]
        codes = sorted(each.result().status_code for each in asked)
    assert codes[0] == 200
    assert codes[-1] == 503


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
