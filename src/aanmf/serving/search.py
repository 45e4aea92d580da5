"""Finding users and items by id or title."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property


class SearchIndex:
    """A search over ids and, where there are any, labels."""

    def __init__(self, ids: Sequence[str], labels: Sequence[str] | None = None) -> None:
        self._ids, self._labels = ids, labels

    @cached_property
    def _text(self) -> list[tuple[str, str]]:
        """Id and label in small letters; made for the first search, since a million take a second."""
        texts = zip(self._ids, self._labels or self._ids, strict=True)
        return [(label.casefold(), text.casefold()) for label, text in texts]

    def search(self, query: str, n: int) -> tuple[list[dict[str, str | None]], bool]:
        """At most n of the ids (with labels) that contain the query, and whether there are more.

        First the id itself, then ids and titles that begin with the query, then titles with a word that does, then the
        others; all of them in order for an empty query.
        """
        wanted = query.strip().casefold()
        ranks = [(_rank(wanted, *text), at) for at, text in enumerate(self._text)]
        found = sorted((rank, at) for rank, at in ranks if rank is not None)
        rows = [{"id": self._ids[at], "label": self._labels[at] if self._labels else None} for _, at in found[:n]]
        return rows, len(found) > n


def _rank(wanted: str, label: str, text: str) -> int | None:
    if label == wanted or not wanted:
        return 0
    if label.startswith(wanted) or text.startswith(wanted):
        return 1
    if f" {wanted}" in text:
        return 2
    return 3 if wanted in text or wanted in label else None
