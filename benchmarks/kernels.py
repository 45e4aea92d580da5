"""What every fast form of `models/kernels.py` wins of its model's training step (or of scoring a catalogue).

    python benchmarks/kernels.py [--source ml-100k ml-1m] [--steps 100] [--json]

Steps with the fast form and with its reference in its place alternate. Prints, per data set, model and fast form, the
median time of a step and how many times as long one with the reference takes.
A form below 1.05 in every row is not worth its lines. One thread; best on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle

import torch

from aanmf import MF, make_model
from aanmf.contract import BatchConfig, RatingModule, TrainingData
from aanmf.data.sources import load
from aanmf.models import aanmf, fm, kernels, layers, svdpp
from aanmf.models.aanmfpp import module as aanmfpp
from aanmf.models.aanmfpp.scores import Pairs
from aanmf.models.catalog import spec_of

Step = Callable[[], None]
USED: dict[str, tuple[str, ...]] = {
    "aanmf": ("tanh_scores", "weighted_sum", "lookup", "dropout_linear"),
    "aanmf+p": ("tanh_scores", "weighted_sum", "lookup", "dropout_linear"),
    "aanmf++": ("tanh_scores", "tanh_table", "weighted_sum", "lookup"),
    "fm": ("weighted_sum",),
}
"""Fast forms in the training step of a model."""
SCORING = {"aanmf": ("affine_layer",), "aanmf+p": ("affine_layer",)}
"""Fast forms in the scores of a whole catalogue."""
USERS = 256


@contextmanager
def reference(name: str | None) -> Iterator[None]:
    """The reference of a fast form in its place, wherever a model calls it; None: nothing."""
    callers = [module for module in (layers, aanmf, aanmfpp, fm, svdpp) if name and hasattr(module, name)]
    fast = {module: getattr(module, str(name)) for module in callers}
    try:
        for module in callers:
            setattr(module, str(name), getattr(kernels, f"{name}_reference"))
        yield
    finally:
        for module, form in fast.items():
            setattr(module, str(name), form)


def step_of(name: str, training: TrainingData) -> Step:
    """One training step of a model at its default settings, batch after batch."""
    spec = spec_of(name)
    config = make_model(name).config
    module = spec.module_type(config, training).train()
    if isinstance(module, aanmfpp.AANMFppModule):
        return _step_on_a_part(module, training)
    assert isinstance(config, BatchConfig)
    generator = torch.Generator().manual_seed(0)
    batches = cycle(list(training.train.batches(config.batch_for(len(training.train)), generator))[:-1])
    optimizer = _adam(module)

    def step() -> None:
        batch = next(batches)
        optimizer.zero_grad()
        (module(batch.user, batch.item) - batch.rating).square().mean().backward()
        optimizer.step()

    return step


def _step_on_a_part(module: aanmfpp.AANMFppModule, training: TrainingData) -> Step:
    """AANMF++ is fitted to a part of the ratings with the others in view."""
    ratings, member = module.history, module.members[0]
    n = len(ratings)
    parts = cycle([part.sort().values for part in torch.randperm(n).chunk(min(max(n // 1000, 5), 20))])
    optimizer = _adam(member)

    def step() -> None:
        rows = next(parts)
        user, item = ratings.user[rows], ratings.item[rows]
        seen = ratings.see(rows, module.config.damping)
        at = Pairs(user, item, module.sets.rows(user), torch.zeros(len(member.t), len(rows)))
        f = module.latent(member, module.encode(member, seen), at)
        optimizer.zero_grad()
        module.loss(member, f, ratings.rating[rows]).backward()
        optimizer.step()

    return step


def catalogue_of(name: str, training: TrainingData) -> Step:
    """Scores of all items for some users."""
    module = spec_of(name).module_type(make_model(name).config, training).eval()
    users = torch.randperm(training.n_users)[:USERS]

    @torch.no_grad()
    def step() -> None:
        for _ in module.catalogue(users):
            pass

    return step


def _adam(module: RatingModule | torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)


def seconds(step: Step) -> float:
    """Processor time of one step on one thread, which other processes disturb less than the clock on the wall."""
    start = time.thread_time()
    step()
    return time.thread_time() - start


def measure(step: Step, forms: tuple[str, ...], rounds: int) -> dict[str | None, float]:
    """Median seconds of a step with the reference of each form in its place, and (None) as it is; in random order."""
    order: list[str | None] = [None, *forms]
    times: dict[str | None, list[float]] = {form: [] for form in order}
    for turn in range(rounds + 3):
        random.Random(turn).shuffle(order)
        for form in order:
            with reference(form):
                taken = seconds(step)
            if turn >= 3:  # the first ones warm up
                times[form].append(taken)
    return {form: statistics.median(values) for form, values in times.items()}


def main() -> None:
    """Runs and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", nargs="+", default=["ml-100k", "ml-1m"])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for source in options.source:
        training = MF(epochs=1, validation=0, factors=2).fit(load(source)).fitted_.training
        tasks = [(model, forms, step_of) for model, forms in USED.items()]
        tasks += [(model, forms, catalogue_of) for model, forms in SCORING.items()]
        for model, forms, build in tasks:
            torch.manual_seed(0)
            medians = measure(build(model, training), forms, options.steps)
            for form in forms:
                wins = medians[form] / medians[None]
                rows.append({"source": source, "model": model, "form": form, "ms": 1e3 * medians[None], "wins": wins})
                if not options.json:
                    sys.stdout.write(
                        f"{source:>8} {model:>8} {1e3 * medians[None]:8.2f} ms  {form:>15} {wins:5.2f} x\n"
                    )
    if options.json:
        json.dump(rows, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
