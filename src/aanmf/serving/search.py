"""Finding users and items by id or title."""

from __future__ import annotations

from collections.abc import Sequence


class Index:
    """Ids with their positions and labels, and a search over both."""

    def __init__(self, ids: Sequence[str], labels: Sequence[str] | None = None) -> None:
        self.ids, self.labels = tuple(ids), labels
        self.position = {each: at for at, each in enumerate(self.ids)}
        self._text = [text.casefold() for text in (labels or self.ids)]

    def __len__(self) -> int:
        return len(self.ids)

    def label(self, at: int) -> str | None:
        """What a person reads in place of the id, if there is such a thing."""
        return self.labels[at] if self.labels else None

    def search(self, query: str, n: int) -> tuple[list[dict[str, str | None]], bool]:
        """At most n of the ids (with labels) that hold the query, and whether there are more.

        First the id itself, then ids and titles that begin with the query, then titles with a word that does, then the
        others; all of them in order for an empty query.
        """
        wanted = query.strip().casefold()
        ranked: list[tuple[int, int]] = []
        for at, (label, text) in enumerate(zip(self.ids, self._text, strict=True)):
            rank = _rank(wanted, label.casefold(), text)
            if rank is not None:
                ranked.append((rank, at))
        ranked.sort()
        found = [{"id": self.ids[at], "label": self.label(at)} for _, at in ranked[:n]]
        return found, len(ranked) > n


def _rank(wanted: str, label: str, text: str) -> int | None:
    if label == wanted or not wanted:
        return 0
    if label.startswith(wanted) or text.startswith(wanted):
        return 1
    if f" {wanted}" in text:
        return 2
    return 3 if wanted in text or wanted in label else None
