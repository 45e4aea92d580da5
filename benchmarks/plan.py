"""What a training takes that no machine here can try: memory per rank, bytes on the wire, steps and hours, on paper.

    python benchmarks/plan.py [--users 1e8] [--items 1e6] [--ratings 1e10] [--factors 32] [--slots 3] [--batch 262144]
        [--ranks 8 16 32 64] [--machine gpu|cpu] [--json]

AANMF as the library trains it (`docs/distributed.md`): the tables of users and items with their gradients and both Adam
moments are divided among the ranks, everything else is on each of them; `--batch` is a rank's part of a batch.
Arithmetic only: rates of a machine are assumptions, given in `MACHINES`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass

FLOAT, COPIES = 4, 4
"""Bytes of a number; a table, its gradient and Adam's two moments."""
SLOT = 13
"""Bytes of a user's attribute slot, on every rank: position, weight, whether it is taken."""
RATING = 12
"""Bytes of a rating in the prepared file."""
ADAM = 7
"""Passes of Adam over a table: reads weight, gradient and moments, writes weight and moments."""


@dataclass(frozen=True)
class Machine:
    """One rank: ratings per second forward and backward, bytes per second of memory and network, bytes of memory."""

    rate: float
    memory_rate: float
    network_rate: float
    memory: float


MACHINES = {
    "gpu": Machine(rate=20e6, memory_rate=3e12, network_rate=25e9, memory=80e9),
    "cpu": Machine(rate=4e6, memory_rate=50e9, network_rate=1.5e9, memory=64e9),
}
"""A GPU with HBM and a share of a 200 Gbit/s network; eight cores of a server and a share of a 12 Gbit/s one."""


def plan(
    users: float, items: float, ratings: float, factors: int, slots: int, batch: float, ranks: int, machine: Machine
) -> dict[str, float]:
    """Figures of one number of ranks; seconds of a step are added up, as if nothing overlapped."""
    row = FLOAT * factors
    tables = (users + items) * row
    own = tables / ranks
    asked = (min(batch, users) + min(batch, items)) * row * (1 - 1 / ranks)  # rows of other ranks; gradients go back
    compute = batch / machine.rate
    adam = ADAM * own / machine.memory_rate
    wire = 2 * asked / machine.network_rate
    steps = ratings / (batch * ranks)
    sets = users * slots * SLOT
    held = COPIES * own + 2 * asked + sets
    joined = held if ranks == 1 else tables + COPIES * own + sets  # at the end each rank has the whole model
    return {
        "ranks": ranks,
        "memory_gb": held / 1e9,
        "joined_gb": joined / 1e9,
        "fits": max(held, joined) < 0.8 * machine.memory,
        "disk_gb": ratings * RATING / 1e9,
        "wire_mb_per_step": 2 * asked / 1e6,
        "step_ms": 1e3 * (compute + adam + wire),
        "compute_ms": 1e3 * compute,
        "adam_ms": 1e3 * adam,
        "wire_ms": 1e3 * wire,
        "steps_per_epoch": steps,
        "hours_per_epoch": steps * (compute + adam + wire) / 3600,
    }


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=float, default=1e8)
    parser.add_argument("--items", type=float, default=1e6)
    parser.add_argument("--ratings", type=float, default=1e10)
    parser.add_argument("--factors", type=int, default=32)
    parser.add_argument("--slots", type=int, default=3, help="attributes of a user")
    parser.add_argument("--batch", type=float, default=262_144)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 8, 16, 32, 64])
    parser.add_argument("--machine", choices=list(MACHINES), default="gpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    sizes = (args.users, args.items, args.ratings, args.factors, args.slots, args.batch)
    rows = [plan(*sizes, ranks, MACHINES[args.machine]) for ranks in args.ranks]
    if args.json:
        json.dump(rows, sys.stdout, indent=1)
        return
    names = list(rows[0])
    sys.stdout.write("  ".join(f"{name:>16}" for name in names) + "\n")
    for row in rows:
        sys.stdout.write("  ".join(f"{row[name]:>16,.4g}" for name in names) + "\n")


if __name__ == "__main__":
    main()
