"""iALS: matrix factorisation of choices by alternating least squares.

Y. Hu, Y. Koren, C. Volinsky: Collaborative filtering for implicit feedback datasets. ICDM 2008.
S. Rendle, W. Krichene, L. Zhang, Y. Koren: Revisiting the performance of iALS on item recommendation benchmarks.
RecSys 2022.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import InnerProducts, Side, TrainingData
from aanmf.models.closed_form import ListConfig, ListModule
from aanmf.models.histories import Histories
from aanmf.models.solve import cholesky, solve

CELLS = 2**22
"""Numbers of a block of gathered vectors."""


class IALSConfig(ListConfig):
    """Settings of `IALS`."""

    factors: int = Field(default=64, ge=1, le=4096)
    """K, the number of latent factors."""
    sweeps: int = Field(default=12, ge=1)
    """How often all users and all items are solved for."""
    l2: float = Field(default=0.01, gt=0)
    """lambda, the penalty on the vectors, in proportion to ratings and unobserved pairs."""
    unobserved: float = Field(default=0.3, gt=0)
    """alpha_0, the weight of a pair without a rating, which is fitted to 0."""


class IALSModule(ListModule):
    """s_ui = p_u . q_i at the minimum of a weighted sum of squares.

    sum_rated w (1 - s)^2 + alpha_0 sum_all s^2
        + lambda (sum_u (n_u + alpha_0 M) |p_u|^2 + sum_i (n_i + alpha_0 N) |q_i|^2)   for N users and M items

    p_u is solved for from the history, so that new ratings count like old ones.
    """

    config: IALSConfig

    def __init__(self, config: IALSConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        self.q = nn.Parameter(torch.zeros(self.n_items, config.factors), requires_grad=False)

    def learn(self, histories: Histories) -> None:
        """Alternates between users and items."""
        generator = torch.Generator().manual_seed(self.config.seed)
        std = 0.1 / self.config.factors**0.5
        self.q.copy_(torch.randn(self.q.shape, generator=generator) * std)
        audiences = histories.transposed(self.n_items)
        for _ in range(self.config.sweeps):
            self.q.copy_(self._solve(audiences, self._solve(histories, self.q)))

    def inner_products(self) -> InnerProducts:
        """See `RatingModule.inner_products`."""

        def of_users(users: Tensor) -> Side:
            return Side(self.q.new_zeros(len(users)), self._solve(self.histories.rows(users), self.q))

        return InnerProducts(of_users, Side(self.q.new_zeros(len(self.q)), self.q))

    def score(self, histories: Histories) -> Tensor:
        """See `ListModule.score`."""
        return self._solve(histories, self.q) @ self.q.T

    def terms(self, history: Histories, item: int) -> Tensor:
        """See `ListModule.terms`: w_k q_k' A^-1 q_i, A the equations of the history (Hu et al., section 5)."""
        config, q = self.config, self.q[history.item]
        strength = config.l2 * (len(q) + config.unobserved * self.n_items)
        system = config.unobserved * self.q.T @ self.q + q.T @ (history.weight[:, None] * q)
        system.diagonal().add_(strength)
        return history.weight * (q @ solve(system, self.q[item]))

    def _solve(self, histories: Histories, other: Tensor) -> Tensor:
        """The vectors (b, K) of rows with these histories, those of the columns (n, K) given.

        p = (alpha_0 Q'Q + sum_j w_j q_j q_j' + lambda (n_u + alpha_0 M) I)^-1 sum_j w_j q_j, for rows of about the same
        length at a time.
        """
        config, (n, k) = self.config, other.shape
        gram = config.unobserved * other.T @ other
        identity = torch.eye(k, device=other.device)
        solved = other.new_zeros(len(histories), k)
        order = torch.argsort(histories.count, descending=True)
        order, start = order[histories.count[order] > 0], 0  # those without a history stay 0
        while start < len(order):
            longest = int(histories.count[order[start]])
            rows = order[start : start + max(1, CELLS // (k * longest))]
            some = histories.rows(rows)
            row = torch.repeat_interleave(torch.arange(len(rows), device=other.device), some.count)
            at = row, torch.arange(len(row), device=other.device) - some.start[row]
            vectors = other.new_zeros(len(rows), longest, k).index_put_(at, other[some.item])  # (b, L, K)
            weighted = (
                other.new_zeros(len(rows), longest, 1).index_put_((*at, torch.zeros_like(row)), some.weight) * vectors
            )
            strength = config.l2 * (some.count + config.unobserved * n)
            system = gram + vectors.transpose(1, 2) @ weighted + strength[:, None, None] * identity
            solved[rows] = torch.cholesky_solve(weighted.sum(1)[..., None], cholesky(system))[..., 0]
            start += len(rows)
        return solved
