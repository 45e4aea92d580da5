"""What `aanmf tune` may choose for each model, and whether a choice lies at the edge of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aanmf.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """Values of one setting, from `low` to `high`, both included.

    Attributes:
        log: searched on a logarithmic scale.
        whole: whole numbers.
        natural: nothing can lie below `low` (a dropout of 0), so that it is no edge.
    """

    low: float
    high: float
    log: bool = True
    whole: bool = False
    natural: bool = False

    def place(self, value: float) -> float:
        """Where a value lies between `low` (0) and `high` (1), on the scale that is searched."""
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return (at - low) / (high - low)

    def edge(self, value: float, margin: float = 0.03) -> str | None:
        """`low` or `high` where a value is so near to an end that a better one may lie beyond; else None."""
        place = self.place(value)
        if place < margin and not self.natural:
            return "low"
        return "high" if place > 1 - margin else None


Space = Mapping[str, Range]

_FACTORS = Range(2, 160, whole=True)
_RATE = Range(1e-3, 5e-2)
_DROPOUT = Range(0.0, 0.7, log=False, natural=True)
_MF: Space = {"factors": _FACTORS, "learning_rate": _RATE, "l2": Range(2, 100), "l2_bias": Range(0.02, 20)}
_DENSE: Space = {"factors": _FACTORS, "learning_rate": _RATE, "l2_dense": Range(0.005, 2), "dropout": _DROPOUT}
_CODE: Space = {
    "factors": Range(16, 512, whole=True),
    "learning_rate": _RATE,
    "l2": Range(4, 200),
    "dropout": Range(0.0, 0.9, log=False, natural=True),
}

SPACES: dict[str, Space] = {
    "mf": _MF,
    "svd++": _MF,
    "fm": _MF,
    "nfm": {**_DENSE, "l2": Range(8, 400)},
    "acmf": {**_MF, "l2": Range(1, 60), "alpha": Range(0.005, 2)},
    "aesr": {**_CODE, "pull": Range(0.1, 50)},
    "autorec": _CODE,
    "aanmf": {**_DENSE, "l2": Range(4, 150)},
    "aanmf+p": {**_DENSE, "l2": Range(4, 150)},
    "aanmf++": {
        "factors": Range(8, 128, whole=True),
        "learning_rate": Range(2e-3, 5e-2),
        "epochs": Range(3, 24, whole=True),
    },
}
"""By model. What is not named here keeps its default; AANMF++ chooses its l2 itself, on held-out training ratings."""


def space_of(model: str) -> Space:
    """The search space of a model.

    Raises:
        ConfigError: there is none.
    """
    if model not in SPACES:
        raise ConfigError(f"no search space for a model {model!r}; there are: {', '.join(SPACES)}")
    return SPACES[model]


def edges(model: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings that lie at an edge of the model's space: `{"l2": "high"}`."""
    space = space_of(model)
    found = {name: space[name].edge(value) for name, value in settings.items() if name in space and value is not None}
    return {name: side for name, side in found.items() if side}
