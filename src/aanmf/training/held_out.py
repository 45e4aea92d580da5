"""Training AANMF++: every part of the ratings is fitted with the other parts, and never itself, in the histories."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from aanmf.models.aanmfpp import AANMFppConfig, AANMFppModule, Member, member_groups
from aanmf.models.base import Context
from aanmf.training.trainer import Epoch, History, OnEpoch, pick_device, validation_rows

STRENGTHS = (30.0, 70.0, 160.0, 400.0)
"""Values of l2 to choose from on held-out training ratings."""


def fit_held_out(
    build: Callable[[AANMFppConfig, Context], AANMFppModule],
    context: Context,
    config: AANMFppConfig,
    on_epoch: OnEpoch | None = None,
) -> tuple[AANMFppModule, History]:
    """Chooses l2 and the trust over damped means on held-out ratings, then fits all members on all ratings."""
    history, device = History(), pick_device(config.device)
    trust, spread, l2 = 1.0, 1.0, config.l2
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if config.validation > 0 and len(context.train) >= 20:
            l2, trust, spread = _choose(build, context, config, device, history, on_epoch)
        strengths = [STRENGTHS[1] if l2 is None else l2] * config.members
        module = _fit(build, "final", context, config, strengths, device, history, on_epoch)
        module.trust.fill_(trust)
        module.spread.fill_(spread)
    return module.eval(), history


def _choose(
    build: Callable[[AANMFppConfig, Context], AANMFppModule],
    context: Context,
    config: AANMFppConfig,
    device: torch.device,
    history: History,
    on_epoch: OnEpoch | None,
) -> tuple[float, float, float]:
    """l2, trust and spread from a validation part; one member per candidate."""
    ratings = context.train
    held = validation_rows(len(ratings), config.validation, config.seed)
    kept = np.setdiff1d(np.arange(len(ratings)), held)
    part = context.with_train(ratings.take(torch.as_tensor(kept)))
    valid = ratings.take(torch.as_tensor(held)).to(device)
    strengths = list(STRENGTHS) if config.l2 is None else [config.l2]
    module = _fit(build, "search", part, config, strengths, device, history, on_epoch)
    module.eval()
    errors = []
    with torch.no_grad():
        truth, means = valid.rating * module.scale, module.means(valid.user, valid.item)
        for predicted in module.each(valid.user, valid.item):
            x, y = predicted - means, truth - means
            trust = float((x @ y / (x @ x).clamp(min=1e-9)).clamp(0, 1))
            errors.append((float((trust * x - y).square().mean()), trust))
    best = int(np.argmin([error for error, _ in errors]))
    return strengths[best], errors[best][1], 1.0


def _fit(
    build: Callable[[AANMFppConfig, Context], AANMFppModule],
    phase: str,
    context: Context,
    config: AANMFppConfig,
    strengths: list[float],
    device: torch.device,
    history: History,
    on_epoch: OnEpoch | None,
) -> AANMFppModule:
    """A module with a member per strength of l2, each trained with a seed of its own."""
    torch.manual_seed(config.seed)
    module = build(config.model_copy(update={"members": len(strengths)}), context).to(device)
    module.train()
    features = module.ridge.fit() if module.ridge else torch.zeros(len(context.train), 0, device=device)
    for index, l2 in enumerate(strengths):
        member = module.members[index]
        assert isinstance(member, Member)
        generator = torch.Generator(device).manual_seed(config.seed + index)
        _fit_member(module, member, features, l2, config, generator, phase, index, history, on_epoch)
    rated_users = torch.bincount(context.train.user, minlength=context.n_users + 1) > 0
    rated_items = torch.bincount(context.train.item, minlength=context.n_items + 1) > 0
    module.settle(rated_users.to(device), rated_items.to(device))
    return module


def _fit_member(
    module: AANMFppModule,
    member: Member,
    features: Tensor,
    l2: float,
    config: AANMFppConfig,
    generator: torch.Generator,
    phase: str,
    index: int,
    history: History,
    on_epoch: OnEpoch | None,
) -> None:
    """Adam over parts: a fresh cut in every epoch, `steps` steps on each part with its ratings held out."""
    ratings = module.history
    n = len(ratings)
    steps = config.steps or max(1, round((n / 160_000) ** (1 / 3)))
    groups = list(member_groups(member, l2))
    named = {id(p) for _, params in groups for p in params}
    groups.append((0.0, [p for p in member.parameters() if id(p) not in named]))
    optimizer = torch.optim.Adam(
        [{"params": params, "weight_decay": 2 * strength / n} for strength, params in groups],
        lr=config.learning_rate,
        fused=True,
    )
    total, done = config.epochs * min(config.parts, n) * steps, 0
    for epoch in range(1, config.epochs + 1):
        start, error = time.perf_counter(), torch.zeros((), dtype=torch.float64)
        for rows in torch.randperm(n, generator=generator, device=ratings.rating.device).chunk(config.parts):
            seen = ratings.see(torch.ones_like(ratings.rating).index_fill_(0, rows, 0.0))
            user, item, rating = ratings.user[rows], ratings.item[rows], ratings.rating[rows]
            sets, given = module.sets.rows(user), features[rows]
            f = rating
            for _ in range(steps):
                rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * done / total))
                for group in optimizer.param_groups:
                    group["lr"] = rate
                f = module.latent(member, module.encode(member, seen), user, item, sets, given)
                loss = module.loss(member, f, rating)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                done += 1
            with torch.no_grad():
                error += (module.expected(member, f) - rating).double().square().sum().cpu()
        seconds = time.perf_counter() - start
        mse = float(error / n / module.scale.double() ** 2)
        number = index * config.epochs + epoch
        record = Epoch(phase, number, config.epochs * len(module.members), mse, None, seconds, n / seconds)
        history.epochs.append(record)
        history.best_epoch = epoch
        if on_epoch:
            on_epoch(record)
