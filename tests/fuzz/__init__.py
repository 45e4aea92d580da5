"""Input that somebody has tampered with, or that nobody thought of: what the library must survive.

A target is a Hypothesis strategy and what must hold of each case. `make test` tries a few cases of each
(`tests/test_fuzz.py`), `make fuzz MINUTES=60` as many as fit (`benchmarks/fuzz.py`). A case that fails becomes a test
of its own.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

HANG_SECONDS = 10


class HangError(BaseException):
    """A case takes too long; no Exception, so that nobody takes it for an error of the input."""


@dataclass(frozen=True)
class Target:
    """What is tried.

    Attributes:
        cases: makes them.
        outcome: tries one and says in a word what became of it, such as `refused`; raises where that must not be.
    """

    cases: SearchStrategy[Any]
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

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=tuple(HealthCheck),  # pyright: ignore[reportArgumentType]
        )
        @seed(number)
        @given(target.cases)
        def one(case: Any) -> None:
            start = time.monotonic()
            outcome = "fault"
            try:
                with _limited():
                    outcome = target.outcome(case)
            except BaseException as error:
                error.add_note(f"case: {case!r:.2000}")
                raise
            finally:
                self.outcomes[outcome] += 1
                self.slowest = max(self.slowest, time.monotonic() - start)

        try:
            one()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # compiled code may panic, which is no Exception
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            notes = "; ".join(getattr(error, "__notes__", ()))
            self.faults.setdefault(f"{type(error).__name__}: {error}"[:200], f"seed {number}: {notes}"[:2500])


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
