"""Kernel ridge regression of every user's ratings on a similarity of items, with honest training values.

For a user u alone: targets are the residuals of damped means, the kernel between two items

    G_ij = sum_v e_vi e_vj / sqrt(n_i n_j) + sum_v [v rated both] / sqrt(n_i n_j) + w cos(attributes of i and j) + w

without u's own terms of both sums. The fitted value of a rating that the regression has seen is no honest feature; its
leave-one-out value is, and has a closed form: y - alpha / diag((K + lambda)^-1). It leaves the rating out of the
regression only: the rating keeps its share in the means mu, b_u and b_i, of which y and e_vi are residuals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.models.aanmfpp.history import RatingHistory
from aanmf.models.kernels import gram
from aanmf.models.solve import cholesky, solve
from aanmf.training.distributed import ALONE, Ranks
from aanmf.training.side_by_side import at_once, side_by_side

CatalogueFeatures = Callable[[slice], Tensor]
BLOCK = 16_000_000
"""Numbers in memory at a time where users are taken in blocks."""
COLUMNS = 500_000
"""Numbers of the similarity in the cache at a time."""


class KernelRidge(nn.Module):
    """One regression per user and strength lambda.

    Args:
        history: the training ratings.
        attributes: (I, G) weights of the items' attribute values.
        strengths: the lambdas; each gives one feature.
        damping: of the damped means that leave the residuals.
        share: w, weight of the attribute similarity and of the constant.
        limit: users with more ratings than this are left to the other parts of the model.
    """

    alpha: Tensor
    similarity: Tensor
    residual: Tensor
    rated: Tensor
    liked: Tensor

    def __init__(
        self,
        history: RatingHistory,
        attributes: Tensor,
        strengths: tuple[float, ...],
        *,
        damping: tuple[float, float],
        share: float,
        limit: int,
    ) -> None:
        super().__init__()
        self.strengths, self.limit = strengths, limit
        self.history = history
        n_items = history.shape[1]
        parts = history.normalised(damping)
        unit = F.normalize(attributes, dim=1)
        both = (parts["liked"], parts["rated"])
        similarity = gram(_dense(history, both, max(1, BLOCK // n_items)), share * (unit @ unit.T + 1))
        for name, part in (parts | {"similarity": similarity}).items():
            self.register_buffer(name, part, persistent=False)
        self.register_buffer("alpha", history.scratch.empty(len(strengths), len(history)).zero_())

    @torch.no_grad()
    def fit(self, users: Tensor | None = None, ranks: Ranks = ALONE) -> Tensor:
        """Solves the regressions of some users (None: of all).

        Each of the ranks solves some of them, and gets all.

        Returns:
            Their leave-one-out values (F, N) in the order of the history; 0 at the ratings of other users.
        """
        left_out, matrix = self.history.scratch.like(self.alpha).zero_(), self.history.matrix
        users = torch.arange(len(matrix.count), device=matrix.count.device) if users is None else users
        users = users[(matrix.count[users] > 0) & (matrix.count[users] <= self.limit)]
        users = users[torch.argsort(matrix.count[users], descending=True, stable=True)][ranks.rank :: ranks.count]

        def solve_some(block: Tensor) -> None:
            for first, count in zip(matrix.start[block].tolist(), matrix.count[block].tolist(), strict=True):
                rows = slice(first, first + count)
                self.alpha[:, rows], left_out[:, rows] = self._solve(rows)

        blocks = in_blocks(users, matrix.count[users], self.limit)
        with side_by_side(at_once(len(blocks), users.device)) as each:
            each(solve_some, blocks)
        ranks.add(self.alpha)
        return ranks.add(left_out)

    def _solve(self, rows: slice) -> tuple[Tensor, Tensor]:
        """alpha and leave-one-out values (F, n) of the user whose ratings are `rows`."""
        item, target = self.history.items_at(rows), self.residual[rows]
        liked, rated = self.liked[rows], self.rated[rows]
        kernel = self._among(item) - liked[:, None] * liked - rated[:, None] * rated
        return ridge(kernel, target, self.strengths)

    def _among(self, items: Tensor) -> Tensor:
        """The similarity (n, n) of some items; rows first, which costs a third of indexing both at once."""
        return self.similarity.index_select(0, items).index_select(1, items)

    def features(self, users: Tensor, items: Tensor) -> Tensor:
        """Predicted residuals (F, B); for pairs that are not in the history."""
        some, row = torch.unique(users, return_inverse=True)
        result = torch.empty(len(self.strengths), len(users), device=users.device)
        step = max(1, BLOCK // (len(self.similarity) * len(self.strengths)))
        for start in range(0, len(some), step):
            mine = torch.nonzero((row >= start) & (row < start + step))[:, 0]
            result[:, mine] = self.of_catalogue(some[start : start + step])[:, row[mine] - start, items[mine]]
        return result

    def of_catalogue(self, users: Tensor) -> Tensor:
        """Predicted residuals (F, B, I) of all items.

        In blocks of columns: a row of the similarity is read once per rating, and all of it would not fit the cache.
        Few ratings read it where it is: copying the blocks would cost more.
        """
        n_items = len(self.similarity)
        entry, start = self.history.matrix.entries(users)
        item, alphas = self.history.items_at(entry), self.alpha[:, entry]
        result = torch.empty(len(alphas), len(users), n_items, device=users.device)
        width = n_items if users.is_cuda or len(entry) < n_items else max(1, COLUMNS // n_items)
        for first in range(0, n_items, width):
            block = slice(first, first + width)
            similarity = self.similarity[:, block].contiguous()
            for alpha, scores in zip(alphas, result, strict=True):
                scores[:, block] = F.embedding_bag(item, similarity, start, per_sample_weights=alpha, mode="sum")
        return result

    def over_catalogue(self, users: Tensor) -> CatalogueFeatures:
        """The same (F, B, m), for the items from one position to another at a time."""
        found = self.of_catalogue(users)
        return lambda items: found[..., items]

    def of_history(self, user: int, items: Tensor, residual: Tensor) -> Tensor:
        """Predicted residuals (F, I) of one user with this history, in place of that in the training ratings."""
        alpha, columns = self._regression(user, items, residual)
        return alpha @ columns.T

    def of_new_users(self, rows: Tensor, items: Tensor, rated: Tensor, residual: Tensor) -> Tensor:
        """Predicted residuals (F, B) of items (B,) for users who are not in the training ratings.

        Args:
            rows: (B,) which of the users.
            items: (B,).
            rated, residual: (n, m) what each of n users rated, and what damped means leave of the ratings.
        """
        kernel, similar = (
            self.similarity[rated[:, :, None], rated[:, None]],
            self.similarity[items[:, None], rated[rows]],
        )
        eye = torch.eye(rated.shape[1], device=rated.device)
        alphas = [solve(kernel + strength * eye, residual[..., None]) for strength in self.strengths]
        return torch.stack([(alpha[rows, :, 0] * similar).sum(1) for alpha in alphas])

    def terms(self, user: int, item: int, items: Tensor, residual: Tensor, *, changed: bool) -> Tensor:
        """What each rated item (n,) adds to the predicted residuals of one item (F, n): its residual times a weight.

        k' (K + lambda)^-1 y is a sum over the residuals y (n,). `changed`: the history is not that of training.
        """
        rows = self.history.rows_of(user)
        if not changed and len(rows) > self.limit:
            return torch.zeros(len(self.strengths), len(rows), device=items.device)
        own = torch.zeros(2, len(self.similarity), device=items.device)
        own[:, self.history.items_at(rows)] = torch.stack([self.liked[rows], self.rated[rows]])
        mine = own[:, items]
        kernel, similar = self._among(items) - mine.T @ mine, self.similarity[items, item]
        if changed:
            similar = similar - own[:, item] @ mine
        eye = torch.eye(len(items), device=items.device)
        roots = (cholesky(kernel + strength * eye) for strength in self.strengths)
        return torch.stack([torch.cholesky_solve(similar[:, None], root)[:, 0] * residual for root in roots])

    def _regression(self, user: int, items: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """alpha (F, n) of one user with this history; the similarity (I, n) without the user's terms in training."""
        own = torch.zeros(2, len(self.similarity), device=items.device)
        rows = self.history.rows_of(user)
        own[:, self.history.items_at(rows)] = torch.stack([self.liked[rows], self.rated[rows]])
        columns = self.similarity[:, items] - own.T @ own[:, items]
        alpha, _ = ridge(columns[items], residual, self.strengths)
        return alpha, columns


def in_blocks(users: Tensor, count: Tensor, size: int) -> list[Tensor]:
    """Users (n,) in their order, in blocks that have about so many of their ratings, `count` (n,).

    Example:
        >>> [block.tolist() for block in in_blocks(torch.arange(5), torch.tensor([9, 4, 4, 3, 2]), 8)]
        [[0], [1, 2], [3, 4]]
    """
    before = count.cumsum(0) - count
    _, sizes = (before // size).unique_consecutive(return_counts=True)
    return list(users.split(sizes.tolist()))


def _dense(history: RatingHistory, values: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The matrices users x items (b, I) of some values (N,) of the ratings each, in blocks of users."""
    for users in torch.arange(history.shape[0]).split(size):
        first = int(history.matrix.start[users[0]])
        rows = slice(first, first + int(history.matrix.count[users].sum()))
        for each in values:
            dense = torch.zeros(len(users), history.shape[1])
            yield dense.index_put_((history.user[rows].long() - users[0], history.items_at(rows)), each[rows])


def ridge(kernel: Tensor, target: Tensor, strengths: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """alpha = (K + lambda)^-1 y and the leave-one-out values, (F, n) each."""
    alphas, values = [], []
    eye = torch.eye(len(target), device=target.device)
    for strength in strengths:
        inverse = torch.cholesky_inverse(cholesky(kernel + strength * eye))
        alpha = inverse @ target
        alphas.append(alpha)
        values.append(target - alpha / inverse.diagonal())
    return torch.stack(alphas), torch.stack(values)
