"""What tuning may choose: ranges of numbers, choices among values, and files that state them.

l2 = { low = 1, high = 100 }                         # a number, searched on a logarithmic scale
dropout = { low = 0.0, high = 0.7, log = false }
factors = { low = 8, high = 64, whole = true }
layers = [[], [64], [64, 32]]                        # one of these values
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aanmf.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """Values of one setting that tuning may choose, from `low` to `high`, both included.

    Attributes:
        log: searched on a logarithmic scale.
        whole: whole numbers only.
        natural: no value below `low` is possible (a dropout of 0), so that a better one cannot lie there.
    """

    low: float
    high: float
    log: bool = True
    whole: bool = False
    natural: bool = False

    def holds(self, value: Any) -> bool:
        """Whether it can be chosen."""
        return isinstance(value, int | float) and self.low <= value <= self.high

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


@dataclass(frozen=True)
class Choice:
    """Values of one setting that tuning may choose among, in any order: they have no edge.

    Attributes:
        values: two or more; None is the model's own rule, and its default.
    """

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Whether it can be chosen."""
        return value in self.values

    def edge(self, value: Any) -> None:
        """See `Range.edge`."""
        return None


Searched = Range | Choice
Space = Mapping[str, Searched]


def edges(space: Space, settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings that lie at an edge of a space, where a better value may lie beyond: `{"l2": "high"}`."""
    at = {name: space[name].edge(settings[name]) for name in space if settings.get(name) is not None}
    return {name: side for name, side in at.items() if side}


def read_space(path: str | Path) -> dict[str, Searched]:
    """A search space from a TOML file, written as at the top of this module.

    Raises:
        ConfigError: the file cannot be read, or an entry is neither a range nor a list of values.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--space {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--space {path}: not readable as TOML ({error})") from None
    return {name: _searched(f"--space {path}: {name}", entry) for name, entry in document.items()}


def _searched(where: str, entry: Any) -> Searched:
    if isinstance(entry, list):
        if len(entry) < 2:
            raise ConfigError(f"{where}: give two or more values to choose among, or fix it with --set")
        return Choice(tuple(tuple(each) if isinstance(each, list) else each for each in entry))
    options = {"log", "whole"}
    if not isinstance(entry, dict) or not {"low", "high"} <= set(entry) <= {"low", "high"} | options:
        raise ConfigError(
            f"{where}: write {{ low = 1, high = 100 }}, with log and whole if needed, or a list of values"
        )
    low, high = entry["low"], entry["high"]
    if not all(type(end) in (int, float) and math.isfinite(end) for end in (low, high)) or low >= high:
        raise ConfigError(f"{where}: low and high must be numbers, low below high, not {low!r} and {high!r}")
    if not all(isinstance(entry.get(option, True), bool) for option in options):
        raise ConfigError(f"{where}: log and whole must be true or false")
    if entry.get("whole") and not all(float(end).is_integer() for end in (low, high)):
        raise ConfigError(f"{where}: low and high must be whole numbers, not {low!r} and {high!r}")
    if entry.get("log", True) and low <= 0:
        raise ConfigError(f"{where}: a logarithmic scale needs low above 0; write log = false")
    return Range(**entry)
