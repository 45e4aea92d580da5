"""Which spans and ages say most about ratings held out of the training parts of u1-u5: no test rating is read.

    AANMF_DATA=... python docs/research/time_kernels.py

For each of u1-u5, 10 % of the training ratings are held out and one member is trained on the others. Weights are least
squares on one half of the held-out ratings and scored on the other half, both ways.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from aanmf.data.sources import load
from aanmf.data.split import folds
from aanmf.fitted import Fitted
from aanmf.models.aanmfpp import fit
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.drift import weigh
from aanmf.models.aanmfpp.trainer import Trainer

HOUR, DAY = 3600, 86_400
SPANS = {
    "six by hand": [30, 120, 600, HOUR, DAY, 30 * DAY],
    "x 10": [10.0**k for k in range(1, 8)],
    "x 4": [10 * 4.0**k for k in range(0, 11)],
    "x 3.16": [10 ** (k / 2) for k in range(2, 15)],
    "x 100": [10.0, 1e3, 1e5, 1e7],
}
SHRUNK = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
AGES = {
    "by hand": [1, 60, 300, HOUR, DAY, 7 * DAY, 30 * DAY, 90 * DAY, 180 * DAY, 365 * DAY, 3 * 365 * DAY],
    "x 4": [4.0**k for k in range(14)],
    "x 10": [10.0**k for k in range(9)],
}


def sums(history, time: Tensor, residual: Tensor, users: Tensor, when: Tensor, span: float, future: bool) -> Tensor:
    """(2, B): the sum of weights, and of weighted residuals."""
    entry, _ = history.matrix.entries(users)
    row = torch.repeat_interleave(torch.arange(len(users)), history.matrix.count[users])
    apart = (when[row] - time[entry]).double()
    weight = torch.exp(-apart.abs() / span) * (1.0 if future else (apart > 0).double())
    zero = torch.zeros(len(users), dtype=torch.float64)
    return torch.stack([zero.index_add(0, row, each) for each in (weight, weight * residual[entry].double())])


def ages(
    ids: Tensor, time: Tensor, residual: Tensor, asked: Tensor, when: Tensor, ends: list[float], count: float | None
) -> Tensor:
    """(B,) the mean residual by age, shrunk by a count of zeros; None: as a one-way random effect (method of moments)."""
    first = torch.full((int(max(ids.max(), asked.max())) + 1,), 2**62, dtype=torch.int64).scatter_reduce(
        0, ids, time, "amin"
    )
    group = lambda at, who: torch.bucketize(
        (at - first[who]).clamp(min=0).double(), torch.tensor(ends, dtype=torch.float64), right=True
    )
    place = group(time, ids)
    n = torch.bincount(place, minlength=len(ends) + 1).double()
    mean = torch.zeros_like(n).index_add(0, place, residual.double()) / n.clamp(min=1)
    if count is None:
        variance = residual.double().var()
        between = ((n * mean.square()).sum() - variance * (n > 0).sum()).clamp(min=0) / n.sum()
        mean = mean * between / (between + variance / n.clamp(min=1)).clamp(min=1e-12)
    else:
        mean = mean * n / (n + count)
    return mean[group(when, asked)]


def crossed(features: Tensor, error: Tensor, half: Tensor) -> Tensor:
    """Squared errors left (n,), each by weights from the other half."""
    left = error.clone()
    for part in (half, ~half):
        left[part] = error[part] - weigh(features[:, ~part], error[~part]) @ features[:, part]
    return left.square()


def chosen(of: Callable[[float], Tensor], error: Tensor, half: Tensor) -> Tensor:
    """The same with the shrinkage that does best on the half that the weights are from."""
    left = error.clone()
    for part in (half, ~half):

        def fitted(count: float, part: Tensor = part) -> float:
            features = of(count)
            return float((error[~part] - weigh(features[:, ~part], error[~part]) @ features[:, ~part]).square().mean())

        features = of(min(SHRUNK, key=fitted))
        left[part] = error[part] - weigh(features[:, ~part], error[~part]) @ features[:, part]
    return left.square()


def held_out() -> Iterator[tuple[fit.HeldOut, Trainer, Tensor, Tensor, Tensor]]:
    data = load("ml-100k").with_context(["timestamp"])
    for fold in folds(data, "u1-u5"):
        training = Fitted.of(data.take(fold.train)).training
        config = AANMFppConfig(context=False, l2=70.0, match=False, validation_ratings=8000, validation=0.1)
        trainer = Trainer(config, torch.device("cpu"), None)
        (rows,) = fit.validation_cuts(len(training.train), config)[:1]
        yield fit._hold_out(trainer, training, config, [70.0], rows), trainer, training, torch.as_tensor(rows)


def main() -> None:
    found: dict[str, list[Tensor]] = {}
    for part, trainer, training, rows in held_out():
        valid, drift = training.train.take(rows), part.module.drift
        history, time = drift.history, drift.time
        residual = trainer.residual[part.members[0]]
        error = (part.truth - part.moments[0, 0]).double() / float(part.module.scale)
        residual = residual / float(part.module.scale)
        half = torch.as_tensor(np.random.default_rng(5).random(len(error)) < 0.5)
        when = valid.context.time
        found.setdefault("without", []).append(error.square())
        aged = {
            (name, count): torch.stack(
                [
                    ages(history.user, time, residual, valid.user, when, ends, count),
                    ages(history.item, time, residual, valid.item, when, ends, count),
                ]
            )
            for name, ends in AGES.items()
            for count in (200.0, None)
        }
        for (name, count), features in aged.items():
            found.setdefault(f"ages {name} {count}", []).append(crossed(features, error, half))
        for future in (False, True):
            for name, spans in SPANS.items():
                pairs = torch.stack([sums(history, time, residual, valid.user, when, span, future) for span in spans])
                of = lambda count: torch.cat([pairs[:, 1] / (pairs[:, 0] + count), aged["x 4", None]])
                when_words = "any" if future else "past"
                for count in SHRUNK:
                    found.setdefault(f"{when_words} {name} shrunk {count}", []).append(crossed(of(count), error, half))
                found.setdefault(f"{when_words} {name} shrunk chosen", []).append(chosen(of, error, half))
                every = torch.cat([pairs[:, 1] / (pairs[:, 0] + c) for c in SHRUNK] + [aged["x 4", None]])
                found.setdefault(f"{when_words} {name} all shrinkages", []).append(crossed(every, error, half))
                if name == "six by hand":
                    as_now = torch.cat([pairs[:, 1] / (pairs[:, 0] + 2), aged["by hand", 200.0]])
                    found.setdefault(f"{when_words} as it is", []).append(crossed(as_now, error, half))
        print(
            {
                k: round(float(torch.cat(v).mean().sqrt()), 5)
                for k, v in found.items()
                if "without" in k or "as it" in k
            },
            file=sys.stderr,
            flush=True,
        )
    for name, parts in found.items():
        each = " ".join(f"{float(p.mean().sqrt()):.4f}" for p in parts)
        print(f"{name:40s} {float(torch.cat(parts).mean().sqrt()):.5f}   {each}", flush=True)


main()
