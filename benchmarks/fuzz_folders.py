"""Tampers with model folders, checksums recomputed, and counts what becomes of them.

    python benchmarks/fuzz_folders.py [--cases 1000 | --minutes 60] [--seed 0] [--json OUT]

A folder must be refused with a ModelFolderError, or load and answer with finite numbers.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.conftest import small_dataset
from tests.mutations import contents, outcome, tampered, write_tampered

from aanmf.manifest import read_manifest
from aanmf.recommender import make_model

MODELS = {
    "mf": {},
    "aanmf": {},
    "aanmf++": {"members": 2, "parts": 2},
    "nfm": {},
    "item-knn": {},
    "svd++": {},
    "aesr": {},
}
HANG_SECONDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: Counter[str] = Counter()
    examples: dict[str, str] = {}
    slowest, case = 0.0, 0
    with tempfile.TemporaryDirectory() as place:
        bases = []
        for name, settings in MODELS.items():
            base = Path(place) / f"base-{name}"
            quick = {"epochs": 1, "factors": 3} | settings
            fields = make_model(name).get_params()
            make_model(name, **{key: value for key, value in quick.items() if key in fields}).fit(small_dataset()).save(
                base
            )
            manifest = read_manifest(base)
            bases.append((name, contents(base), {key: value for key, value in manifest.items() if key != "sha256"}))
        end = time.monotonic() + 60 * args.minutes if args.minutes else None
        while time.monotonic() < end if end else case < args.cases:
            draw = random.Random(f"{args.seed}-{case}")
            name, files, manifest = bases[case % len(bases)]
            folder = Path(place) / "case"
            write_tampered(folder, tampered(files, draw), draw, manifest)
            start = time.monotonic()
            became = outcome(folder)
            seconds = time.monotonic() - start
            slowest = max(slowest, seconds)
            kind = became if seconds < HANG_SECONDS else f"hang: {became}"
            found[kind if kind in ("refused", "whole") else kind.partition(":")[0]] += 1
            if kind not in ("refused", "whole"):
                examples.setdefault(kind, f"{name}, seed {args.seed}-{case}")
            shutil.rmtree(folder)
            case += 1
    report = {
        "cases": case,
        "seed": args.seed,
        "found": dict(found),
        "slowest_seconds": round(slowest, 2),
        "faults": examples,
    }
    text = json.dumps(report, indent=1)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    sys.exit(bool(examples))


if __name__ == "__main__":
    main()
