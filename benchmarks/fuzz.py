"""Tries what nobody thought of: tables, schemas, model folders, requests and bytes on a socket; see `tests/fuzz`.

    python benchmarks/fuzz.py [--minutes 60] [--seed 0] [--only "tables, damaged"] [--json OUT]
    make fuzz MINUTES=60

Each target runs in rounds, in processes of their own, so that one that dies is noticed. A fault is shown with the
smallest case that leads to it; the next run with the same seed meets the same cases.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

ROUND_SECONDS = 120.0
EXAMPLES = 200
NAMES = ("tables, as meant", "tables, damaged", "schemas", "model folders", "requests", "sockets")


def tried(name: str, first: int, seconds: float, out: Path) -> None:
    """One round: tries one target for some time, and writes what it found after every 200 cases."""
    from tests.fuzz import Found, folders, requests, tables

    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aanmf-fuzz-")))
        if name in ("requests", "sockets"):
            target = stack.enter_context(requests.targets(place))[name]
        else:
            target = {**tables.targets(place / "tables")} if name != "model folders" else folders.targets(place)
            target = target[name]
        found, number, end = Found(), first, time.monotonic() + seconds
        while time.monotonic() < end:
            found.explore(target, EXAMPLES, number)
            number += 1
            out.write_text(json.dumps({**vars(found), "number": number}))


def rounds(names: list[str], minutes: float, seed: int) -> dict[str, dict[str, Any]]:
    """Runs rounds of all targets in turn until the time is over."""
    found = {name: {"outcomes": Counter(), "faults": {}, "slowest": 0.0, "died": 0} for name in names}
    next_number, end = dict.fromkeys(names, seed * 1_000_000), time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as place:
        while (left := end - time.monotonic()) > 0:
            for name in names:
                seconds, out = min(ROUND_SECONDS, max(5.0, left / len(names))), Path(place) / "round.json"
                out.unlink(missing_ok=True)
                asked = [
                    "--only",
                    name,
                    "--round",
                    str(seconds),
                    "--number",
                    str(next_number[name]),
                    "--json",
                    str(out),
                ]
                command = [sys.executable, "-W", "ignore", __file__, *asked]
                try:
                    code = subprocess.run(
                        command, timeout=2 * seconds + 120, stderr=subprocess.PIPE, check=False
                    ).returncode
                except subprocess.TimeoutExpired:
                    code = -14
                part: dict[str, Any] = {"number": next_number[name]}
                if out.exists():
                    part = json.loads(out.read_text())
                found[name]["outcomes"] += Counter(part.get("outcomes", {}))
                found[name]["faults"] = {**part.get("faults", {}), **found[name]["faults"]}
                found[name]["slowest"] = round(max(found[name]["slowest"], part.get("slowest", 0)), 2)
                next_number[name] = part["number"] + (code != 0)
                if code != 0:
                    found[name]["died"] += 1
                    found[name]["faults"].setdefault(f"the process ended with {code}", f"seed {part['number']}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--round", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.round:
        tried(args.only, args.number, args.round, args.json)
        return
    found = rounds([args.only] if args.only else list(NAMES), args.minutes, args.seed)
    for each in found.values():
        each["cases"] = sum(each["outcomes"].values())
    report = {"minutes": args.minutes, "seed": args.seed, "targets": found}
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    sys.exit(any(each["faults"] for each in found.values()))


if __name__ == "__main__":
    main()
