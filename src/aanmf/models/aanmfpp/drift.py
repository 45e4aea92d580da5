"""What the time of a rating says: where the model was wrong about a user, it is wrong in the same way soon after.

    k_tau(u, t) = sum_k w_k e_k / (8 + sum_k w_k),   w_k = exp(-|t - t_k| / tau)     for each tau of `SPANS`
    drift(u, t) = sum_tau c_tau k_tau(u, t)                                          c_tau >= 0

e_k are residuals of the training ratings of u, each predicted while it was held out of all histories. Users rate many
items at once, in one mood and from one page: what the model misses in one rating it misses in the next. The weights
are least squares on held-out ratings (`fit.py`). Later ratings (t_k >= t) count only where `future` says so. How the
constants were chosen: `docs/research/time_kernels.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from aanmf.data.attributes import Context
from aanmf.models.aanmfpp.history import RatingHistory

SPANS = tuple(10**power for power in range(1, 8))
"""tau, in seconds: from ten seconds to four months."""
SHRUNK = 8.0
"""So many residuals of 0 are added to each weighted mean."""
BLOCK = 4_000_000
"""Pairs of times in memory at a time."""


class Drift(nn.Module):
    """The equations at the top of this file, in scaled ratings.

    Args:
        history: the training ratings.
        time: (N,) when they were given, in the order of the history.
        future: whether later ratings count.
    """

    time: Tensor
    residual: Tensor
    weight: Tensor

    def __init__(self, history: RatingHistory, time: Tensor, future: bool) -> None:
        super().__init__()
        self.history, self.future = history, future
        self.register_buffer("time", time, persistent=False)
        self.register_buffer("residual", torch.zeros(len(time)))
        self.register_buffer("weight", torch.zeros(len(SPANS)))

    @classmethod
    def over(cls, history: RatingHistory, context: Context | None, future: bool) -> Drift | None:
        """Of ratings in this context; None where it has no times."""
        return None if context is None or context.time is None else cls(history, context.time, future)

    def of(self, users: Tensor, context: Context | None, gone: Tensor | None = None) -> Tensor | None:
        """What the times of requests by users (B,) say, without their ratings of the items `gone`: (B,).

        None where the times are not known.
        """
        if context is None or context.time is None:
            return None
        return self.weight @ self.kernels(users, context.time, gone)

    def of_catalogue(self, users: Tensor, context: Context | None, gone: Tensor | None = None) -> Tensor | None:
        """The same of all items: (B, 1)."""
        drift = self.of(users, context, gone)
        return None if drift is None else drift[:, None]

    def kernels(self, users: Tensor, time: Tensor, gone: Tensor | None = None) -> Tensor:
        """k (S, B) of users and times (B,)."""
        found = [self._near(users[part], time[part], gone) for part in self._blocks(users)]
        return torch.cat(found, dim=1) if found else self.residual.new_zeros(len(SPANS), 0)

    def _blocks(self, users: Tensor) -> Iterator[slice]:
        """Users in parts with about `BLOCK` ratings each."""
        reached = self.history.matrix.count[users].cumsum(0) // BLOCK
        _, sizes = reached.unique_consecutive(return_counts=True)
        start = 0
        for size in sizes.tolist():
            yield slice(start, start + size)
            start += size

    def _near(self, users: Tensor, time: Tensor, gone: Tensor | None) -> Tensor:
        history = self.history
        entry, _ = history.matrix.entries(users)
        row = torch.repeat_interleave(torch.arange(len(users), device=users.device), history.matrix.count[users])
        apart = time[row] - self.time[entry]
        counts = torch.ones_like(apart, dtype=torch.bool) if self.future else apart > 0
        if gone is not None:
            counts = counts & ~torch.isin(history.items_at(entry), gone)
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


def weigh(kernels: Tensor, error: Tensor) -> Tensor:
    """c (S,), by which kernels (S, n) explain errors (n,) of held-out ratings best."""
    weight, _ = nnls(kernels.T.double().cpu().numpy(), error.double().cpu().numpy())
    return torch.as_tensor(weight, dtype=error.dtype, device=error.device)
