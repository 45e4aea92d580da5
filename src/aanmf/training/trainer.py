"""The training loop (Algorithm 2): mini-batches, mean squared error (Eq 7), Adam, early stopping, refit.

Everything stays on the device: a batch is two integer tensors and the ratings, cut from a shuffled copy. The state of
a phase is in plain sight (`Phase`), so that it can be written to a checkpoint after any step and taken up again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from aanmf.contract import BatchConfig, RatingModule, Ratings, TrainingData, validation_rows
from aanmf.errors import ConfigError
from aanmf.training.checkpoint import Checkpoint, Checkpoints
from aanmf.training.distributed import Ranks, SpreadTables
from aanmf.training.log import Epoch, OnEpoch, TrainingLog
from aanmf.training.predict import mean_squared_error, pick_device, predict_pairs, squared_error

__all__ = [
    "Epoch",
    "OnEpoch",
    "TrainingLog",
    "fit_module",
    "mean_squared_error",
    "pick_device",
    "predict_pairs",
    "validation_rows",
]
log = logging.getLogger(__name__)
Build = Callable[[Any, TrainingData], RatingModule]


def fit_module(
    build: Build,
    training: TrainingData,
    config: BatchConfig,
    on_epoch: OnEpoch | None = None,
    checkpoints: Checkpoints | None = None,
    spread_rows: int | None = None,
) -> tuple[RatingModule, TrainingLog]:
    """Trains a module: finds the number of epochs on a validation part, then trains again on everything.

    Where torch.distributed is set up, all its processes train together (`training/distributed.py`).

    Args:
        build: makes an untrained module from settings and training data (called once per phase).
        training: what the module is built from; `training.train` are all training ratings.
        config: settings.
        on_epoch: called after each epoch, in the first process.
        checkpoints: where to write them, and whether to go on from the last one; None: nowhere.
        spread_rows: tables of users with at least so many rows are spread over the processes; None: never.

    Returns:
        The module, in evaluation mode, and the training_log. After Ctrl-C: the best weights so far, and
        `training_log.interrupted`.

    Raises:
        ConfigError: training diverged.
        CheckpointError: a checkpoint cannot be written, or is of another training.
    """
    device = pick_device(config.device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        saved = checkpoints.open(_training(training, config)) if checkpoints else None
        training_log = TrainingLog.of(saved.progress["training_log"]) if saved else TrainingLog()
        job = Job(build, config, device, Ranks.current(), training_log, on_epoch, checkpoints, spread_rows)
        if config.validation == 0 or len(training.train) < 10:
            return Phase("final", training, None, config.epochs, job).run(saved), training_log
        kept, valid = training.train.hold_out(config.validation, config.seed)
        part = training.with_train(kept)
        if saved is None or saved.progress["phase"] == "search":
            module = Phase("search", part, valid, config.epochs, job).run(saved)
            if training_log.interrupted or not config.refit:
                return module, training_log
            found, best, saved = training_log.best_epoch, _weights(module) if job.ranks.alone else {}, None
            del module
        else:
            found, best = int(saved.progress["epochs"]), saved.tensors["best"] if job.ranks.alone else {}
        module = Phase("final", training, None, found, job, best).run(saved)
        if (
            training_log.interrupted and best
        ):  # weights of fewer epochs than were found are worse than those of the search
            module, training_log.best_epoch = build(config, part).to(device), found
            module.load_state_dict(best)
    return module.eval(), training_log


@dataclass(frozen=True)
class Job:
    """What the phases of a training share."""

    build: Build
    config: BatchConfig
    device: torch.device
    ranks: Ranks
    training_log: TrainingLog
    on_epoch: OnEpoch | None
    checkpoints: Checkpoints | None
    spread_rows: int | None


class Phase:
    """One module in training, and how far it is; with a validation part, until it no longer helps, keeping the best.

    Args:
        name: `search` or `final`.
        training: with the ratings to train on.
        valid: the validation part of the search.
        epochs: at most.
        job: settings, device, where to report and to write.
        best: weights of the search, which checkpoints of the final phase hold on to.
    """

    def __init__(
        self,
        name: str,
        training: TrainingData,
        valid: Ratings | None,
        epochs: int,
        job: Job,
        best: Mapping[str, Tensor] | None = None,
    ) -> None:
        config, device = job.config, job.device
        torch.manual_seed(config.seed)
        self.name, self.training, self.epochs, self.job = name, training, epochs, job
        self.module = job.build(job.config, training).to(device)
        self.spread = SpreadTables(self.module, training, job.ranks, job.spread_rows)
        self.train = training.train.to(device)
        self.valid = None if valid is None else valid.to(device)
        self.optimizer = torch.optim.Adam(
            [{"params": params, "weight_decay": 2 * l2 / len(self.train)} for l2, params in _groups(self.module)],
            lr=config.learning_rate,
            fused=True,
        )
        self.batch_size = config.batch_for(len(self.train))
        self.steps = math.ceil(len(self.train) / self.batch_size)  # of an epoch
        self.generator = torch.Generator(device).manual_seed(config.seed)
        if not job.ranks.first:  # units are dropped independently; the order of ratings is the same
            torch.manual_seed(config.seed + 7919 * job.ranks.rank)
        self.epoch, self.step, self.seconds = 1, 0, 0.0
        self.order = self.generator.get_state()  # at the start of the epoch
        self.squared_error = torch.zeros((), dtype=torch.float64, device=device)  # met in the epoch, by this rank
        self.best_mse, self.best = math.inf, dict(best or {}) if valid is None else _weights(self.module)

    def run(self, saved: Checkpoint | None = None) -> RatingModule:
        """Trains to the end, from the beginning or from a checkpoint of this phase."""
        if saved:
            self._restore(saved)
        try:
            while self.epoch <= self.epochs:
                self._pass()
                if not self._goes_on():
                    break
                if self.job.checkpoints and self.job.checkpoints.every.epoch:
                    self._save(self.job.checkpoints)
        except KeyboardInterrupt:
            if not self.job.ranks.alone:  # each stops somewhere else: there is nothing to keep but checkpoints
                raise
            self.job.training_log.interrupted = True
            log.warning("training interrupted in epoch %d of phase %s", self.epoch, self.name)
        if self.valid is not None:
            self.module.load_state_dict(self.best, strict=False)
        self.spread.join()
        self.module.settle(*self.train.rated(self.training.n_users + 1, self.training.n_items + 1))
        return self.module.eval()

    def _pass(self) -> None:
        """What is left of an epoch: the ratings in random order."""
        self.module.train()
        began, checkpoints = time.perf_counter() - self.seconds, self.job.checkpoints
        for batch in self.train.batches(self.batch_size, self.generator, self.step):
            self._learn(batch)
            self.step += 1
            if checkpoints and self.job.ranks.agree(checkpoints.due(self.step), checkpoints.every, self.job.device):
                self.seconds = time.perf_counter() - began
                self._save(checkpoints)
        if self.job.device.type == "cuda":  # the one wait in an epoch, for an honest clock
            torch.cuda.synchronize(self.job.device)
        self.seconds = time.perf_counter() - began

    def _learn(self, batch: Ratings) -> None:
        """One step of Adam."""
        own = self.job.ranks.part(batch)
        squares = (self.spread(own.user, own.item) - own.rating).square().sum()
        loss = squares / len(batch)  # Eq 7
        penalty = self.module.penalty(own.user, own.item)
        self.optimizer.zero_grad()
        (loss if penalty is None else loss + penalty).backward()
        self.job.ranks.add_gradients(self.spread.shared())
        done = ((self.epoch - 1) * self.steps + self.step) / (self.steps * self.job.config.epochs)
        for group in self.optimizer.param_groups:  # half a cosine, from the learning rate to 0 over all epochs
            group["lr"] = self.job.config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        self.optimizer.step()
        self.squared_error += squares.detach()

    def _goes_on(self) -> bool:
        """Closes an epoch: reports, keeps the weights if they are the best; False: it is time to stop."""
        n, training_log, config = len(self.train), self.job.training_log, self.job.config
        train_mse = float(self.job.ranks.add(self.squared_error)) / n
        if not math.isfinite(train_mse):
            raise ConfigError(
                f"training diverged in epoch {self.epoch} (error {train_mse}): "
                f"give a learning_rate below {config.learning_rate:g}"
            )
        valid_mse = None
        if self.valid is not None:
            self.module.eval()
            error = squared_error(self.spread, self.valid, self.training.scale, self.job.ranks.part)
            valid_mse = float(self.job.ranks.add(error)) / len(self.valid)
        record = Epoch(self.name, self.epoch, self.epochs, train_mse, valid_mse, self.seconds, n / self.seconds)
        training_log.epochs.append(record)
        if self.job.on_epoch and self.job.ranks.first:
            self.job.on_epoch(record)
        if valid_mse is None:
            training_log.best_epoch = self.epoch
        elif valid_mse < self.best_mse:
            self.best_mse, self.best, training_log.best_epoch = valid_mse, _weights(self.module), self.epoch
        elif self.epoch - training_log.best_epoch >= config.patience:
            return False
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.squared_error.zero_()
        self.order = self.generator.get_state()
        return True

    def _save(self, checkpoints: Checkpoints) -> None:
        """Writes everything that is not the same in a new phase; all ranks gather it, the first one writes."""
        ranks, device, whole = self.job.ranks, self.job.device, self.spread.whole
        adam = {
            f"{name}.{part}": whole(name, value)
            for name, each in self.module.named_parameters()
            for part, value in self.optimizer.state[each].items()
        }
        random = {"order": self.order}
        for rank, state in enumerate(ranks.gather(torch.get_rng_state().to(device))):
            random[f"cpu.{rank}"] = state
        if device.type == "cuda":
            for rank, state in enumerate(ranks.gather(torch.cuda.get_rng_state(device).to(device))):
                random[f"cuda.{rank}"] = state
        squared_error = ranks.add(self.squared_error.clone())
        weights = {name: whole(name, each) for name, each in self.module.state_dict().items()}
        best = {name: whole(name, each) for name, each in self.best.items()}
        if not ranks.first:
            return
        progress = {"phase": self.name, "epochs": self.epochs, "epoch": self.epoch, "step": self.step}
        progress |= {"seconds": self.seconds, "training_log": asdict(self.job.training_log)}
        progress |= {"best_mse": self.best_mse if math.isfinite(self.best_mse) else None}
        error = {"squared_error": squared_error}
        tensors = {"weights": weights, "best": best, "adam": adam, "random": random, "error": error}
        checkpoints.write(Checkpoint(progress, tensors))

    def _restore(self, saved: Checkpoint) -> None:
        """The reverse of `_save`; the number of ranks can be another one."""
        progress, tensors, own, rank = saved.progress, saved.tensors, self.spread.own, self.job.ranks.rank
        self.epoch, self.step, self.seconds = progress["epoch"], progress["step"], progress["seconds"]
        self.best_mse = math.inf if progress["best_mse"] is None else progress["best_mse"]
        self.module.load_state_dict({name: own(name, each) for name, each in tensors["weights"].items()})
        if self.valid is not None:
            self.best = {name: own(name, each).to(self.job.device) for name, each in tensors["best"].items()}
        for name, each in self.module.named_parameters():
            parts = ("step", "exp_avg", "exp_avg_sq")
            state = {part: tensors["adam"].get(f"{name}.{part}") for part in parts}
            self.optimizer.state[each] = {
                part: own(name, value).to(self.job.device, copy=True)
                for part, value in state.items()
                if value is not None
            }
        if rank == 0:
            self.squared_error += tensors["error"]["squared_error"].to(self.job.device)
        self.order = tensors["random"]["order"]
        self.generator.set_state(self.order)
        if f"cpu.{rank}" in tensors["random"]:
            torch.set_rng_state(tensors["random"][f"cpu.{rank}"])
        if self.job.device.type == "cuda" and f"cuda.{rank}" in tensors["random"]:
            torch.cuda.set_rng_state(tensors["random"][f"cuda.{rank}"], self.job.device)


def _training(training: TrainingData, config: BatchConfig) -> dict[str, object]:
    """What must be the same for a training to go on."""
    settings = config.model_dump(mode="json", exclude={"device"})
    return {"model": type(config).__name__.removesuffix("Config"), **settings, "training data": training.fingerprint}


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
