"""The kernel ridge of `ridge.py` for large catalogues: the similarity of items by its first R eigenvectors.

    G ~ Z Z' + diag delta,  Z = V S (I, R),  delta_i = G_ii - |z_i|^2

V S^2 V' are the largest eigenvalues of G and their vectors; G itself, items by items, is never formed. The diagonal is
kept exact, as in the FITC approximation of Gaussian processes (Snelson and Ghahramani, 2006). The regression of a user
then takes the inverse of an (R, R) matrix (Woodbury), which costs in proportion to the user's ratings:

    (Z Z' + D)^-1 = D^-1 - D^-1 Z (1 + Z' D^-1 Z)^-1 Z' D^-1,  D = diag(delta + lambda)

Eigenvectors fit the ratings that they come from, which no correction for the user's own terms undoes. Users are
therefore divided into folds, and the eigenvectors for one fold come from the users of the others (cross-fitting).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.models.aanmfpp.history import RatingHistory
from aanmf.models.aanmfpp.ridge import CatalogueFeatures
from aanmf.models.solve import cholesky, solve
from aanmf.models.sparse import Entries
from aanmf.training.distributed import ALONE, Ranks
from aanmf.training.side_by_side import at_once, side_by_side

FOLDS = 4
"""Of users, each with eigenvectors from the others."""
STEPS = 10
"""Of block Lanczos, each with a quarter as many vectors as the rank: 320 products of G with a vector for rank 128."""
BLOCK = 16_000_000
"""Numbers in memory at a time where pairs are taken in blocks."""
SOLVED = 1_000_000
"""Numbers of Z in memory at a time where regressions are solved, on each thread."""

FEW = 4
"""With at most so many vectors, a product with a long table is faster the other way round."""


@dataclass(frozen=True)
class Inverse:
    """(Z Z' + diag d)^-1 of users with n ratings: Z (..., n, R), d (..., n) > 0, the Cholesky root of 1 + Z' D^-1 Z.

    Rows of zeros in Z change nothing for the others.
    """

    z: Tensor
    d: Tensor
    root: Tensor

    @classmethod
    def of(cls, z: Tensor, d: Tensor) -> Inverse:
        """Its (R, R) matrix, factorised."""
        inner = (z / d[..., None]).mT @ z
        inner.diagonal(dim1=-2, dim2=-1).add_(1)
        return cls(z, d, cholesky(inner))

    def times(self, target: Tensor) -> Tensor:
        """The inverse times vectors (..., n)."""
        scaled = (target / self.d)[..., None]
        inner = torch.cholesky_solve(self.z.mT @ scaled, self.root)
        return (scaled - self.z @ inner / self.d[..., None])[..., 0]

    def diagonal(self) -> Tensor:
        """Of the inverse (..., n)."""
        half = torch.linalg.solve_triangular(self.root, self.z.mT, upper=False)
        return 1 / self.d - half.square().sum(-2) / self.d.square()


def inner_products(theta: Tensor, z: Tensor) -> Tensor:
    """theta_fb . z_i (F, b, m): (F, b, R), (m, R). For few vectors z comes first: each row of it is then read once."""
    rows = theta.reshape(-1, theta.shape[2])
    product = (z @ rows.T).T if len(rows) <= FEW else rows @ z.T
    return product.view(*theta.shape[:2], len(z))


def orthonormal(x: Tensor, basis: Tensor) -> Tensor:
    """Columns (n, k) that are orthonormal among each other and to those of a basis (n, m), k + m <= n.

    They span what x (n, k) adds to the basis; where that is less than k dimensions, others as well.
    """
    for _ in range(3):  # what is left of x may be small, and rounded
        x = torch.linalg.qr(x - basis @ (basis.T @ x)).Q
    return x


class LowRankRidge(nn.Module):
    """One regression per user and strength lambda, as `KernelRidge`, whose methods it has.

    Args:
        history, attributes, strengths, damping, share: see `KernelRidge`.
        rank: R. Users may have any number of ratings.
    """

    alpha: Tensor
    z: Tensor
    delta: Tensor
    unit: Tensor

    def __init__(
        self,
        history: RatingHistory,
        attributes: Tensor,
        strengths: tuple[float, ...],
        *,
        damping: tuple[float, float],
        share: float,
        rank: int,
    ) -> None:
        super().__init__()
        self.strengths, self.history, self.damping, self.share = strengths, history, damping, share
        n_items = history.shape[1]
        self.register_buffer("unit", F.normalize(attributes, dim=1), persistent=False)
        # what `fit` solves is saved: a model that is loaded need not solve it again
        self.register_buffer("z", torch.zeros(FOLDS, n_items, min(rank, n_items)))
        self.register_buffer("delta", torch.zeros(FOLDS, n_items))
        self.register_buffer("alpha", history.scratch.empty(len(strengths), len(history)).zero_())

    # ------------------------------------------------------------ fitting

    @torch.no_grad()
    def fit(self, users: Tensor | None = None, ranks: Ranks = ALONE) -> Tensor:
        """See `KernelRidge.fit`."""
        if not self.z.any():
            for fold in range(FOLDS)[ranks.rank :: ranks.count]:
                self._decompose(fold)
            ranks.add(self.z)
            ranks.add(self.delta)
        left_out, count = self.history.scratch.like(self.alpha).zero_(), self.history.matrix.count
        users = torch.arange(len(count), device=count.device) if users is None else users
        users = users[count[users] > 0]
        users = users[torch.argsort(count[users], stable=True)]  # those of a block are filled up to one length
        users = users[ranks.rank :: ranks.count]

        residual = self._residual()

        def solve_block(block: Tensor) -> None:
            self._solve(block, residual, left_out)

        with side_by_side(at_once(len(users), users.device)) as each:
            each(solve_block, self._blocks(users))
        ranks.add(self.alpha)
        return ranks.add(left_out)

    def _blocks(self, users: Tensor) -> list[Tensor]:
        """Users, sorted by their ratings, in blocks of users of one fold with not too many ratings."""
        found, numbers = [], max(1, SOLVED // self.z.shape[2])
        for fold in range(FOLDS):
            own = users[users % FOLDS == fold]
            longest = self.history.matrix.count[own].tolist()
            last = len(own)
            while last:
                first = max(0, last - max(1, numbers // longest[last - 1]))
                found.append(own[first:last])
                last = first
        return sorted(found, key=len)  # the longest histories first

    def _residual(self) -> Tensor:
        """(N,) what damped means leave of the ratings; not kept, as only regressions need all of it."""
        return self.history.see_all(self.damping).users.residual[0]

    def _solve(self, users: Tensor, residual: Tensor, left_out: Tensor) -> None:
        """The regressions of users of one fold: alpha, and leave-one-out values (F, N) at the users' ratings."""
        matrix, fold = self.history.matrix, int(users[0] % FOLDS)
        place = torch.arange(int(matrix.count[users].max()), device=users.device)
        filled = place < matrix.count[users, None]
        rows = torch.where(filled, matrix.start[users, None] + place, 0)
        items, own = self.history.items_at(rows), rows[filled]
        z, delta = self.z[fold, items] * filled[..., None], self.delta[fold, items]
        target = residual[rows] * filled
        for f, strength in enumerate(self.strengths):
            inverse = Inverse.of(z, delta + strength)
            alpha = inverse.times(target)
            self.alpha[f, own] = alpha[filled]
            left_out[f, own] = (target - alpha / inverse.diagonal())[filled]

    def _decompose(self, fold: int) -> None:
        """Z and delta by block Lanczos on G; of the users of other folds, who stand for all."""
        _, n_items, rank = self.z.shape
        given, matrix = self.history.normalised(self.damping), self.history.matrix
        user = self.history.user
        others = matrix.some(self.history.scratch.filled(user, lambda at: user[at] % FOLDS != fold, torch.bool))
        values = [
            tuple(each.mul_((FOLDS / (FOLDS - 1)) ** 0.5) for each in others.values(given[name]))
            for name in ("liked", "rated")
        ]
        generator = torch.Generator(self.z.device).manual_seed(fold)  # the same ratings, the same vectors
        size = max(1, rank // 4)
        columns = min(n_items, STEPS * size)
        x = torch.randn(n_items, size, generator=generator, device=self.z.device)
        basis = images = x[:, :0]
        while basis.shape[1] < columns:
            x = orthonormal(x[:, : columns - basis.shape[1]], basis)
            basis, x = torch.cat([basis, x], dim=1), self._times(x, others, values)
            images = torch.cat([images, x], dim=1)
        inner = basis.T @ images  # G in this basis
        squares, vectors = torch.linalg.eigh((inner + inner.T) / 2)
        z = basis @ vectors[:, -rank:] * squares[-rank:].clamp(min=0).sqrt()
        diagonal = self.share * (self.unit.square().sum(1) + 1)
        for _, turned in values:
            squared = torch.square(turned, out=others.scratch.like(turned))
            diagonal += torch.segment_reduce(squared, "sum", lengths=others.count_t, unsafe=True)
        self.z[fold], self.delta[fold] = z, (diagonal - z.square().sum(1)).clamp(min=0)

    def _times(self, x: Tensor, others: Entries, values: list[tuple[Tensor, ...]]) -> Tensor:
        """G x (I, r), from values per rating of the users of other folds, in both orders."""
        product = self.share * (self.unit @ (self.unit.T @ x) + x.sum(0))
        for both in values:
            product += others.product_t(others.product(x, *both), *both)
        return product

    def _inverses(self, user: int, items: Tensor) -> list[Inverse]:
        """(K + lambda)^-1 of what a user rated, by lambda."""
        z, delta = self.z[user % FOLDS, items], self.delta[user % FOLDS, items]
        return [Inverse.of(z, delta + strength) for strength in self.strengths]

    # ------------------------------------------------------------ predicting

    def vectors(self, users: Tensor) -> Tensor:
        """theta (F, b, R) of users: the predicted residual of item i is z_i . theta_u, z_i that of the user's fold."""
        entry, start = self.history.matrix.entries(users)
        if not len(entry):  # which embedding_bag refuses
            return self.z.new_zeros(len(self.alpha), len(users), self.z.shape[2])
        count, n_items = self.history.matrix.count[users], self.z.shape[1]
        place = self.history.items_at(entry) + torch.repeat_interleave(users % FOLDS * n_items, count)
        table = self.z.view(-1, self.z.shape[2])
        alphas = self.alpha[:, entry]
        return torch.stack(
            [F.embedding_bag(place, table, start, per_sample_weights=alpha, mode="sum") for alpha in alphas]
        )

    def features(self, users: Tensor, items: Tensor) -> Tensor:
        """See `KernelRidge.features`."""
        some, row = torch.unique(users, return_inverse=True)
        theta, step = self.vectors(some), max(1, BLOCK // (len(self.alpha) * self.z.shape[2]))
        parts = zip(users.split(step), row.split(step), items.split(step), strict=True)
        return torch.cat([(theta[:, r] * self.z[u % FOLDS, i]).sum(-1) for u, r, i in parts], dim=1)

    def of_catalogue(self, users: Tensor) -> Tensor:
        """See `KernelRidge.of_catalogue`."""
        return self.over_catalogue(users)(slice(0, self.z.shape[1]))

    def over_catalogue(self, users: Tensor) -> CatalogueFeatures:
        """See `KernelRidge.over_catalogue`."""
        theta = self.vectors(users)
        folds = [(users % FOLDS == fold).nonzero()[:, 0] for fold in range(FOLDS)]
        parts = [(z, rows, theta[:, rows]) for z, rows in zip(self.z, folds, strict=True) if len(rows)]

        def features(items: slice) -> Tensor:
            result = theta.new_empty(*theta.shape[:2], items.stop - items.start)
            for z, rows, some in parts:
                result[:, rows] = inner_products(some, z[items])
            return result

        return features

    def of_history(self, user: int, items: Tensor, residual: Tensor) -> Tensor:
        """See `KernelRidge.of_history`."""
        alpha = torch.stack([inverse.times(residual) for inverse in self._inverses(user, items)])
        z = self.z[user % FOLDS]
        return alpha @ z[items] @ z.T

    def of_new_users(self, rows: Tensor, items: Tensor, rated: Tensor, residual: Tensor) -> Tensor:
        """See `KernelRidge.of_new_users`."""
        fold = (self.history.shape[0] - 1) % FOLDS  # that of the unknown user
        z, eye = self.z[fold], torch.eye(rated.shape[1], device=rated.device)
        kernel = z[rated] @ z[rated].mT + torch.diag_embed(self.delta[fold, rated])
        alphas = [solve(kernel + strength * eye, residual[..., None]) for strength in self.strengths]
        return torch.stack([((alpha * z[rated]).sum(1)[rows] * z[items]).sum(1) for alpha in alphas])

    def terms(self, user: int, item: int, items: Tensor, residual: Tensor, *, changed: bool) -> Tensor:
        """See `KernelRidge.terms`."""
        z = self.z[user % FOLDS]
        similar = z[items] @ z[item]
        return torch.stack([inverse.times(similar) * residual for inverse in self._inverses(user, items)])
