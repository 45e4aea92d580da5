"""The machine under the other figures: memory bandwidth and matrix products, and AANMF's share of them.

    python benchmarks/bandwidth.py [--device cpu] [--factors 32] [--slots 3] [--layer 64] [--rate N] [--json]

Bandwidth is that of a <- b + s * c over arrays that no cache holds (the triad of STREAM). The roofline of a training
step of AANMF: the time for the bytes that it must move, or for its products, whichever is longer.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import torch


def best_seconds(work: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """The shortest of some runs."""
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found[1:])


def triad(device: torch.device, numbers: int = 2**26) -> float:
    """Bytes per second of a <- b + s * c, three arrays of 256 MB."""
    a, b, c = (torch.ones(numbers, device=device) for _ in range(3))
    return 12 * numbers / best_seconds(lambda: torch.add(b, c, alpha=0.5, out=a), device)


def products(device: torch.device, size: int = 1024) -> float:
    """Floating point operations per second of a square matrix product in float32."""
    a, b = (torch.ones(size, size, device=device) for _ in range(2))
    return 2 * size**3 / best_seconds(lambda: a @ b, device)


def bytes_per_rating(factors: int, slots: int) -> float:
    """What cannot stay in a cache: the rating, and rows of p and q, read, and added to in both gradients.

    A rating is 8 + 8 + 4 bytes, shuffled (read, written) and read once more. Rows of p and q are read once and their
    gradients read and written, and the positions of attributes are read. Left out: Adam's passes over the tables,
    which a batch shares, and the vectors of attribute values, which are few and stay in the cache.
    """
    return 3 * 20 + 2 * 3 * 4 * factors + 3 * 8 * slots


def operations_per_rating(factors: int, slots: int, layer: int) -> float:
    """Of products and attention, forward and backward (twice as much): dense layers, W2 tanh(...), pooling."""
    dense = 2 * (factors * layer + layer)
    attention = slots * factors * (4 + 2)  # e^a e^q, + 1, 1 / ., the product with W2
    pooling = 2 * slots * factors
    return 3 * (dense + attention + pooling)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--factors", type=int, default=32)
    parser.add_argument("--slots", type=int, default=3)
    parser.add_argument("--layer", type=int, default=64)
    parser.add_argument("--rate", type=float, help="ratings per second, as epoch.py measures them")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    device = torch.device(args.device)
    result = roofline(device, args.factors, args.slots, args.layer)
    if args.rate:
        result["share_of_roofline"] = args.rate / result["roofline_ratings_per_second"]
    if args.json:
        json.dump(result, sys.stdout, indent=1)
    else:
        sys.stdout.write("".join(f"{name:>32} {value:,.4g}\n" for name, value in result.items()))


def roofline(device: torch.device, factors: int, slots: int, layer: int) -> dict[str, float]:
    """The machine's two limits and what they allow."""
    bandwidth, flops = triad(device), products(device)
    moved, operations = bytes_per_rating(factors, slots), operations_per_rating(factors, slots, layer)
    return {
        "threads": torch.get_num_threads(),
        "bandwidth_gb_per_second": bandwidth / 1e9,
        "products_gflops": flops / 1e9,
        "bytes_per_rating": moved,
        "operations_per_rating": operations,
        "ratings_per_second_by_bytes": bandwidth / moved,
        "ratings_per_second_by_operations": flops / operations,
        "roofline_ratings_per_second": min(bandwidth / moved, flops / operations),
    }


if __name__ == "__main__":
    main()
