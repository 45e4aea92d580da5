"""Each step of the Gibbs sampler against the distribution that it draws from, and the mean of draws by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from aanmf.models import gibbs
from aanmf.models.gibbs import Entries, Features, MeanProduct, Probit, SideSampler


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_thresholds_go_to_the_most_likely_ones() -> None:
    f = torch.randn(400, generator=generator())
    level = torch.bucketize(f + torch.randn(400, generator=generator().manual_seed(1)), torch.tensor([-0.7, 0.1, 1.5]))
    probit = Probit(level, 4)
    for _ in range(20):
        probit.theta = probit._newton(*probit._bounds(f))

    def loss(theta: np.ndarray) -> float:
        ends = np.concatenate([[-np.inf], theta, [np.inf]])
        inside = stats.norm.cdf(ends[level + 1] - f.numpy()) - stats.norm.cdf(ends[level] - f.numpy())
        return float(theta @ theta / 200 - np.log(inside).sum())

    expected = optimize.minimize(loss, [-1.0, 0.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-6}).x
    np.testing.assert_allclose(probit.theta, expected, atol=1e-3)


def test_the_latent_variable_is_a_truncated_normal() -> None:
    """At both ends of the levels, where one bound is far, and in the middle; from near and from far away."""
    probit = Probit(torch.tensor([0, 1, 2, 3]), 4)
    for f in (-1.0, 0.3, 6.0):
        for level in range(4):
            probit.level = torch.full((20_000,), level)
            probit._newton = lambda low, high: torch.tensor([-1.0, 0.2, 1.4])  # type: ignore[method-assign]
            drawn = probit.sample(torch.full((20_000,), f), generator())
            low, high = [(-np.inf, -1.0), (-1.0, 0.2), (0.2, 1.4), (1.4, np.inf)][level]
            expected = stats.truncnorm(low - f, high - f, loc=f)
            assert drawn.min() >= low - 1e-5 and drawn.max() <= high + 1e-5
            assert float(drawn.mean()) == pytest.approx(expected.mean(), abs=4 * expected.std() / 140 + 1e-3)


def test_effects_of_features_are_a_ridge_regression() -> None:
    """Their mean is F (F'F + lambda)^-1 F' R, their covariance F (F'F + lambda)^-1 F' times Lambda^-1."""
    source = generator()
    for shape in ((9, 4), (5, 12)):
        matrix, residual = torch.randn(shape, generator=source), torch.randn(shape[0], 3, generator=source)
        precision = torch.tensor([[2.0, 0.3, 0.0], [0.3, 1.0, 0.2], [0.0, 0.2, 4.0]])
        features, drawn = Features(matrix, 3), []
        for _ in range(4000):
            features.strength = 1.7
            features.sample(residual, torch.linalg.cholesky(precision), source)
            drawn.append(features.effect)
        hat = matrix @ torch.linalg.inv(matrix.T @ matrix + 1.7 * torch.eye(shape[1])) @ matrix.T
        found = torch.stack(drawn)
        np.testing.assert_allclose(found.mean(0), hat @ residual, atol=0.06)
        left = (found - found.mean(0)).double()
        covariance = torch.einsum("dnk,dml->nkml", left, left) / len(left)
        expected = torch.einsum("nm,kl->nkml", hat, torch.linalg.inv(precision)).double()
        np.testing.assert_allclose(covariance, expected, atol=0.09)
        np.testing.assert_allclose(matrix @ features.coefficients(), features.effect, atol=1e-4)


def test_the_precision_is_a_wishart_variable() -> None:
    scatter = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    source = generator()
    mean = torch.stack([gibbs._wishart(scatter, 7, source) for _ in range(5000)]).mean(0)
    np.testing.assert_allclose(mean, 7 * torch.linalg.inv(scatter), rtol=0.08, atol=0.06)


def test_vectors_are_drawn_around_their_ridge_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    """User 0 has three ratings, user 1 none: that one is drawn from the prior."""
    source = generator()
    row, col = torch.tensor([2, 0, 2, 0, 2, 0, 3]), torch.tensor([0, 3, 1, 1, 2, 0, 3])
    other, target = torch.randn(4, 3, generator=source), torch.randn(7, generator=source)
    sampler = SideSampler(Entries(row, col, 4), [], 4, 2, source)
    monkeypatch.setattr(sampler, "_sample_prior", lambda: None)
    sampler.mean, sampler.precision = torch.tensor([0.5, -1.0, 0.2]), torch.diag(torch.tensor([1.0, 2.0, 3.0]))
    drawn = []
    for _ in range(6000):
        sampler.sample(other, target, 1.5)
        drawn.append(sampler.x.clone())
    found = torch.stack(drawn)
    for user in range(4):
        mine = row == user
        design = torch.cat([other[col[mine], :2], torch.ones(int(mine.sum()), 1)], dim=1)
        precision = sampler.precision + 1.5 * design.T @ design
        moment = sampler.precision @ sampler.mean + 1.5 * design.T @ (target[mine] - other[col[mine], 2])
        np.testing.assert_allclose(found[:, user].mean(0), torch.linalg.solve(precision, moment), atol=0.06)
        np.testing.assert_allclose(found[:, user].T.cov(), torch.linalg.inv(precision), atol=0.06)


def test_the_mean_of_products_in_few_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws of rank 3 that are cut on the way to 6 columns; their mean has rank 3, too."""
    monkeypatch.setattr(gibbs, "WIDE", 8)
    monkeypatch.setattr(gibbs, "KEPT", 6)
    source = generator()
    x, z = torch.randn(7, 3, generator=source), torch.randn(5, 3, generator=source)
    mean, expected = MeanProduct(7, 5), torch.zeros(7, 5)
    for _ in range(10):
        turned, _ = torch.linalg.qr(torch.randn(3, 3, generator=source))
        size = torch.rand(3, generator=source)
        mean.add(x * size @ turned, z @ turned)
        expected += (x * size) @ z.T / 10
    for rank in (3, 4):
        left, right = mean.tables(rank)
        assert left.shape == (7, rank) and right.shape == (5, rank)
        np.testing.assert_allclose(left @ right.T, expected, atol=1e-4)
