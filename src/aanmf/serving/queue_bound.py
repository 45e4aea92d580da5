"""How many requests may be in work at a time, so that none waits long for the others."""

from __future__ import annotations

import time

LEAST = 16
"""So many clients that each wait for an answer before they ask again are never refused."""
SMOOTHING = 1 / 64
"""Weight of the latest answer in the average; as many are answered together at most."""


class QueueBound:
    """Admits as many requests as are answered in some time: many light ones, few heavy ones.

    By Little's law a request waits (requests in work) x (seconds between two answers). These seconds are averaged while
    there is work, so they follow what requests cost, and how busy the machine is.

    Example:
        >>> bound = QueueBound(most=64, seconds=0.05)
        >>> bound.enter(now=0.0), bound.in_work
        (True, 1)
        >>> bound.leave(now=0.002)
        >>> bound.bound  # an answer every 2 ms: 25 in 50 ms
        25
    """

    def __init__(self, most: int, seconds: float) -> None:
        """Nothing is in work.

        Args:
            most: requests in work at a time, however fast they are answered.
            seconds: how long a request may be expected to wait; at least `LEAST` requests are admitted all the same.
        """
        self.most, self.seconds, self.in_work = most, seconds, 0
        self._each: float | None = None  # seconds between two answers
        self._since = 0.0  # the last answer, or the first request after a pause

    @property
    def bound(self) -> int:
        """How many requests may be in work now."""
        if not self._each:
            return self.most
        return min(self.most, max(LEAST, round(self.seconds / self._each)))

    @property
    def is_full(self) -> bool:
        """Whether the next request is refused."""
        return self.in_work >= self.bound

    def enter(self, now: float | None = None) -> bool:
        """Counts a request in, unless as many as may be are in work."""
        if self.is_full:
            return False
        if not self.in_work:
            self._since = time.monotonic() if now is None else now
        self.in_work += 1
        return True

    def leave(self, now: float | None = None) -> None:
        """Counts a request out: it is answered, or its client has gone."""
        now = time.monotonic() if now is None else now
        took, self._since = now - self._since, now
        self._each = took if self._each is None else self._each + SMOOTHING * (took - self._each)
        self.in_work -= 1
