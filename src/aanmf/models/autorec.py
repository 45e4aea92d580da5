"""AutoRec: an auto-encoder over the ratings of an item, or of a user.

S. Sedhain, A. K. Menon, S. Sanner, L. Xie: AutoRec: autoencoders meet collaborative filtering. WWW 2015.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.contract import BatchConfig, Side, TrainingData, embedding
from aanmf.data.attributes import AttributeSet
from aanmf.models.inner_product import InnerProductModule
from aanmf.models.sparse import SparseMatrix

ACTIVATIONS = {"relu": F.relu, "sigmoid": torch.sigmoid, "identity": nn.Identity()}


class AutoEncoderConfig(BatchConfig):
    """Settings of every auto-encoder; `factors` is the width of the code."""

    epochs: int = Field(default=25, ge=1)
    learning_rate: float = Field(default=6e-3, gt=0)
    dropout: float = Field(default=0.4, ge=0, lt=1)
    """Share of the ratings left out of the input at each training step (the rest scaled up)."""
    l2: float = Field(default=24.0, ge=0)
    """Penalty on V and W: (l2 / n ratings) * sum of squares."""
    l2_bias: float = Field(default=2.0, ge=0)
    """The same for the biases c and d."""

    def batch_for(self, n: int) -> int:
        """A step costs as much as encoding all rows, so steps are large: a 40th of the ratings."""
        return self.batch_size or max(n // 40, 32)


class AutoRecConfig(AutoEncoderConfig):
    """Settings of `AutoRec`."""

    encodes: Literal["items", "users"] = "items"
    """Whose ratings are encoded: those of the item (I-AutoRec) or of the user (U-AutoRec)."""
    activation: Literal["relu", "sigmoid", "identity"] = "relu"
    """g, the non-linearity of the code."""


class AutoEncoder(InnerProductModule):
    """r_ui = mu + d_i + c_u + W_u . h_i, with h_i = g(|N(i)|^-1/2 sum_{v in N(i)} (r_vi - mu) V_v + b).

    h_i is the code of the item's ratings; N(i) are the users who rated i in training. The input is the item's
    whole training column, the rating to predict among it, 0 where there is none, and the loss is taken over
    observed ratings only (Eq 2). Where users are encoded, users and items change roles. Added to the source, each
    for a lower validation error: ratings enter less their mean, so that 0 is neutral, and scaled by
    |N(i)|^-1/2, so that codes do not grow with the number of ratings; and the encoded side has a bias d too.
    """

    mu: Tensor

    def __init__(self, config: AutoEncoderConfig, training: TrainingData, of_users: bool, activation: str) -> None:
        super().__init__()
        user, item, rating = training.train.user, training.train.item, training.train.rating
        n_users, n_items = training.n_users + 1, training.n_items + 1
        row, col, n, m = (user, item, n_users, n_items) if of_users else (item, user, n_items, n_users)
        norm = torch.bincount(row, minlength=n).float().rsqrt()  # |N|^-1/2
        self.ratings = SparseMatrix(row, col, (rating - training.mean) * norm[row], (n, m))
        self.v = embedding(m, config.factors)
        self.b = nn.Parameter(torch.zeros(config.factors))
        self.w = embedding(m, config.factors)
        self.c = nn.Parameter(torch.zeros(m, 1))
        self.d = nn.Parameter(torch.zeros(n, 1))
        self.register_buffer("mu", torch.tensor(training.mean), persistent=False)
        self.l2, self.l2_bias, self.dropout = config.l2, config.l2_bias, config.dropout
        self.of_users, self.activation = of_users, ACTIVATIONS[activation]

    def codes(self, rows: Tensor) -> Tensor:
        """Codes h (B, K) of some items (users, where they are encoded)."""
        value = F.dropout(self.ratings.value, self.dropout, self.training)
        return self.activation(self.ratings(self.v, rows, value) + self.b)

    def _encoded(self, rows: Tensor) -> Side:
        """mu + d and the codes of the encoded side."""
        return Side(self.mu + self.d.index_select(0, rows).squeeze(1), self.codes(rows))

    def _output(self, rows: Tensor) -> Side:
        """c and W of the other side."""
        return Side(self.c.index_select(0, rows).squeeze(1), self.w.index_select(0, rows))

    def user_side(self, users: Tensor, sets: AttributeSet | None = None) -> Side:
        """See `InnerProductModule.user_side`; attributes are not used."""
        return self._encoded(users) if self.of_users else self._output(users)

    def item_side(self, items: Tensor) -> Side:
        """See `InnerProductModule.item_side`."""
        return self._output(items) if self.of_users else self._encoded(items)

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """Weights and biases apart; b free."""
        yield self.l2, [self.v, self.w]
        yield self.l2_bias, [self.c, self.d]

    def user_tables(self) -> list[Tensor]:
        """What belongs to users: d where they are encoded, else the output side."""
        return [self.d] if self.of_users else [self.w, self.c]

    def item_tables(self) -> list[Tensor]:
        """What belongs to items: d where they are encoded, else the output side."""
        return [self.w, self.c] if self.of_users else [self.d]


class AutoRecModule(AutoEncoder):
    """I-AutoRec, or U-AutoRec; see `AutoEncoder`."""

    def __init__(self, config: AutoRecConfig, training: TrainingData) -> None:
        super().__init__(config, training, of_users=config.encodes == "users", activation=config.activation)
