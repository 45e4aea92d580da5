"""The main job on real data, with accidents: train, serve, post, kill, recover, update, forget.

    python benchmarks/drill.py [--source ml-100k] [--model aanmf] [--kills 20] [--json OUT]

Counts ratings that were acknowledged and lost (none may be), requests that failed while a model was swapped (none may),
and traces of a user who was forgotten (none may be left).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from aanmf.recommender import load_model
from aanmf.serving.store import RatingStore


def aanmf(*arguments: str) -> dict[str, Any]:
    """Runs a command and returns its JSON."""
    command = [sys.executable, "-m", "aanmf", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


@contextmanager
def service(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`aanmf serve` as a process of its own, killed at the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "aanmf", "serve", str(folder), "--port", str(port), "--log-level", "warning"]
    server, url = subprocess.Popen(command, stdout=subprocess.DEVNULL), f"http://127.0.0.1:{port}"
    try:
        while server.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            time.sleep(0.1)
        yield server, url
    finally:
        server.kill()
        server.wait()


def post_until_killed(folder: Path, items: list[str], kills: int, draw: random.Random) -> dict[tuple[str, str], float]:
    """Posts ratings from four clients, kills the service again and again, and returns what it acknowledged."""
    acknowledged: dict[tuple[str, str], float] = {}
    numbers = itertools.count()
    for _ in range(kills):
        with service(folder) as (server, url):
            stop = threading.Event()

            def post(url: str = url, stop: threading.Event = stop) -> None:
                with httpx.Client(base_url=url) as client, suppress(httpx.TransportError):
                    while not stop.is_set():
                        n = next(numbers)
                        row = {"user": f"drill-{n:07d}", "item": items[n % len(items)], "rating": 1.0 + n % 5}
                        if client.post("/v1/ratings", json={"ratings": [row]}).status_code == 200:
                            acknowledged[row["user"], row["item"]] = row["rating"]

            clients = [threading.Thread(target=post) for _ in range(4)]
            for each in clients:
                each.start()
            time.sleep(draw.uniform(0.2, 1.0))
            server.send_signal(signal.SIGKILL)
            stop.set()
            for each in clients:
                each.join()
    return acknowledged


def update_while_asked(folder: Path, user: str) -> tuple[int, list[int], float]:
    """Updates the model under a service that is asked all the time: new ratings, failed statuses, seconds."""
    failed: list[int] = []
    with service(folder) as (_, url), httpx.Client(base_url=url) as client:
        before, stop = client.get("/readyz").json()["version"], threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=url) as other:
                while not stop.is_set():
                    status = other.post("/v1/recommend", json={"user": user}).status_code
                    if status != 200:
                        failed.append(status)

        asking = threading.Thread(target=ask)
        asking.start()
        start = time.perf_counter()
        new = aanmf("update", str(folder))["new_ratings"]
        while client.get("/readyz").json()["version"] == before:
            time.sleep(0.1)
        seconds = time.perf_counter() - start
        stop.set()
        asking.join()
    return new, failed, seconds


def traces(place: Path, user: str) -> int:
    """Files that hold the bytes of an id."""
    return sum(user.encode() in each.read_bytes() for each in place.rglob("*") if each.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="ml-100k")
    parser.add_argument("--model", default="aanmf")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    place = Path(tempfile.mkdtemp(prefix="aanmf-drill-"))
    folder, draw = place / "model", random.Random(0)
    trained = aanmf(
        "train", args.source, "--model", args.model, "--set", "epochs=5", "--test", "0", "--out", str(folder)
    )
    fitted = load_model(folder).fitted_
    acknowledged = post_until_killed(folder, list(fitted.items.ids), args.kills, draw)
    store = RatingStore(f"sqlite:///{place / 'model-ratings.sqlite'}")
    kept = {(row.user, row.item): row.rating for row in store.all()}
    lost = sum(kept.get(pair) != rating for pair, rating in acknowledged.items())
    forgotten = next(iter(acknowledged))[0]
    store.close()
    new, failed, seconds = update_while_asked(folder, fitted.users.ids[0])
    before = traces(place, forgotten)
    assert forgotten in load_model(folder).fitted_.users.table.ids
    aanmf("forget", str(folder), "--user", forgotten)
    aanmf("update", str(folder))
    report = {
        "source": args.source,
        "model": args.model,
        "ratings": trained["ratings"],
        "kills": args.kills,
        "acknowledged": len(acknowledged),
        "lost": lost,
        "learned_by_update": new,
        "update_seconds": round(seconds, 1),
        "requests_failed_during_swap": len(failed),
        "files_with_the_forgotten_user_before": before,
        "files_with_the_forgotten_user_after": traces(place, forgotten),
        "forgotten_user_known_to_model_after": forgotten in load_model(folder).fitted_.users.table.ids,
        "hidden_files_left": sum(each.name.startswith(".") and each.name != ".lock" for each in place.rglob("*")),
    }
    shutil.rmtree(place)
    text = json.dumps(report, indent=1) + "\n"
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(text)
    sys.stdout.write(text)
    left = report["files_with_the_forgotten_user_after"] or report["forgotten_user_known_to_model_after"]
    sys.exit(bool(lost or failed or left))


if __name__ == "__main__":
    main()
