"""Trainings side by side, each on a thread of its own with its share of the cores.

A step works on arrays of some thousand rows, which gain little from a second core: two trainings on one core each are
done sooner than one after the other on both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


class Each(Protocol):
    """Calls a function with each of what is given, and returns the results in that order; or raises at once."""

    def __call__(self, function: Callable[[A], B], given: Sequence[A], /) -> list[B]:
        """Calls."""
        ...


def at_once(n: int, device: torch.device) -> int:
    """How many of n trainings are to run side by side: one per thread of PyTorch; on a GPU one."""
    return max(1, min(n, torch.get_num_threads())) if device.type == "cpu" else 1


@contextmanager
def side_by_side(n: int) -> Iterator[Each]:
    """Calls n at a time, each with an n-th of PyTorch's threads; one call in this thread.

    Example:
        >>> with side_by_side(2) as each:
        ...     each(abs, [-1, 2, -3])
        [1, 2, 3]
    """
    threads: Any = torch.get_num_threads()

    def in_turn(function: Callable[[A], B], given: Sequence[A], /) -> list[B]:
        return [function(one) for one in given]

    if n == 1:
        yield in_turn
        return
    with ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(max(1, threads // n),)) as pool:

        def at_a_time(function: Callable[[A], B], given: Sequence[A], /) -> list[B]:
            calls = [pool.submit(function, one) for one in given]
            for ended in wait(calls, return_when=FIRST_EXCEPTION).done:
                ended.result()  # raises what failed first: the others may go on for long
            return [call.result() for call in calls]

        try:
            yield at_a_time
        finally:
            torch.set_num_threads(threads)  # what threads that begin later go by, too
