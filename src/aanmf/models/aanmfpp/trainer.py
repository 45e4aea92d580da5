"""Training members of AANMF++: every part of the ratings is fitted with the other parts, and never itself, in view."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aanmf.contract import TrainingData
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.equations import Equations, Member
from aanmf.models.aanmfpp.history import Sampling, Seen
from aanmf.models.aanmfpp.module import AANMFppModule
from aanmf.models.aanmfpp.scores import Pairs
from aanmf.training.log import Epoch, OnEpoch, TrainingLog
from aanmf.training.optimizer import adam, half_cosine
from aanmf.training.side_by_side import at_once, side_by_side


@dataclass(frozen=True)
class Plan:
    """A member to train: with which l2, and which share of users and items treated as new."""

    member: Member
    l2: float
    cold: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Ratings to fit in one step, scaled, where they lie in the history, and the ratings in view."""

    rows: Tensor
    at: Pairs
    rating: Tensor
    seen: Seen


@dataclass(frozen=True)
class Trainer:
    """Trains members and logs their epochs.

    Attributes:
        trained: members, and for how many epochs; the last ones last.
        residual: by member, (N,) what its last epoch left of each training rating, held out of all histories.
        stop: members that are in training stop before their next step.
    """

    config: AANMFppConfig
    device: torch.device
    on_epoch: OnEpoch | None
    training_log: TrainingLog = field(default_factory=TrainingLog)
    trained: dict[Member, int] = field(default_factory=dict)
    residual: dict[Member, Tensor] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def residual_of(self, members: Sequence[Member]) -> Tensor | None:
        """(N,) mean residual of some members, scaled, in the order of the history; None: none was finished."""
        found = [self.residual[member] for member in members if member in self.residual]
        return torch.stack(found).mean(0) if found else None

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ends the training at an interruption (Ctrl-C) and keeps what was learned; where nothing was, raises it."""
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
        shapes = _shapes(module.members[0])
        alike = [(epochs, place, each) for place, (each, epochs) in enumerate(self.trained.items())]
        alike = [each for each in alike if _shapes(each[2]) == shapes]
        if not alike:
            raise KeyboardInterrupt
        *_, source = max(alike, key=lambda each: each[:2])
        for member in module.members:
            if self.trained.get(member, 0) < self.config.epochs:
                member.load_state_dict(source.state_dict())
        module.settle(*self._rated(training))

    def train(self, phase: str, equations: Equations, training: TrainingData, plans: Sequence[Plan]) -> None:
        """Trains members, as many side by side as there are threads, each with a seed of its own."""
        n, of = len(training.train), len(plans) * self.config.epochs
        features = equations.ridge.fit() if equations.ridge else torch.zeros(0, n, device=self.device)
        runs = [
            (plan, self._epochs(equations, plan, features, self.config.seed + index))
            for index, plan in enumerate(plans)
        ]
        number, size = 0, at_once(len(runs), self.device)
        for group in (runs[first : first + size] for first in range(0, len(runs), size)):
            with side_by_side(len(group)) as each, self._stopping():
                for epoch in range(1, self.config.epochs + 1):
                    ended = each(_next_epoch, [run for _, run in group])
                    for (plan, _), (mse, seconds) in zip(group, ended, strict=True):
                        number, took = number + 1, seconds / len(group)
                        self.trained[plan.member] = epoch
                        record = Epoch(phase, number, of, mse, None, took, n / took)
                        self.training_log.add(record, self.config.learning_rate, self.on_epoch)
            for plan, _ in group:
                plan.member.settle(*self._rated(training))
        self.training_log.best_epoch = self.config.epochs

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Tells the threads of other members to stop when one fails, or at Ctrl-C."""
        try:
            yield
        except BaseException:
            self.stop.set()
            raise

    def _rated(self, training: TrainingData) -> list[Tensor]:
        """Which users and items have training ratings."""
        found = training.train.rated(training.n_users + 1, training.n_items + 1)
        return [each.to(self.device) for each in found]

    def _epochs(self, equations: Equations, plan: Plan, features: Tensor, seed: int) -> Iterator[tuple[float, float]]:
        """Adam over parts: a fresh cut in every epoch, some steps on each part. Yields error and seconds."""
        config, member, n = self.config, plan.member, len(equations.history)
        steps = steps_per_part(equations.config, n)
        parts = min(n, config.parts or min(max(n // 1000, 5), 20))
        groups, cell = member.l2_groups(plan.l2, config.l2_shares), list(member.cell.parameters())
        optimizer = adam(
            member, groups, n, config.learning_rate, fast=cell, pace=equations.config.attention_rate or 1.0
        )
        generator = torch.Generator(self.device).manual_seed(seed)
        total, done = config.epochs * parts * steps, 0
        for epoch in range(1, config.epochs + 1):
            start, error = time.perf_counter(), torch.zeros((), dtype=torch.float64, device=self.device)
            for batch in _batches(equations, features, (parts, steps), plan.cold, generator):
                if self.stop.is_set():
                    return
                half_cosine(optimizer, config.learning_rate, done / total)
                f = equations.latent(member, equations.encode(member, batch.seen), batch.at)
                optimizer.zero_grad()
                equations.loss(member, f, batch.rating).backward()
                optimizer.step()
                done += 1
                with torch.no_grad():
                    left = batch.rating - equations.expected(member, f)
                    error += left.double().square().sum()
                    if equations.context is not None and epoch == config.epochs:
                        residual = self.residual.setdefault(member, torch.zeros(n, device=self.device))
                        residual[batch.rows] = left
            yield float(error / n / equations.scale**2), time.perf_counter() - start


def _next_epoch(run: Iterator[tuple[float, float]]) -> tuple[float, float]:
    return next(run)


def _shapes(member: Member) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in member.state_dict().items()}


def steps_per_part(config: AANMFppConfig, n: int) -> int:
    """Optimiser steps on each part of n training ratings."""
    return config.steps or max(1, round((n / 160_000) ** (1 / 3)))


def _batches(
    equations: Equations, features: Tensor, cut: tuple[int, int], cold: float, generator: torch.Generator
) -> Iterator[Batch]:
    """All ratings in parts, each in some batches with the others in view.

    Args:
        features: (F, N) of the kernel ridge.
        cut: into how many parts, and each of them into how many batches.
        cold: share of users and items treated as new.
    """
    history, context, (parts, batches) = equations.history, equations.context, cut
    known = torch.ones(len(history), dtype=torch.bool, device=generator.device)
    for part in torch.randperm(len(history), generator=generator, device=generator.device).chunk(parts):
        held_out = part
        if cold > 0:
            known_user, known_item = (
                torch.rand(size, generator=generator, device=generator.device) >= cold for size in equations.shape
            )
            known = known_user[history.user] & known_item[history.item]
            held_out = (~known.index_fill(0, part, False)).nonzero()[:, 0]
        seen = history.see(held_out, equations.config.damping, Sampling(equations.config.sampled, generator))
        for share in part.chunk(batches):
            rows = share.sort().values  # by user: what is gathered for them lies close together
            user, given = history.user[rows], features[:, rows] * known[rows]
            sets = equations.sets.rows(user)
            sets = sets if context is None else sets.in_context(context.rows(rows))
            yield Batch(rows, Pairs(user, history.item[rows], sets, given), history.rating[rows], seen)
