"""What a pass over the ratings costs as they become more: ours and what one would take instead, in one run.

    python benchmarks/scaling.py [--source ml-1m] [--sizes 30000 100000 300000 1000000] [--contenders mf aanmf ...]
        [--seconds 60] [--plot FILE.png] [--json]

A pass is an epoch of gradient steps or an iteration of myFM's sampler; data are in memory. Sizes are random parts of
the source. Each measurement has a process of its own, whose peak memory is reported; one of more than `--seconds` a
pass is not followed by larger ones. `per-row loop` is AANMF as one would write it first (`epoch.py`).
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import epoch
import peers
from aanmf import RatingDataset, make_model
from aanmf.contract import BatchConfig
from aanmf.data.sources import load

Points = dict[str, list[dict[str, float]]]


def ours(name: str, data: RatingDataset, **settings: object) -> float:
    """Seconds of the quicker of two epochs."""
    model = make_model(name, epochs=2, validation=0.0, **settings).fit(data)
    return min(each.seconds for each in model.fitted_.training_log.epochs)


def per_row(data: RatingDataset) -> float:
    """From some seconds of the straightforward loop."""
    model = make_model("aanmf", epochs=1, validation=0.0).fit(data)
    assert isinstance(model.config, BatchConfig)
    return len(data) / epoch.straightforward_rate(model, data, model.config.batch_for(len(data)), seconds=5)


def myfm(data: RatingDataset) -> float:
    """The median time between iterations."""
    from myfm import MyFMRegressor

    design, ends = peers.Design(data, attributes=True), []

    def after(*_: object) -> tuple[bool, None]:
        ends.append(time.perf_counter())
        return False, None

    model = MyFMRegressor(rank=peers.MYFM_RANK, random_seed=0)
    shapes = design.group_shapes
    relations = design.relations(data)
    model.fit(
        design.none(data), data.rating, relations, n_iter=5, n_kept_samples=1, group_shapes=shapes, callback=after
    )
    return statistics.median(np.diff(ends))


def surprise(data: RatingDataset) -> float:
    """One epoch of SVD++."""
    start = time.perf_counter()
    peers.surprise_fit(data, 0, n_epochs=1)
    return time.perf_counter() - start


CONTENDERS: dict[str, Callable[[RatingDataset], float]] = {
    "MF": lambda data: ours("mf", data),
    "AANMF": lambda data: ours("aanmf", data),
    "AANMF++ (a member)": lambda data: ours("aanmf++", data, members=1, cold=0.0, l2=70.0, ridge=False),
    "per-row loop": per_row,
    "myFM": myfm,
    "Surprise SVD++": surprise,
}


def measure(name: str, size: int, source: str) -> dict[str, float]:
    """In this process."""
    data = load(source)
    if size < len(data):
        data = data.take(np.sort(np.random.default_rng(0).permutation(len(data))[:size]))
    seconds = CONTENDERS[name](data)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"ratings": len(data), "seconds": seconds, "peak_gb": peak / 2**30}


def series(name: str, args: argparse.Namespace) -> list[dict[str, float]]:
    """All sizes, until a pass takes too long."""
    found: list[dict[str, float]] = []
    for size in args.sizes:
        command = [sys.executable, __file__, "--source", args.source, "--one", name, str(size)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["failed"])[-1]
            sys.stderr.write(f"{name}, {size:,} ratings: {reason}\n")
            break
        found.append(json.loads(done.stdout))
        if found[-1]["seconds"] > args.seconds:
            break
    return found


def plot(points: Points, path: Path) -> None:
    """Seconds a pass against ratings, both logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for (name, each), marker in zip(points.items(), "osD^vP", strict=False):
        own = not name.startswith(("per-row", "myFM", "Surprise"))
        x, y = [p["ratings"] for p in each], [p["seconds"] for p in each]
        axes.plot(x, y, marker=marker, linestyle="-" if own else "--", label=name, markersize=5)
        axes.annotate(name, (x[-1], y[-1]), xytext=(6, -3), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="ratings", ylabel="seconds a pass")
    axes.set_xlim(right=axes.get_xlim()[1] * 2.2)
    axes.grid(True, which="major", linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Runs, prints, plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m")
    parser.add_argument("--sizes", type=int, nargs="+", default=[30_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--seconds", type=float, default=60, help="no larger size after a pass of so many")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        json.dump(measure(args.one[0], int(args.one[1]), args.source), sys.stdout)
        return
    points: Points = {}
    for name in args.contenders:
        if found := series(name, args):
            points[name] = found
            if not args.json:
                cells = "  ".join(f"{p['ratings']:>9,.0f}: {p['seconds']:8.3f} s {p['peak_gb']:.2f} GB" for p in found)
                sys.stdout.write(f"{name:>20}  {cells}\n")
                sys.stdout.flush()
    if args.plot:
        plot(points, args.plot)
    if args.json:
        json.dump(points, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
