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


def row(name: str, asked: int, counted: int | None = None, failed: int | None = None) -> dict[str, Any]:
    """How many are asked of a long run, how many were tried, and how many of them failed; None: not run yet."""
    found = {"counted_mean": counted, "failed_mean": failed, "asked_mean": asked}
    return {"model": name, **{metric: value for metric, value in found.items() if value is not None}}


def raw(name: str) -> dict[str, Any] | None:
    """The result of one script; None: it has not been run."""
    path = FIGURES / f"reliability-{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def summary() -> list[dict[str, Any]]:
    """A row per measure."""
    fuzz, faults, drill, load = (raw(name) for name in ("fuzz", "faults", "drill", "overload"))
    return [*_fuzzed(fuzz or {"targets": {}}), *_steps(faults or {}), *_drilled(drill or {}), *_overloaded(load)]


def _fuzzed(fuzz: dict[str, Any]) -> list[dict[str, Any]]:
    def tried(name: str, asked: int, *targets: str) -> dict[str, Any]:
        found = [fuzz["targets"][each] for each in targets if each in fuzz["targets"]]
        if not found:
            return row(name, asked)
        return row(name, asked, sum(each["cases"] for each in found), sum(len(each["faults"]) for each in found))

    return [
        tried("readers", 10**6, "tables, as meant", "tables, damaged", "schemas"),
        tried("folders", 10**5, "model folders"),
        tried("http", 10**5, "requests", "sockets"),
    ]


def _steps(faults: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, of_store in (("saved", False), ("stored", True)):
        points = sum(n for each, n in faults.get("points", {}).items() if each.startswith("store") == of_store)
        failed = sum(each.startswith("store") == of_store for each in faults.get("failed", ()))
        rows.append(row(name, points, points, failed))
    return rows


def _drilled(drill: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        row("kills", 500, drill.get("kills")),
        row("acknowledged", 10**6, drill.get("acknowledged"), drill.get("lost")),
        row("swap", 0, None, drill.get("requests_failed_during_swap")),
        row("forgotten", 1, 1 if drill else None, drill.get("files_with_the_forgotten_user_after")),
    ]


def _overloaded(load: dict[str, Any] | None) -> list[dict[str, Any]]:
    if load is None:
        return []
    growth = 100 * (load["memory_after_mb"] / load["memory_before_mb"] - 1)
    return [{"model": "overload", **{f"{name}_mean": value for name, value in load.items()}, "growth_mean": growth}]


def main() -> None:
    text = json.dumps({"summary": summary()}, indent=1) + "\n"
    (FIGURES / "reliability.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
