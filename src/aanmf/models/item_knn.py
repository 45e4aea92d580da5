"""Item-based nearest neighbours: items that the same users rated are alike (Sarwar et al. 2001)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import TrainingData
from aanmf.models.closed_form import ListConfig, ListModule
from aanmf.models.histories import Histories


class ItemKNNConfig(ListConfig):
    """Settings of `ItemKNN`."""

    neighbours: int = Field(default=100, ge=1)
    """k, how many of an item's most similar items count for it."""
    shrinkage: float = Field(default=0.0, ge=0)
    """Added to the product of norms that a cosine is divided by: makes items with few ratings less similar."""


class ItemKNNModule(ListModule):
    """s_ui = sum_j x_uj c_ij over the k items j nearest to i, c_ij = x_i . x_j / (|x_i| |x_j| + shrinkage).

    x_i is the column of weights of an item.
    """

    config: ItemKNNConfig

    def __init__(self, config: ItemKNNConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        k = min(config.neighbours, self.n_items)
        self.neighbour = nn.Parameter(torch.zeros(self.n_items, k, dtype=torch.int64), requires_grad=False)
        self.cosine = nn.Parameter(torch.zeros(self.n_items, k), requires_grad=False)

    def learn(self, histories: Histories) -> None:
        """Finds each item's neighbours, a block of items at a time."""
        norm = histories.weight.new_zeros(self.n_items)
        norm = norm.index_add_(0, histories.item, histories.weight.square()).sqrt()
        for items, products in histories.gram(self.n_items):
            cosine = products / (norm[items, None] * norm + self.config.shrinkage).clamp(min=1e-12)
            cosine[torch.arange(len(items)), items] = 0
            nearest = cosine.topk(self.neighbour.shape[1], dim=1)
            self.neighbour[items], self.cosine[items] = nearest.indices, nearest.values

    def terms(self, history: Histories, item: int) -> Tensor:
        """See `ListModule.terms`: x_k c_ik of the neighbours k."""
        cosine = self.cosine.new_zeros(len(self.neighbour)).index_put_((self.neighbour[item],), self.cosine[item])
        return history.weight * cosine[history.item]

    def score(self, histories: Histories) -> Tensor:
        """See `ListModule.score`."""
        n, k = self.neighbour.shape
        starts = torch.arange(0, n * k + 1, k, device=self.cosine.device)
        table = histories.dense(n).T.contiguous()  # (n_items, b)
        return Histories(self.neighbour.flatten(), self.cosine.flatten(), starts).times(table).T.contiguous()
