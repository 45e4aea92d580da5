"""Counts of docs/reliability.md, from the raw results of fuzz.py, faults.py, drill.py and load.py --overload.

    python benchmarks/reliability.py && make figures

The raw results are docs/results/figures/reliability-{fuzz,faults,drill,overload}.json, written by `--json` (`--out`) of
these scripts. `asked` is what a long run is to reach.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parents[1] / "docs" / "results" / "figures"


def row(name: str, counted: int, failed: int, asked: int) -> dict[str, Any]:
    """How many were tried, how many of them failed, and how many are asked of a long run."""
    return {"model": name, "counted_mean": counted, "failed_mean": failed, "asked_mean": asked}


def raw(name: str) -> dict[str, Any]:
    """The result of one script."""
    return json.loads((FIGURES / f"reliability-{name}.json").read_text(encoding="utf-8"))


def summary() -> list[dict[str, Any]]:
    """A row per measure."""
    fuzz, faults, drill, load = (raw(name) for name in ("fuzz", "faults", "drill", "overload"))

    def tried(name: str, asked: int, *targets: str) -> dict[str, Any]:
        found = [fuzz["targets"][each] for each in targets]
        return row(name, sum(each["cases"] for each in found), sum(len(each["faults"]) for each in found), asked)

    saved = {name: n for name, n in faults["points"].items() if not name.startswith("store")}
    stored = {name: n for name, n in faults["points"].items() if name.startswith("store")}
    stored_failed = sum(each.startswith("store") for each in faults["failed"])
    return [
        tried("readers", 10**6, "tables, as meant", "tables, damaged", "schemas"),
        tried("folders", 10**5, "model folders"),
        tried("http", 10**5, "requests", "sockets"),
        row("saved", sum(saved.values()), len(faults["failed"]) - stored_failed, sum(saved.values())),
        row("stored", sum(stored.values()), stored_failed, sum(stored.values())),
        row("kills", drill["kills"], 0, 500),
        row("acknowledged", drill["acknowledged"], drill["lost"], 10**6),
        row("forgotten", 1, drill["files_with_the_forgotten_user_after"], 1),
        {"model": "fuzz", "minutes_mean": int(fuzz["minutes"])},
        {"model": "drill", "failed_mean": drill["requests_failed_during_swap"]},
        {
            "model": "overload",
            **{f"{name}_mean": value for name, value in load.items()},
            "p99-ratio_mean": load["p99_ms"] / load["capacity_p99_ms"],
            "growth_mean": 100 * (load["memory_after_mb"] / load["memory_before_mb"] - 1),
        },
    ]


def main() -> None:
    text = json.dumps({"summary": summary()}, indent=1) + "\n"
    (FIGURES / "reliability.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
