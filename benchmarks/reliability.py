"""Counts of docs/reliability.md, from the raw results of the scripts that break things.

    python benchmarks/reliability.py && make figures

The raw results are docs/results/figures/reliability-{fuzz,faults,drill,kills,store-kills,swaps}.json, written by
`--json` of these scripts, and reliability-{overload,overload-1000,soak}.json, written by `--out` of load.py. `asked` is
what a long run is to reach.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parents[1] / "docs" / "results" / "figures"
AUDIT = {
    "readers": (10_055, 15),
    "folders": (1_987, 1_062),
    "http": (1_985, 0),
    "saved": (400, 1),
    "acknowledged": (81_400, 0),
    "training": (28, 0),
}
"""What was tried and what failed in an audit before anything was mended."""


def row(name: str, asked: int | None, counted: int | None = None, failed: int | None = None) -> dict[str, Any]:
    """How many are asked of a long run, how many were tried, and how many of them failed; None: not run yet."""
    tried, fell = AUDIT.get(name, (None, None))
    found = {
        "counted_mean": counted,
        "failed_mean": failed,
        "asked_mean": asked,
        "audited_mean": tried,
        "failed_then_mean": fell,
    }
    return {"model": name, **{metric: value for metric, value in found.items() if value is not None}}


def raw(name: str) -> dict[str, Any] | None:
    """The result of one script; None: it has not been run."""
    path = FIGURES / f"reliability-{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def summary() -> list[dict[str, Any]]:
    """A row per measure."""
    fuzz, faults, drill, kills, stores, swaps = (
        raw(name) or {} for name in ("fuzz", "faults", "drill", "kills", "store-kills", "swaps")
    )
    return [
        *_fuzzed(fuzz or {"targets": {}}),
        *_steps(faults),
        *_killed(kills),
        *_stored(drill, stores),
        *_swapped(swaps),
        row("forgotten", 1, 1 if drill else None, drill.get("files_with_the_forgotten_user_after")),
        *_overloaded("overload"),
        *_overloaded("overload-1000"),
        *_overloaded("soak"),
    ]


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


def _killed(kills: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name in ("training", "update", "preparation"):
        found = kills.get(name, {})
        failed = found["not_whole"] + found["not_the_same"] if found else None
        rows.append(row(name, 100, found.get("kills"), failed))
    return rows


def _stored(drill: dict[str, Any], stores: dict[str, Any]) -> list[dict[str, Any]]:
    sqlite, postgres = stores.get("sqlite", {}), stores.get("postgresql", {})
    parts = [each for each in (drill, sqlite, postgres) if each]
    acknowledged, lost = (sum(each.get(name, 0) for each in parts) for name in ("acknowledged", "lost"))
    return [
        row("sqlite", 250, sqlite.get("kills"), sqlite.get("torn", 0) if sqlite else None),
        row("postgresql", 250, postgres.get("kills"), postgres.get("torn", 0) if postgres else None),
        row("acknowledged", 10**6, acknowledged if parts else None, lost if parts else None),
    ]


def _swapped(swaps: dict[str, Any]) -> list[dict[str, Any]]:
    failed = swaps["bad_not_noticed"] + swaps["good_not_served"] if swaps else None
    return [
        row("swaps", 100, swaps.get("swaps"), failed),
        row("swap-requests", None, swaps.get("requests"), swaps.get("requests_failed")),
    ]


def _overloaded(name: str) -> list[dict[str, Any]]:
    load = raw(name)
    if load is None:
        return []
    load["growth"] = 100 * (load["memory_after_mb"] / load["memory_before_mb"] - 1)
    load["ratio"] = load["p99_ms"] / load["capacity_p99_ms"]
    return [{"model": name, **{f"{metric}_mean": value for metric, value in load.items()}}]


def main() -> None:
    text = json.dumps({"summary": summary()}, indent=1) + "\n"
    (FIGURES / "reliability.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
