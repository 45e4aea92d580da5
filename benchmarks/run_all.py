"""Every benchmark in one run, ours beside what one would take instead: a table, a plot, and all figures as JSON.

    python benchmarks/run_all.py [--quick] [--out benchmarks/out] [--plot docs/images/cost.png]

About half an hour on two quiet cores; `--quick` takes MovieLens 100K, fewer rounds and some minutes. Peers that are not
installed (`make peers`) are left out with a word. Writes OUT/performance.json and OUT/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
FULL = {
    "limits": ["bandwidth.py"],
    "epoch": ["epoch.py", "--rounds", "3"],
    "catalogue": ["catalogue.py"],
    "time to RMSE": ["time_to_rmse.py"],
    "cost": ["scaling.py"],
    "ranks": ["ranks.py"],
    "gpu": ["gpu.py"],
}
QUICK = {
    "limits": ["bandwidth.py"],
    "epoch": ["epoch.py", "--rounds", "1", "--source", "ml-100k", "--batch-size", "2048", "--naive-seconds", "3"],
    "catalogue": ["catalogue.py", "--rounds", "1", "--users", "5", "--source", "ml-100k"],
    "time to RMSE": ["time_to_rmse.py", "--source", "ml-100k", "--target", "0.92", "--rounds", "1", "--minutes", "3"],
    "cost": ["scaling.py", "--source", "ml-100k", "--sizes", "10000", "100000"],
    "gpu": ["gpu.py"],
}


def run(name: str, arguments: list[str]) -> object:
    """What a benchmark prints as JSON; how it failed, if it did."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(HERE / arguments[0]), *arguments[1:], "--json"], capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    sys.stdout.write(f"{name:>14}: {seconds:6.0f} s{'' if done.returncode == 0 else '  failed'}\n")
    sys.stdout.flush()
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    return json.loads(done.stdout)


def rows(title: str, cells: dict[str, object], measure: str) -> list[str]:
    """A Markdown table of two columns."""
    numbers = {name.replace("_", " "): value for name, value in cells.items() if isinstance(value, int | float)}
    body = [f"| {name} | {value:{',.0f' if value >= 1000 else '.3g'}} |" for name, value in numbers.items()]
    return [f"## {title}", "", f"| | {measure} |", "|---|---|", *body, ""]


def document(found: dict[str, dict]) -> str:
    """All tables; a benchmark that failed is a line with its error."""
    lines = ["# Figures of one run", "", ", ".join(f"{k} {v}" for k, v in found["machine"].items()), ""]
    lines += [f"{name}: {each['error']}\n" for name, each in found.items() if "error" in each]
    if "ratings_per_second" in found["epoch"]:
        epoch = found["epoch"]
        lines += rows("Training", epoch["ratings_per_second"], "ratings/s")
        lines += rows("Ratios", {k: v for k, v in epoch.items() if "_over_" in k}, "times")
        lines += rows("Limits of the machine", found["limits"], "")
    if "seconds" in found["catalogue"]:
        lines += rows("Everyone's lists", found["catalogue"]["seconds"], "s")
    if "contenders" in found["time to RMSE"]:
        lines += [
            f"## Seconds to RMSE {found['time to RMSE']['target']}",
            "",
            "| | s | RMSE | peak GB |",
            "|---|---|---|---|",
        ]
        for name, each in found["time to RMSE"]["contenders"].items():
            figures = (f"{each[k]:.4g}" if k in each else each.get("error", "") for k in ("seconds", "rmse", "peak_gb"))
            lines.append(f"| {name} | {' | '.join(figures)} |")
        lines.append("")
    if "error" not in found["cost"]:
        lines += ["## A pass, and the peak memory of its process", "", "| | ratings | s | GB |", "|---|---|---|---|"]
        for name, points in found["cost"].items():
            lines += [f"| {name} | {p['ratings']:,.0f} | {p['seconds']:.3g} | {p['peak_gb']:.2f} |" for p in points]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "out")
    parser.add_argument(
        "--plot", type=Path, help="where the plot of cost against ratings goes; OUT/cost.png if not given"
    )
    parser.add_argument("--only", nargs="+", choices=list(FULL), default=list(FULL))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    found: dict = {"machine": {"system": platform.platform(), "cores": os.cpu_count(), "threads": threads}}
    for name, arguments in (QUICK if args.quick else FULL).items():
        more = ["--plot", str(args.plot or args.out / "cost.png")] if name == "cost" else []
        found[name] = run(name, arguments + more) if name in args.only else {"error": "not run"}
        (args.out / "performance.json").write_text(json.dumps(found, indent=1))
    (args.out / "performance.md").write_text(document(found))
    sys.stdout.write(f"written to {args.out}\n")


if __name__ == "__main__":
    main()
