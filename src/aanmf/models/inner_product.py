"""What models have in common that end in two biases and an inner product: r_ui = b_u + b_i + x_u . z_i."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from aanmf.contract import InnerProducts, RatingModule, Side
from aanmf.data.attributes import AttributeSet

BLOCK = 512
"""Users of a catalogue that are scored at a time, unless items are very many."""
SCORES = 2**25
"""At most so many scores at a time."""


class InnerProductModule(RatingModule):
    """r_ui = b_u + b_i + x_u . z_i.

    Subclasses write `user_side` and `item_side`; prediction, catalogue and export follow from them.
    """

    def user_side(self, users: Tensor, sets: AttributeSet | None = None) -> Side:
        """b_u (B,), which includes the mean rating, and x_u (B, K); `sets` as in `RatingModule.forward`."""
        raise AssertionError(f"{type(self).__name__} must define user_side")

    def item_side(self, items: Tensor) -> Side:
        """b_i (B,) and z_i (B, K)."""
        raise AssertionError(f"{type(self).__name__} must define item_side")

    def all_items(self) -> Side:
        """`item_side` of all items. Where it is rows of tables, a view of them saves a copy with every list."""
        table, *_ = self.item_tables()
        return self.item_side(every_row(table)[:-1])

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.forward`."""
        return inner_product(self.user_side(users, sets), self.item_side(items))

    def catalogue(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `RatingModule.catalogue`: one matrix product per block of users."""
        item = self.all_items()
        block = max(1, min(BLOCK, SCORES // max(1, self.n_items)))
        for part in torch.arange(len(users), device=users.device).split(block):
            user = self.user_side(users[part], None if sets is None else sets.rows(part))
            yield part, torch.addmm(user.bias[:, None] + item.bias, user.vector, item.vector.T)

    def inner_products(self) -> InnerProducts:
        """See `RatingModule.inner_products`."""
        return InnerProducts(self.user_side, self.all_items())

    def sides(self) -> tuple[Side, Side]:
        """See `RatingModule.sides`."""
        users, items = (every_row(tables[0]) for tables in (self.user_tables(), self.item_tables()))
        return self.user_side(users), self.item_side(items)

    @torch.no_grad()
    def export_form(self) -> nn.Module:
        """See `RatingModule.export_form`."""
        return InnerProductForm(*self.sides())


class InnerProductForm(nn.Module):
    """The tables of all users and items, and `inner_product` on top."""

    def __init__(self, users: Side, items: Side) -> None:
        super().__init__()
        self.users, self.items = users, items

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,), (B,) -> (B,)."""
        return inner_product(Side(*(t[users] for t in self.users)), Side(*(t[items] for t in self.items)))


def every_row(table: Tensor) -> Tensor:
    """Positions (n,) of all rows of a table."""
    return torch.arange(len(table), device=table.device)


def inner_product(user: Side, item: Side) -> Tensor:
    """b_u + b_i + x_u . z_i (B,)."""
    return user.bias + item.bias + (user.vector * item.vector).sum(-1)
