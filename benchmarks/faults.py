"""Makes every step fail that a save asks of the disk, in every way, and counts; the checks are those of the tests.

    python benchmarks/faults.py [--times 3] [--only ACTION] [--json OUT]

A count is of points: one step of one action, failing in one way. After each, the folder must hold the old state or the
new one, whole, and the next save must go through (`tests/test_faults.py`). A step of the rating store is a statement or
a commit (`tests/serving/test_store_faults.py`). With `--only`, the other counts in OUT stay as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import test_faults
from tests.conftest import small_dataset
from tests.faults import FAULTS
from tests.serving import test_store_faults

from aanmf import MF


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    models = [MF(epochs=1, factors=factors).fit(small_dataset()) for factors in (2, 3)]
    actions = {
        "model saved over an older one": lambda at, fault: test_faults.test_a_model_is_saved_over_an_older_one(
            models, at, fault, 1
        ),
        "model saved where none was": lambda at, fault: test_faults.test_a_model_is_saved_where_none_was(
            models, at, fault, 1
        ),
        "checkpoint": test_faults.test_a_checkpoint_is_written,
        "ratings prepared over others": test_faults.test_ratings_are_prepared,
        "one file replaced": test_faults.test_a_file_is_replaced,
        "model updated": lambda at, fault: test_faults.test_a_model_is_updated(at, fault, 1),
    }
    stored = {f"store: {name}": name for name in test_store_faults.ACTIONS}

    def faults_of(name: str) -> tuple[str, ...]:
        return test_store_faults.FAULTS if name in stored else FAULTS

    asked = [name for name in (*stored, *actions) if not args.only or name in args.only]
    old = json.loads(args.json.read_text()) if args.only and args.json and args.json.exists() else {}
    points = Counter({name: n for name, n in old.get("points", {}).items() if name not in asked})
    failed = [each for each in old.get("failed", ()) if each.partition(",")[0] not in asked]
    start, steps, text = time.perf_counter(), test_faults.every_fault, ""
    for name, fault in [(each, fault) for each in asked for fault in faults_of(each)]:
        for _ in range(args.times):
            with tempfile.TemporaryDirectory() as place:

                def counted(*given: object, at: str = name) -> int:
                    found = steps(*given)  # type: ignore[arg-type]
                    points[at] += found
                    return found

                test_faults.every_fault = counted
                try:
                    if name in stored:
                        points[name] += test_store_faults.every_statement(Path(place), stored[name], fault)
                    else:
                        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                            actions[name](Path(place), fault)
                except AssertionError as error:
                    failed.append(f"{name}, {fault}: {error}")
                finally:
                    test_faults.every_fault = steps
        seconds = round(time.perf_counter() - start) + old.get("seconds", 0)
        report = {"times": args.times, "points": dict(points), "failed": failed, "seconds": seconds}
        text = json.dumps(report, indent=1) + "\n"
        if args.json:  # as it comes, so that a cut loses little
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(text)
    sys.stdout.write(text)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
