"""What training and lists take that no machine here can try: memory, traffic, hours, cost, and what breaks first.

    python benchmarks/plan.py [--ratings 1e9] [--users 1e8] [--items 1e6] [--hosts 8] [--processes 1] [--factors 32]
        [--machine cpu|gpu] [--slots 3] [--batch 262144] [--epochs 20] [--network 25] [--price 2]
    python benchmarks/plan.py --page docs/scale.md

Arithmetic on constants. `Measured` has those that benchmarks of this library found, and `ASSUMED` those of machines
that it has not seen. AANMF is trained as `docs/distributed.md` describes: tables of users and items are divided among
the processes, everything else is on each of them; `--batch` is a process's part of a step. `--page` writes tables into
a page: each marker there names a table and the options that it is made with.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

FLOAT, COPIES, ADAM = 4, 6, 7
"""Bytes of a number; a table, its gradient, two moments, the best weights so far and, for a moment, better ones; passes
of Adam over a table: four reads, three writes."""
GB, HOUR = 1e9, 3600.0
MOST = 2**31
"""Positions of ratings in histories are 32-bit numbers."""
MARKS = re.compile(r"(<!-- plan: (\w+)(.*?) -->\n).*?(<!-- end of plan -->)", re.DOTALL)


def known(value: float, what: str, where: str) -> float:
    """A constant, what it is, and where it was found."""
    return field(default=value, metadata={"what": what, "where": where})


@dataclass(frozen=True)
class Measured:
    """What benchmarks found."""

    prepared: float = known(12, "bytes of a rating in the prepared file", "[large data](distributed.md)")
    slot: float = known(13, "bytes of an attribute slot of a user", "its tensors: position, weight, mask")
    identifier: float = known(136, "bytes of an id in memory", "two million ids of eight characters")
    core: float = known(
        0.87e6 / 2, "ratings/s that AANMF trains on a core", "[speed](performance.md): two cores, halved"
    )
    gpu: float = known(36.5e6, "ratings/s that AANMF trains on an H100", "[speed](performance.md), ML-1M")
    pairs: float = known(
        round(6040 * 3883 / 0.96 / 2, -5),
        "pairs/s that AANMF scores for lists on a core",
        "[speed](performance.md), everyone of ML-1M, half of two cores",
    )
    pairs_flagship: float = known(round(6040 * 3883 / 3.5 / 2, -5), "the same of AANMF++", "the same")
    rows: float = known(1.8e6, "rows of lists that a process makes and writes per second", "600,000 rows of CSV, MF")
    preparing: float = known(
        round(30e6 / 16, -5), "ratings that a process prepares per second", "[large data](distributed.md)"
    )
    flagship: float = known(100, "bytes of a rating in AANMF++", "[speed](performance.md), up to 24.5 M ratings")
    flagship_member: float = known(50, "the same, of each member in training", "the same")


FLAGSHIP_FIT = (24.5e6, 1317, 0.9)
"""AANMF++ on two cores: ratings, seconds of a fit, and the power by which these grow (docs/performance.md)."""


@dataclass(frozen=True)
class Machine:
    """A host that was not measured: cores, bytes of memory, bytes per second of memory and disk; GPU memory, if any."""

    cores: int
    memory: float
    memory_rate: float
    disk_rate: float
    device_memory: float = 0.0

    def rate(self, measured: Measured, processes: int) -> float:
        """Ratings per second that one of the processes on it trains."""
        return measured.gpu if self.device_memory else measured.core * self.cores / processes

    def limit(self, processes: int) -> float:
        """Bytes for a process's tables, nine tenths of what there is."""
        return 0.9 * (self.device_memory or self.memory / processes)


ASSUMED = {
    "cpu": Machine(cores=32, memory=256 * GB, memory_rate=100 * GB, disk_rate=1 * GB),
    "gpu": Machine(cores=32, memory=256 * GB, memory_rate=2650 * GB, disk_rate=1 * GB, device_memory=80 * GB),
}
"""A host with 32 cores; one with a GPU like the one measured (80 GB, 2.65 TB/s), of which each has a process."""


@dataclass(frozen=True)
class Plan:
    """Sizes of the data and of the model, and the hosts; bytes and seconds follow from them."""

    ratings: float
    users: float
    items: float
    hosts: int
    processes: int
    factors: int
    slots: int
    batch: float
    epochs: float
    network: float
    price: float
    machine: Machine
    measured: Measured = Measured()

    @property
    def ranks(self) -> int:
        """Processes on all hosts."""
        return self.hosts * self.processes

    @property
    def row(self) -> float:
        """Bytes of a user's or an item's vector."""
        return FLOAT * self.factors

    @property
    def tables(self) -> float:
        """Bytes of the whole tables of users and items."""
        return (self.users + self.items) * self.row

    @property
    def own(self) -> float:
        """Bytes of a process's blocks of them."""
        return self.tables / self.ranks

    @property
    def ids(self) -> float:
        """Bytes of all ids, in the host's memory also where tables are on a GPU."""
        return self.measured.identifier * (self.users + self.items)

    @property
    def held(self) -> dict[str, float]:
        """Bytes of each process all the time, without ids."""
        return {"attributes of users": self.users * self.slots * self.measured.slot}

    @property
    def trained(self) -> dict[str, float]:
        """What training adds: the own blocks with all that belongs to them, and the rows of a batch both ways."""
        blocks = "own blocks of users and items, gradients, moments, best weights"
        return {blocks: COPIES * self.own, "rows of a batch": 2 * sum(self.asked)}

    @property
    def asked(self) -> tuple[float, float]:
        """Bytes of the rows of other processes' users and items in a batch, as if all of its users were distinct."""
        other = self.row * (1 - 1 / self.ranks)
        return min(self.batch, self.users) * other, min(self.batch, self.items) * other

    def phases(self) -> dict[str, float]:
        """Bytes of each process in the phases of a fit, as `ShardedTables` has them (decision 0007).

        Each process makes its own blocks, and writes them into a checkpoint, the moments as one piece. At the end of
        training, each has the whole tables. The first one writes them as one piece, in the host's memory.
        """
        gpu = bool(self.machine.device_memory)
        held = sum(self.held.values()) + (0 if gpu else self.ids)
        training = held + sum(self.trained.values())
        return {
            "building": held + self.own,
            "training": training,
            "a checkpoint": training + (0 if gpu else 4 * self.own),
            "joining the tables, at the end": training + self.own + self.tables,
            "saving the model, in the first process": held + (1 if gpu else 3) * self.tables,
        }

    def step(self) -> dict[str, float]:
        """Seconds of a step, one after the other."""
        wire = self.processes * 2 * sum(self.asked)  # there and back; the processes of a host share its network
        rate = self.machine.rate(self.measured, self.processes)
        shared = 1 if self.machine.device_memory else self.processes
        return {
            "arithmetic": self.batch / rate,
            "Adam": ADAM * self.own * shared / self.machine.memory_rate,
            "network": wire / (self.network * GB / 8) if self.ranks > 1 else 0.0,
        }

    @property
    def steps(self) -> float:
        """Of an epoch."""
        return self.ratings / (self.batch * self.ranks)

    def hours(self) -> dict[str, float]:
        """Of preparing, a fit, one checkpoint, and everyone's lists by either model."""
        cores, pairs = self.hosts * self.machine.cores, self.users * self.items
        writing = 10 * self.users / self.measured.rows
        return {
            "preparing the ratings, by one process": self.ratings / self.measured.preparing / HOUR,
            f"a fit of AANMF, {self.epochs:g} epochs": self.epochs * self.steps * sum(self.step().values()) / HOUR,
            "writing a checkpoint": self.checkpoint / self.machine.disk_rate / HOUR,
            "everyone's lists of 10 by AANMF": max(pairs / (self.measured.pairs * cores), writing) / HOUR,
            "the same by AANMF++": max(pairs / (self.measured.pairs_flagship * cores), writing) / HOUR,
            "of these, writing, by one process": writing / HOUR,
        }

    @property
    def checkpoint(self) -> float:
        """Bytes: weights, best weights and moments of users and items."""
        return 4 * self.tables

    def disk(self) -> dict[str, float]:
        """Bytes on the file system that all share."""
        prepared = self.measured.prepared * self.ratings
        ids = 9.0 * (self.users + self.items)
        return {
            "prepared ratings": prepared,
            "two checkpoints": 2 * self.checkpoint,
            "model folder: weights, ratings, ids": self.tables + prepared + ids,
            "lists of 10, at 40 bytes a row": 400 * self.users,
        }

    def flagship(self) -> dict[str, float]:
        """Bytes of AANMF++ in a process that trains a member; its tables are whole, and two more are sums of a step."""
        constant = self.measured
        rows = COPIES * FLOAT * (self.factors + 1) * (self.users + self.items)
        similarities = 4 * FLOAT * min(self.items, 12_000) ** 2
        return {
            "ratings, histories, regressions": constant.flagship * self.ratings,
            "histories of the member in training": constant.flagship_member * self.ratings,
            "vectors of users and items": rows,
            "similarities of items": similarities,
            "ids": self.ids,
        }

    def breaks(self) -> list[tuple[str, float]]:
        """What is too small first: how many times the users and ratings of this plan each of them allows."""
        limit = self.machine.limit(self.processes)
        needs: list[tuple[str, Callable[[Plan], float], float]] = [
            (f"AANMF: memory for {name}", lambda plan, name=name: plan.phases()[name], limit) for name in self.phases()
        ]
        needs += [
            ("AANMF++: memory of a process", lambda plan: sum(plan.flagship().values()), limit),
            ("AANMF++: 32-bit positions of ratings", lambda plan: plan.ratings, MOST),
            ("prepared file: 32-bit positions of users", lambda plan: plan.users, MOST),
        ]
        return sorted(((what, self.times(need, most)) for what, need, most in needs), key=lambda each: each[1])

    def times(self, need: Callable[[Plan], float], most: float) -> float:
        """How many times the users and ratings are possible until a need, which grows with them, is met."""
        low, high = 0.0, 1e6
        for _ in range(100):
            middle = (low + high) / 2
            grown = replace(self, users=self.users * middle, ratings=self.ratings * middle)
            low, high = (middle, high) if need(grown) <= most else (low, middle)
        return low


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """In Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(value: float) -> str:
    """Three digits, without an exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{float(f'{value:.3g}'):,.{digits}f}"


def tables(plan: Plan) -> dict[str, str]:
    """The tables of the page by name."""
    limit = plan.machine.limit(plan.processes)
    parts = {"ids": plan.ids} | plan.held | plan.trained | {"whole tables, for comparison": plan.tables}
    phases = [
        (what, number(each / GB), number(limit / GB), "yes" if each <= limit else "**no**")
        for what, each in plan.phases().items()
    ]
    step, hours = plan.step(), plan.hours()
    times = [(f"{what}, ms", number(1e3 * each)) for what, each in step.items()]
    times += [
        ("a step, ms", number(1e3 * sum(step.values()))),
        ("steps of an epoch", number(plan.steps)),
        ("an epoch, minutes", number(plan.steps * sum(step.values()) / 60)),
        ("sent by a process in a step, MB: rows of users, and their gradients", number(2 * plan.asked[0] / 1e6)),
        ("sent by a process in a step, MB: rows of items, and their gradients", number(2 * plan.asked[1] / 1e6)),
    ]
    costs = [(what, number(each), number(each * plan.hosts * plan.price)) for what, each in hours.items()]
    n, seconds, power = FLAGSHIP_FIT
    fit = seconds * (plan.ratings / n) ** power / HOUR
    flagship = [(what, number(each / GB)) for what, each in plan.flagship().items()]
    flagship += [("together", number(sum(plan.flagship().values()) / GB)), ("hours of a fit on two cores", number(fit))]
    breaks = [
        (what, number(factor), number(factor * plan.users / 1e6), number(factor * plan.ratings / 1e9))
        for what, factor in plan.breaks()
    ]
    return {
        "constants": table(
            ("measured", "", "where"),
            [
                (each.metadata["what"], number(getattr(plan.measured, each.name)), each.metadata["where"])
                for each in fields(Measured)
            ],
        ),
        "memory": table(("in each process", "GB"), [(what, number(each / GB)) for what, each in parts.items()]),
        "phases": table(("phase", "needs, GB", "limit, GB", "fits"), phases),
        "step": table(("AANMF", ""), times),
        "hours": table(("", "hours", f"cost at {plan.price:g} per host-hour, {plan.hosts} hosts"), costs),
        "disk": table(("on disk", "GB"), [(what, number(each / GB)) for what, each in plan.disk().items()]),
        "flagship": table(("AANMF++, in a process that trains one member", "GB"), flagship),
        "breaks": table(("what is too small first", "times this plan", "M users", "B ratings"), breaks),
    }


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"ratings": 1e9, "users": 1e8, "items": 1e6, "batch": 262_144, "epochs": 20, "network": 25, "price": 2}
    helps = {"network": "Gbit/s of a host", "price": "of a host and hour", "batch": "ratings a step and process"}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=float, default=default, help=helps.get(name))
    for name, default in {"hosts": 8, "processes": 1, "factors": 32, "slots": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="on a host" if name == "processes" else None)
    parser.add_argument("--machine", choices=list(ASSUMED), default="cpu")
    parser.add_argument("--page", type=Path)
    return parser


def plan_of(given: argparse.Namespace) -> Plan:
    """From options."""
    sizes = {name: value for name, value in vars(given).items() if name not in ("page", "machine")}
    return Plan(**sizes, machine=ASSUMED[given.machine])


def filled(text: str) -> str:
    """A page with the tables of its markers."""

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}{tables(plan_of(arguments().parse_args(found[3].split())))[found[2]]}{found[4]}"

    return MARKS.sub(made, text)


def main() -> None:
    """Prints the tables, or writes them into a page."""
    args = arguments().parse_args()
    if args.page is None:
        sys.stdout.write("\n".join(tables(plan_of(args)).values()))
    else:
        args.page.write_text(filled(args.page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
