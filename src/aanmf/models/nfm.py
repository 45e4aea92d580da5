"""Neural factorisation machine: a factorisation machine with dense layers on its pairwise pooling.

X. He, T.-S. Chua: Neural factorization machines for sparse predictive analytics. SIGIR 2017.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.contract import RatingModule, Side, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.models.fm import FMConfig, FMModule
from aanmf.models.inner_product import every_row


class NFMConfig(FMConfig):
    """Settings of `NFM`."""

    l2: float = Field(default=55.0, ge=0)
    item_attributes: bool = False
    """Whether the item's attributes are features."""
    layers: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(default=(32,), max_length=16)
    """Widths of the dense ReLU layers above the pooling; `()` for none (a weighted FM)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of units dropped after the pooling and after each layer while training."""
    batch_norm: bool = True
    """Whether the pooling and each layer (before its ReLU) are normalised over the batch."""
    l2_dense: float = Field(default=0.05, ge=0)
    """Penalty on the weights of the dense layers and h."""


class NFMModule(FMModule):
    """r_ui = w_0 + sum_f x_f w_f + h . MLP(f_BI) (Eq 2 and 6), with the pooling f_BI of `FMModule.terms`."""

    config: NFMConfig

    def __init__(self, config: NFMConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        widths = [config.factors, *config.layers]
        self.dense = nn.ModuleList([nn.Linear(*width) for width in pairwise(widths)])
        norm = BatchNorm if config.batch_norm else nn.Identity
        self.norms = nn.ModuleList([norm(width) for width in widths])
        self.h = nn.Linear(widths[-1], 1, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.forward`."""
        linear, z = self.terms(users, items, sets)
        z = self.norms[0](z)
        for layer, norm in zip(self.dense, list(self.norms)[1:], strict=True):
            z = F.relu(norm(layer(self.dropout(z))))
        return linear + self.h(self.dropout(z)).squeeze(-1)

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """Factors, linear weights, and the weights (not biases) of the layers."""
        yield from super().l2_groups()
        layers = [*self.dense.named_parameters(), *self.h.named_parameters()]
        yield self.config.l2_dense, [each for name, each in layers if name.endswith("weight")]

    catalogue = RatingModule.catalogue  # pair by pair: above the pooling nothing is shared

    def sides(self) -> tuple[Side, Side]:
        """See `RatingModule.sides`: linear weights and vectors; the layers are above them."""
        user, item = self.user_sums(every_row(self.user.w)), self.item_sums(every_row(self.item.w))
        return Side(self.w_0 + user.linear, user.vector), Side(item.linear, item.vector)

    def export_form(self) -> nn.Module:
        """See `RatingModule.export_form`."""
        return self


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that accepts a training batch of one, which has no variance of its own."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, width) -> (B, width)."""
        if self.training and len(input) < 2:
            mean, variance = self.running_mean, self.running_var
            return F.batch_norm(input, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(input)
