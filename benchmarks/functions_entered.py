"""How many functions of ours two everyday jobs enter: a measure of what a reader has to follow.

    python benchmarks/functions_entered.py [--list] [--json]

Counted are distinct functions whose file lies in src/aanmf (no comprehensions, no lambdas), in all threads:
ratings.csv -> read, fit, predict with AANMF; and POST /v1/predict from the request's arrival to its answer. Modules are
imported before, so that class bodies and decorators do not count.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import aanmf

HOME = str(Path(aanmf.__file__).parent)


class Entered:
    """Functions of ours entered while `counting`."""

    def __init__(self) -> None:
        self.counting = False
        self.names: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """What `sys.setprofile` calls."""
        code = frame.f_code
        if self.counting and event == "call" and code.co_filename.startswith(HOME) and code.co_name[0] != "<":
            self.names.add(f"{code.co_filename[len(HOME) + 1 :]}:{code.co_qualname}")

    @contextmanager
    def count(self) -> Iterator[None]:
        """Counts what is entered within."""
        self.counting = True
        try:
            yield
        finally:
            self.counting = False


def fit_and_predict(entered: Entered, folder: Path) -> None:
    """From ratings.csv to predictions."""
    from aanmf import AANMF, RatingDataset, Recommender

    rows = [f"{u},{i},{1 + (u * i) % 5}" for u in range(40) for i in range(20) if (u + i) % 2]
    (folder / "ratings.csv").write_text("user,item,rating\n" + "\n".join(rows))
    (folder / "users.csv").write_text("user,gender\n" + "\n".join(f"{u},{'FM'[u % 2]}" for u in range(40)))

    def job() -> Recommender:
        data = RatingDataset.read(folder / "ratings.csv", users=folder / "users.csv")
        model = AANMF(factors=4, epochs=2).fit(data)
        model.predict(["1", "2"], ["3", "4"])
        return model

    job()  # imports what it needs
    with entered.count():
        model = job()
    model.save(folder / "model")


async def predict_over_http(entered: Entered, folder: Path) -> None:
    """One request, handed to the application as uvicorn does."""
    from aanmf.serving.app import create_app

    app = create_app(folder / "model")
    body = json.dumps({"pairs": [["1", "3"], ["2", "5"]]}).encode()
    events: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []
    done, stop = asyncio.Event(), asyncio.Event()

    async def receive() -> Any:
        return events.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def lifespan_receive() -> Any:
        if not done.is_set():
            done.set()
            return {"type": "lifespan.startup"}
        await stop.wait()
        return {"type": "lifespan.shutdown"}

    async def lifespan_send(message: Any) -> None:
        pass

    running = asyncio.ensure_future(app({"type": "lifespan", "state": {}}, lifespan_receive, lifespan_send))
    await asyncio.sleep(0.1)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    place = {"path": "/v1/predict", "raw_path": b"/v1/predict", "query_string": b"", "root_path": ""}
    with entered.count():
        await app({**scope, **place, "headers": headers, "client": ("127.0.0.1", 1)}, receive, send)
    assert sent[0]["status"] == 200, sent
    stop.set()
    await running


def main() -> None:
    """Prints both numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the functions")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("ratings.csv -> fit -> predict", "POST /v1/predict"):
            entered = Entered()
            threading.setprofile(entered)
            sys.setprofile(entered)
            if name.startswith("POST"):
                asyncio.run(predict_over_http(entered, Path(folder)))
            else:
                fit_and_predict(entered, Path(folder))
            sys.setprofile(None)
            found[name] = entered.names
    if asked.json:
        print(json.dumps({name: sorted(names) for name, names in found.items()}, indent=2))
        return
    for name, names in found.items():
        print(f"{name}: {len(names)} functions")
        if asked.list:
            print(*(f"  {each}" for each in sorted(names)), sep="\n")


if __name__ == "__main__":
    main()
