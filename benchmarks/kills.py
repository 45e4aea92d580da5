"""Kills training, `aanmf update` and streamed preparation at random moments, and looks at what is left.

    python benchmarks/kills.py [training update preparation] [--kills 100] [--json OUT]

After `kill -9` the folder must hold the old state or the new one, whole. The same command, given again (training: with
`--resume`), must end in the state of a run that nobody disturbed, bit for bit. A kill counts if it meets a process that
is at work. Counts are written as they come; the next run goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import forked
from aanmf.data.stream import stream_dataset
from aanmf.manifest import files_of, read_manifest
from aanmf.recommender import load_model

SETTINGS = ("--model", "aanmf", "--set", "epochs=4", "--set", "factors=4", "--test", "0")
OF_TIME = "training.json"
"""The file of a model that says how long its training took."""
SHARDS, RATINGS = 6, 20_000


@dataclass(frozen=True)
class Action:
    """What is killed.

    Attributes:
        before: makes the state before it, in a folder.
        start: starts it on a copy of that folder.
        state: what there is afterwards: checksums by name of file; None: nothing yet.
    """

    before: Callable[[Path], object]
    start: Callable[[Path], BaseProcess]
    state: Callable[[Path], dict[str, str] | None]


def actions(place: Path, log: Path) -> dict[str, Action]:
    """The three; what they read is written to `place`."""
    known, new = ratings_file(place / "known.csv", 500, 60), ratings_file(place / "new.csv", 50, 80)
    for seed, name in enumerate(("old", "new")):
        for shard in range(SHARDS):
            ratings_file(place / name / f"{shard}.csv", RATINGS, 1000, seed * SHARDS + shard)

    def train(at: Path) -> BaseProcess:
        return forked.start(log, "train", str(known), *SETTINGS, "--out", str(at / "model"), "--resume")

    def update(at: Path) -> BaseProcess:
        return forked.start(log, "update", str(at / "model"), str(new))

    def prepare(name: str, at: Path) -> BaseProcess:
        return forked.call(log, stream_dataset, str(place / name), str(at / "data"))

    return {
        "training": Action(lambda _: None, train, model_state),
        "update": Action(lambda at: forked.finish(train(at), log), update, model_state),
        "preparation": Action(
            lambda at: forked.finish(prepare("old", at), log), partial(prepare, "new"), lambda at: _whole(at / "data")
        ),
    }


def model_state(at: Path) -> dict[str, str] | None:
    """Checksums of what a model is, which is whole and can be loaded."""
    found = _whole(at / "model")
    if found is not None:
        load_model(at / "model")
        del found[OF_TIME]
    return found


def killed(action: Action, place: Path, log: Path, kills: int, found: dict[str, int], tell: Callable[[], None]) -> None:
    """Kills an action until `found` counts so many kills."""
    start, undisturbed = place / "start", place / "undisturbed"
    start.mkdir()
    action.before(start)
    shutil.copytree(start, undisturbed)
    forked.finish(forked.call(log, print), log)  # the first process waits for imports
    seconds = forked.finish(action.start(undisturbed), log)
    old, new = action.state(start), action.state(undisturbed)
    assert new not in (None, old)
    draw = random.Random(found["kills"])
    while found["kills"] < kills:
        copy = place / "copy"
        shutil.copytree(start, copy)
        process = action.start(copy)
        process.join(draw.uniform(0, 1.1 * seconds))
        if process.is_alive():
            process.kill()
            process.join()
            left = _state_or_fault(action, copy)
            begun = any((copy / "model.training").rglob("manifest.json"))
            forked.finish(action.start(copy), log)
            found["kills"] += 1
            found["resumed"] += begun
            found["new"] += left == new
            found["not_whole"] += left not in (old, new)
            found["not_the_same"] += _state_or_fault(action, copy) != new
            tell()
        shutil.rmtree(copy)


def _state_or_fault(action: Action, at: Path) -> object:
    try:
        return action.state(at)
    except Exception as error:
        return error


def _whole(folder: Path) -> dict[str, str] | None:
    """The checksums that a manifest names, each compared with the bytes of its file; None: no manifest."""
    if not (folder / "manifest.json").exists():
        return None
    files = files_of(folder, read_manifest(folder))
    sums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert sums == read_manifest(folder)["sha256"]
    return sums


def ratings_file(path: Path, n: int, users: int, seed: int = 0) -> Path:
    """Writes n made-up ratings of 40 items."""
    draw = random.Random(seed)
    pairs = draw.sample([(user, item) for user in range(users) for item in range(40)], n)
    rows = [f"u{user},i{item},{1 + (user * item + draw.randrange(2)) % 5}\n" for user, item in pairs]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("user,item,rating\n" + "".join(rows))
    return path


def main() -> None:
    names = ("training", "update", "preparation")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("actions", nargs="*", default=names, metavar="ACTION", help=", ".join(names))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--json", type=Path, default=Path("build/kills.json"))
    args = parser.parse_args()
    nothing: dict[str, int] = dict.fromkeys(("kills", "resumed", "new", "not_whole", "not_the_same"), 0)
    report: dict[str, dict[str, int]] = json.loads(args.json.read_text()) if args.json.exists() else {}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    for name in args.actions:
        with tempfile.TemporaryDirectory(prefix="aanmf-kills-") as place:
            log, found = Path(place) / "log", report.setdefault(name, dict(nothing))
            action = actions(Path(place) / "read", log)[name]
            killed(action, Path(place), log, args.kills, found, lambda: _write(args.json, report))
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    sys.exit(any(each["not_whole"] or each["not_the_same"] for each in report.values()))


def _write(path: Path, report: dict[str, dict[str, int]]) -> None:
    path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
