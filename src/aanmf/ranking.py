"""From scores to lists: the best items of one user, and of everyone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl
import torch
from torch import Tensor

from aanmf.contract import RatingModule
from aanmf.fitted import Fitted

TABLE_USERS = 1024
"""So many users are put into a table of lists at once."""


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
    train, device = fitted.training.train, next(module.parameters()).device
    order = torch.argsort(train.user)
    item_of = train.item[order].to(device)
    start = torch.searchsorted(train.user[order], torch.arange(len(fitted.users) + 1)).to(device)
    barred = torch.zeros(len(fitted.items), device=device)
    if not unrated:
        barred[~rated_items(fitted).to(device)] = -torch.inf
    best: list[tuple[Tensor, Tensor, Tensor]] = []  # blocks of users: positions (b,), ratings and items (b, n)
    for part, scores in module.catalogue(torch.arange(len(fitted.users), device=device)):
        scores = scores + barred
        if not seen:
            count = start[part + 1] - start[part]
            row = torch.repeat_interleave(torch.arange(len(part), device=device), count)
            entry = torch.arange(len(row), device=device) + (start[part] - count.cumsum(0) + count)[row]
            scores[row, item_of[entry]] = -torch.inf
        top = torch.topk(scores, min(max(n, 0), scores.shape[1]))
        best.append((part, top.values, top.indices))
        if sum(len(block) for block, *_ in best) >= TABLE_USERS:
            yield _table(fitted, best)
            best.clear()
    if best:
        yield _table(fitted, best)


def _table(fitted: Fitted, best: list[tuple[Tensor, Tensor, Tensor]]) -> pl.DataFrame:
    """`user`, `item`, `rating` of some blocks of users."""
    user, rating, item = (torch.cat(parts).cpu() for parts in zip(*best, strict=True))
    there = rating > -torch.inf
    return pl.DataFrame(
        {
            "user": pl.Series(fitted.users.ids, dtype=pl.String).gather(user[:, None].expand_as(there)[there].numpy()),
            "item": pl.Series(fitted.items.ids, dtype=pl.String).gather(item[there].numpy()),
            "rating": rating.clamp(*fitted.training.scale)[there].numpy(),
        }
    )


def rated_items(fitted: Fitted) -> Tensor:
    """(n_items,) whether an item has a training rating."""
    return torch.bincount(fitted.training.train.item, minlength=len(fitted.items)) > 0
