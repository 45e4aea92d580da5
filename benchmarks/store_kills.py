"""Kills the service, and the PostgreSQL server behind it, while ratings are posted, and looks for lost ones.

    python benchmarks/store_kills.py [sqlite postgresql] [--kills 250] [--json OUT]

Clients post 2,000 ratings at a time. With PostgreSQL a kill meets the service, the whole database server, or one of its
processes. After every 25 kills all ratings that were acknowledged must be in the store, and of what was not, each
request whole or not at all. Counts are written then; the next run goes on from there.
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
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

import forked
from aanmf.serving.store import RatingStore
from kills import ratings_file

PART = 25
"""Kills between two looks at the store, each part with a store of its own."""
CLIENTS, USERS, ITEMS = 2, 50, 40
SETTINGS = ("--model", "mf", "--set", "epochs=1", "--set", "factors=2", "--test", "0")


class Postgres:
    """A PostgreSQL server of its own, which can be killed."""

    def __init__(self, place: Path) -> None:
        program = shutil.which("initdb") or next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
        if program is None:
            raise SystemExit("PostgreSQL's server is not there: apt-get install postgresql")
        self.programs, self.place = Path(program).resolve().parent, place
        self.user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
        if self.user:
            shutil.chown(place, self.user)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"postgresql://aanmf@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "-D", str(place / "data"), "-U", "aanmf", "-A", "trust", "-E", "UTF8", "--locale=C")
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it has recovered."""
        options = ("-c", "listen_addresses=127.0.0.1", "-p", str(self.port), "-k", str(self.place))
        self.process = subprocess.Popen(
            [str(self.programs / "postgres"), "-D", str(self.place / "data"), *options],
            user=self.user,
            cwd=self.place,
            stderr=subprocess.DEVNULL,
        )
        self.wait()

    def wait(self) -> None:
        """Waits until it takes connections."""
        end = time.monotonic() + forked.START_SECONDS
        while time.monotonic() < end:
            with suppress(SystemExit):
                return self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
            time.sleep(0.05)
        raise SystemExit("PostgreSQL did not start")

    def kill(self) -> None:
        """Kills all of its processes, and starts it again."""
        for each in (self.process.pid, *self._children()):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self.process.wait()
        self.start()

    def kill_one(self, draw: random.Random) -> None:
        """Kills one of its processes; the server ends the others and recovers by itself."""
        with suppress(ProcessLookupError):
            os.kill(draw.choice(self._children()), signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """Ends it at once."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def _children(self) -> list[int]:
        return [
            int(each) for each in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(self.programs / name), *arguments]
        done = subprocess.run(command, user=self.user, cwd=self.place, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stdout} {done.stderr}")


def batch(number: int) -> dict[tuple[str, str], float]:
    """The ratings of one request."""
    return {
        (f"{number}-{user}", f"i{item}"): 1.0 + (number + user + item) % 5
        for user in range(USERS)
        for item in range(ITEMS)
    }


@contextmanager
def posting(url: str, numbers: Iterator[int], acknowledged: set[int], answers: Counter[str]) -> Iterator[None]:
    """Clients that post one batch after the other; those that were acknowledged are noted."""

    def post(_: int, stop: threading.Event) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                number = next(numbers)
                rows = [
                    {"user": user, "item": item, "rating": rating} for (user, item), rating in batch(number).items()
                ]
                try:
                    status = client.post("/v1/ratings", json={"ratings": rows}).status_code
                except httpx.TransportError:
                    answers["none"] += 1
                    time.sleep(0.05)
                    continue
                answers[str(status)] += 1
                if status == 200:
                    acknowledged.add(number)
                else:
                    time.sleep(0.05)

    with forked.clients(CLIENTS, post):
        yield


def part(place: Path, model: Path, postgres: Postgres | None, seed: int) -> Counter[str]:
    """Some kills, then a look at the store."""
    url = postgres.url if postgres else f"sqlite:///{place / 'ratings.sqlite'}"
    draw, numbers, acknowledged, answers, counts = random.Random(seed), itertools.count(), set(), Counter(), Counter()
    targets = ("service", "server", "one process") if postgres else ("service",)
    while counts["kills"] < PART:
        with (
            forked.service(model, place / "log", "--store", url) as (service, address),
            posting(address, numbers, acknowledged, answers),
        ):
            killed = ""
            while killed != "service" and counts["kills"] < PART:
                time.sleep(draw.uniform(0.1, 1.2))
                killed = draw.choice(targets)
                counts["kills"] += 1
                counts[f"kills of {killed}"] += 1
                if postgres and killed == "server":
                    postgres.kill()
                elif postgres and killed == "one process":
                    postgres.kill_one(draw)
            service.kill()
    store = RatingStore(url)
    found = {(row.user, row.item): row.rating for row in store.all()}
    store.close()
    for number in range(next(numbers)):
        there = sum(found.get(pair) == rating for pair, rating in batch(number).items())
        counts["acknowledged"] += len(batch(number)) * (number in acknowledged)
        counts["lost"] += (len(batch(number)) - there) * (number in acknowledged)
        counts["torn"] += number not in acknowledged and 0 < there < len(batch(number))
    counts.update({f"answered {status}": n for status, n in answers.items()})
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*", default=("sqlite", "postgresql"), metavar="STORE")
    parser.add_argument("--kills", type=int, default=250, help="for each store")
    parser.add_argument("--json", type=Path, default=Path("build/store-kills.json"))
    args = parser.parse_args()
    report: dict[str, Counter[str]] = {name: Counter() for name in args.stores}
    if args.json.exists():
        report |= {name: Counter(counts) for name, counts in json.loads(args.json.read_text()).items()}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="aanmf-store-kills-") as folder:
        place = Path(folder)
        place.chmod(0o755)  # the server runs as another user
        forked.finish(
            forked.start(
                place / "log",
                "train",
                str(ratings_file(place / "known.csv", 500, 60)),
                *SETTINGS,
                "--out",
                str(place / "model"),
            ),
            place / "log",
        )
        while name := next((each for each in args.stores if report[each]["kills"] < args.kills), None):
            with tempfile.TemporaryDirectory(dir=place) as own:
                postgres = Postgres(Path(own)) if name == "postgresql" else None
                try:
                    report[name] += part(Path(own), place / "model", postgres, report[name]["kills"])
                finally:
                    if postgres:
                        postgres.stop()
            args.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    sys.exit(any(each["lost"] or each["torn"] for each in report.values()))


if __name__ == "__main__":
    main()
