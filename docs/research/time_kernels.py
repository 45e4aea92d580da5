"""What the time of ratings says, tried on ratings held out of the training parts of u1-u5: no test rating is read.

    AANMF_DATA=... python docs/research/time_kernels.py        writes docs/results/figures/time-kernels.json

10 % of the training ratings of each fold are held out, and one member is trained on the others. Weights are least
squares on one half of the held-out ratings and scored on the other half, both ways.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aanmf.data.sources import load
from aanmf.data.split import folds
from aanmf.fitted import Fitted
from aanmf.models.aanmfpp import fit
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.drift import SHRUNK, SPANS, weigh
from aanmf.models.aanmfpp.trainer import Trainer
from aanmf.ratings import Ratings

OUT = Path(__file__).parents[1] / "results" / "figures" / "time-kernels.json"
GRIDS = {"x 4": [10 * 4.0**k for k in range(11)], "x 100": [10.0, 1e3, 1e5, 1e7]}
COUNTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
AGES = [4.0**k for k in range(14)]
"""Ends of groups of ages, in seconds."""


class HeldOut:
    """Held-out ratings of one fold, the ratings that count for each of them, and half of them at random."""

    def __init__(self, part: fit.HeldOut, trainer: Trainer, valid: Ratings) -> None:
        module, member = part.module, part.members[0]
        scale, self.drift = float(module.scale), module.drift
        self.history, self.time, self.when = self.drift.history, self.drift.time, valid.context.time
        self.user, self.item = valid.user, valid.item
        self.residual = trainer.residual[member].double() / scale
        self.error = ((part.truth - part.moments[0, 0]) / scale).double().detach()
        self.half = torch.as_tensor(np.random.default_rng(5).random(len(self.error)) < 0.5)
        z = module.encode(member, module.history.see_all(module.config.damping)).z[:, :-1].double().detach()
        self.z = z / z.norm(dim=1, keepdim=True).clamp(min=1e-9)

    def near(self, of_history: Tensor, asked: Tensor, future: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs of a held-out rating and one of the history of the same user (item): both, and the time between."""
        order = torch.argsort(of_history, stable=True)
        count = torch.bincount(of_history, minlength=int(max(of_history.max(), asked.max())) + 1)
        n, start = count[asked], (count.cumsum(0) - count)[asked]
        row = torch.repeat_interleave(torch.arange(len(asked)), n)
        entry = order[start[row] + torch.arange(len(row)) - (n.cumsum(0) - n)[row]]
        apart = (self.when[row] - self.time[entry]).double()
        kept = torch.ones_like(apart, dtype=torch.bool) if future else apart > 0
        return row[kept], entry[kept], apart[kept]

    def mean(self, row: Tensor, entry: Tensor, weight: Tensor, count: float) -> Tensor:
        """Weighted means of residuals, `count` zeros included."""
        zero = torch.zeros(len(self.error), dtype=torch.float64)
        return zero.index_add(0, row, weight * self.residual[entry]) / (zero.index_add(0, row, weight) + count)

    def ages(self) -> Tensor:
        """Mean residuals by the age of the user, and of the item."""
        found = []
        for known, asked in ((self.history.user, self.user), (self.history.item, self.item)):
            never = torch.full((int(max(known.max(), asked.max())) + 1,), 2**62, dtype=torch.int64)
            first, ends = never.scatter_reduce(0, known, self.time, "amin"), torch.tensor(AGES, dtype=torch.float64)
            group, place = (
                torch.bucketize((at - first[who]).clamp(min=0).double(), ends, right=True)
                for at, who in ((self.time, known), (self.when, asked))
            )
            total = torch.zeros(len(AGES) + 1, dtype=torch.float64).index_add(0, group, self.residual)
            found.append((total / (torch.bincount(group, minlength=len(total)) + 200))[place])
        return torch.stack(found)

    def left(self, features: Tensor) -> Tensor:
        """Squared errors (n,), each by weights from the other half."""
        left = self.error.clone()
        for part in (self.half, ~self.half):
            left[part] = left[part] - weigh(features[:, ~part], self.error[~part]) @ features[:, part]
        return left.square()

    def left_by_chosen(self, of: Callable[[float], Tensor]) -> Tensor:
        """The same with the count of zeros that does best on the half that the weights are from."""
        left = self.error.clone()
        for part in (self.half, ~self.half):
            error = self.error[~part]

            def fitted(count: float, part: Tensor = part, error: Tensor = error) -> float:
                features = of(count)[:, ~part]
                return float((error - weigh(features, error) @ features).square().mean())

            features = of(min(COUNTS, key=fitted))
            left[part] = left[part] - weigh(features[:, ~part], error) @ features[:, part]
        return left.square()


def tried(held: HeldOut, future: bool) -> Iterator[tuple[str, Tensor]]:
    """A name, and squared errors, of everything that was tried."""
    row, entry, apart = held.near(held.history.user, held.user, future)
    apart = apart.abs()

    def kernels(spans: list[float], count: float = SHRUNK, of: Tensor | float = 1.0) -> Tensor:
        return torch.stack([held.mean(row, entry, torch.exp(-apart / span) * of, count) for span in spans])

    chosen = kernels(SPANS)
    yield "without", held.error.square()
    yield "kernels", held.left(chosen)
    for count in COUNTS:
        yield f"shrunk/{count:g}", held.left(kernels(SPANS, count))
    yield "shrunk/chosen", held.left_by_chosen(lambda count: kernels(SPANS, count))
    for name, spans in GRIDS.items():
        yield f"grid/{name.replace(' ', '')}", held.left(kernels(spans))
    yield "ages/alone", held.left(held.ages())
    yield "ages/too", held.left(torch.cat([chosen, held.ages()]))
    alike = (held.z[held.item[row]] * held.z[held.history.item[entry]]).sum(-1).clamp(min=0)
    yield "similar", held.left(torch.cat([chosen, kernels(SPANS, SHRUNK / 2, alike)]))
    row, entry, apart = held.near(held.history.item, held.item, future)
    apart = apart.abs()
    yield "items", held.left(torch.cat([chosen, kernels(SPANS[2:])]))


def main() -> None:
    """Writes the RMSE of all of it."""
    data, found = load("ml-100k").with_context(["timestamp"]), dict[str, dict[str, list[Tensor]]]()
    for fold in folds(data, "u1-u5"):
        training = Fitted.of(data.take(fold.train)).training
        config = AANMFppConfig(context=False, l2=70.0, match=False, validation=0.1, validation_ratings=8000)
        trainer = Trainer(config, torch.device("cpu"), None)
        rows = fit.validation_cuts(len(training.train), config)[0]
        part = fit._hold_out(trainer, training, config, [70.0], rows)
        held = HeldOut(part, trainer, training.train.take(torch.as_tensor(rows)))
        for future, column in ((False, "past"), (True, "any")):
            for name, squares in tried(held, future):
                found.setdefault(name, {}).setdefault(column, []).append(squares)
    summary = [
        {"model": name, **{f"{column}_mean": float(torch.cat(each).mean().sqrt()) for column, each in of.items()}}
        for name, of in found.items()
    ]
    OUT.write_text(json.dumps({"summary": summary}, indent=1) + "\n")


main()
