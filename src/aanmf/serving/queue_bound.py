"""How many requests may be in work at a time, so that none waits long for the others."""

from __future__ import annotations

import time

LEAST = 16
"""So many clients that each wait for an answer before they ask again are never refused."""
LEAST_CROWDED = 4
"""Requests that are always admitted while others are refused: there are more than `LEAST` clients then."""
CROWDED_SECONDS = 1.0
"""How long after a refusal it counts as crowded; clients are asked to come back after it."""
SMOOTHING = 1 / 64
"""Weight of the latest answer in the average; as many are answered together at most."""


class QueueBound:
    """Admits as many requests as are answered in some time: many light ones, few heavy ones.

    By Little's law a request waits (requests in work) x (seconds between two answers). These seconds are averaged while
    there is work, so they follow what requests cost, and how busy the machine is. At least `LEAST` are admitted however
    long each takes, so that a few clients are never refused; `LEAST_CROWDED` while others are refused anyway.

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
        self._crowded_until = float("-inf")
        self._each: float | None = None  # seconds between two answers
        self._since = 0.0  # the last answer, or the first request after a pause

    @property
    def bound(self) -> int:
        """How many requests may be in work now."""
        return self._bound(time.monotonic())

    def _bound(self, now: float) -> int:
        if not self._each:
            return self.most
        least = LEAST_CROWDED if now < self._crowded_until else LEAST
        return min(self.most, max(least, round(self.seconds / self._each)))

    def refuses(self, now: float | None = None) -> bool:
        """Whether a request that comes now is refused; if so, it is crowded from now on."""
        now = time.monotonic() if now is None else now
        full = self.in_work >= self._bound(now)
        if full:
            self._crowded_until = now + CROWDED_SECONDS
        return full

    def enter(self, now: float | None = None) -> bool:
        """Counts a request in, unless as many as may be are in work."""
        now = time.monotonic() if now is None else now
        if self.refuses(now):
            return False
        if not self.in_work:
            self._since = now
        self.in_work += 1
        return True

    def leave(self, now: float | None = None) -> None:
        """Counts a request out: it is answered, or its client has gone."""
        now = time.monotonic() if now is None else now
        took, self._since = now - self._since, now
        self._each = took if self._each is None else self._each + SMOOTHING * (took - self._each)
        self.in_work -= 1
