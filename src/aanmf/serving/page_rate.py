"""Rating a few items on the page: which items are offered, and which ratings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch

from aanmf.beside_lists import well_known
from aanmf.serving.model_cache import ModelCache, Row
from aanmf.serving.page_list import item_row

OFFERED = 12
"""Items to rate: well-known ones, or those that a search finds."""
MOST_VALUES = 10
"""Distinct ratings up to which all of them are offered."""
LOOKED_AT = 100_000
"""Training ratings that are looked at to find the distinct ones."""


class RateForm:
    """The items that a new user may rate, and the values to choose from."""

    def __init__(self, cache: ModelCache) -> None:
        self.cache, self.training = cache, cache.fitted.training

    @cached_property
    def values(self) -> list[str]:
        """The ratings of the training data; on a continuous scale five steps; `yes` for data without ratings."""
        if not self.training.has_ratings:
            return ["yes"]
        found = torch.as_tensor(self.training.train.rating[:LOOKED_AT]).unique().tolist()
        low, high = self.training.scale
        values = found if len(found) <= MOST_VALUES else np.linspace(low, high, 5).tolist()
        return [f"{value:g}" for value in values]

    @cached_property
    def _well_known(self) -> list[int]:
        return well_known(self.cache.predictor, OFFERED).tolist()

    def rows(self, given: Mapping[str, str], query: str = "") -> list[Row]:
        """Items to rate: those that have a rating, then those that a search finds; without one, well-known ones.

        Args:
            given: ratings by item id, as in the address; items that the model does not know are left out.
            query: part of a title or id.
        """
        items = self.cache.fitted.items
        rated = [items.position(item) for item in given if item in items.table.ids]
        if query.strip():
            offered = [items.position(str(each["id"])) for each in self.cache.items.search(query, OFFERED)[0]]
        else:
            offered = self._well_known
        places = dict.fromkeys([*rated, *offered])
        return [{**item_row(items, at), "given": given.get(items.ids[at], "")} for at in places]
