"""EASE and EDLAE: every item as a linear combination of all others, in closed form.

H. Steck: Embarrassingly shallow autoencoders for sparse data. WWW 2019.
H. Steck: Autoencoders that don't overfit towards the identity. NeurIPS 2020.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import TrainingData
from aanmf.models.closed_form import ItemItemConfig, ListModule
from aanmf.models.histories import Histories
from aanmf.models.solve import cholesky


class EASEConfig(ItemItemConfig):
    """Settings of `EASE`."""

    l2: float = Field(default=200.0, gt=0)
    """lambda, the ridge penalty on the item-item weights."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """p, the share of each history that is dropped in training, in expectation (EDLAE); 0 is EASE."""
    normalisation: float = Field(default=0.0, ge=0, le=1)
    """alpha: in training, a user's weights are divided by his number of ratings to the power alpha / 2."""


class EASEModule(ListModule):
    """s_u = x_u B, with B = -P / diag(P) off the diagonal, 0 on it.

    P = (X'X + p / (1 - p) diag(X'X) + lambda I)^-1.

    B is the minimum of |X - X B|^2 + lambda |B|^2 over matrices with a diagonal of 0; with p > 0 the X on the right
    loses entries at random, and the minimum is that in expectation.
    """

    config: EASEConfig
    covered: Tensor

    def __init__(self, config: EASEConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        n = min(config.max_items, self.n_items)
        covered = torch.argsort(self.popularity, descending=True, stable=True)[:n].sort().values
        self.register_buffer("covered", covered, persistent=False)
        self.b = nn.Parameter(torch.zeros(n, n), requires_grad=False)

    def learn(self, histories: Histories) -> None:
        """The closed form."""
        damping = torch.repeat_interleave(histories.count.float() ** (-self.config.normalisation / 2), histories.count)
        inner = self._covered(Histories(histories.item, histories.weight * damping, histories.start))
        gram = torch.cat([rows for _, rows in inner.gram(len(self.b))])
        p = self.config.dropout
        gram.diagonal().mul_(1 + p / (1 - p)).add_(self.config.l2)
        inverse = torch.cholesky_inverse(cholesky(gram))
        self.b.copy_((-inverse / inverse.diagonal()).fill_diagonal_(0))

    def score(self, histories: Histories) -> Tensor:
        """See `ListModule.score`; items that B does not cover come last."""
        scores = self._covered(histories).times(self.b)
        if len(self.covered) == self.n_items:
            return scores
        every = scores.amin(dim=1, keepdim=True).repeat(1, self.n_items) - 1
        return every.index_copy_(1, self.covered, scores)

    def terms(self, history: Histories, item: int) -> Tensor:
        """See `ListModule.terms`: x_k B_ki."""
        place = torch.full((self.n_items,), -1, device=history.item.device)
        place[self.covered] = torch.arange(len(self.covered), device=place.device)
        row, column = place[history.item], place[item]
        return torch.where((row >= 0) & (column >= 0), history.weight * self.b[row, column], 0)

    def _covered(self, histories: Histories) -> Histories:
        """The items that B covers, by their positions in B."""
        if len(self.covered) == self.n_items:
            return histories
        place = torch.full((self.n_items,), -1, device=histories.item.device)
        place[self.covered] = torch.arange(len(self.covered), device=place.device)
        return histories.among(place)
