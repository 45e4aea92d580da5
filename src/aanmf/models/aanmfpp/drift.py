"""What the time of a rating says: the model's errors nearby in time, and how long user and item have been rated.

    k_tau(u, t) = sum_k w_k e_k / (2 + sum_k w_k),   w_k = exp(-|t - t_k| / tau)     for each tau of `SPANS`
    a(u, t), a'(i, t) = mean e of ratings given as long after the first one of their user (item)

    drift = sum_f weight_f feature_f                                                 weight >= 0

e_k are residuals of the training ratings of u, each predicted while it was held out of all histories. Users rate many
items at once, in one mood and from one page: what the model misses in one rating it misses in the next. The weights are
least squares on held-out ratings (`fit.py`). Later ratings (t_k >= t) count only where `future` says so.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from aanmf.data.attributes import Context
from aanmf.models.aanmfpp.history import RatingHistory

MINUTE, DAY = 60, 86_400
SPANS = (MINUTE // 2, 2 * MINUTE, 10 * MINUTE, 60 * MINUTE, DAY, 30 * DAY)
"""tau, in seconds."""
AGES = (1, MINUTE, 5 * MINUTE, 60 * MINUTE, DAY, 7 * DAY, 30 * DAY, 90 * DAY, 180 * DAY, 365 * DAY, 3 * 365 * DAY)
"""Ends of the groups of a(u, t), in seconds after the first rating."""
SHRUNK, SHRUNK_AGE = 2.0, 200.0
"""So many residuals of 0 are added to each weighted mean, and to the mean of each group of ages."""
BLOCK = 4_000_000
"""Pairs of times in memory at a time."""
NEVER = 2**62


class Drift(nn.Module):
    """The equations at the top of this file, in scaled ratings.

    Args:
        history: the training ratings.
        time: (N,) when they were given, in the order of the history.
        future: whether later ratings count.
    """

    time: Tensor
    residual: Tensor
    first_user: Tensor
    first_item: Tensor
    ages_user: Tensor
    ages_item: Tensor
    weight: Tensor

    def __init__(self, history: RatingHistory, time: Tensor, future: bool) -> None:
        super().__init__()
        self.history, self.future = history, future
        never = (torch.full((n,), NEVER, dtype=torch.int64) for n in history.shape)
        of_users, of_items = (
            each.scatter_reduce(0, ids, time, "amin")
            for each, ids in zip(never, (history.user, history.item), strict=True)
        )
        for name, part in (("time", time), ("first_user", of_users), ("first_item", of_items)):
            self.register_buffer(name, part, persistent=False)
        self.register_buffer("residual", torch.zeros(len(time)))
        self.register_buffer("ages_user", torch.zeros(len(AGES) + 1))
        self.register_buffer("ages_item", torch.zeros(len(AGES) + 1))
        self.register_buffer("weight", torch.zeros(len(SPANS) + 2))

    @classmethod
    def over(cls, history: RatingHistory, context: Context | None, future: bool) -> Drift | None:
        """Of ratings in this context; None where it has no times."""
        return None if context is None or context.time is None else cls(history, context.time, future)

    def learn(self, residual: Tensor) -> None:
        """Takes the residuals (N,) of the training ratings."""
        self.residual.copy_(residual)
        history = self.history
        for means, first, ids in (
            (self.ages_user, self.first_user, history.user),
            (self.ages_item, self.first_item, history.item),
        ):
            group = _age(self.time, first[ids])
            total = torch.zeros_like(means).index_add_(0, group, residual)
            means.copy_(total / (torch.bincount(group, minlength=len(means)) + SHRUNK_AGE))

    def features(self, users: Tensor, items: Tensor, time: Tensor) -> Tensor:
        """(F, B) of pairs and times (B,)."""
        return torch.cat([self._of_users(users, time), self._of_items(items, time)[None]])

    def of_pairs(self, users: Tensor, items: Tensor, context: Context | None) -> Tensor | None:
        """What the times of pairs (B,) say; None: they are not known."""
        if context is None or context.time is None:
            return None
        return self.weight @ self.features(users, items, context.time)

    def of_catalogue(self, users: Tensor, context: Context | None, gone: Tensor | None = None) -> Tensor | None:
        """What the times of users (b,) say of all items (b, n_items); without their ratings of the items `gone`."""
        if context is None or context.time is None:
            return None
        items = torch.arange(self.history.shape[1] - 1, device=users.device)
        of_users = self.weight[:-1] @ self._of_users(users, context.time, gone)
        return of_users[:, None] + self.weight[-1] * self._of_items(items, context.time[:, None])

    def _of_users(self, users: Tensor, time: Tensor, gone: Tensor | None = None) -> Tensor:
        near = [self._near(users[part], time[part], gone) for part in self._blocks(users)]
        ages = self.ages_user[_age(time, self.first_user[users])]
        return torch.cat([*([torch.cat(near, dim=1)] if near else []), ages[None]]) if len(users) else self._none()

    def _of_items(self, items: Tensor, time: Tensor) -> Tensor:
        return self.ages_item[_age(time, self.first_item[items])]

    def _none(self) -> Tensor:
        return self.residual.new_zeros(len(SPANS) + 1, 0)

    def _blocks(self, users: Tensor) -> Iterator[slice]:
        """Users in parts with about `BLOCK` ratings each."""
        reached = self.history.matrix.count[users].cumsum(0) // BLOCK
        _, sizes = reached.unique_consecutive(return_counts=True)
        start = 0
        for size in sizes.tolist():
            yield slice(start, start + size)
            start += size

    def _near(self, users: Tensor, time: Tensor, gone: Tensor | None) -> Tensor:
        """k (S, B)."""
        history = self.history
        entry, _ = history.matrix.entries(users)
        row = torch.repeat_interleave(torch.arange(len(users), device=users.device), history.matrix.count[users])
        apart = time[row] - self.time[entry]
        counts = torch.ones_like(apart, dtype=torch.bool) if self.future else apart > 0
        if gone is not None:
            counts = counts & ~torch.isin(history.item[entry], gone)
        row, entry, apart = row[counts], entry[counts], apart[counts].abs().float()
        found = []
        for span in SPANS:
            weight = torch.exp(-apart / span)
            near, total = (
                weight.new_zeros(len(users)).index_add_(0, row, each)
                for each in (weight, weight * self.residual[entry])
            )
            found.append(total / (near + SHRUNK))
        return torch.stack(found)


def _age(time: Tensor, first: Tensor) -> Tensor:
    """The group of the time since the first rating; 0 where there was none before."""
    ends = torch.tensor(AGES, device=time.device)
    return torch.bucketize((time - first).clamp(min=0), ends, right=True)


def weigh(features: Tensor, error: Tensor) -> Tensor:
    """The weights (F,) by which features (F, n) explain errors (n,) of held-out ratings best."""
    weight, _ = nnls(features.T.double().cpu().numpy(), error.double().cpu().numpy())
    return torch.as_tensor(weight, dtype=error.dtype, device=error.device)
