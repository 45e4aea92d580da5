"""What one GPU makes of the library, in one run: training, lists, new users, loading, each beside its roofline.

    python benchmarks/gpu.py [--device cuda] [--source ml-1m] [--batch-sizes 16384 65536 262144] [--tf32] [--users 300]
        [--sections limits aanmf ...] [--set NAME=VALUE] [--target .8322] [--out gpu.json] [--json]

Uses the library as it stands. With `--device cpu --source synthetic:3000` the same code runs on any machine, as a test
does. `work.py` counts what must be moved and computed; `limits` measures how fast the device does either. `share` is
the least time divided by the measured one. A section that fails, for want of memory for instance, leaves a message in
place of its figures, and the others go on. OUT is written after each of them. `--tf32` lets products round to TF32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from aanmf import AANMF, RatingDataset, Recommender, load_model, make_model
from aanmf.data.sources import load
from aanmf.data.split import folds
from aanmf.models.aanmfpp.run import steps_per_part
from bandwidth import best_seconds, products, triad
from time_to_rmse import HURRY
from work import Machine, Shapes, Work, aanmf_lists, aanmf_rating, flagship_lists, loading, member_step, newcomer

LISTED, LAYER, GIVEN = 100, 64, 20
"""Items of a list; AANMF's layer; ratings that a new user gives."""
Found = dict[str, Any]


@dataclass
class Bench:
    """What the sections share: models are fitted when a section first needs them."""

    data: RatingDataset
    device: torch.device
    args: argparse.Namespace

    @cached_property
    def machine(self) -> Machine:
        """The device's limits, measured."""
        here, there = torch.ones(2**24), torch.ones(2**24, device=self.device)
        copying = 4 * len(here) / best_seconds(lambda: there.copy_(here), self.device)
        return Machine(triad(self.device, 2**26), products(self.device), copying)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Of AANMF++: its defaults, but for --set."""
        return {name: json.loads(value) for name, _, value in (each.partition("=") for each in self.args.set)}

    @property
    def flagship(self) -> tuple[Recommender, float]:
        """AANMF++, and the seconds of its fit."""
        if isinstance(self._flagship, Exception):
            raise self._flagship
        return self._flagship

    @cached_property
    def _flagship(self) -> tuple[Recommender, float] | Exception:
        """Of the one attempt to fit it."""
        model = make_model("aanmf++", device=str(self.device), **self.settings)
        try:
            return model, self.timed(lambda: model.fit(self.data))
        except Exception as error:
            return error.with_traceback(None)  # which would hold on to the memory

    @cached_property
    def small(self) -> Recommender:
        """AANMF after one epoch: the time of lists does not depend on how well it fits."""
        return AANMF(device=str(self.device), epochs=1, validation=0.0).fit(self.data)

    def shapes(self, model: Recommender) -> Shapes:
        """Of the data, and of a model."""
        config, data = model.config, self.data
        given = {"slots": len(data.users.attributes), "factors": getattr(config, "factors", 0)}
        if model.spec.name == "aanmf++":
            given |= {"members": getattr(config, "members", 1)}
            given |= {"strengths": len(getattr(config, "ridge_strengths", ())) * getattr(config, "ridge", True)}
        return Shapes(len(data.users), len(data.items), len(data), **given)

    def timed(self, work: Callable[[], object]) -> float:
        """Seconds until the device has done it."""
        start = time.perf_counter()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def beside(self, seconds: float, work: Work) -> Found:
        """A time, the least one, and its share."""
        least = work.seconds(self.machine)
        return {"seconds": seconds, "least_seconds": least, "share": least / seconds}


def limits(bench: Bench) -> Found:
    """How fast the device moves and computes."""
    machine = bench.machine
    return {
        "bandwidth_gb_per_second": machine.bandwidth / 1e9,
        "products_gflops": machine.flops / 1e9,
        "host_to_device_gb_per_second": machine.copying / 1e9,
    }


def aanmf(bench: Bench) -> Found:
    """AANMF's ratings per second by size of batch, of the quickest of three epochs."""
    found = {}
    for size in bench.args.batch_sizes:
        model = AANMF(device=str(bench.device), epochs=3, validation=0.0, batch_size=size).fit(bench.data)
        rate = max(each.ratings_per_second for each in model.fitted_.training_log.epochs)
        beside = bench.beside(1 / rate, aanmf_rating(bench.shapes(model), LAYER))
        found[str(size)] = {"ratings_per_second": rate, "share": beside["share"]}
    return found


def flagship(bench: Bench) -> Found:
    """AANMF++: its fit, and a step of a member."""
    model, seconds = bench.flagship
    last = [each for each in model.fitted_.training_log.epochs if each.phase == "final"]
    config, n = model.config.with_chosen(model.chosen_), len(bench.data)
    parts = min(n, getattr(config, "parts", None) or min(max(n // 1000, 5), 20))
    steps = parts * steps_per_part(config, n)  # pyright: ignore[reportArgumentType]
    step = statistics.median(each.seconds for each in last) / steps
    beside = bench.beside(step, member_step(bench.shapes(model), n // steps))
    return {"fit_seconds": seconds, "epochs": len(model.fitted_.training_log.epochs), "step": beside}


def hurry(bench: Bench) -> Found:
    """AANMF++ as in `time_to_rmse.py`, with a tenth held out: the second fit, since the first one loads kernels."""
    train, test = folds(bench.data, "holdout:0.1", [0])[0].of(bench.data)
    model = make_model("aanmf++", device=str(bench.device), **HURRY)
    seconds = best_seconds(lambda: model.fit(train), bench.device, repeats=1)
    rmse = model.evaluate(test).rmse
    return {"seconds": seconds, "rmse": rmse, "reached": rmse <= bench.args.target}


def everyone(bench: Bench) -> Found:
    """Everyone's lists: the second time, since the first one computes what all share."""
    found = {}
    for name, model in (("aanmf++", bench.flagship[0]), ("aanmf", bench.small)):
        seconds = min(bench.timed(lambda model=model: sum(map(len, model.recommend_all(LISTED)))) for _ in range(2))
        shapes = bench.shapes(model)
        work = flagship_lists(shapes, shapes.users) if name == "aanmf++" else aanmf_lists(shapes, shapes.users, LAYER)
        found[name] = bench.beside(seconds, work)
    return found


def one_list(bench: Bench) -> Found:
    """One user's list: median and 99th percentile, each of another user."""
    model = bench.flagship[0]
    users = bench.data.users.ids.ids[: bench.args.users]
    return _each(bench, [lambda user=user: model.recommend(user, 10) for user in users], flagship_lists)


def fold_in(bench: Bench) -> Found:
    """The list of a new user with some ratings."""
    model, items = bench.flagship[0], bench.data.items.ids.ids
    low, high = bench.data.scale
    given = [
        {items[(at + 7 * j) % len(items)]: (low, high)[j % 2] for j in range(min(GIVEN, len(items) // 2))}
        for at in range(bench.args.users)
    ]
    return _each(bench, [lambda each=each: model.recommend_for({}, 10, ratings=each) for each in given], newcomer)


def _each(bench: Bench, works: list[Callable[[], object]], counted: Callable[[Shapes, int], Work]) -> Found:
    works[0]()
    seconds = sorted(bench.timed(work) for work in works)
    work = counted(bench.shapes(bench.flagship[0]), GIVEN if counted is newcomer else 1)
    return bench.beside(statistics.median(seconds), work) | {"p99_seconds": seconds[int(0.99 * (len(seconds) - 1))]}


def loaded(bench: Bench) -> Found:
    """Loading AANMF++ from a folder that the system has in its cache, and its first list."""
    model, user = bench.flagship[0], bench.data.users.ids.ids[0]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        model.save(folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        kept: list[Recommender] = []
        seconds = bench.timed(lambda: kept.append(load_model(folder, device=str(bench.device))))
        first = bench.timed(lambda: kept[0].recommend(user, 10))
    return bench.beside(seconds, loading(size)) | {"megabytes": size / 1e6, "first_list_seconds": first}


SECTIONS: dict[str, Callable[[Bench], Found]] = {
    "limits": limits,
    "aanmf": aanmf,
    "hurry": hurry,
    "flagship": flagship,
    "everyone": everyone,
    "one list": one_list,
    "fold-in": fold_in,
    "loading": loaded,
}


def measured(bench: Bench, names: list[str]) -> Iterator[tuple[str, Found]]:
    """Each section's figures, or how it failed; and the most memory that it took of a GPU."""
    for name in names:
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        try:
            found: Found = SECTIONS[name](bench)
        except Exception as error:  # out of memory, most of all: the other sections may fit
            found = {"error": f"{type(error).__name__}: {error}"}
        found["section_seconds"] = time.perf_counter() - start
        if bench.device.type == "cuda":
            found["peak_gb"] = torch.cuda.max_memory_allocated() / 2**30
        yield name, found


def main() -> None:
    """Runs, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--source", default="ml-1m")
    parser.add_argument("--target", type=float, default=0.8322)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16_384, 65_536, 262_144])
    parser.add_argument("--users", type=int, default=300, help="whose lists are timed one by one")
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of AANMF++")
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.stdout.write('{"device": null}\n' if args.json else "no CUDA device here: nothing to measure\n")
        return
    torch.set_float32_matmul_precision("high" if args.tf32 else "highest")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    result: Found = {"device": name, "torch": torch.__version__, "tf32": args.tf32, "source": args.source}
    for section, found in measured(Bench(load(args.source), device, args), args.sections):
        result[section] = found
        if args.out:
            args.out.write_text(json.dumps(result, indent=1))
        if not args.json:
            sys.stdout.write(f"{section}: {json.dumps(found)}\n")
            sys.stdout.flush()
    if args.json:
        json.dump(result, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
