"""Checkpoints: a training that is stopped at any moment, even by `kill -9`, goes on as if nothing had happened.

A checkpoint is a folder like that of a model (`storage.py`): tensors and JSON with checksums, and a manifest that is
written last. It never replaces another one: each has a number, and the last two are kept, so that there is a good one
at any moment.
"""

from __future__ import annotations

import errno
import logging
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from aanmf.contract import ModelConfig, TrainingData
from aanmf.errors import CheckpointError, ConfigError, ModelFolderError
from aanmf.locks import LOCK, locked
from aanmf.manifest import MANIFEST
from aanmf.storage import add_tensors, read_folder, write_folder
from aanmf.training.distributed import Ranks

log = logging.getLogger(__name__)
KEPT = 2
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Every:
    """When checkpoints are written: after so many steps, after so many seconds, or (neither) after each epoch."""

    steps: int | None = None
    seconds: float | None = None

    @property
    def epoch(self) -> bool:
        """Whether it is after each epoch."""
        return self.steps is None and self.seconds is None

    @classmethod
    def parse(cls, text: str) -> Self:
        """`epoch`, a number of steps (`500`), or a time (`30s`, `10m`, `1h`).

        Raises:
            ConfigError: it is none of these.
        """
        if text == "epoch":
            return cls()
        if re.fullmatch(r"[1-9]\d*", text):
            return cls(steps=int(text))
        if match := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text):
            return cls(seconds=float(match[1]) * _UNITS[match[2]])
        raise ConfigError(f"a checkpoint every {text!r}: give epoch, a number of steps (500), or a time (30s, 10m, 1h)")


@dataclass(frozen=True)
class Checkpoint:
    """What a training needs to go on: plain values, and tensors by group and name.

    Attributes:
        progress: plain values.
        tensors: what all ranks share; in a checkpoint that was read, also `weights-2`: what rank 2 wrote of `weights`.
        rows: this rank's rows of sharded tables.
    """

    progress: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]
    rows: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def pieces(self, group: str, name: str) -> list[Tensor]:
        """A tensor that was read, or the rows of a sharded one by rank; empty if there is none."""
        groups = [self.tensors[group]]
        while (rows := self.tensors.get(f"{group}-{len(groups) - 1}")) is not None:
            groups.append(rows)
        return [each[name] for each in groups if name in each]


def identity(training: TrainingData, config: ModelConfig) -> dict[str, object]:
    """What must be the same for a training to be resumed."""
    settings = config.model_dump(mode="json", exclude={"device"})
    return {"model": type(config).__name__.removesuffix("Config"), **settings, "training data": training.fingerprint}


class Checkpoints:
    """The checkpoints of one training, in a folder of their own.

    Args:
        folder: where they are kept; it is made when the first one is written.
        every: when they are written.
        resume: continue from the last one there, if there is one.

    >>> from tempfile import mkdtemp
    >>> from aanmf import MF, load_restaurants
    >>> checkpoints = Checkpoints(mkdtemp() + "/model.training", every="epoch", resume=True)
    >>> MF(epochs=2).fit(load_restaurants(), checkpoints=checkpoints)
    MF(epochs=2)
    """

    def __init__(self, folder: str | Path, every: Every | str = "epoch", *, resume: bool = False) -> None:
        self.folder = Path(folder)
        self.every = Every.parse(every) if isinstance(every, str) else every
        self.resume = resume
        self.started_from: Path | None = None
        self._training: dict[str, object] = {}
        self._written = time.monotonic()

    def locked(self) -> AbstractContextManager[None]:
        """Keeps other trainings out of the folder.

        Raises:
            BusyError: another training writes its checkpoints there.
        """
        return locked(self.folder)

    def open(self, training: Mapping[str, object]) -> Checkpoint | None:
        """The checkpoint to resume from; None: start at the beginning.

        Args:
            training: settings and fingerprints by name: what must be the same for a training to resume. Plain values.

        Raises:
            CheckpointError: a checkpoint is there and `resume` was not asked for; or it is of another training; or
                none of those there is whole.
        """
        self._training, found = dict(training), self._found()
        if found and not self.resume:
            raise CheckpointError(
                f"{self.folder} holds checkpoints of a training that was not finished: "
                "resume it (resume=True, --resume), or remove the folder"
            )
        for path in reversed(found):
            try:
                manifest, documents, tensors, _ = read_folder(path)
            except ModelFolderError as error:
                log.warning("%s; the checkpoint before it is tried", error)
                continue
            self._check(path, manifest.get("training"))
            self.started_from = path
            return Checkpoint(documents["progress"], tensors)
        if found:
            raise CheckpointError(f"{self.folder}: no checkpoint there is whole; remove the folder and start again")
        return None

    def due(self, step: int) -> bool:
        """Whether one is to be written after this many steps of the epoch."""
        if self.every.seconds is not None:
            return time.monotonic() - self._written >= self.every.seconds
        return self.every.steps is not None and step % self.every.steps == 0

    def write(self, checkpoint: Checkpoint, ranks: Ranks | None = None) -> Path:
        """Writes the next one; older ones than the last two are removed.

        Every rank writes its rows, and then the first one the rest and the manifest, by which the checkpoint counts.

        Raises:
            CheckpointError: the disk is full, or the place not writable. The last good one stays.
        """
        ranks, found = ranks or Ranks(), self._found()
        if ranks.first:
            self._sweep()
        number = ranks.gather_values(1 + max((int(each.name) for each in found), default=0))[0]
        path, fault, sums = self.folder / f"{number:08d}", None, {}
        try:
            for group, rows in checkpoint.rows.items():
                sums |= add_tensors(path, f"{group}-{ranks.rank}", rows)
        except OSError as error:
            fault = error
        said = ranks.gather_values((sums, fault))
        try:
            if faults := [each for _, each in said if each is not None]:
                raise faults[0]
            if ranks.first:
                write_folder(
                    path,
                    about={"training": self._training},
                    documents={"progress": checkpoint.progress},
                    tensors=checkpoint.tensors,
                    written={name: checksum for each, _ in said for name, checksum in each.items()},
                )
        except OSError as error:
            shutil.rmtree(path, ignore_errors=True)
            kept = f"the last good one, {found[-1]}, stays" if found else "there is none before it"
            remedy = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Remove the cause"
            raise CheckpointError(
                f"checkpoint {path} cannot be written ({error.strerror or error}); {kept}. "
                f"{remedy}, then resume the training (resume=True, --resume)"
            ) from error
        for old in found[: 1 - KEPT] if ranks.first else ():
            shutil.rmtree(old, ignore_errors=True)
        self._written = time.monotonic()
        return path

    def clear(self) -> None:
        """Removes them all: the training is done and its model saved."""
        for each in self._found():
            shutil.rmtree(each, ignore_errors=True)
        self._sweep()
        with suppress(OSError):  # not there, or something else is in it
            (self.folder / LOCK).unlink(missing_ok=True)
            self.folder.rmdir()

    def _found(self) -> list[Path]:
        """Those there are, oldest first."""
        return sorted(each for each in self._numbered() if (each / MANIFEST).exists())

    def _sweep(self) -> None:
        """Removes what a killed process had begun to write."""
        for each in self._numbered():
            if not (each / MANIFEST).exists():
                shutil.rmtree(each, ignore_errors=True)

    def _numbered(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [each for each in self.folder.iterdir() if re.fullmatch(r"\d{8,}", each.name)]

    def _check(self, path: Path, written: object) -> None:
        written = written if isinstance(written, dict) else {}
        for name in {**self._training, **written}:
            if written.get(name) != self._training.get(name):
                raise CheckpointError(
                    f"checkpoint {path} is of another training: {name} was {written.get(name)!r} and is now "
                    f"{self._training.get(name)!r}; give what was given then, or remove {self.folder} to start again"
                )
