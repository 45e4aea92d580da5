"""On a CUDA device: seconds until AANMF++ reaches an RMSE, AANMF's ratings per second, its share of the roofline.

    python benchmarks/gpu.py [--source ml-1m] [--target .8322] [--batch-sizes 16384 65536 262144] [--tf32] [--json]

Uses the library as it stands, with `device=cuda`: batches are drawn and cut on the device, Adam is fused, and the host
waits for the device once an epoch. `--tf32` lets products round their factors to TF32. Without a CUDA device it says
so and ends.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from aanmf import AANMF, RatingDataset, make_model
from aanmf.data.sources import load
from aanmf.data.split import folds
from bandwidth import best_seconds, roofline
from time_to_rmse import HURRY


def time_to_rmse(data: RatingDataset) -> dict[str, float]:
    """The second fit: the first one loads kernels."""
    train, test = folds(data, "holdout:0.1", [0])[0].of(data)
    model = make_model("aanmf++", device="cuda", **HURRY)
    seconds = best_seconds(lambda: model.fit(train), torch.device("cuda"), repeats=1)
    return {"seconds": seconds, "rmse": model.evaluate(test).rmse}


def ratings_per_second(data: RatingDataset, batch_size: int) -> float:
    """Of the quickest of three epochs."""
    model = AANMF(device="cuda", epochs=3, validation=0.0, batch_size=batch_size).fit(data)
    return max(each.ratings_per_second for each in model.fitted_.training_log.epochs)


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m")
    parser.add_argument("--target", type=float, default=0.8322)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16_384, 65_536, 262_144])
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stdout.write('{"device": null}\n' if args.json else "no CUDA device here: nothing to measure\n")
        return
    torch.set_float32_matmul_precision("high" if args.tf32 else "highest")
    device, data = torch.device("cuda"), load(args.source)
    limits, fit = roofline(device, factors=32, slots=3, layer=64), time_to_rmse(data)
    rates = {size: ratings_per_second(data, size) for size in args.batch_sizes}
    result = {
        "device": torch.cuda.get_device_name(),
        "tf32": args.tf32,
        "fit": fit | {"reached": fit["rmse"] <= args.target},
        "aanmf_ratings_per_second": rates,
        "share_of_roofline": max(rates.values()) / limits["roofline_ratings_per_second"],
        "share_of_memory_bandwidth": max(rates.values()) / limits["ratings_per_second_by_bytes"],
        "limits": limits,
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30,
    }
    if args.json:
        json.dump(result, sys.stdout, indent=1)
    else:
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in result.items()))


if __name__ == "__main__":
    main()
