"""What happened in training, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config

from aanmf.errors import ConfigError


@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
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


OnEpoch = Callable[[Epoch], None]


@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
@dataclass
class TrainingLog:
    """What happened in training."""

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    """The number of epochs the final weights were trained for."""
    interrupted: bool = False
    chosen: dict[str, float] = field(default_factory=dict)
    """What was chosen on held-out ratings, where the model does so: settings by name, and `trust`."""
    selected_mse: float | None = None
    """Of these held-out ratings, by what was chosen."""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> TrainingLog:
        """From what `dataclasses.asdict` made of one.

        Raises:
            ValueError: a field is missing, unknown, or of another type.
        """
        return _LOG.validate_python(dict(fields))

    @property
    def train_rmse(self) -> float | None:
        """RMSE on the training ratings, of the last epoch; None without epochs."""
        return math.sqrt(self.epochs[-1].train_mse) if self.epochs else None

    @property
    def validation_rmse(self) -> float | None:
        """RMSE on the ratings held out of training, of the best epoch or of what was chosen; None: none held out."""
        held_out = [epoch.valid_mse for epoch in self.epochs if epoch.valid_mse is not None]
        least = min(held_out, default=self.selected_mse)
        return None if least is None else math.sqrt(least)

    def add(self, epoch: Epoch, learning_rate: float, on_epoch: OnEpoch | None) -> None:
        """Notes an epoch and reports it.

        Raises:
            ConfigError: training diverged.
        """
        if not math.isfinite(epoch.train_mse):
            raise ConfigError(
                f"training diverged in epoch {epoch.epoch} (error {epoch.train_mse}): "
                f"give a learning_rate below {learning_rate:g}"
            )
        self.epochs.append(epoch)
        if on_epoch:
            on_epoch(epoch)


_LOG = TypeAdapter(TrainingLog)
