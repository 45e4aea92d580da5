"""AutoRec: an auto-encoder over the ratings of an item, or of a user.

S. Sedhain, A. K. Menon, S. Sanner, L. Xie: AutoRec: autoencoders meet collaborative filtering. WWW 2015.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.models.base import AttributeSets, Context, ModelConfig, RatingModule, embedding
from aanmf.models.sparse import SparseMatrix

ACTIVATIONS = {"sigmoid": torch.sigmoid, "relu": F.relu}


class AutoRecConfig(ModelConfig):
    """Settings of `AutoRec`; `factors` is the width of the hidden layer."""

    encodes: Literal["items", "users"] = "items"
    """Whose ratings are encoded: those of the item (I-AutoRec) or of the user (U-AutoRec)."""
    activation: Literal["sigmoid", "relu"] = "sigmoid"
    """g, the non-linearity of the hidden layer."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the ratings left out of the input at each training step (the rest scaled up)."""
    l2: float = Field(default=10.0, ge=0)
    """Penalty on V and W: (l2 / n ratings) * sum of squares."""
    l2_bias: float = Field(default=2.0, ge=0)
    """The same for the output biases."""


class AutoRecModule(RatingModule):
    """r_ui = mu + c_u + W_u . h_i, with the code h_i = g(sum_{v in N(i)} (r_vi - mu) V_v + b) of the item's ratings.

    N(i) are the users who rated i in training: the input is the item's whole training column, the rating to predict
    among it, 0 where there is none, and the loss is taken over observed ratings only (Eq 2). U-AutoRec exchanges the
    roles of users and items. Ratings enter less their mean, so that 0 is neutral; the source feeds them as they are.
    """

    mu: Tensor

    def __init__(self, config: AutoRecConfig, context: Context) -> None:
        super().__init__()
        k, train = config.factors, context.train
        self.config = config
        self.by_user = config.encodes == "users"
        n_users, n_items = context.n_users + 1, context.n_items + 1
        row, col, n, m = (train.user, train.item, n_users, n_items) if self.by_user else (train.item, train.user, n_items, n_users)
        self.ratings = SparseMatrix(row, col, train.rating - context.mean, (n, m))
        self.v = embedding(m, k)
        self.b = nn.Parameter(torch.zeros(k))
        self.w = embedding(m, k)
        self.c = nn.Parameter(torch.zeros(m, 1))
        self.activation = ACTIVATIONS[config.activation]
        self.register_buffer("mu", torch.tensor(context.mean), persistent=False)

    def codes(self, rows: Tensor) -> Tensor:
        """h (B, K) of some items (users, for U-AutoRec)."""
        value = F.dropout(self.ratings.value, self.config.dropout, self.training)
        return self.activation(self.ratings(self.v, rows, value) + self.b)

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSets | None = None) -> Tensor:
        """See `RatingModule.forward`; attributes are not used."""
        rows, out = (users, items) if self.by_user else (items, users)
        return self.mu + self.c[out, 0] + (self.codes(rows) * self.w.index_select(0, out)).sum(-1)

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """Weights and output biases apart; b free."""
        yield self.config.l2, [self.v, self.w]
        yield self.config.l2_bias, [self.c]

    def user_tables(self) -> list[Tensor]:
        """The output side where it is the users'."""
        return [] if self.by_user else [self.w, self.c]

    def item_tables(self) -> list[Tensor]:
        """The output side where it is the items'."""
        return [self.w, self.c] if self.by_user else []

    @property
    def n_items(self) -> int:
        """Items known by id."""
        return self.ratings.shape[1 if self.by_user else 0] - 1

    def catalogue(self, users: Tensor, sets: AttributeSets | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """One matrix product per block of users."""
        items = torch.arange(self.n_items, device=users.device)
        for start in range(0, len(users), block := 512):
            part = torch.arange(start, min(start + block, len(users)), device=users.device)
            if self.by_user:
                yield part, self.mu + self.c[:-1, 0] + self.codes(users[part]) @ self.w[:-1].T
            else:
                yield part, self.mu + self.c[users[part]] + self.w[users[part]] @ self.codes(items).T
