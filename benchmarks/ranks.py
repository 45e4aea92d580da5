"""Several processes against one: how far the loss curves are apart, and spread tables from whole ones.

    python benchmarks/ranks.py [--source ml-100k] [--model aanmf] [--set dropout=0] [--ranks 2] [--json]

Each training is a run of `aanmf train` with the same settings and seed, and so with the same batches.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from aanmf.storage import read_folder

Run = tuple[list[float], dict[str, list[float]], float]


def train(folder: Path, args: argparse.Namespace, ranks: int, *more: str) -> Run:
    """Mean squared errors of all epochs (training, then validation), weights, and seconds per epoch."""
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = [*start, "-m", "aanmf", "train", args.source, "--model", args.model, "--out", str(folder), *more]
    command += [f"--set={each}" for each in args.set]
    subprocess.run(command, check=True, capture_output=True, env={"OMP_NUM_THREADS": "1", **os.environ})
    saved = read_folder(folder)
    epochs = saved.documents["training"]["epochs"]
    curve = [each["train_mse"] for each in epochs] + [each["valid_mse"] for each in epochs if each["valid_mse"]]
    weights = {name: each.flatten().tolist() for name, each in saved.tensors["weights"].items()}
    return curve, weights, sum(each["seconds"] for each in epochs) / len(epochs)


def apart(one: list[float], other: list[float]) -> float:
    """Largest relative difference."""
    return max(abs(a - b) / abs(a) for a, b in zip(one, other, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-100k")
    parser.add_argument("--model", default="aanmf")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        alone, _, alone_seconds = train(Path(place) / "alone", args, 1)
        whole, weights, seconds = train(Path(place) / "whole", args, args.ranks)
        spread, others, spread_seconds = train(Path(place) / "spread", args, args.ranks, "--spread-rows", "1")
    free = {"cell.out.bias"}  # the softmax ignores it: its gradient is rounding
    furthest = max(
        abs(a - b) for name in weights if name not in free for a, b in zip(weights[name], others[name], strict=True)
    )
    found = {
        "ranks": args.ranks,
        "loss curve, relative difference to one process": apart(alone, whole),
        "loss curve, relative difference of spread to whole tables": apart(whole, spread),
        "weights, largest difference of spread to whole tables": furthest,
        "seconds per epoch": [alone_seconds, seconds, spread_seconds],
    }
    lines = [json.dumps(found, indent=2)] if args.json else [f"{name}: {value}" for name, value in found.items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
