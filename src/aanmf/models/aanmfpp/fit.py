"""Training AANMF++: every part of the ratings is fitted with the other parts, and never itself, in the histories."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aanmf.contract import TrainingData
from aanmf.errors import ConfigError
from aanmf.models.aanmfpp.interval import Interval
from aanmf.models.aanmfpp.module import AANMFppConfig, AANMFppModule, Member, member_groups
from aanmf.training.checkpoint import Checkpoints
from aanmf.training.trainer import Epoch, OnEpoch, TrainingLog, pick_device

log = logging.getLogger(__name__)
STRENGTHS = (30.0, 70.0, 160.0, 400.0)
"""Values of l2 to choose from on held-out training ratings."""
HELD_OUT = 5_000
"""Held-out ratings that a choice should rest on: small data sets are cut several times."""
LESS = (
    {"user_attributes": False, "item_attributes": False},
    {"user_attributes": False, "item_attributes": False, "history": False, "ridge": False},
)
"""What may do better where ratings are few: no attributes; ids alone."""
SMALL = 50_000
"""Up to so many ratings it is also tried whether the model does better with less."""

Build = Callable[[AANMFppConfig, TrainingData], AANMFppModule]


@dataclass(frozen=True)
class Trial:
    """How one setting did on held-out ratings.

    Attributes:
        config: with l2 set.
        mse: of predictions, blended with damped means as far as `trust` says.
        trust: weight of the model over damped means, 0 to 1.
        errors: learned from the held-out errors.
    """

    config: AANMFppConfig
    mse: float
    trust: float
    errors: Interval


def fit_aanmfpp(
    build: Build,
    training: TrainingData,
    config: AANMFppConfig,
    on_epoch: OnEpoch | None = None,
    checkpoints: Checkpoints | None = None,
    spread_rows: int | None = None,
) -> tuple[AANMFppModule, TrainingLog]:
    """Chooses l2 and the trust over damped means on held-out ratings, then fits all members on all ratings.

    Raises:
        ConfigError: training diverged.
    """
    loop = Loop(build, config, pick_device(config.device), on_epoch)
    with torch.random.fork_rng(devices=[loop.device] if loop.device.type == "cuda" else []):
        best = None
        if config.validation > 0 and len(training.train) >= 20:
            best = choose(loop, training, config)
        chosen = best.config if best else config
        l2 = STRENGTHS[1] if chosen.l2 is None else chosen.l2
        module = loop.fit("final", training, chosen, [l2] * config.members)  # and one for newcomers
        if best:
            module.trust.fill_(best.trust)
            module.errors.load_state_dict(best.errors.state_dict())
            changed = {name for less in LESS for name in less if getattr(chosen, name) != getattr(config, name)}
            loop.training_log.chosen = {"l2": l2, **dict.fromkeys(sorted(changed), False)}
            log.info("%r: l2 %g, trust %.2f over damped means", chosen, l2, best.trust)
    return module.eval(), loop.training_log


def choose(loop: Loop, training: TrainingData, config: AANMFppConfig) -> Trial:
    """The best setting on held-out ratings: l2 and, where ratings are few, whether to leave a part out."""
    cuts = validation_cuts(len(training.train), config.validation, config.seed)
    strengths = list(STRENGTHS) if config.l2 is None else [config.l2]
    best = min(try_out(loop, training, config, strengths, cuts), key=lambda trial: trial.mse)
    if len(training.train) <= SMALL:
        for less in LESS:
            smaller = best.config.model_copy(update=less)
            (trial,) = try_out(loop, training, smaller, [smaller.l2 or 0.0], cuts)
            best = min(best, trial, key=lambda each: each.mse)
    return best


def validation_cuts(n: int, share: float, seed: int) -> list[np.ndarray]:
    """Rows to hold out, one array per fit: enough of them in all to choose on."""
    order = np.random.default_rng([seed, 1]).permutation(n)
    size = max(1, round(n * share))
    many = min(5, n // size, max(1, round(HELD_OUT / size)))
    return [np.sort(order[n - (cut + 1) * size : n - cut * size]) for cut in range(many)]


def try_out(
    loop: Loop, training: TrainingData, config: AANMFppConfig, strengths: list[float], cuts: list[np.ndarray]
) -> list[Trial]:
    """One member per strength of l2, trained without the held-out ratings and scored on them."""
    ratings, seen = training.train, []
    for held in cuts:
        kept = np.setdiff1d(np.arange(len(ratings)), held)
        part = training.with_train(ratings.take(torch.as_tensor(kept)))
        valid = ratings.take(torch.as_tensor(held)).to(loop.device)
        module = loop.fit("search", part, config.model_copy(update={"cold": 0.0}), strengths).eval()
        with torch.no_grad():
            truth, means = valid.rating * module.scale, module.means(valid.user, valid.item)
            count = torch.stack(module.counts(valid.user, valid.item))
            each = module.each(valid.user, valid.item)
            model = torch.stack([module.expected(member, f) for member, f in each])
            variance = torch.stack([module.variance(member, f) for member, f in each])
        seen.append((truth / module.scale, means / module.scale, count, model / module.scale, variance))
    truth, means = (torch.cat([cut[side] for cut in seen]) for side in (0, 1))
    count, model, variance = (torch.cat([cut[side] for cut in seen], dim=1) for side in (2, 3, 4))
    scale = module.scale  # type: ignore[possibly-undefined]
    trials = []
    for l2, predicted, spread in zip(strengths, model, variance, strict=True):
        x, y = predicted - means, truth - means
        trust = float((x @ y / (x @ x).clamp(min=1e-9)).clamp(0, 1))
        error = y - trust * x
        errors = Interval().to(loop.device)
        errors.fit(error * scale, spread, count[0].float(), count[1].float())
        chosen = config.model_copy(update={"l2": l2})
        trials.append(Trial(chosen, float(error.square().mean()), trust, errors))
    return trials


class Loop:
    """Trains modules and keeps the history of it."""

    def __init__(self, build: Build, config: AANMFppConfig, device: torch.device, on_epoch: OnEpoch | None) -> None:
        self.build, self.seed, self.device, self.on_epoch = build, config.seed, device, on_epoch
        self.training_log = TrainingLog()

    def fit(self, phase: str, training: TrainingData, config: AANMFppConfig, strengths: list[float]) -> AANMFppModule:
        """A module with a member per strength of l2 (and one for newcomers), each with a seed of its own."""
        torch.manual_seed(self.seed)
        module = self.build(config.model_copy(update={"members": len(strengths)}), training).to(self.device)
        module.train()
        n = len(training.train)
        features = module.ridge.fit() if module.ridge else torch.zeros(n, 0, device=self.device)
        members = [(l2, 0.0) for l2 in strengths] + [(strengths[0], config.cold)] * (config.cold > 0)
        for index, (l2, cold) in enumerate(members):
            self._fit_member(phase, module, config.model_copy(update={"cold": cold}), index, l2, features)
        rated_users = torch.bincount(training.train.user, minlength=training.n_users + 1) > 0
        rated_items = torch.bincount(training.train.item, minlength=training.n_items + 1) > 0
        module.settle(rated_users.to(self.device), rated_items.to(self.device))
        return module

    def _fit_member(
        self, phase: str, module: AANMFppModule, config: AANMFppConfig, index: int, l2: float, features: Tensor
    ) -> None:
        """Adam over parts: a fresh cut in every epoch, `steps` steps on each part with its ratings held out."""
        member, ratings = module.members[index], module.history
        assert isinstance(member, Member)
        n = len(ratings)
        steps = config.steps or max(1, round((n / 160_000) ** (1 / 3)))
        parts = min(n, config.parts or min(max(n // 1000, 5), 20))
        optimizer = _optimizer(member, l2, n, config.learning_rate)
        generator = torch.Generator(self.device).manual_seed(self.seed + index)
        total, done = config.epochs * parts * steps, 0
        for epoch in range(1, config.epochs + 1):
            start, error = time.perf_counter(), torch.zeros((), dtype=torch.float64, device=self.device)
            for rows in torch.randperm(n, generator=generator, device=self.device).chunk(parts):
                rows = rows.sort().values  # by user: what is gathered for them lies close together
                user, item, rating = ratings.user[rows], ratings.item[rows], ratings.rating[rows]
                sets, given = module.sets.rows(user), features[rows]
                in_view = torch.ones_like(ratings.rating)
                if config.cold > 0:
                    known_user, known_item = (
                        (torch.rand(size, generator=generator, device=self.device) >= config.cold).float()
                        for size in module.shape
                    )
                    in_view = known_user.index_select(0, ratings.user) * known_item.index_select(0, ratings.item)
                    given = given * (known_user[user] * known_item[item])[:, None]
                seen = ratings.see(in_view.index_fill_(0, rows, 0))
                f = rating
                for _ in range(steps):
                    for group in optimizer.param_groups:
                        group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * done / total))
                    f = module.latent(member, module.encode(member, seen), user, item, sets, given)
                    optimizer.zero_grad()
                    module.loss(member, f, rating).backward()
                    optimizer.step()
                    done += 1
                with torch.no_grad():
                    error += (module.expected(member, f) - rating).double().square().sum()
            mse = float(error) / n / float(module.scale) ** 2
            self._record(phase, module, config, index, epoch, mse, time.perf_counter() - start)

    def _record(
        self,
        phase: str,
        module: AANMFppModule,
        config: AANMFppConfig,
        index: int,
        epoch: int,
        mse: float,
        seconds: float,
    ) -> None:
        if not math.isfinite(mse):
            raise ConfigError(
                f"training diverged in epoch {epoch} (error {mse}): give a learning_rate below {config.learning_rate:g}"
            )
        of = config.epochs * len(module.members)
        record = Epoch(phase, index * config.epochs + epoch, of, mse, None, seconds, len(module.history) / seconds)
        self.training_log.epochs.append(record)
        self.training_log.best_epoch = epoch
        if self.on_epoch:
            self.on_epoch(record)


def _optimizer(member: Member, l2: float, n: int, learning_rate: float) -> torch.optim.Optimizer:
    groups = list(member_groups(member, l2))
    named = {id(each) for _, params in groups for each in params}
    groups.append((0.0, [each for each in member.parameters() if id(each) not in named]))
    return torch.optim.Adam(
        [{"params": params, "weight_decay": 2 * strength / n} for strength, params in groups],
        lr=learning_rate,
        fused=True,
    )
