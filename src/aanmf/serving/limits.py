"""How much one request, and one client, may ask for."""

from __future__ import annotations

import time
from collections import OrderedDict

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """Bounds of the service; a request beyond them is refused with a 4xx that names the bound."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body: int = Field(default=2 << 20, ge=1024)
    """Bytes of a request's body."""
    bodies: int = Field(default=256 << 20, ge=1024)
    """Bytes of all bodies that are being read at a time."""
    connections: int = Field(default=1_000, ge=1)
    """Open connections of a process."""
    pairs: int = Field(default=10_000, ge=1)
    """Pairs of one predict request, and ratings, candidates and excluded items of one request."""
    items: int = Field(default=1_000, ge=1)
    """Items of one list, recommended or similar."""
    diverse: int = Field(default=100, ge=1)
    """Items of one diverse list; its cost grows with their square."""
    users: int = Field(default=100, ge=1)
    """Users whose lists one request may ask for."""
    found: int = Field(default=100, ge=1)
    """Users or items of one search."""
    rate: float | None = Field(default=None, gt=0)
    """Requests per second and client; None: any number."""
    body_seconds: float = Field(default=10.0, gt=0)
    """How long a client may take to send a body."""
    seconds: float = Field(default=30.0, gt=0)
    """How long an answer may take."""
    list_bytes: int = Field(default=64 << 20, ge=0)
    """Bytes of memory for lists that were made before; least recently asked ones are dropped."""
    wait: float = Field(default=0.015, gt=0)
    """Seconds that a request may be expected to wait for those in work; if it would wait longer, it is refused at once,
    to come back later. 16 requests are admitted all the same, and 4 while others are refused."""
    requests: int = Field(default=64, ge=1)
    """Requests in work per process, however fast they are answered."""


class RateLimit:
    """A token bucket per client, which holds up to two seconds' worth of requests."""

    def __init__(self, rate: float, most_clients: int = 10_000) -> None:
        self.rate, self.size, self.most_clients = rate, max(1.0, 2 * rate), most_clients
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str, now: float | None = None) -> float:
        """Takes one request; 0 if it may pass, else the seconds after which to try again."""
        now = time.monotonic() if now is None else now
        left, since = self._buckets.pop(client, (self.size, now))
        left = min(self.size, left + (now - since) * self.rate)
        allowed = left >= 1.0
        self._buckets[client] = (left - 1.0 if allowed else left, now)
        if len(self._buckets) > self.most_clients:  # the client that was quiet for longest is forgotten
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self.rate
