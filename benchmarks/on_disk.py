"""AANMF++ on more ratings than memory has room for: a fit from Parquet files, with what it computes of each in files.

    python benchmarks/on_disk.py [--millions 10] [--limit GB ...] [--memory] [--set epochs=1 ...] [--folder DIR]
        [--out FILE.json]

The ratings of `flagship.py`, without 2 % as test ratings, are written to 20 Parquet files. A fit then runs without a
limit, and with each of the limits: a control group of Linux (as root), which counts all memory, and the cache of files
that the fit reads and writes. With `--memory` the same is fitted in memory as well: scores have to be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import polars as pl

from aanmf import RatingDataset, make_model
from aanmf.data.frames import tables_of
from aanmf.data.split import folds
from aanmf.data.stream import stream_dataset
from flagship import heavy_tailed, result_of

SHARDS = 20
GROUPS = Path("/sys/fs/cgroup")


def write(folder: Path, n: int) -> None:
    """Training ratings in Parquet files, users and items, and test ratings."""
    train, test = folds(data := heavy_tailed(n), "holdout:0.02")[0].of(data)
    tables = tables_of(train)
    (folder / "ratings").mkdir(parents=True)
    size = -(-len(train) // SHARDS)
    for shard in range(SHARDS):
        part = tables.ratings[shard * size : (shard + 1) * size]
        part.write_parquet(folder / "ratings" / f"part-{shard:02}.parquet")
    tables.users.write_parquet(folder / "users.parquet")
    tables.items.write_parquet(folder / "items.parquet")
    tables_of(test).ratings.write_parquet(folder / "test.parquet")


def confine(gigabytes: float) -> None:
    """Moves this process to a control group with so much memory."""
    old = GROUPS / "memory"
    group = (old if old.is_dir() else GROUPS) / f"aanmf-{os.getpid()}"
    group.mkdir()
    limit = "memory.limit_in_bytes" if old.is_dir() else "memory.max"
    (group / limit).write_text(str(round(gigabytes * 2**30)))
    (group / "cgroup.procs").write_text(str(os.getpid()))


class Watch(threading.Thread):
    """The most memory in GB that was not the cache of a file, looked up ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.ended = 0.0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            lines = Path("/proc/self/status").read_text().splitlines()
            own = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.most = max(self.most, own / 2**20)


def fit(folder: Path, settings: dict[str, object], in_memory: bool) -> dict[str, object]:
    """Seconds of preparing and of the fit, the most memory, and RMSE."""
    watch = Watch()
    watch.start()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as work:
        users, items = (folder / f"{side}.parquet" for side in ("users", "items"))
        data = stream_dataset(folder / "ratings" / "*.parquet", work, users=users, items=items)
        prepared = time.perf_counter()
        model = make_model("aanmf++", **settings).fit(data.in_memory() if in_memory else data)
        done = time.perf_counter()
        watch.ended.set()
        rmse = model.evaluate(RatingDataset.from_frames(pl.read_parquet(folder / "test.parquet"))).rmse
    return {
        "ratings": len(data),
        "in_memory": in_memory,
        "prepared_s": prepared - start,
        "fit_s": done - prepared,
        "memory_gb": watch.most,
        "rmse": rmse,
        "chosen": model.chosen_,
    }


def main() -> None:
    """Each step in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, default=10)
    parser.add_argument("--limit", type=float, nargs="*", default=[], metavar="GB")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the model")
    parser.add_argument("--folder", type=Path, help="of the files; those that are there are used")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--step", choices=("write", "fit", "memory"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step == "write":
        write(args.folder, round(args.millions * 1e6))
    elif args.step:
        settings = {name: json.loads(value) for name, value in (each.split("=", 1) for each in args.set)}
        if args.limit:
            confine(args.limit[0])
        json.dump(
            fit(args.folder, settings, args.step == "memory") | {"limit_gb": (args.limit or [None])[0]}, sys.stdout
        )
    else:
        with tempfile.TemporaryDirectory() as scratch:
            folder = args.folder or Path(scratch) / "files"
            same = [sys.executable, __file__, "--millions", str(args.millions), "--folder", str(folder)]
            if not folder.exists():
                subprocess.run([*same, "--step", "write"], check=True)
            same += ["--set", *args.set]
            runs = [["--step", "fit"], *(["--step", "fit", "--limit", str(limit)] for limit in args.limit)]
            found = []
            for run in runs + [["--step", "memory"]] * args.memory:
                result = result_of([*same, *run], " ".join(run))
                found += [] if result is None else [result]
                if args.out:
                    args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
