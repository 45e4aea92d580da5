"""The training of a member of AANMF++: each part of the ratings is fitted with the others, never itself, in view.

Everything that a step changes is in the fields of `Run`, so that it can be written to a checkpoint at the end of an
epoch, sent to another process, and restored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.equations import Equations, Member
from aanmf.models.aanmfpp.history import Sampling, Seen
from aanmf.models.aanmfpp.scores import Pairs
from aanmf.training.optimizer import adam, half_cosine

FULL = 2
"""Steps on a part with which all epochs are needed."""
WEIGHT, MOMENT = "weight.", "adam."
"""What names of tensors in the state of a run begin with; others are the fields of the same name."""
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps of a parameter."""


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


class Run:
    """One member in training by Adam, over parts that are cut anew in every epoch, with some steps on each part.

    Attributes:
        epochs, epoch: how many are to be done, and are done.
        residual: (N,) what the last epoch left of each training rating, held out of all histories; None: ratings have
            no context, or the training is not at its end.
    """

    def __init__(
        self,
        config: AANMFppConfig,
        equations: Equations,
        plan: Plan,
        features: Tensor,
        seed: int,
        stop: threading.Event,
    ) -> None:
        """At its beginning.

        Args:
            config: epochs at most, and learning rate.
            equations: the training ratings; their settings say into how many parts and steps an epoch is cut.
            plan: the member.
            features: (F, N) of the kernel ridge.
            seed: of the cuts.
            stop: where it is set, training ends before its next step.
        """
        self.config, self.equations, self.plan, self.features, self.stop = config, equations, plan, features, stop
        n, own = len(equations.history), equations.config
        self.cut = min(n, config.parts or min(max(n // 1000, 5), 20)), steps_per_part(own, n)
        self.epochs = epochs_of(config, n)
        groups, cell = plan.member.l2_groups(plan.l2, config.l2_shares), list(plan.member.cell.parameters())
        self.optimizer = adam(plan.member, groups, n, config.learning_rate, fast=cell, pace=own.attention_rate or 1.0)
        self.generator = torch.Generator(features.device).manual_seed(seed)
        self.epoch, self.residual = 0, None

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self.epochs

    def train_epoch(self) -> tuple[float, float]:
        """Mean squared error, met on ratings held out of the histories, and seconds. `epoch` is left to the caller."""
        config, equations, member, n = self.config, self.equations, self.plan.member, len(self.equations.history)
        start, error = time.perf_counter(), torch.zeros((), dtype=torch.float64, device=self.features.device)
        (parts, steps), last = self.cut, self.epoch + 1 == self.epochs
        done, total = self.epoch * parts * steps, self.epochs * parts * steps
        if last and equations.context is not None:
            self.residual = equations.history.scratch.like(equations.history.rating).zero_()
        for batch in batches(equations, self.features, self.cut, self.plan.cold, self.generator):
            if self.stop.is_set():
                break
            half_cosine(self.optimizer, config.learning_rate, done / total)
            f = equations.latent(member, equations.encode(member, batch.seen), batch.at)
            self.optimizer.zero_grad()
            equations.loss(member, f, batch.rating).backward()
            self.optimizer.step()
            done += 1
            with torch.no_grad():
                left = batch.rating - equations.expected(member, f)
                error += left.double().square().sum()
                if self.residual is not None:
                    self.residual[batch.rows] = left
            del batch, f, left  # and with them the ratings in view, before the next ones are sampled
        return float(error / n / equations.scale**2), time.perf_counter() - start

    def finish(self) -> None:
        """Frees what only further epochs would need."""
        self.optimizer.zero_grad()
        self.optimizer.state.clear()

    def state(self) -> dict[str, Tensor]:
        """All that training has changed; of a run that is finished what it learned."""
        member = self.plan.member
        found = {f"{WEIGHT}{name}": each.detach() for name, each in member.state_dict().items()}
        if self.residual is not None:
            found["residual"] = self.residual
        if self.finished:
            return found
        for name, parameter in member.named_parameters():
            if not self.optimizer.state[parameter]:  # as Adam begins
                first = {"step": torch.zeros((), device=parameter.device)}
                first |= {part: torch.zeros_like(parameter, requires_grad=False) for part in MOMENTS[1:]}
                self.optimizer.state[parameter] = first
            found |= {f"{MOMENT}{name}.{part}": each for part, each in self.optimizer.state[parameter].items()}
        return found | {"generator": self.generator.get_state()}

    def load(self, epoch: int, state: Mapping[str, Tensor]) -> None:
        """Takes the place of a run that has done so many epochs."""
        self.epoch, member, device = epoch, self.plan.member, self.features.device
        weights = {name.removeprefix(WEIGHT): each for name, each in state.items() if name.startswith(WEIGHT)}
        member.load_state_dict(weights)
        self.residual = state["residual"].to(device) if "residual" in state else None
        if self.finished:
            return
        for name, parameter in member.named_parameters():
            self.optimizer.state[parameter] = {
                part: state[f"{MOMENT}{name}.{part}"].to(device, copy=True) for part in MOMENTS
            }
        self.generator.set_state(state["generator"])


def steps_per_part(config: AANMFppConfig, n: int) -> int:
    """Optimiser steps on each part of n training ratings."""
    return config.steps or max(1, round((n / 160_000) ** (1 / 3)))


def epochs_of(config: AANMFppConfig, n: int) -> int:
    """Epochs on n training ratings: no more than make as many steps in all as those asked for with `FULL` on a part."""
    return config.epochs if config.steps else max(1, round(config.epochs * FULL / max(FULL, steps_per_part(config, n))))


def batches(
    equations: Equations, features: Tensor, cut: tuple[int, int], cold: float, generator: torch.Generator
) -> Iterator[Batch]:
    """All ratings in parts, each in some batches with the others in view.

    Args:
        equations: the training ratings.
        features: (F, N) of the kernel ridge.
        cut: into how many parts, and each of them into how many batches.
        cold: share of users and items treated as new.
        generator: draws the parts.
    """
    history, context, (parts, steps) = equations.history, equations.context, cut
    known: Tensor | None = None  # all are
    order = history.scratch.like(history.item)
    torch.randperm(len(history), generator=generator, device=generator.device, dtype=torch.int32, out=order)
    for numbers in order.chunk(parts):
        part = held_out = numbers.long()
        if cold > 0:
            known_user, known_item = (
                torch.rand(size, generator=generator, device=generator.device) >= cold for size in equations.shape
            )
            known = known_user.index_select(0, history.user) & known_item.index_select(0, history.item)
            held_out = (~known.index_fill(0, part, False)).nonzero()[:, 0]
        seen = history.see(held_out, equations.config.damping, Sampling(equations.config.sampled, generator))
        for share in numbers.chunk(steps):
            rows = ascending(share).long()  # by user: what is gathered for them lies close together
            user = history.user.index_select(0, rows).long()
            given = features.index_select(1, rows).float()
            if known is not None:
                given *= known.index_select(0, rows)
            sets = equations.sets.rows(user)
            sets = sets if context is None else sets.in_context(context.rows(rows))
            pairs = Pairs(user, history.items_at(rows), sets, given)
            yield Batch(rows, pairs, history.rating.index_select(0, rows), seen)
        del seen


def ascending(rows: Tensor) -> Tensor:
    """Positions (n,) int32 in order; NumPy sorts these on a CPU twenty times as fast as PyTorch."""
    return torch.from_numpy(np.sort(rows.numpy())) if rows.device.type == "cpu" else rows.sort().values
