"""Training members of AANMF++: side by side on threads, divided among processes, with checkpoints between epochs.

A fit trains members in rounds: some without held-out ratings, with which choices are made, then those of the model. A
member depends on its seed alone and not on who trains it. So a fit ends with the same members on one process and on
several. A resumed fit loads the members of the last checkpoint and computes the rest again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from aanmf.contract import TrainingData
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.equations import Equations, Member
from aanmf.models.aanmfpp.module import AANMFppModule
from aanmf.models.aanmfpp.run import Plan, Run, epochs_of
from aanmf.training.checkpoint import Checkpoint, Checkpoints, identity
from aanmf.training.distributed import Ranks
from aanmf.training.log import Epoch, OnEpoch, TrainingLog
from aanmf.training.predict import pick_device
from aanmf.training.side_by_side import Each, at_once, side_by_side


@dataclass(frozen=True)
class Trainer:
    """Trains members and logs their epochs.

    Attributes:
        ranks: all of which train their share of each round; every one of them ends with all members.
        checkpoints: where to write them; None: nowhere.
        saved: the checkpoint to go on from.
        trained: members, and for how many epochs; the last ones last.
        residual: by member, (N,) what its last epoch left of each training rating, held out of all histories.
        rounds: by round and member, epochs done and state, for checkpoints; empty without them.
        stop: members that are in training stop before their next step.
    """

    config: AANMFppConfig
    device: torch.device
    on_epoch: OnEpoch | None
    ranks: Ranks = field(default_factory=Ranks)
    checkpoints: Checkpoints | None = None
    saved: Checkpoint | None = None
    training_log: TrainingLog = field(default_factory=TrainingLog)
    trained: dict[Member, int] = field(default_factory=dict)
    residual: dict[Member, Tensor] = field(default_factory=dict)
    rounds: list[list[tuple[int, dict[str, Tensor]]]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(
        cls, training: TrainingData, config: AANMFppConfig, on_epoch: OnEpoch | None, checkpoints: Checkpoints | None
    ) -> Trainer:
        """For a fit by all processes; resumes from the last checkpoint, if there is one.

        Raises:
            CheckpointError: it is of another training, or to go on was not asked for.
        """
        ranks, device = Ranks.current(), pick_device(config.device)
        saved = checkpoints.open(identity(training, config)) if checkpoints else None
        log = TrainingLog.of(saved.progress["training_log"]) if saved else TrainingLog()
        return cls(config, device, on_epoch if ranks.first else None, ranks, checkpoints, saved, log)

    def residual_of(self, members: Sequence[Member]) -> Tensor | None:
        """(N,) mean residual of some members, scaled, in the order of the history; None: none was finished."""
        found = [self.residual[member] for member in members if member in self.residual]
        return torch.stack(found).mean(0) if found else None

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ends the training at an interruption (Ctrl-C) and keeps what was learned; where nothing was, raises it.

        Of several processes, each stops somewhere else: there is nothing to keep but checkpoints.
        """
        try:
            yield
        except KeyboardInterrupt:
            if not self.trained or not self.ranks.alone:
                raise
            self.training_log.interrupted = True

    def forget_all_but(self, members: Sequence[Member]) -> None:
        """Frees members that are no longer needed."""
        for found in (self.trained, self.residual):
            for gone in [each for each in found if each not in members]:
                del found[gone]

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
        epochs = epochs_of(self.config, len(training.train))
        for member in module.members:
            if self.trained.get(member, 0) < epochs:
                member.load_state_dict(source.state_dict())
        module.settle(*self._rated(training))

    def train(self, phase: str, equations: Equations, training: TrainingData, plans: Sequence[Plan]) -> None:
        """Trains the members of a round, as many side by side as there are threads, each with a seed of its own."""
        features = self._features(equations)
        runs = [
            Run(self.config, equations, plan, features, self.config.seed + index, self.stop)
            for index, plan in enumerate(plans)
        ]
        self._restore(runs)
        size = at_once(-(-len(runs) // self.ranks.count), self.device)
        for group in self._groups(runs, size):
            own = group[self.ranks.rank * size : (self.ranks.rank + 1) * size] if not self.ranks.alone else group
            with side_by_side(max(1, min(size, len(own)))) as each, self._stopping():
                while behind := sorted((run for run in group if not run.finished), key=lambda run: run.epoch):
                    # one process has a run more than threads, perhaps: those that are furthest behind come next
                    behind = behind[: size * self.ranks.count]
                    self._train_epoch(each, phase, runs, behind, [run for run in behind if run in own])
                    if self._due():
                        self._save(runs, {run: place // size for place, run in enumerate(group)})
            for place, run in enumerate(group):
                self._share(run, place // size)
                run.finish()
                if run.residual is not None:
                    self.residual[run.plan.member] = run.residual
                run.plan.member.settle(*self._rated(training))
        if self.checkpoints:
            self.rounds.append([(run.epoch, run.state()) for run in runs])
        self.training_log.best_epoch = runs[0].epochs

    def _groups(self, runs: Sequence[Run], size: int) -> list[Sequence[Run]]:
        """Runs that are trained at the same time, `size` by each rank; one process takes turns where some are left."""
        together = size * self.ranks.count
        groups = [runs[first : first + together] for first in range(0, len(runs), together)]
        if self.ranks.alone and len(groups) > 1 and len(groups[-1]) < size:
            groups[-2:] = [[*groups[-2], *groups[-1]]]
        return groups

    def _features(self, equations: Equations) -> Tensor:
        """(F, N) of the kernel ridge; in half precision, as they take much memory and ratings are no more precise."""
        ridge = equations.ridge
        if ridge is None:
            return torch.zeros(0, len(equations.history), device=self.device)
        left_out = ridge.fit(ranks=self.ranks)
        return ridge.history.scratch.like(left_out, torch.float16).copy_(left_out)

    def _train_epoch(
        self, each: Each, phase: str, runs: Sequence[Run], behind: Sequence[Run], own: Sequence[Run]
    ) -> None:
        """One epoch of some members of the round `runs`, of which this rank trains its `own`."""
        n, of = len(runs[0].equations.history), sum(run.epochs for run in runs)
        met = torch.zeros(len(behind), 2, dtype=torch.float64)
        for run, ended in zip(own, each(Run.train_epoch, own), strict=True):
            met[behind.index(run)] = torch.tensor(ended, dtype=torch.float64)
        met = self.ranks.add(met.to(self.device)).tolist()
        for run, (mse, seconds) in zip(behind, met, strict=True):
            run.epoch, took = run.epoch + 1, seconds / len(behind)
            self.trained[run.plan.member] = run.epoch
            record = Epoch(phase, sum(one.epoch for one in runs), of, mse, None, took, n / took)
            self.training_log.add(record, self.config.learning_rate, self.on_epoch)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Tells the threads of other members to stop when one fails, or at Ctrl-C."""
        try:
            yield
        except BaseException:
            self.stop.set()
            raise

    def _share(self, run: Run, owner: int) -> None:
        """Tells all other ranks how far one of them has brought a member."""
        if not self.ranks.alone:
            run.load(run.epoch, self.ranks.share(run.state(), owner, self.device))

    def _rated(self, training: TrainingData) -> list[Tensor]:
        """Which users and items have training ratings."""
        found = training.train.rated(training.n_users + 1, training.n_items + 1)
        return [each.to(self.device) for each in found]

    # ------------------------------------------------------------ checkpoints

    def _due(self) -> bool:
        """Whether a checkpoint is: at the end of each epoch, unless a time is given, and it is not over."""
        if self.checkpoints is None:
            return False
        by_clock = self.checkpoints.every.seconds is not None
        return self.ranks.agree(not by_clock or self.checkpoints.due(0), by_clock, self.device)

    def _save(self, runs: Sequence[Run], owners: dict[Run, int]) -> None:
        """Writes all rounds, the one in training last; the first rank writes what the others tell it."""
        for run, owner in owners.items():
            self._share(run, owner)
        if self.checkpoints and self.ranks.first:
            rounds = [*self.rounds, [(run.epoch, run.state() if run.epoch else {}) for run in runs]]
            progress = {
                "rounds": [[epoch for epoch, _ in each] for each in rounds],
                "training_log": asdict(self.training_log),
            }
            tensors = {
                f"{number}-{index}": state
                for number, each in enumerate(rounds)
                for index, (epoch, state) in enumerate(each)
                if epoch
            }
            self.checkpoints.write(Checkpoint(progress, tensors))

    def _restore(self, runs: Sequence[Run]) -> None:
        """What the checkpoint to go on from holds of this round."""
        rounds, number = self.saved.progress["rounds"] if self.saved else [], len(self.rounds)
        if self.saved is None or number >= len(rounds):
            return
        for index, (run, epoch) in enumerate(zip(runs, rounds[number], strict=True)):
            if epoch:
                run.load(epoch, self.saved.tensors[f"{number}-{index}"])
                self.trained[run.plan.member] = epoch


def _shapes(member: Member) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in member.state_dict().items()}
