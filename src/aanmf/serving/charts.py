"""Where the bars of a chart stand, in percent of its width; the templates draw them as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SHADES = 10
"""Shades of a heat map, from 0 to 1."""
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with a number at each tick."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Percent of the width."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


@dataclass(frozen=True)
class Bar:
    """From the running total before a part to that after it, in percent of the width."""

    start: float
    end: float

    @property
    def left(self) -> float:
        """Of the two, the left one."""
        return min(self.start, self.end)

    @property
    def width(self) -> float:
        """Between the two."""
        return round(abs(self.end - self.start), 2)


def axis_around(values: Sequence[float], least: float) -> Axis:
    """An axis with round ticks that covers all values and is at least `least` wide: small changes shall look small."""
    low, high = min(values), max(values)
    margin = max(least - (high - low), 0) / 2
    low, high = low - margin, high + margin
    step = _round_step((high - low) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(round(place * step, 10) for place in range(first, last + 1)))


def waterfall(base: float, contributions: Sequence[float], least: float) -> tuple[Axis, list[Bar]]:
    """The axis, and a bar per contribution, each beginning where the one before it ended."""
    totals = [base]
    for each in contributions:
        totals.append(totals[-1] + each)
    axis = axis_around(totals, least)
    return axis, [Bar(axis.at(before), axis.at(after)) for before, after in pairwise(totals)]


def shade(share: float) -> int:
    """Of a share from 0 to 1, the same on every page: a map without differences looks like one."""
    return min(SHADES - 1, max(0, int(SHADES * share)))


def fixed(value: float) -> str:
    """With two digits: `3.56`, `−7.16`."""
    return f"{value:.2f}".replace("-", MINUS)


def signed(value: float) -> str:
    """With two digits and a sign, which nothing has not: `+0.41`, `−0.06`, `0.00`."""
    return f"{value:+.2f}".replace("-", MINUS) if abs(value) >= 0.005 else "0.00"


def tick(value: float) -> str:
    """Without digits that say nothing: `3.5`, `−20`."""
    return f"{value:g}".replace("-", MINUS)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, ... times a power of ten that is not below."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
