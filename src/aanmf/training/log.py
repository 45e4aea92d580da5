"""What happened in training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


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
class TrainingLog:
    """What happened in training."""

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    """The number of epochs the final weights were trained for."""
    interrupted: bool = False
    chosen: dict[str, float] = field(default_factory=dict)
    """Settings that were chosen on held-out ratings, where the model does so."""

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> TrainingLog:
        """From what `dataclasses.asdict` made of one."""
        return cls(**{**plain, "epochs": [Epoch(**each) for each in plain["epochs"]]})


OnEpoch = Callable[[Epoch], None]
