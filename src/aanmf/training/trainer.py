"""The training loop (Algorithm 2): mini-batches, mean squared error (Eq 7), Adam, early stopping, refit.

Everything stays on the device: a batch is two integer tensors and the ratings, cut from a shuffled copy. The state of
a phase is in the fields of `Phase`, so that it can be written to a checkpoint after any step and restored from it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aanmf.contract import BatchConfig, RatingModule, Ratings, TrainingData
from aanmf.training.checkpoint import Checkpoint, Checkpoints, identity
from aanmf.training.distributed import Ranks
from aanmf.training.log import Epoch, OnEpoch, TrainingLog
from aanmf.training.optimizer import adam, half_cosine
from aanmf.training.predict import pick_device, squared_error
from aanmf.training.sharded_tables import ShardedTables

log = logging.getLogger(__name__)
Build = Callable[[Any, TrainingData], RatingModule]


def fit_module(
    build: Build,
    training: TrainingData,
    config: BatchConfig,
    on_epoch: OnEpoch | None = None,
    checkpoints: Checkpoints | None = None,
    shard_rows: int | None = None,
) -> tuple[RatingModule, TrainingLog]:
    """Trains a module: finds the number of epochs on a validation part, then trains again on everything.

    Where torch.distributed is set up, all its processes train together (`training/distributed.py`).

    Args:
        build: makes an untrained module from settings and training data (called once per phase).
        training: what the module is built from; `training.train` are all training ratings.
        config: settings.
        on_epoch: called after each epoch, in the first process.
        checkpoints: where to write them, and whether to resume from the last one; None: nowhere.
        shard_rows: tables of users and items with at least so many rows are divided among the processes; None: those
            with more rows than a batch has ratings, because gradients of whole tables would take longer to add up.

    Returns:
        The module, in evaluation mode, and the training log. After Ctrl-C: the best weights so far, and
        `training_log.interrupted`.

    Raises:
        ConfigError: training diverged.
        CheckpointError: a checkpoint cannot be written, or is of another training.
    """
    device = pick_device(config.device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        stepped = config.model_copy(update={"batch_size": config.batch_for(len(training.train))})  # by any version
        saved = checkpoints.open(identity(training, stepped)) if checkpoints else None
        training_log = TrainingLog.of(saved.progress["training_log"]) if saved else TrainingLog()
        setup = Setup(build, config, device, Ranks.current(), training_log, on_epoch, checkpoints, shard_rows)
        if config.validation == 0 or len(training.train) < 10:
            return Phase("final", training, None, config.epochs, setup).run(saved), training_log
        kept, valid = training.train.hold_out(config.validation, config.seed)
        part = training.with_train(kept)
        if saved is None or saved.progress["phase"] == "search":
            module = Phase("search", part, valid, config.epochs, setup).run(saved)
            if training_log.interrupted or not config.refit:
                return module, training_log
            found, best, saved = training_log.best_epoch, _weights(module) if setup.ranks.alone else {}, None
            del module
        else:
            found, best = int(saved.progress["epochs"]), saved.tensors["best"] if setup.ranks.alone else {}
        module = Phase("final", training, None, found, setup, best).run(saved)
        if training_log.interrupted and best:  # the search trained for more epochs than this interrupted refit
            module, training_log.best_epoch = build(config, part).to(device), found
            module.load_state_dict(best)
    return module.eval(), training_log


@dataclass(frozen=True)
class Setup:
    """What the phases of a training share."""

    build: Build
    config: BatchConfig
    device: torch.device
    ranks: Ranks
    training_log: TrainingLog
    on_epoch: OnEpoch | None
    checkpoints: Checkpoints | None
    shard_rows: int | None


class Phase:
    """One module in training, and how far it is; with a validation part, until it no longer helps, keeping the best.

    Args:
        name: `search` or `final`.
        training: with the ratings to train on.
        valid: the validation part of the search.
        epochs: at most.
        setup: settings, device, where to report and to write.
        best: weights of the search, which checkpoints of the final phase keep.
    """

    def __init__(
        self,
        name: str,
        training: TrainingData,
        valid: Ratings | None,
        epochs: int,
        setup: Setup,
        best: Mapping[str, Tensor] | None = None,
    ) -> None:
        config, device = setup.config, setup.device
        torch.manual_seed(config.seed)
        self.name, self.training, self.epochs, self.setup = name, training, epochs, setup
        build = partial(setup.build, config, training)
        self.batch_size = config.batch_for(len(training.train))
        least = setup.shard_rows or self.batch_size + 1
        self.sharded = ShardedTables(build, training, setup.ranks, least, device)
        self.module = self.sharded.module
        self.train = training.train.to(device)
        self.valid = None if valid is None else valid.to(device)
        self.optimizer = adam(self.module, self.module.l2_groups(), len(self.train), config.learning_rate)
        self.steps = math.ceil(len(self.train) / self.batch_size)  # of an epoch
        self.generator = torch.Generator(device).manual_seed(config.seed)
        if not setup.ranks.first:  # units are dropped independently; the order of ratings is the same
            torch.manual_seed(config.seed + 7919 * setup.ranks.rank)
        self.epoch, self.step, self.seconds = 1, 0, 0.0
        self.order = self.generator.get_state()  # at the start of the epoch
        self.squared_error = torch.zeros((), dtype=torch.float64, device=device)  # met in the epoch, by this rank
        self.best_mse, self.best = math.inf, dict(best or {}) if valid is None else _weights(self.module)

    def run(self, saved: Checkpoint | None = None) -> RatingModule:
        """Trains to the end, from the beginning or from a checkpoint of this phase."""
        if saved:
            self._restore(saved)
        training_log, checkpoints = self.setup.training_log, self.setup.checkpoints
        try:
            while self.epoch <= self.epochs:
                self._train_epoch()
                self._record_epoch()
                if self.valid is not None and self.epoch - training_log.best_epoch >= self.setup.config.patience:
                    break
                self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
                self.squared_error.zero_()
                self.order = self.generator.get_state()
                if checkpoints and checkpoints.every.epoch:
                    self._save(checkpoints)
        except KeyboardInterrupt:
            if not self.setup.ranks.alone:  # each stops somewhere else: there is nothing to keep but checkpoints
                raise
            training_log.interrupted = True
            log.warning("training interrupted in epoch %d of phase %s", self.epoch, self.name)
        if self.valid is not None:
            self.module.load_state_dict(self.best, strict=False)
        self.sharded.join()
        self.module.settle(*self.train.rated(self.training.n_users + 1, self.training.n_items + 1))
        return self.module.eval()

    def _train_epoch(self) -> None:
        """What is left of an epoch: the ratings in random order."""
        self.module.train()
        ranks, device, checkpoints = self.setup.ranks, self.setup.device, self.setup.checkpoints
        began = time.perf_counter() - self.seconds
        for batch in self.train.batches(self.batch_size, self.generator, self.step):
            self._learn(batch)
            self.step += 1
            if checkpoints and ranks.agree(checkpoints.due(self.step), checkpoints.every.seconds is not None, device):
                self.seconds = time.perf_counter() - began
                self._save(checkpoints)
        if device.type == "cuda":  # the one wait in an epoch, for an honest clock
            torch.cuda.synchronize(device)
        self.seconds = time.perf_counter() - began

    def _learn(self, batch: Ratings) -> None:
        """One step of Adam."""
        ranks, config = self.setup.ranks, self.setup.config
        own = ranks.part(batch)
        squares = (self.sharded(batch) - own.rating).square().sum()
        loss = squares / len(batch)  # Eq 7
        penalty = self.module.penalty(own.user, own.item)
        self.optimizer.zero_grad()
        (loss if penalty is None else loss + penalty).backward()
        self.sharded.add_gradients()
        done = ((self.epoch - 1) * self.steps + self.step) / (self.steps * config.epochs)
        half_cosine(self.optimizer, config.learning_rate, done)
        self.optimizer.step()
        self.squared_error += squares.detach()

    def _record_epoch(self) -> None:
        """Measures and reports an epoch, and keeps the weights if they are the best."""
        n, ranks, training_log = len(self.train), self.setup.ranks, self.setup.training_log
        train_mse, valid_mse = float(ranks.add(self.squared_error)) / n, None
        if self.valid is not None:
            self.module.eval()
            error = squared_error(self.sharded, self.valid, self.training.scale, ranks.part)
            valid_mse = float(ranks.add(error)) / len(self.valid)
        record = Epoch(self.name, self.epoch, self.epochs, train_mse, valid_mse, self.seconds, n / self.seconds)
        training_log.add(record, self.setup.config.learning_rate, self.setup.on_epoch if ranks.first else None)
        if valid_mse is None or valid_mse < self.best_mse:
            training_log.best_epoch = self.epoch
        if valid_mse is not None and valid_mse < self.best_mse:
            self.best_mse, self.best = valid_mse, _weights(self.module)

    def _save(self, checkpoints: Checkpoints) -> None:
        """Writes everything that is not the same in a new phase; each rank writes its rows of sharded tables."""
        ranks, device = self.setup.ranks, self.setup.device
        states = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(device)
        random = {"order": self.order}
        for kind, state in states.items():
            random |= {f"{kind}.{rank}": each for rank, each in enumerate(ranks.gather(state.to(device)))}
        tensors = {"weights": {}, "best": {}, "adam": {}, "random": random}
        tensors["error"] = {"squared_error": ranks.add(self.squared_error.clone())}
        rows: dict[str, dict[str, Tensor]] = {}
        for group, name, table, each in self._learned():
            sharded = table in self.sharded.rows and each.ndim > 0
            (rows.setdefault(group, {}) if sharded else tensors[group])[name] = each
        progress = {"phase": self.name, "epochs": self.epochs, "epoch": self.epoch, "step": self.step}
        progress |= {"seconds": self.seconds, "training_log": asdict(self.setup.training_log)}
        progress |= {"best_mse": self.best_mse if math.isfinite(self.best_mse) else None}
        checkpoints.write(Checkpoint(progress, tensors, rows), ranks)

    def _learned(self) -> Iterator[tuple[str, str, str, Tensor]]:
        """Weights, the best so far and Adam's moments: group and name in a checkpoint, and whose parameter's it is."""
        for group, weights in (("weights", self.module.state_dict()), ("best", self.best)):
            yield from ((group, name, name, each) for name, each in weights.items())
        for name, parameter in self.module.named_parameters():
            for part, each in self.optimizer.state[parameter].items():
                yield "adam", f"{name}.{part}", name, each

    def _restore(self, saved: Checkpoint) -> None:
        """The reverse of `_save`; the number of ranks can be another one."""
        progress, tensors, device = saved.progress, saved.tensors, self.setup.device
        self.epoch, self.step, self.seconds = progress["epoch"], progress["step"], progress["seconds"]
        self.best_mse = math.inf if progress["best_mse"] is None else progress["best_mse"]

        def own(group: str, name: str, table: str) -> Tensor:
            return self.sharded.own(table, saved.pieces(group, name))

        self.module.load_state_dict({name: own("weights", name, name) for name in self.module.state_dict()})
        if self.valid is not None:
            self.best = {name: own("best", name, name).to(device) for name in self.best}
        for name, parameter in self.module.named_parameters():
            self.optimizer.state[parameter] = {
                part: own("adam", f"{name}.{part}", name).to(device, copy=True)
                for part in ("step", "exp_avg", "exp_avg_sq")
                if saved.pieces("adam", f"{name}.{part}")
            }
        rank, random = self.setup.ranks.rank, tensors["random"]
        if rank == 0:
            self.squared_error += tensors["error"]["squared_error"].to(device)
        self.order = random["order"]
        self.generator.set_state(self.order)
        if f"cpu.{rank}" in random:
            torch.set_rng_state(random[f"cpu.{rank}"])
        if device.type == "cuda" and f"cuda.{rank}" in random:
            torch.cuda.set_rng_state(random[f"cuda.{rank}"], device)


def _weights(module: RatingModule) -> dict[str, Tensor]:
    """A copy of the parameters, and of what is learned without gradient (batch norm)."""
    return {name: each.detach().clone() for name, each in module.state_dict().items()}
