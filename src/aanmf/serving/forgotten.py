"""Users who asked to be forgotten: known by a digest of their id, so that no source brings them back."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable


class Forgotten:
    """A set of users without their ids: `user in forgotten` says whether one is among them.

    A digest tells whether an id that one has already is among them; it does not give the id. Whoever has the database
    can try ids, short ones within seconds.
    """

    def __init__(self, salt: bytes, digests: Collection[str] = ()) -> None:
        self._salt, self._digests = salt, frozenset(digests)

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, user: object) -> bool:
        return bool(self._digests) and isinstance(user, str) and self.digest(user) in self._digests

    def digest(self, user: str) -> str:
        """What is kept of an id."""
        return hmac.digest(self._salt, user.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()

    def with_digests(self, digests: Collection[str]) -> Forgotten:
        """Others, by the same salt."""
        return Forgotten(self._salt, digests)

    def among(self, users: Iterable[str]) -> list[str]:
        """Those of some users who are forgotten."""
        return [user for user in users if user in self] if self._digests else []
