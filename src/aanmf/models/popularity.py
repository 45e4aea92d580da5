"""Popularity: everyone is listed what most users rated."""

from __future__ import annotations

from torch import Tensor

from aanmf.models.closed_form import ListConfig, ListModule
from aanmf.models.histories import Histories, Weights


class PopularityConfig(ListConfig):
    """Settings of `Popularity`."""

    weights: Weights = "ones"
    """What a rating counts; see `ListConfig`."""


class PopularityModule(ListModule):
    """s_ui = sum_v w_vi: an item's ratings, weighted."""

    def learn(self, histories: Histories) -> None:
        """Counts."""
        self.popularity.copy_(self.popularity.new_zeros(self.n_items).index_add_(0, histories.item, histories.weight))

    def score(self, histories: Histories) -> Tensor:
        """See `ListModule.score`: the same for all."""
        return self.popularity.repeat(len(histories), 1)
