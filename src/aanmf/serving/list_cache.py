"""Lists made before, as many as fit into so many bytes."""

from __future__ import annotations

import sys
from collections import OrderedDict

import numpy as np

from aanmf.ranking import RankedList

OF_AN_ENTRY = 700
"""Bytes of an entry besides its numbers: the key, the objects, their place in the dictionary."""
OF_AN_ARRAY = 150
"""Bytes of an array besides its numbers."""


class ListCache:
    """The lists that were asked for last. Numbers only: titles and rows are made anew from them.

    Attributes:
        most_bytes: what they may take together.
        bytes: what they take.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self._lists: OrderedDict[bytes, RankedList] = OrderedDict()

    def __len__(self) -> int:
        return len(self._lists)

    def get(self, key: bytes) -> RankedList | None:
        """A list that was put there under this key, if it is still there."""
        found = self._lists.get(key)
        if found is not None:
            self._lists.move_to_end(key)
        return found

    def put(self, key: bytes, made: RankedList) -> None:
        """Keeps a list; those that nobody asked for longest make room for it."""
        columns = {sys.intern(name): np.array(column) for name, column in made.columns.items()}
        kept = RankedList(made.side, np.array(made.item), columns)  # copies: parts of larger arrays hold these
        self._remove(key)
        self._lists[key] = kept
        self.bytes += size_of(kept)
        while self.bytes > self.most_bytes and self._lists:
            self._remove(next(iter(self._lists)))

    def clear(self) -> None:
        """Forgets all of them."""
        self._lists.clear()
        self.bytes = 0

    def _remove(self, key: bytes) -> None:
        if (gone := self._lists.pop(key, None)) is not None:
            self.bytes -= size_of(gone)


def size_of(kept: RankedList) -> int:
    """Bytes that a list takes in the cache."""
    arrays = (kept.item, *kept.columns.values())
    return OF_AN_ENTRY + sum(OF_AN_ARRAY + each.nbytes for each in arrays)
