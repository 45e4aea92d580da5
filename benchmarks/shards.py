"""A training from Parquet shards by several processes, which are killed, resumed by another number of them, and served.

    python benchmarks/shards.py [--source ml-1m] [--model aanmf++] [--set NAME=VALUE ...] [--shards 20] [--kills 20]
        [--json OUT]

A tenth of the ratings is held out. One process trains on the others, undisturbed. Then two processes do, of which one
is killed after some checkpoints; torchrun starts both again, the model is served, and answers with a list. After that,
`--kills` trainings, by one process and by two in turn, are killed as a whole (`kill -9`) at random moments, and resumed
by the other number of processes. All must end with the RMSE of the undisturbed one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.dataset import EntityTable, RatingDataset
from aanmf.data.sources import load
from aanmf.data.split import folds
from aanmf.recommender import load_model
from drill import service

CLOSE = 5e-4
"""RMSE that a resumed training may differ by."""


def write_shards(data: RatingDataset, folder: Path, shards: int) -> list[str]:
    """Writes ratings as so many Parquet files, and tables of users and items; returns the arguments that read them."""
    rows = {"user": _ids(data.users, data.user), "item": _ids(data.items, data.item), "rating": data.rating.tolist()}
    frame, size = pl.DataFrame(rows), -(-len(data) // shards)
    (folder / "ratings").mkdir(parents=True)
    for number in range(shards):
        frame.slice(number * size, size).write_parquet(folder / "ratings" / f"{number:03}.parquet")
    arguments = [str(folder / "ratings" / "*.parquet")]
    for name, table in (("user", data.users), ("item", data.items)):
        path = folder / f"{name}s.parquet"
        table.columns.with_columns(pl.Series(name, table.ids.ids)).write_parquet(path)
        arguments += [f"--{name}s", str(path)]
    return arguments


def _ids(table: EntityTable, rows: NDArray[np.int64]) -> list[str]:
    return [table.ids.ids[row] for row in rows]


class Trainings:
    """Starts `aanmf train` with the same arguments, alone or by torchrun, each with one thread."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.arguments, self.log = arguments, log

    def start(self, out: Path, ranks: int, restarts: int = 0) -> subprocess.Popen[bytes]:
        """What is started; by torchrun if there are several ranks."""
        command = ["-m", "aanmf", "train", *self.arguments, "--out", str(out), "--resume", "--json"]
        if ranks > 1:
            about = [f"--nproc-per-node={ranks}", f"--max-restarts={restarts}", "--monitor-interval=0.2"]
            command = ["-m", "torch.distributed.run", "--standalone", *about, *command]
        with self.log.open("ab") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            return subprocess.Popen([sys.executable, *command], stdout=log, stderr=log, env=environment)

    def finish(self, process: subprocess.Popen[bytes], out: Path, test: RatingDataset) -> float:
        """RMSE of what it has trained."""
        if process.wait():
            raise SystemExit(f"a training ended with {process.returncode}:\n{self.log.read_text()[-3000:]}")
        assert not out.with_name(f"{out.name}.training").exists()
        return load_model(out).evaluate(test).rmse


def written(out: Path) -> int:
    """The number of the last checkpoint."""
    place = out.with_name(f"{out.name}.training") / "checkpoints"
    return max((int(path.parent.name) for path in place.glob("*/manifest.json")), default=0)


def ranks_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that torchrun has started."""
    return [int(each) for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a training and the processes that it has started, torchrun first: it would start them again."""
    started = ranks_of(process)
    process.kill()
    process.wait()
    for each in started:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def one_killed(trainings: Trainings, place: Path, test: RatingDataset, user: str) -> dict[str, Any]:
    """Two processes, one of which is killed after the fifth checkpoint; the model is served."""
    out = place / "two" / "model"
    out.parent.mkdir()
    began = time.perf_counter()
    process = trainings.start(out, 2, restarts=2)
    while process.poll() is None and written(out) < 5:
        time.sleep(0.05)
    os.kill(ranks_of(process)[-1], signal.SIGKILL)
    found: dict[str, Any] = {"rmse": trainings.finish(process, out, test), "seconds": time.perf_counter() - began}
    with service(out) as (_, url):
        answer = httpx.post(f"{url}/v1/recommend", json={"user": user, "n": 5}, timeout=60).raise_for_status()
    return found | {"listed": [each["item"] for each in answer.json()["items"]]}


def all_killed(
    trainings: Trainings, place: Path, test: RatingDataset, kills: int, seconds: float
) -> list[dict[str, Any]]:
    """Trainings killed at random moments and resumed by another number of processes."""
    draw, found = random.Random(0), list[dict[str, Any]]()
    while len(found) < kills:
        out, ranks = place / "killed" / "model", 1 + len(found) % 2
        out.parent.mkdir()
        process = trainings.start(out, ranks)
        time.sleep(draw.uniform(0, seconds))
        if process.poll() is None:
            kill(process)
            checkpoints = written(out)
            rmse = trainings.finish(trainings.start(out, 3 - ranks), out, test)
            found.append({"by": ranks, "checkpoints": checkpoints, "rmse": rmse})
        shutil.rmtree(out.parent)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m")
    parser.add_argument("--model", default="aanmf++")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = load(args.source)
    train, test = folds(data, "holdout:0.1", [0])[0].of(data)
    with tempfile.TemporaryDirectory(prefix="aanmf-shards-") as scratch:
        place = Path(scratch)
        settings = [part for each in args.set for part in ("--set", each)]
        read = write_shards(train, place / "data", args.shards)
        trainings = Trainings([*read, "--model", args.model, *settings], place / "log")
        (place / "one").mkdir()
        began = time.perf_counter()
        rmse = trainings.finish(trainings.start(place / "one" / "model", 1), place / "one" / "model", test)
        seconds = time.perf_counter() - began
        found: dict[str, Any] = {"source": args.source, "model": args.model, "rmse": rmse, "seconds": seconds}
        found["one killed"] = one_killed(trainings, place, test, data.users.ids.ids[int(train.user[0])])
        found["all killed"] = all_killed(trainings, place, test, args.kills, seconds)
    ends = [found["one killed"]["rmse"], *(each["rmse"] for each in found["all killed"])]
    found["furthest"] = max(abs(each - rmse) for each in ends)
    text = json.dumps(found, indent=1) + "\n"
    sys.stdout.write(text)
    if args.json:
        args.json.write_text(text)
    sys.exit(found["furthest"] > CLOSE)


if __name__ == "__main__":
    main()
