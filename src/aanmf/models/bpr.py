"""BPR: matrix factorisation that ranks a chosen item above one that was not.

S. Rendle, C. Freudenthaler, Z. Gantner, L. Schmidt-Thieme: BPR: Bayesian personalized ranking from implicit feedback.
UAI 2009.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from aanmf.account import Account
from aanmf.contract import InnerProducts, Side, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.models.closed_form import BLOCK, ListConfig, ListModule
from aanmf.models.histories import Histories, Weights

SOLVED_ON = 4096
"""Items that a history is compared with when its vector is solved for, at most."""


class BPRConfig(ListConfig):
    """Settings of `BPR`."""

    weights: Weights = "ones"
    """What a rating counts in the loss; see `ListConfig`."""
    factors: int = Field(default=64, ge=1, le=4096)
    """K, the number of latent factors."""
    epochs: int = Field(default=40, ge=1)
    """Passes over the training ratings, each with one negative item drawn at random."""
    learning_rate: float = Field(default=2e-2, gt=0)
    """Adam's step size at the start; it falls to 0 along half a cosine over `epochs`."""
    l2: float = Field(default=1e-2, ge=0)
    """Penalty on a training triple: on the sum of squares of `p_u`, `q_i`, `q_j`, `b_i`, `b_j`."""
    batch_size: int = Field(default=4096, ge=1)
    """Triples per step."""


class BPRModule(ListModule):
    """s_ui = p_u . q_i + b_i at the minimum of -log sigmoid(s_ui - s_uj) over rated i and unrated j.

    With new ratings, p_u moves to the minimum over the whole history, items fixed.
    """

    config: BPRConfig

    def __init__(self, config: BPRConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        self.q = nn.Parameter(torch.zeros(self.n_items, config.factors))
        self.b = nn.Parameter(torch.zeros(self.n_items, 1))
        self.p = nn.Parameter(torch.zeros(len(self.histories), config.factors))

    @torch.enable_grad()
    def learn(self, histories: Histories) -> None:
        """Steps of Adam on triples (u, i, j)."""
        config, n = self.config, len(histories.item)
        generator = torch.Generator(histories.item.device).manual_seed(config.seed)
        for table in (self.q, self.p):
            table.data.normal_(0, 0.1, generator=generator)
        user = torch.repeat_interleave(torch.arange(len(histories), device=histories.item.device), histories.count)
        rated = (user * self.n_items + histories.item).sort().values
        optimizer = torch.optim.Adam([self.p, self.q, self.b], config.learning_rate)
        steps = config.epochs * -(-n // config.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(config.epochs):
            order = torch.randperm(n, generator=generator, device=user.device)
            for rows in order.split(config.batch_size):
                u, i = user[rows], histories.item[rows]
                j = torch.randint(self.n_items, u.shape, generator=generator, device=u.device)
                drawn = u * self.n_items + j
                unrated = rated[torch.searchsorted(rated, drawn).clamp(max=n - 1)] != drawn
                p, positive, negative = self.p[u], self.q[i], self.q[j]
                b_i, b_j = self.b[i, 0], self.b[j, 0]
                loss = softplus(b_j - b_i - (p * (positive - negative)).sum(1))
                squares = (p.square() + positive.square() + negative.square()).sum(1) + b_i.square() + b_j.square()
                optimizer.zero_grad()
                ((loss + config.l2 * squares) * histories.weight[rows] * unrated).mean().backward()
                optimizer.step()
                schedule.step()

    def match(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor, None]]:
        """See `RatingModule.match`: p_u as trained."""
        for part in torch.arange(len(users), device=users.device).split(BLOCK):
            scores = torch.addmm(self.b[:, 0], self.p[users[part]], self.q.T)
            scores[self.histories.count[users[part]] == 0] = self.popularity
            yield part, scores, None

    def inner_products(self) -> InnerProducts:
        """See `RatingModule.inner_products`: p_u as trained."""
        return InnerProducts(
            lambda users: Side(self.b.new_zeros(len(users)), self.p[users]), Side(self.b[:, 0], self.q)
        )

    def score(self, histories: Histories) -> Tensor:
        """See `ListModule.score`."""
        rows = torch.arange(len(histories), device=self.q.device).split(1)
        p = torch.stack([self._solve(histories.rows(row)) for row in rows])
        return torch.addmm(self.b[:, 0], p, self.q.T)

    def account(self, history: Histories, item: int, score: Tensor) -> Account:
        """See `ListModule.account`: b_i is the item's, p_u . q_i the user's."""
        if not len(history.item):
            return super().account(history, item, score)
        b = self.b[item, 0]
        return replace(Account.empty(history.item, 0, 0), item=b, user=score - b)

    @torch.enable_grad()
    def _solve(self, history: Histories) -> Tensor:
        """p (K,) at the minimum of the loss of one history against all other items, or an even sample of them."""
        q, b = self.q.detach(), self.b.detach()[:, 0]
        weight = history.weight / history.weight.sum().clamp(min=1e-9)
        others = torch.ones_like(b, dtype=torch.bool).index_fill_(0, history.item, False).nonzero()[:, 0]
        others = others[:: max(1, len(others) // SOLVED_ON)]
        p = q.new_zeros(q.shape[1], requires_grad=True)
        optimizer = torch.optim.LBFGS([p], max_iter=50, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            s = q @ p + b
            apart = softplus(s[others] - s[history.item, None]).sum(1) / max(1, len(others))
            value = weight @ apart + self.config.l2 * p.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        return p.detach()
