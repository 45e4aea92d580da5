"""Conformal intervals cover what they say, also where the standard deviation of errors differs."""

from __future__ import annotations

import pytest
import torch

from aanmf.models.aanmfpp.interval import Interval


def draw(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    n_user = torch.randint(0, 50, (n,), generator=generator).float()
    n_item = torch.randint(0, 200, (n,), generator=generator).float()
    variance = 0.5 + torch.rand(n, generator=generator)
    deviation = (0.8 * variance + 1.5 / (n_user + 1) + 0.7 / (n_item + 1) + 0.1).sqrt()
    laplace = torch.distributions.Laplace(0.0, 1.0)  # not what the quantiles start from
    torch.manual_seed(seed)
    return laplace.sample((n,)) * deviation, variance, n_user, n_item


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_coverage_over_all_and_where_little_is_known(coverage: float) -> None:
    interval = Interval()
    interval.fit(*draw(20_000, 0))
    error, variance, n_user, n_item = draw(20_000, 1)
    inside = error.abs() <= interval.half_width(coverage, variance, n_user, n_item)
    assert float(inside.float().mean()) == pytest.approx(coverage, abs=0.01)
    assert float(inside[n_user < 3].float().mean()) == pytest.approx(coverage, abs=0.04)


def test_before_fitting_widths_are_those_of_a_normal_distribution() -> None:
    assert Interval().factor(0.95) == pytest.approx(1.96, abs=0.01)
    assert Interval().factor(0.995) == pytest.approx(2.807, abs=0.01)
    assert Interval().factor(0.0001) == pytest.approx(0.0, abs=0.001)


def test_beyond_the_last_quantile_the_interval_goes_on_widening() -> None:
    interval = Interval()
    interval.fit(*draw(20_000, 0))
    factors = [interval.factor(coverage) for coverage in (0.98, 0.99, 0.991, 0.995, 0.999)]
    assert factors == sorted(factors)
    assert factors[3] / factors[1] == pytest.approx(2.807 / 2.576, rel=1e-3)  # of a normal distribution


def test_wider_where_less_is_known() -> None:
    interval = Interval()
    interval.fit(*draw(20_000, 0))
    one, many = torch.tensor([1.0]), torch.tensor([100.0])
    assert interval.deviation(one, torch.zeros(1), many) > interval.deviation(one, many, many)
