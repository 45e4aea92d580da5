"""Tries what nobody thought of: tables, schemas, model folders, requests and bytes on a socket; see `tests/fuzz`.

    python benchmarks/fuzz.py [--minutes 60] [--cases 100000] [--seed 0] [--only "tables, damaged"] [--json OUT]
    python benchmarks/fuzz.py --only "tables, damaged" --replay 1000017-42
    make fuzz MINUTES=60

Each target runs in rounds, in processes of their own, so that one that dies is noticed. A fault is shown with its seed,
and where Hypothesis made the case, with the smallest that leads to it. `--json` goes on from what its file holds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzz import Target

sys.path.insert(0, str(Path(__file__).parents[1]))

ROUND_SECONDS = 120.0
EXAMPLES = 200
NAMES = ("tables, as meant", "tables, damaged", "schemas", "model folders", "requests", "sockets")


@contextmanager
def target_of(name: str) -> Iterator[Target]:
    """One of the targets, in a folder of its own."""
    from tests.fuzz import folders, requests, tables

    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aanmf-fuzz-")))
        if name in ("requests", "sockets"):
            yield stack.enter_context(requests.targets(place))[name]
        else:
            yield (folders.targets(place) if name == "model folders" else tables.targets(place))[name]


def tried(name: str, first: int, seconds: float, cases: int, out: Path) -> None:
    """One round: tries one target for some time, and writes what it found after every 200 cases."""
    from tests.fuzz import Found

    with target_of(name) as target:
        found, number, end = Found(), first, time.monotonic() + seconds
        while time.monotonic() < end and found.outcomes.total() < cases:
            found.explore(target, EXAMPLES, number)
            number += 1
            out.write_text(json.dumps({**vars(found), "number": number}))


def rounds(
    names: Sequence[str], minutes: float, cases: int, known: dict[str, Any], keep: Callable[[], None]
) -> dict[str, Any]:
    """Runs rounds of all targets in turn until the time is over, or each has had so many cases.

    Args:
        names: the targets.
        minutes: in all.
        cases: at most, of each target with those before.
        known: what earlier runs found, by target; it is added to.
        keep: called after each round.
    """
    end, open_ones = time.monotonic() + 60 * minutes, list(names)
    while (left := end - time.monotonic()) > 0 and (open_ones := [n for n in open_ones if known[n]["cases"] < cases]):
        for name in open_ones:
            before = known[name]
            seconds = min(ROUND_SECONDS, max(5.0, left / len(open_ones)))
            part, code = _round(name, before["next"], seconds, cases - before["cases"])
            outcomes = Counter(before["outcomes"]) + Counter(part.get("outcomes", {}))
            before |= {
                "outcomes": dict(outcomes),
                "cases": outcomes.total(),
                "faults": {**part.get("faults", {}), **before["faults"]},
                "slowest": round(max(before["slowest"], part.get("slowest", 0)), 2),
                "next": part["number"] + (code != 0),
            }
            if code != 0:
                before["died"] += 1
                before["faults"].setdefault(f"the process ended with {code}", f"seed {part['number']}")
            keep()
    return known


def _round(name: str, number: int, seconds: float, cases: int) -> tuple[dict[str, Any], int]:
    """What a process of its own found, and how it ended."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "round.json"
        asked = ["--only", name, "--round", seconds, "--number", number, "--cases", cases, "--json", out]
        command = [sys.executable, "-W", "ignore", __file__, *map(str, asked)]
        quiet = {**os.environ, "RUST_BACKTRACE": "0"}  # Polars panics often here, and a trace of each takes time
        try:
            code = subprocess.run(
                command, timeout=2 * seconds + 120, stderr=subprocess.DEVNULL, env=quiet, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = -14
        return json.loads(out.read_text()) if out.exists() else {"number": number}, code


def fresh(seed: int) -> dict[str, Any]:
    """A target before its first case."""
    return {"outcomes": {}, "cases": 0, "faults": {}, "slowest": 0.0, "died": 0, "next": seed * 1_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--cases", type=int, default=10**9, help="of each target at most, with those of --json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=NAMES, nargs="+", default=NAMES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--replay", metavar="SEED", help="try one case again, of tables that are damaged or folders")
    parser.add_argument("--round", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.replay:
        with target_of(args.only[0]) as target:
            sys.stdout.write(target.outcome(random.Random(args.replay)) + "\n")
        return
    if args.round:
        tried(args.only[0], args.number, args.round, args.cases, args.json)
        return
    report: dict[str, Any] = {"minutes": 0.0, "targets": {}}
    if args.json and args.json.exists():
        report = json.loads(args.json.read_text(encoding="utf-8"))
    known, start, before = report["targets"], time.monotonic(), report["minutes"]
    for name in args.only:
        known.setdefault(name, fresh(args.seed))

    def keep() -> None:
        report["minutes"] = round(before + (time.monotonic() - start) / 60, 1)
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    rounds(args.only, args.minutes, args.cases, known, keep)
    sys.stdout.write(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    sys.exit(any(each["faults"] for each in known.values()))


if __name__ == "__main__":
    main()
