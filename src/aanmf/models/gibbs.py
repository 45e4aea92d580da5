"""A Gibbs sampler for matrix factorisation with features, rated by a normal or an ordinal output.

    f_ui = x_u . z_i + b_u + b_i,   [x_u, b_u] ~ N(m_u, Lambda^-1),   m_u = mu + sum_g F_g,u B_g       (items likewise)
    B_g rows ~ N(0, (lambda_g Lambda)^-1),   Lambda ~ Wishart,   lambda_g ~ Gamma

Given the items, the vectors of all users are independent normal distributions of K + 1 dimensions, and the other way
round (Salakhutdinov and Mnih 2008). F_g are features: attributes, or which items the user rated. They enter through the
eigenvectors of F_g F_g' alone, in whose basis the effects F_g B_g are independent (Macau, Simm et al. 2017, solves for
B_g instead). The ordinal output is a probit with one threshold between two levels (Albert and Chib 1993).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 400_000
"""Ratings, padded, whose vectors are gathered at a time."""
WIDE, KEPT = 1024, 256
"""Columns of draws side by side that are cut, and what is kept of them."""
FAR = 30.0
"""Standard deviations beyond which there is no rating."""


class Entries:
    """Ratings by user (item), padded to powers of two, so that those of similar number are summed up together."""

    def __init__(self, row: Tensor, col: Tensor, n: int) -> None:
        order = torch.argsort(row, stable=True)
        count = torch.bincount(row, minlength=n)
        start, size = count.cumsum(0) - count, 2 ** count.clamp(min=1).double().log2().ceil().long()
        self.blocks: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for length in size.unique().tolist():
            place = torch.arange(length, device=row.device)
            for rows in (size == length).nonzero()[:, 0].split(max(1, BLOCK // length)):
                own = place < count[rows][:, None]
                entry = order[torch.where(own, start[rows][:, None] + place, 0)]
                self.blocks.append((rows, entry, col[entry], own.float()))


class Features:
    """F (n, d) and its effects F B (n, K + 1), by the eigenvectors of F F'."""

    def __init__(self, matrix: Tensor, columns: int) -> None:
        self.matrix, self.strength = matrix, 1.0  # lambda_g
        wide = matrix.shape[1] > matrix.shape[0]
        square, vectors = torch.linalg.eigh(((matrix @ matrix.T) if wide else (matrix.T @ matrix)).double())
        kept = square > 1e-6 * max(square.tolist(), default=0.0)
        square, vectors = square[kept], vectors[:, kept]
        self.square = square.float()[:, None]
        self.basis = (vectors if wide else matrix.double() @ vectors / square.sqrt()).float()  # (n, rank)
        self.weights = matrix.new_zeros(len(square), columns)
        self.effect = matrix.new_zeros(len(matrix), columns)

    def sample(self, residual: Tensor, root: Tensor, generator: torch.Generator) -> None:
        """Draws the effects given what they should explain (n, K + 1), and lambda_g; root root' = Lambda."""
        share = self.square / (self.square + self.strength)
        noise = torch.linalg.solve_triangular(root, _normal(self.weights, generator), upper=False, left=False)
        self.weights = share * (self.basis.T @ residual) + share.sqrt() * noise
        self.effect = self.basis @ self.weights
        standard = (self.weights / self.square.sqrt()) @ root
        rate = 1e-3 + float(standard.double().square().sum()) / 2
        self.strength = gamma(1 + standard.numel() / 2, generator) / rate

    def scatter(self) -> Tensor:
        """lambda_g B'B."""
        b = (self.weights / self.square.sqrt()).double()
        return self.strength * b.T @ b

    def coefficients(self) -> Tensor:
        """B (d, K + 1); the shortest that has these effects."""
        return self.matrix.T @ (self.basis @ (self.weights / self.square))


class SideSampler:
    """Vectors and biases x (n, K + 1) of the users, or of the items.

    Args:
        entries: their ratings.
        features: one matrix (n, d) per group.
        n, factors: sizes.
        generator: of all draws.
    """

    def __init__(
        self, entries: Entries, features: Sequence[Tensor], n: int, factors: int, generator: torch.Generator
    ) -> None:
        self.entries, self.generator = entries, generator
        self.features = [Features(each, factors + 1) for each in features]
        self.x = 0.1 * torch.randn(n, factors + 1, generator=generator)
        self.mean, self.precision = torch.zeros(factors + 1), 10 * torch.eye(factors + 1)

    def sample(self, other: Tensor, target: Tensor, precision: float) -> None:
        """Draws everything on this side.

        Args:
            other: (m, K + 1) of the other side.
            target: (N,) what x_u . z_i + b_u + b_i should be.
            precision: 1 / variance of the target.
        """
        self._sample_prior()
        prior = (self.mean + self._effects()) @ self.precision
        z = torch.cat([other[:, :-1], torch.ones(len(other), 1)], dim=1)
        for rows, entry, col, own in self.entries.blocks:
            design = z[col] * own[..., None]  # (n, L, K + 1)
            left = (target[entry] - other[col, -1]) * own
            root = torch.linalg.cholesky(self.precision + precision * (design.mT @ design))
            moment = prior[rows, :, None] + precision * (design.mT @ left[..., None])
            half = torch.linalg.solve_triangular(root, moment, upper=False)
            half = half + _normal(half, self.generator)
            self.x[rows] = torch.linalg.solve_triangular(root.mT, half, upper=True)[..., 0]

    def _effects(self) -> Tensor:
        return sum((each.effect for each in self.features), torch.zeros_like(self.x))

    def _sample_prior(self) -> None:
        """Draws B_g, mu and Lambda given x; the prior of mu and Lambda is normal-Wishart with unit scale."""
        generator, n, columns = self.generator, *self.x.shape
        root = torch.linalg.cholesky(self.precision)
        for each in self.features:
            each.sample(self.x - self.mean - self._effects() + each.effect, root, generator)
        left = self.x - self._effects()
        noise = torch.linalg.solve_triangular(root, _normal(left[:1], generator), upper=False, left=False)[0]
        self.mean = left.sum(0) / (n + 1) + noise / math.sqrt(n + 1)
        centred, mean = (left - self.mean).double(), self.mean.double()
        scatter = torch.eye(columns, dtype=torch.float64) + centred.T @ centred + torch.outer(mean, mean)
        scatter = scatter + sum(each.scatter() for each in self.features)
        freedom = columns + n + 1 + sum(len(each.square) for each in self.features)
        self.precision = _wishart(scatter, freedom, generator).float()


class Probit:
    """Ordinal ratings by thresholds theta (L - 1,) of a latent normal variable with variance 1.

    Each sweep moves the thresholds by one Newton step towards their most likely values: a draw would differ little, as
    all ratings bear on a handful of numbers.
    """

    def __init__(self, level: Tensor, n_levels: int) -> None:
        self.level = level
        share = torch.bincount(level, minlength=n_levels).double().cumsum(0)[:-1] / len(level)
        self.theta = torch.special.ndtri(share).float()

    def sample(self, f: Tensor, generator: torch.Generator) -> Tensor:
        """Moves theta, and draws the latent variable (N,) around f (N,), within the thresholds of its level."""
        self.theta = self._newton(*self._bounds(f))
        low, high, sign = _mirrored(*self._bounds(f))
        first, last = _normal_below(low), _normal_below(high)
        u = first + (last - first) * torch.rand(f.shape, generator=generator)
        z = torch.special.ndtri(u.clamp(1e-30, 1 - 1e-7))
        return f + sign * torch.minimum(torch.maximum(z, low), high)

    def _bounds(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Thresholds below and above each rating, less f."""
        ends = F.pad(F.pad(self.theta, (1, 0), value=-FAR), (0, 1), value=FAR)
        return ends[self.level] - f, ends[self.level + 1] - f

    def _newton(self, low: Tensor, high: Tensor) -> Tensor:
        """theta after a step for sum log (Phi(high) - Phi(low)) - |theta|^2 / 200; the Hessian is tridiagonal."""
        first, last, _ = _mirrored(low, high)
        p = (_normal_below(last) - _normal_below(first)).clamp(min=1e-12)
        below, above = (torch.exp(-each.square() / 2) / (math.sqrt(2 * math.pi) * p) for each in (low, high))

        def total(values: Tensor) -> Tensor:
            return torch.bincount(self.level, values.double(), len(self.theta) + 1)

        slope = total(above)[:-1] - total(below)[1:] - 0.01 * self.theta.double()
        diagonal = total(-high * above - above.square())[:-1] + total(low * below - below.square())[1:] - 0.01
        beside = total(below * above)[1:-1]
        hessian = torch.diag(diagonal) + torch.diag(beside, 1) + torch.diag(beside, -1)
        step = torch.linalg.solve(hessian, slope).clamp(-0.5, 0.5)
        return (self.theta - step.float()).sort().values


def _mirrored(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bounds (N,) of a standard normal variable, mirrored where both are positive: the lower tail is more exact."""
    flipped = low > 0
    sign = torch.where(flipped, -1.0, 1.0)
    return torch.where(flipped, -high, low), torch.where(flipped, -low, high), sign


def _normal_below(x: Tensor) -> Tensor:
    """Phi(x), exact in the lower tail: `torch.special.ndtr` is 0 from -6 on in single precision."""
    return torch.erfc(-x / math.sqrt(2)) / 2


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator)


def gamma(shape: float, generator: torch.Generator) -> float:
    """A draw of the Gamma distribution with rate 1."""
    draw = torch._standard_gamma  # pyright: ignore[reportPrivateImportUsage]: the public one takes no generator
    return float(draw(torch.tensor(shape, dtype=torch.float64), generator=generator))


def _wishart(scatter: Tensor, freedom: int, generator: torch.Generator) -> Tensor:
    """A draw with so many degrees of freedom and the scale matrix scatter^-1, by Bartlett's decomposition."""
    n = len(scatter)
    root = torch.linalg.cholesky(torch.linalg.inv(scatter))
    chi = [math.sqrt(2 * gamma((freedom - k) / 2, generator)) for k in range(n)]
    below = torch.randn(n, n, generator=generator, dtype=torch.float64).tril(-1)
    lower = root @ (below + torch.diag(torch.tensor(chi, dtype=torch.float64)))
    return lower @ lower.T


class MeanProduct:
    """The mean of x z' over draws of x (n, K) and z (m, K), in few columns: x~ (n, R) and z~ (m, R).

    Draws are laid side by side, and cut to the leading singular vectors of the product now and then. One draw is far
    from the mean, and no draws agree in their order or sign of columns; their products do.
    """

    def __init__(self, n: int, m: int) -> None:
        self.x, self.z, self.draws = torch.zeros(n, 0), torch.zeros(m, 0), 0

    def add(self, x: Tensor, z: Tensor) -> None:
        """One more draw."""
        self.x, self.z = torch.cat([self.x, x], dim=1), torch.cat([self.z, z], dim=1)
        self.draws += 1
        if self.x.shape[1] > WIDE:
            self.x, self.z = self._cut(KEPT)

    def tables(self, rank: int) -> tuple[Tensor, Tensor]:
        """x~ and z~ with `rank` columns, filled up with zeros."""
        x, z = self._cut(rank)
        missing, root = rank - x.shape[1], math.sqrt(self.draws)
        return F.pad(x / root, (0, missing)), F.pad(z / root, (0, missing))

    def _cut(self, rank: int) -> tuple[Tensor, Tensor]:
        (x, left), (z, right) = torch.linalg.qr(self.x), torch.linalg.qr(self.z)
        u, size, v = torch.linalg.svd(left @ right.T, full_matrices=False)
        root = size[:rank].sqrt()
        return x @ (u[:, :rank] * root), z @ (v[:rank].T * root)
