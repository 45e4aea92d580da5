"""From scores to lists: the best items of one user, and of everyone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from aanmf.fitted import Fitted
from aanmf.models.base import RatingModule


def top_items(
    fitted: Fitted, shown: Mapping[str, Tensor], by: str, n: int, hidden: Sequence[Tensor], unrated: bool
) -> pl.DataFrame:
    """The n best items of one user.

    Args:
        fitted: whose items.
        shown: columns of figures (n_items,), on the scale of the ratings.
        by: the column to rank by.
        n: how many rows at most.
        hidden: positions of items to leave out.
        unrated: also items without a training rating.

    Returns:
        `item`, `label` (if items have one) and the columns of `shown`, best first.
    """
    order = shown[by].clone()
    if not unrated:
        order[~rated_items(fitted)] = -torch.inf
    for items in hidden:
        order[items] = -torch.inf
    top = torch.topk(order, min(max(n, 0), int((order > -torch.inf).sum()))).indices
    table = pl.DataFrame({"item": [fitted.items.ids[row] for row in top.tolist()]}, schema={"item": pl.String})
    if fitted.item_labels:
        labels = [fitted.item_labels[row] for row in top.tolist()]
        table = table.with_columns(pl.Series("label", labels, dtype=pl.String))
    return table.with_columns(pl.Series(name, values[top].numpy()) for name, values in shown.items())


@torch.no_grad()
def top_items_of_all(
    fitted: Fitted, module: RatingModule, n: int, *, seen: bool = False, unrated: bool = False
) -> Iterator[pl.DataFrame]:
    """The n best items of every user, a block of users at a time: `user`, `item`, `rating`, best first."""
    train, device = fitted.context.train, next(module.parameters()).device
    order = torch.argsort(train.user)
    item_of = train.item[order].to(device)
    start = torch.searchsorted(train.user[order], torch.arange(len(fitted.users) + 1)).to(device)
    barred = torch.zeros(len(fitted.items), device=device)
    if not unrated:
        barred[~rated_items(fitted).to(device)] = -torch.inf
    users, items = np.array(fitted.users.ids), np.array(fitted.items.ids)
    for part, scores in module.catalogue(torch.arange(len(fitted.users), device=device)):
        scores = scores + barred
        if not seen:
            count = start[part + 1] - start[part]
            row = torch.repeat_interleave(torch.arange(len(part), device=device), count)
            entry = torch.arange(len(row), device=device) + (start[part] - count.cumsum(0) + count)[row]
            scores[row, item_of[entry]] = -torch.inf
        top = torch.topk(scores, min(max(n, 0), scores.shape[1]))
        there = (top.values > -torch.inf).cpu()
        who = part.cpu()[:, None].expand_as(there)[there].numpy()
        rating = top.values.clamp(*fitted.context.scale).cpu()[there].numpy()
        yield pl.DataFrame({"user": users[who], "item": items[top.indices.cpu()[there].numpy()], "rating": rating})


def rated_items(fitted: Fitted) -> Tensor:
    """(n_items,) whether an item has a training rating."""
    return torch.bincount(fitted.context.train.item, minlength=len(fitted.items)) > 0
