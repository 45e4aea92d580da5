"""Kills training, updates and the preparation of shards at random moments, and compares with what nothing disturbed.

    python benchmarks/kills.py [--kills 100] [--seed 0] [--only training] [--json OUT]

training: killed and resumed from its last checkpoint; the weights must be those of an undisturbed fit, bit by bit.
update: the model folder must be the old one or the new one, whole; done again, it must be the new one.
preparation: of 20 Parquet shards; done again, the prepared files must be those of an undisturbed run, byte by byte.

Every run is a child of this process, so that a kill takes it whole. Kills that came after the end are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["POLARS_MAX_THREADS"] = "1"

import numpy as np
import polars as pl
import torch

from aanmf import AANMF, AANMFpp, Checkpoints, load_model, make_synthetic
from aanmf.cli import main as aanmf
from aanmf.data.stream import stream_dataset

SHARDS = 20
SAME = ("weights.safetensors", "data.safetensors", "users.parquet", "items.parquet")
"""Files of a model folder without times in them."""


@dataclass(frozen=True)
class Target:
    """What is killed.

    Attributes:
        start: makes the folder of one round, before anything runs.
        run: does the work in this folder; does what is left of it when it is called again.
        state: what must be equal in the end.
        halfway: whether a state after a kill is whole, given the states before and after the work.
    """

    start: Callable[[Path], None]
    run: Callable[[Path], object]
    state: Callable[[Path], object]
    halfway: Callable[[Path, object, object], bool] = lambda folder, before, after: True


def apart(work: Callable[[], object], after: float | None = None) -> int:
    """Runs it in a child, killed after so many seconds; returns its exit code, -9 where the kill was in time."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        code = 1
        try:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train(folder: Path) -> None:
    """A fit that writes checkpoints every few steps and resumes from the last one."""
    data = make_synthetic(100, 60, 2000, seed=0).data
    model = AANMF(factors=4, epochs=8, patience=8, batch_size=64)
    model.fit(data, checkpoints=Checkpoints(folder / "checkpoints", "15", resume=True)).save(folder / "model")


def old_model(folder: Path) -> None:
    """A model, and new ratings for it."""
    data = make_synthetic(100, 60, 2000, seed=0).data
    AANMFpp(factors=4, epochs=2, members=1, parts=3, l2=30.0, simplify_up_to=0).fit(data).save(folder / "model")
    new = {
        "user": [f"new{n % 3}" for n in range(30)],
        "item": list(data.items.ids)[:30],
        "rating": [1.0 + n % 5 for n in range(30)],
    }
    pl.DataFrame(new).write_csv(folder / "new.csv")


def update(folder: Path) -> None:
    """`aanmf update`, unless it is done."""
    if "new0" not in load_model(folder / "model").fitted_.users.table.ids and aanmf(
        ["update", str(folder / "model"), str(folder / "new.csv"), "--json"]
    ):
        raise SystemExit(1)


def model_state(folder: Path) -> object:
    """Checksums of a model folder."""
    found = json.loads((folder / "model" / "manifest.json").read_text())["sha256"]
    return {name: found[name] for name in SAME}


def whole(folder: Path, before: object, after: object) -> bool:
    """The old model or the new one, and it loads."""
    return model_state(folder) in (before, after) and apart(lambda: load_model(folder / "model")) == 0


def write_shards(folder: Path) -> None:
    """Ratings in Parquet files."""
    data = make_synthetic(800, 400, 60_000, seed=0).data
    (folder / "ratings").mkdir()
    for n, rows in enumerate(np.array_split(np.arange(len(data)), SHARDS)):
        part = data.take(rows)
        ids = {"user": np.array(data.users.ids)[part.user], "item": np.array(data.items.ids)[part.item]}
        pl.DataFrame({**ids, "rating": part.rating}).write_parquet(folder / "ratings" / f"{n:02d}.parquet")


def prepared_state(folder: Path) -> object:
    """The prepared files, byte by byte."""
    names = (path for path in sorted((folder / "data").iterdir()) if path.name not in ("manifest.json", ".lock"))
    return {path.name: path.read_bytes() for path in names}


TARGETS = {
    "training": Target(lambda folder: None, train, model_state),
    "update": Target(old_model, update, model_state, whole),
    "preparation": Target(
        write_shards, lambda folder: stream_dataset(folder / "ratings", folder / "data"), prepared_state
    ),
}


def tried(name: str, kills: int, draw: random.Random, place: Path) -> dict[str, Any]:
    """Kills one target until so many kills were in time."""
    target, first = TARGETS[name], place / name
    first.mkdir()
    quiet(lambda: target.start(first))
    template = place / f"{name}-start"
    shutil.copytree(first, template)
    before = target.state(first) if name == "update" else None
    start = time.perf_counter()
    quiet(lambda: target.run(first))
    seconds, after = time.perf_counter() - start, target.state(first)
    result: dict[str, Any] = {"seconds": round(seconds, 2), "kills": 0, "too_late": 0, "failed": []}
    while result["kills"] < kills:
        folder, moment = place / "round", draw.uniform(0, 1.1 * seconds)
        shutil.copytree(template, folder)
        in_time = apart(lambda folder=folder: target.run(folder), moment) == -signal.SIGKILL
        result["kills" if in_time else "too_late"] += 1
        fine = target.halfway(folder, before, after)
        fine = fine and apart(lambda folder=folder: target.run(folder)) == 0 and target.state(folder) == after
        hidden = [each.name for each in folder.rglob(".*") if each.name != ".lock"]
        if not fine or hidden:
            result["failed"].append({"after": moment, "hidden": hidden})
        shutil.rmtree(folder)
    return result


def quiet(work: Callable[[], object]) -> None:
    """In a child that must succeed.

    Raises:
        SystemExit: it failed.
    """
    if code := apart(work):
        raise SystemExit(f"the undisturbed run ended with {code}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for name in args.only:
        with tempfile.TemporaryDirectory(prefix="aanmf-kills-") as place:
            found[name] = tried(name, args.kills, random.Random(args.seed), Path(place))
        text = json.dumps(found, indent=1) + "\n"
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(text)
        sys.stderr.write(f"{name}: {found[name]}\n")
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    sys.exit(any(each["failed"] for each in found.values()))


if __name__ == "__main__":
    main()
