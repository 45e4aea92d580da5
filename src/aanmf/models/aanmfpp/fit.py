"""Training AANMF++: every part of the ratings is fitted with the other parts, and never itself, in the histories."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aanmf.contract import RatingModule, TrainingData
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.equations import Equations, Member, damped_means
from aanmf.models.aanmfpp.history import Seen
from aanmf.models.aanmfpp.interval import Interval
from aanmf.models.aanmfpp.module import AANMFppModule
from aanmf.models.aanmfpp.newcomers import errors_of_newcomers
from aanmf.models.aanmfpp.scores import Pairs
from aanmf.models.aanmfpp.stack import Rates, learn_weights
from aanmf.training.checkpoint import Checkpoints
from aanmf.training.log import Epoch, OnEpoch, TrainingLog
from aanmf.training.optimizer import adam, half_cosine
from aanmf.training.predict import pick_device

log = logging.getLogger(__name__)
SIMPLER = (("user_attributes", "item_attributes"), ("user_attributes", "item_attributes", "history", "ridge"))
"""Parts that a model of few ratings may do better without: attributes; everything but ids."""


def fit_aanmfpp(
    build: Callable[[AANMFppConfig, TrainingData], RatingModule],
    training: TrainingData,
    config: AANMFppConfig,
    on_epoch: OnEpoch | None = None,
    checkpoints: Checkpoints | None = None,
    shard_rows: int | None = None,
) -> tuple[AANMFppModule, TrainingLog]:
    """Chooses l2 and the trust over damped means on held-out ratings, then fits all members on all ratings.

    What users choose is learned after that (`choice.py`); of choices without ratings, nothing else is.
    `training_log.chosen` holds `l2`, `trust`, and as False the parts that were left out. After an interruption, members
    that are not complete take the weights of the one trained longest; `training_log.interrupted` says so.

    Raises:
        ConfigError: training diverged.
        KeyboardInterrupt: nothing was learned before it.
    """
    trainer = Trainer(config, pick_device(config.device), on_epoch)
    with torch.random.fork_rng(devices=[trainer.device] if trainer.device.type == "cuda" else []):
        validated = config.validation > 0 and len(training.train) >= 20
        selected = Selection(config, config.l2_tried[(len(config.l2_tried) - 1) // 2])
        if validated and training.has_ratings:
            with trainer.interruptible():
                selected = select(trainer, training)
        torch.manual_seed(config.seed)
        module = build(selected.config, training)
        assert isinstance(module, AANMFppModule)
        module.to(trainer.device).train()
        if training.has_ratings:
            cold = [0.0] * config.members + [config.cold] * (config.cold > 0)
            plans = [Plan(member, selected.l2, share) for member, share in zip(module.members, cold, strict=True)]
            if not trainer.training_log.interrupted:
                with trainer.interruptible():
                    trainer.train("final", module, training, plans)
            if trainer.training_log.interrupted:
                trainer.complete(module, training)
        module.trust.fill_(selected.trust)
        module.errors.load_state_dict(selected.errors.state_dict())
        module.newcomer_errors.load_state_dict(selected.newcomer_errors(training).state_dict())
        if module.choice is not None:
            stopped = trainer.training_log.interrupted
            rows = validation_cuts(len(training.train), config) if validated and not stopped else []
            cuts = [(torch.as_tensor(each), None) for each in rows]
            cuts = cuts if stopped or not training.has_ratings else selected.cuts()
            module.choice.fit().omega.copy_(learn_weights(selected.config, training, cuts))
    if training.has_ratings:
        trainer.training_log.chosen = selected.chosen(config)
        if selected.held:
            trainer.training_log.selected_mse = selected.mse / float(module.scale) ** 2
    return module.eval(), trainer.training_log


@dataclass(frozen=True)
class HeldOut:
    """Held-out ratings, scaled as in the model, and predictions of members that have not seen them.

    Attributes:
        rows: (n,) which of the training ratings.
        module: of the other ratings.
        members: one per strength of l2.
        truth, means: (n,) the ratings, and damped means.
        counts: (2, n) ratings of the user, and of the item.
        moments: (L, 2, n) mean and variance of the members.
    """

    rows: Tensor
    module: AANMFppModule
    members: list[Member]
    truth: Tensor
    means: Tensor
    counts: Tensor
    moments: Tensor

    def with_member(self, strength: int, trust: float) -> AANMFppModule:
        """The module with one of the members, as far as it is trusted over damped means."""
        self.module.member = nn.ModuleList([self.members[strength]])
        self.module.trust.fill_(trust)
        return self.module.train()

    def rates(self, strength: int, trust: float) -> Rates:
        """Predicted ratings of one of the members."""
        module, device = self.with_member(strength, trust), self.truth.device
        return lambda users: torch.cat([scores.cpu() for _, scores in module.catalogue(users.to(device))])


@dataclass(frozen=True)
class Selection:
    """What held-out ratings decide.

    Attributes:
        config: the settings, perhaps without some parts.
        l2: of the tables.
        trust: weight of the model over damped means, 0 to 1.
        errors: of the held-out ratings, for intervals.
        mse: of the held-out ratings, scaled as in the model, blended as far as `trust` says.
        held: the held-out ratings, and `strength`, the place of `l2` among the members.
    """

    config: AANMFppConfig
    l2: float
    trust: float = 1.0
    errors: Interval = field(default_factory=Interval)
    mse: float = 0.0
    held: Sequence[HeldOut] = ()
    strength: int = 0

    def cuts(self) -> list[tuple[Tensor, Rates]]:
        """Held-out rows, and ratings predicted by the members selected."""
        return [(part.rows, part.rates(self.strength, self.trust)) for part in self.held]

    def newcomer_errors(self, training: TrainingData) -> Interval:
        """The errors of the members selected, had the users been new."""
        if not self.held:
            return Interval()
        generator, found, device = torch.Generator().manual_seed(self.config.seed), [], self.held[0].truth.device
        for part in self.held:
            held_out = training.train.take(part.rows).to(device)
            found.append(errors_of_newcomers(part.with_member(self.strength, self.trust), held_out, generator))
        errors = Interval().to(device)
        errors.fit(_scale(training, self.held[0].module), *torch.cat(found, dim=1))
        return errors

    def chosen(self, asked: AANMFppConfig) -> dict[str, float]:
        """What differs from the settings that were asked for, or was not asked for."""
        parts = {name: value for name, value in self.config if value != getattr(asked, name)}
        return {"l2": self.l2, "trust": self.trust, **parts}


def select(trainer: Trainer, training: TrainingData) -> Selection:
    """The best selection on held-out ratings: l2 and, where ratings are few, whether to leave parts out."""
    config = trainer.config
    best = min(validate(trainer, training, config, config.l2_tried), key=lambda each: each.mse)
    if len(training.train) <= config.simplify_up_to:
        for parts in SIMPLER:
            simpler = config.model_copy(update=dict.fromkeys(parts, False))
            best = min(best, *validate(trainer, training, simpler, [best.l2]), key=lambda each: each.mse)
    log.info("%r: l2 %g, trust %.2f over damped means", best.config, best.l2, best.trust)
    return best


def validate(
    trainer: Trainer, training: TrainingData, config: AANMFppConfig, strengths: Sequence[float]
) -> list[Selection]:
    """One selection per strength of l2, from members trained without the held-out ratings."""
    cuts = validation_cuts(len(training.train), config)
    held = [_hold_out(trainer, training, config, strengths, rows) for rows in cuts]
    truth, means, counts, moments = (
        torch.cat([getattr(part, name) for part in held], dim=-1) for name in ("truth", "means", "counts", "moments")
    )
    selections = []
    for strength, (model, variance) in enumerate(moments):
        x, y = model - means, truth - means
        trust = float((x @ y / (x @ x).clamp(min=1e-9)).clamp(0, 1))
        mse, errors = float((y - trust * x).square().mean()), Interval().to(trainer.device)
        errors.fit(_scale(training, held[0].module), truth, means + trust * x, variance, *counts)
        selections.append(Selection(config, strengths[strength], trust, errors, mse, held, strength))
    return selections


def _scale(training: TrainingData, module: AANMFppModule) -> tuple[float, float]:
    """Lowest and highest rating, scaled as in the module."""
    return training.scale[0] * float(module.scale), training.scale[1] * float(module.scale)


def validation_cuts(n: int, config: AANMFppConfig) -> list[NDArray[np.int64]]:
    """Rows to hold out, one array per cut: enough of them in all to choose on."""
    order = np.random.default_rng([config.seed, 1]).permutation(n)
    size = max(1, round(n * config.validation))
    cuts = min(config.validation_cuts, n // size, max(1, round(config.validation_ratings / size)))
    return [np.sort(order[n - (cut + 1) * size : n - cut * size]) for cut in range(cuts)]


def _hold_out(
    trainer: Trainer, training: TrainingData, config: AANMFppConfig, strengths: Sequence[float], rows: NDArray[np.int64]
) -> HeldOut:
    """Holds out some ratings and trains one member per strength of l2 without them."""
    kept = np.setdiff1d(np.arange(len(training.train)), rows)
    part = training.with_train(training.train.take(torch.as_tensor(kept)))
    torch.manual_seed(config.seed)
    single = config.model_copy(update={"members": 1, "cold": 0.0, "match": False})
    module = AANMFppModule(single, part).to(trainer.device)
    members = [*module.members, *(module.new_member(part).to(trainer.device) for _ in strengths[1:])]
    trainer.train("search", module, part, [Plan(*each) for each in zip(members, strengths, strict=True)])
    with torch.no_grad():
        valid = training.train.take(torch.as_tensor(rows)).to(trainer.device)
        seen, means = (module.history.see_all(each) for each in (config.damping, config.means_damping))
        at = module.pairs(valid.user, valid.item)
        latent = [module.latent(member, module.encode(member, seen), at) for member in members]
        moments = [module.moments(member, f) for member, f in zip(members, latent, strict=True)]
        counts = torch.stack(at.both(seen.users.count, seen.items.count))
        truth, moments = valid.rating * module.scale, torch.stack(moments)
        return HeldOut(torch.as_tensor(rows), module, members, truth, damped_means(means, at), counts, moments)


@dataclass(frozen=True)
class Plan:
    """A member to train: with which l2, and which share of users and items treated as new."""

    member: Member
    l2: float
    cold: float = 0.0


@dataclass(frozen=True)
class Part:
    """Ratings to fit, scaled, and the other ratings in view."""

    at: Pairs
    rating: Tensor
    seen: Seen


@dataclass(frozen=True)
class Trainer:
    """Trains members and logs their epochs.

    Attributes:
        trained: members, and for how many epochs; the last ones last.
    """

    config: AANMFppConfig
    device: torch.device
    on_epoch: OnEpoch | None
    training_log: TrainingLog = field(default_factory=TrainingLog)
    trained: dict[Member, int] = field(default_factory=dict)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Notes an interruption, and goes on if something was learned before."""
        try:
            yield
        except KeyboardInterrupt:
            if not self.trained:
                raise
            self.training_log.interrupted = True

    def complete(self, module: AANMFppModule, training: TrainingData) -> None:
        """Members that were not trained to the end take the weights of the one trained longest, the last of these.

        Raises:
            KeyboardInterrupt: none of the same parts was trained.
        """
        names = module.members[0].state_dict().keys()
        alike = [(epochs, place, each) for place, (each, epochs) in enumerate(self.trained.items())]
        alike = [each for each in alike if each[2].state_dict().keys() == names]
        if not alike:
            raise KeyboardInterrupt
        *_, source = max(alike, key=lambda each: each[:2])
        for member in module.members:
            if self.trained.get(member, 0) < self.config.epochs:
                member.load_state_dict(source.state_dict())
        module.settle(*self._rated(training))

    def train(self, phase: str, equations: Equations, training: TrainingData, plans: Sequence[Plan]) -> None:
        """Trains members one after another, each with a seed of its own."""
        n = len(training.train)
        features = equations.ridge.fit() if equations.ridge else torch.zeros(0, n, device=self.device)
        for index, plan in enumerate(plans):
            for epoch, mse, seconds in self._epochs(equations, plan, features, self.config.seed + index):
                number, of = index * self.config.epochs + epoch, len(plans) * self.config.epochs
                record = Epoch(phase, number, of, mse, None, seconds, n / seconds)
                self.trained[plan.member] = epoch
                self.training_log.add(record, self.config.learning_rate, self.on_epoch)
            plan.member.settle(*self._rated(training))
        self.training_log.best_epoch = self.config.epochs

    def _rated(self, training: TrainingData) -> list[Tensor]:
        """Which users and items have training ratings."""
        found = training.train.rated(training.n_users + 1, training.n_items + 1)
        return [each.to(self.device) for each in found]

    def _epochs(
        self, equations: Equations, plan: Plan, features: Tensor, seed: int
    ) -> Iterator[tuple[int, float, float]]:
        """Adam over parts: a fresh cut in every epoch, some steps on each part. Yields number, error and seconds."""
        config, member, n = self.config, plan.member, len(equations.history)
        steps = config.steps or max(1, round((n / 160_000) ** (1 / 3)))
        parts = min(n, config.parts or min(max(n // 1000, 5), 20))
        optimizer = adam(member, member.l2_groups(plan.l2, config.l2_shares), n, config.learning_rate)
        generator = torch.Generator(self.device).manual_seed(seed)
        total, done = config.epochs * parts * steps, 0
        for epoch in range(1, config.epochs + 1):
            start, error = time.perf_counter(), torch.zeros((), dtype=torch.float64, device=self.device)
            for part in _parts(equations, features, parts, plan.cold, generator):
                f = part.rating
                for _ in range(steps):
                    half_cosine(optimizer, config.learning_rate, done / total)
                    f = equations.latent(member, equations.encode(member, part.seen), part.at)
                    optimizer.zero_grad()
                    equations.loss(member, f, part.rating).backward()
                    optimizer.step()
                    done += 1
                with torch.no_grad():
                    error += (equations.expected(member, f) - part.rating).double().square().sum()
            yield epoch, float(error / n / equations.scale**2), time.perf_counter() - start


def _parts(
    equations: Equations, features: Tensor, parts: int, cold: float, generator: torch.Generator
) -> Iterator[Part]:
    """All ratings in parts, each with the others in view, and with a share `cold` of users and items treated as new."""
    history = equations.history
    for rows in torch.randperm(len(history), generator=generator, device=generator.device).chunk(parts):
        rows = rows.sort().values  # by user: what is gathered for them lies close together
        user, item, given = history.user[rows], history.item[rows], features[:, rows]
        held_out = rows
        if cold > 0:
            known_user, known_item = (
                torch.rand(size, generator=generator, device=generator.device) >= cold for size in equations.shape
            )
            known = known_user[history.user] & known_item[history.item]
            given = given * known[rows]
            held_out = (~known.index_fill_(0, rows, False)).nonzero()[:, 0]
        seen = history.see(held_out, equations.config.damping)
        yield Part(Pairs(user, item, equations.sets.rows(user), given), history.rating[rows], seen)
