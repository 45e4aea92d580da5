"""Load on the service: requests per second, p50, p99 and errors of three kinds of request, from 16 clients.

    python benchmarks/load.py                       trains a model on made-up ratings (3,706 items) and serves it
    python benchmarks/load.py --model-dir model/    serves a model of yours
    python benchmarks/load.py --swap                puts a copy of the model in its place every few seconds meanwhile
    python benchmarks/load.py --overload            three times the requests that it can answer, from 300 clients
    python benchmarks/load.py --overload --clients 1000 --seconds 1800

The server is a process of its own on this machine; the clients share its cores.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

GOALS = {"predict, 1 pair": 2000.0, "predict, 1,000 pairs": 200.0, "recommend": 300.0}
"""Requests per second to reach on two cores."""
AT_CAPACITY = 16
"""Clients that ask again as soon as they are answered."""


def main() -> None:
    asked = _arguments()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aanmf-load-")))
        folder = scratch / "model"
        if asked.model_dir:
            shutil.copytree(asked.model_dir, folder)
        else:
            _train(folder, asked.model, asked.ratings)
        port, pid = stack.enter_context(_server(folder, asked.workers, scratch / "server.log"))
        if asked.overload:
            found = asyncio.run(
                _overload(port, pid, _loads(folder)["predict, 1,000 pairs"], asked.seconds, asked.clients or 300)
            )
            text = json.dumps(found, indent=1) + "\n"
            if asked.out:
                asked.out.write_text(text)
            sys.stdout.write(text)
            sys.exit(bool(found["errors"]))
        if asked.swap:
            stack.enter_context(_swapping(folder))
        found = {}
        for name, body in _loads(folder).items():
            path = "/v1/recommend" if name == "recommend" else "/v1/predict"
            found[name] = asyncio.run(_load(port, path, body, asked.clients or AT_CAPACITY, asked.seconds))
            print(_line(name, found[name]), file=sys.stderr if asked.json else sys.stdout, flush=True)
    if asked.json:
        print(json.dumps(found, indent=2))
    sys.exit(any(each["errors"] for each in found.values()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-dir", type=Path, help="a model folder; it is copied")
    parser.add_argument("--model", default="aanmf", help="which model to train without --model-dir")
    parser.add_argument("--ratings", type=int, default=300_000, help="how many made-up ratings to train it on")
    parser.add_argument("--seconds", type=float, default=60.0, help="per load")
    parser.add_argument("--clients", type=int, help="how many at a time (16; 300 of --overload)")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server")
    parser.add_argument("--swap", action="store_true", help="replace the model under load")
    parser.add_argument("--overload", action="store_true", help="measure what is answered under too many requests")
    parser.add_argument("--out", type=Path, help="of --overload: a JSON file")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _train(folder: Path, name: str, ratings: int) -> None:
    from aanmf import make_synthetic
    from aanmf.recommender import make_model

    print(f"training {name} on {ratings:,} made-up ratings", file=sys.stderr)
    data = make_synthetic(n_users=6040, n_items=3706, n_ratings=ratings, seed=0).data
    make_model(name, epochs=1).fit(data).save(folder)


def _loads(folder: Path) -> dict[str, Callable[[random.Random], bytes]]:
    """Bodies of the three loads, made anew for every request."""
    import polars as pl

    from aanmf.storage import read_folder

    files = read_folder(folder).files
    users, items = (pl.read_parquet(files[f"{side}.parquet"])["id"].to_list() for side in ("users", "items"))

    def pairs(n: int, rng: random.Random) -> bytes:
        chosen = zip(rng.choices(users, k=n), rng.choices(items, k=n), strict=True)
        return json.dumps({"pairs": list(chosen)}).encode()

    ready = [pairs(1000, random.Random(seed)) for seed in range(200)]  # or the client would take the server's core
    return {
        "predict, 1 pair": lambda rng: pairs(1, rng),
        "predict, 1,000 pairs": lambda rng: rng.choice(ready),
        "recommend": lambda rng: json.dumps({"user": rng.choice(users), "n": 10}).encode(),
    }


OVERLOAD = 3


async def _overload(
    port: int, pid: int, body: Callable[[random.Random], bytes], seconds: float, clients: int
) -> dict[str, float]:
    """What is answered at capacity (16 clients, each at once again), and at three times as many requests per second."""
    await _load(port, "/v1/predict", body, AT_CAPACITY, 5)  # warm
    least = await _load(port, "/v1/predict", body, AT_CAPACITY, min(30.0, seconds))
    memory, times, refused, errors = _memory(pid), list[float](), list[float](), list[str]()
    every = clients / (OVERLOAD * least["requests_per_second"])
    start = time.perf_counter()
    each = [
        _paced(
            port,
            body,
            random.Random(seed),
            start + every * seed / clients,
            every,
            start + seconds,
            times,
            refused,
            errors,
        )
        for seed in range(clients)
    ]
    await asyncio.gather(*each)
    took = time.perf_counter() - start
    times.sort()
    return {
        "seconds": round(took),
        "clients": clients,
        "capacity_per_second": round(least["requests_per_second"], 1),
        "capacity_p99_ms": round(least["p99_ms"], 1),
        "offered_per_second": round((len(times) + len(refused) + len(errors)) / took, 1),
        "answered_per_second": round(len(times) / took, 1),
        "refused": len(refused),
        "errors": len(errors),
        "p99_ms": round(1000 * times[int(len(times) * 0.99)], 1),
        "memory_before_mb": round(memory / 1e6, 1),
        "memory_after_mb": round(_memory(pid) / 1e6, 1),
    }


async def _paced(
    port: int,
    body: Callable[[random.Random], bytes],
    rng: random.Random,
    begin: float,
    every: float,
    until: float,
    times: list[float],
    refused: list[float],
    errors: list[str],
) -> None:
    """A client that asks every so many seconds; what is refused with 503 and Retry-After is no error."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    try:
        while (now := time.perf_counter()) < until:
            await asyncio.sleep(max(0.0, begin - now))
            begin = max(begin + every, time.perf_counter())
            content, start = body(rng), time.perf_counter()
            writer.write(f"{head}{len(content)}\r\n\r\n".encode() + content)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0]))
            if answer.startswith(b"http/1.1 200 "):
                times.append(time.perf_counter() - start)
            elif answer.startswith(b"http/1.1 503 ") and b"\r\nretry-after:" in answer:
                refused.append(start)
            else:
                errors.append(answer[:40].decode())
    except (OSError, asyncio.IncompleteReadError) as error:
        errors.append(repr(error))
    finally:
        writer.close()


def _memory(pid: int) -> int:
    """Bytes of memory of a process."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


async def _load(
    port: int, path: str, body: Callable[[random.Random], bytes], clients: int, seconds: float
) -> dict[str, float]:
    """Every client sends its next request as soon as the last one is answered."""
    times: list[float] = []
    errors: list[str] = []
    start = time.perf_counter()
    until = start + seconds
    each = [_client(port, path, body, random.Random(seed), until, times, errors) for seed in range(clients)]
    await asyncio.gather(*each)
    took = time.perf_counter() - start
    times.sort()
    return {
        "requests_per_second": len(times) / took,
        "p50_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[int(len(times) * 0.99)],
        "max_ms": 1000 * times[-1],
        "requests": len(times),
        "errors": len(errors),
    }


async def _client(
    port: int,
    path: str,
    body: Callable[[random.Random], bytes],
    rng: random.Random,
    until: float,
    times: list[float],
    errors: list[str],
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    try:
        while time.perf_counter() < until:
            content = body(rng)
            start = time.perf_counter()
            writer.write(f"{head}{len(content)}\r\n\r\n".encode() + content)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            text = await reader.readexactly(length)
            times.append(time.perf_counter() - start)
            if not answer.startswith(b"HTTP/1.1 200 "):
                errors.append(text[:200].decode(errors="replace"))
                print(answer[:40], text[:200], file=sys.stderr)
    except (OSError, asyncio.IncompleteReadError) as error:
        errors.append(repr(error))
        print(repr(error), file=sys.stderr)
    finally:
        writer.close()


def _line(name: str, found: dict[str, float]) -> str:
    goal = GOALS[name]
    rate = found["requests_per_second"]
    extra = f" = {1000 * rate:,.0f} ratings/s" if "1,000" in name else ""
    return (
        f"{name:22} {rate:8,.0f} requests/s{extra} (goal {goal:,.0f})  p50 {found['p50_ms']:.1f} ms  "
        f"p99 {found['p99_ms']:.1f} ms  max {found['max_ms']:.0f} ms  errors {found['errors']:.0f}"
    )


@contextlib.contextmanager
def _server(folder: Path, workers: int, log: Path, *more: str) -> Iterator[tuple[int, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "aanmf", "serve", str(folder), "--port", str(port), "--workers", str(workers)]
    command += more
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        _wait(port, process, log)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"the server did not start:\n{log.read_text()[-2000:]}")


@contextlib.contextmanager
def _swapping(folder: Path) -> Iterator[None]:
    """Another process saves the model again, as a new one, every three seconds."""
    program = (
        "import sys, time; from dataclasses import replace; from aanmf.predictor import Predictor\n"
        "from aanmf.recommender import load_model\n"
        "model = load_model(sys.argv[1])\n"
        "for turn in range(100000):\n"
        "    time.sleep(3); fitted = replace(model.fitted_, data={**model.fitted_.data, 'turn': turn})\n"
        "    model._predictor = Predictor(model.spec, model.module_, fitted)\n"
        "    model.save(sys.argv[1])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(folder)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
