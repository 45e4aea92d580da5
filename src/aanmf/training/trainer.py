"""The training loop (Algorithm 2): mini-batches, mean squared error (Eq 7), Adam, early stopping, refit.

Everything stays on the device: a batch is two integer tensors and the ratings, cut from a shuffled copy.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from aanmf.errors import ConfigError
from aanmf.models.base import AttributeSets, BatchConfig, Context, RatingModule, Ratings

log = logging.getLogger(__name__)
Build = Callable[[Context], RatingModule]


@dataclass(frozen=True)
class Epoch:
    """One pass over the training ratings: errors are mean squared ones, on the scale of the ratings."""

    phase: str
    """`search` (with a validation part) or `final` (on all training ratings)."""
    epoch: int
    of: int
    train_mse: float
    valid_mse: float | None
    seconds: float
    ratings_per_second: float


@dataclass
class History:
    """What happened in training."""

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    """The number of epochs the final weights were trained for."""
    interrupted: bool = False
    chosen: dict[str, float] = field(default_factory=dict)
    """Settings that were chosen on held-out ratings, where the model does so."""


OnEpoch = Callable[[Epoch], None]


def fit_module(
    build: Build, context: Context, config: BatchConfig, on_epoch: OnEpoch | None = None
) -> tuple[RatingModule, History]:
    """Trains a module: finds the number of epochs on a validation part, then trains again on everything.

    Args:
        build: makes an untrained module from a context (called once per phase).
        context: what the module is built from; `context.train` are all training ratings.
        config: settings.
        on_epoch: called after each epoch.

    Returns:
        The module, in evaluation mode, and the history. After Ctrl-C: the best weights so far, and
        `history.interrupted`.

    Raises:
        ConfigError: training diverged.
    """
    device = pick_device(config.device)
    history = History()
    ratings = context.train
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if config.validation == 0 or len(ratings) < 10:
            module = _phase("final", build, context, None, config, config.epochs, device, history, on_epoch)
            return module, history
        held = validation_rows(len(ratings), config.validation, config.seed)
        kept = np.setdiff1d(np.arange(len(ratings)), held)
        part = context.with_train(ratings.take(torch.as_tensor(kept)))
        valid = ratings.take(torch.as_tensor(held))
        module = _phase("search", build, part, valid, config, config.epochs, device, history, on_epoch)
        if config.refit and not history.interrupted:
            best, found = module, history.best_epoch
            module = _phase("final", build, context, None, config, history.best_epoch, device, history, on_epoch)
            if history.interrupted:
                module, history.best_epoch = best, found
    return module, history


def validation_rows(n: int, share: float, seed: int) -> np.ndarray:
    """Rows of the validation part: the last `share` of a permutation, apart from the one that splits use."""
    return np.sort(np.random.default_rng([seed, 1]).permutation(n)[n - max(1, round(n * share)) :])


def _phase(
    phase: str,
    build: Build,
    context: Context,
    valid: Ratings | None,
    config: BatchConfig,
    epochs: int,
    device: torch.device,
    history: History,
    on_epoch: OnEpoch | None,
) -> RatingModule:
    """Trains a new module for `epochs`; with a validation part, until it no longer helps, keeping the best."""
    torch.manual_seed(config.seed)
    module = build(context).to(device)
    train = context.train.to(device)
    valid = None if valid is None else valid.to(device)
    optimizer = torch.optim.Adam(
        [{"params": params, "weight_decay": 2 * l2 / len(train)} for l2, params in _groups(module)],
        lr=config.learning_rate,
        fused=True,
    )
    batch_size = config.batch_for(len(train))
    schedule = _cosine(config, steps=math.ceil(len(train) / batch_size))
    generator = torch.Generator(device).manual_seed(config.seed)
    best_mse, best_state = math.inf, _weights(module)
    try:
        for epoch in range(1, epochs + 1):
            start = time.perf_counter()
            train_mse = _epoch(module, train, batch_size, optimizer, schedule, generator)
            seconds = time.perf_counter() - start
            if not math.isfinite(train_mse):
                raise ConfigError(
                    f"training diverged in epoch {epoch} (error {train_mse}): "
                    f"give a learning_rate below {config.learning_rate:g}"
                )
            valid_mse = None if valid is None else mean_squared_error(module, valid, context.scale)
            record = Epoch(phase, epoch, epochs, train_mse, valid_mse, seconds, len(train) / seconds)
            history.epochs.append(record)
            if on_epoch:
                on_epoch(record)
            if valid_mse is None:
                history.best_epoch = epoch
            elif valid_mse < best_mse:
                best_mse, best_state, history.best_epoch = valid_mse, _weights(module), epoch
            elif epoch - history.best_epoch >= config.patience:
                break
    except KeyboardInterrupt:
        history.interrupted = True
        log.warning("training interrupted in epoch %d of phase %s", len(history.epochs) + 1, phase)
    if valid is not None:
        module.load_state_dict(best_state, strict=False)
    rated_users = torch.zeros(context.n_users + 1, dtype=torch.bool, device=device)
    rated_items = torch.zeros(context.n_items + 1, dtype=torch.bool, device=device)
    rated_users[train.user], rated_items[train.item] = True, True
    module.settle(rated_users, rated_items)
    return module.eval()


def _epoch(
    module: RatingModule,
    train: Ratings,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[], float],
    generator: torch.Generator,
) -> float:
    """One pass in random order; returns the mean squared error met on the way."""
    module.train()
    order = torch.randperm(len(train), generator=generator, device=train.rating.device)
    shuffled = train.take(order)
    total = torch.zeros((), dtype=torch.float64, device=train.rating.device)
    for start in range(0, len(train), batch_size):
        batch = shuffled.take(slice(start, start + batch_size))
        mse = (module(batch.user, batch.item) - batch.rating).square().mean()  # Eq 7
        penalty = module.penalty(batch.user, batch.item)
        optimizer.zero_grad()
        (mse if penalty is None else mse + penalty).backward()
        rate = schedule()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        total += mse.detach() * len(batch)
    return float(total) / len(train)


def _cosine(config: BatchConfig, steps: int) -> Callable[[], float]:
    """The learning rate of each next step: half a cosine from the start to 0 over all epochs."""
    state = {"step": 0}

    def rate() -> float:
        done = state["step"] / (steps * config.epochs)
        state["step"] += 1
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    return rate


def _groups(module: RatingModule) -> Iterable[tuple[float, list[torch.nn.Parameter]]]:
    """The module's l2 groups, and everything it did not name without l2."""
    named: set[int] = set()
    for l2, params in module.l2_groups():
        named.update(id(each) for each in params)
        yield l2, params
    rest = [each for each in module.parameters() if id(each) not in named]
    if rest:
        yield 0.0, rest


def _weights(module: RatingModule) -> dict[str, Tensor]:
    """A copy of the parameters, and of what is learned without gradient (batch norm)."""
    return {name: each.detach().clone() for name, each in module.state_dict().items()}


@torch.no_grad()
def predict_pairs(
    module: RatingModule, user: Tensor, item: Tensor, sets: AttributeSets | None = None, block: int = 65_536
) -> Tensor:
    """Predictions (n,) of many pairs, in blocks, not clipped; `sets` as in `RatingModule.forward`."""
    module.eval()
    rows = torch.arange(len(user), device=user.device).split(block)
    return torch.cat([module(user[r], item[r], None if sets is None else sets.rows(r)) for r in rows])


def mean_squared_error(module: RatingModule, ratings: Ratings, scale: tuple[float, float]) -> float:
    """Mean squared error of clipped predictions."""
    predicted = predict_pairs(module, ratings.user, ratings.item).clamp(*scale)
    return float((predicted - ratings.rating).double().square().mean())


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
