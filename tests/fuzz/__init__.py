"""Input that somebody has tampered with, or that nobody thought of: what the library must survive.

A target makes cases, and says what must hold of each. Hypothesis makes those that have a form of their own, such as a
request, and finds the smallest that fails; bytes of whole files are changed at random, ten times faster. `make test`
tries a few cases of each (`tests/test_fuzz.py`), `make fuzz MINUTES=60` as many as fit (`benchmarks/fuzz.py`). A case
that fails becomes a test of its own.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

HANG_SECONDS = 10


class HangError(BaseException):
    """A case takes too long; no Exception, so that nobody takes it for an error of the input."""


@dataclass(frozen=True)
class Target:
    """What is tried.

    Attributes:
        cases: makes them; None: `outcome` makes its own, with the `random.Random` that it gets.
        outcome: tries one and says in a word what became of it, such as `refused`; raises where that must not be.
    """

    cases: SearchStrategy[Any] | None
    outcome: Callable[[Any], str]


@dataclass
class Found:
    """What became of the cases so far.

    Attributes:
        outcomes: how many had which outcome.
        faults: what must not be, with the smallest case that shows it.
        slowest: seconds of the slowest case.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    slowest: float = 0.0

    def explore(self, target: Target, examples: int, number: int) -> None:
        """Tries some cases; those of the same number are the same.

        Args:
            target: what is tried.
            examples: how many cases.
            number: seed of the cases.
        """

        if target.cases is None:
            for seed in (f"{number}-{k}" for k in range(examples)):
                try:
                    self._try(target, random.Random(seed))
                except KeyboardInterrupt:
                    raise
                except BaseException as error:
                    self._note(error, f"seed {seed}")
            return

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=tuple(HealthCheck),  # pyright: ignore[reportArgumentType]
        )
        @hypothesis.seed(number)
        @given(target.cases)
        def one(case: Any) -> None:
            try:
                self._try(target, case)
            except BaseException as error:
                error.add_note(f"case: {case!r:.2000}")
                raise

        try:
            one()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # compiled code may panic, which is no Exception
            self._note(error, f"seed {number}")

    def _try(self, target: Target, case: Any) -> None:
        """Tries one case and counts it."""
        start, outcome = time.monotonic(), "fault"
        try:
            with _limited():
                outcome = target.outcome(case)
        finally:
            self.outcomes[outcome] += 1
            self.slowest = max(self.slowest, time.monotonic() - start)

    def _note(self, error: BaseException, seed: str) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        notes = "; ".join(getattr(error, "__notes__", ()))
        self.faults.setdefault(f"{type(error).__name__}: {error}"[:200], f"{seed}: {notes}"[:2500])


@contextmanager
def _limited() -> Iterator[None]:
    """Raises `HangError` in what takes too long."""

    def stop(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
