"""Conformal intervals cover what they say, also where the standard deviation of errors differs."""

from __future__ import annotations

import pytest
import torch

from aanmf.models.aanmfpp.interval import Interval

SCALE = (-10.0, 10.0)


def draw(n: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Truth, prediction, and what the deviation rests on."""
    generator = torch.Generator().manual_seed(seed)
    n_user = torch.randint(0, 50, (n,), generator=generator).float()
    n_item = torch.randint(0, 200, (n,), generator=generator).float()
    variance = 0.5 + torch.rand(n, generator=generator)
    deviation = (0.8 * variance + 1.5 / (n_user + 1) + 0.7 / (n_item + 1) + 0.1).sqrt()
    laplace = torch.distributions.Laplace(0.0, 1.0)  # not what the quantiles start from
    torch.manual_seed(seed)
    return laplace.sample((n,)) * deviation, torch.zeros(n), variance, n_user, n_item


def inside(interval: Interval, coverage: float, scale: tuple[float, float], *drawn: torch.Tensor) -> torch.Tensor:
    truth, prediction, *basis = drawn
    below, above = interval.reach(coverage, *basis)
    low, high = ((prediction + by).clamp(*scale) for by in (-below, above))
    return (low <= truth) & (truth <= high)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_coverage_over_all_and_where_little_is_known(coverage: float) -> None:
    interval = Interval()
    interval.fit(SCALE, *draw(20_000, 0))
    drawn = draw(20_000, 1)
    held = inside(interval, coverage, SCALE, *drawn)
    assert float(held.float().mean()) == pytest.approx(coverage, abs=0.01)
    assert float(held[drawn[3] < 3].float().mean()) == pytest.approx(coverage, abs=0.05)


def near_the_top(n: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Ratings whose errors have a long tail below, and little room above."""
    generator = torch.Generator().manual_seed(seed)
    prediction = 3.8 + 0.4 * torch.randn(n, generator=generator)
    truth = (prediction + 0.6 - torch.rand(n, generator=generator).log().neg()).clamp(1, 5)
    return truth, prediction, *torch.ones(3, n)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_intervals_are_shorter_than_symmetric_ones_of_the_same_coverage(coverage: float) -> None:
    interval, drawn = Interval(), near_the_top(20_000, 1)
    interval.fit((1.0, 5.0), *near_the_top(20_000, 0))
    assert float(inside(interval, coverage, (1.0, 5.0), *drawn).float().mean()) == pytest.approx(coverage, abs=0.01)
    truth, prediction, *basis = drawn
    below, above = interval.reach(coverage, *basis)
    half = torch.quantile((truth - prediction).abs(), coverage)
    ours, symmetric = (
        ((prediction + up).clamp(1, 5) - (prediction - down).clamp(1, 5)).mean()
        for down, up in ((below, above), (half, half))
    )
    assert float(ours) < 0.97 * float(symmetric)


def test_an_interval_lies_within_those_of_higher_coverage_and_around_the_prediction() -> None:
    interval = Interval()
    interval.fit((1.0, 5.0), *near_the_top(2_000, 0))
    for side in zip(*(interval.factors(level) for level in (0.001, 0.01, 0.2, 0.5, 0.505, 0.9, 0.99)), strict=True):
        assert side[0] >= 0
        assert list(side) == sorted(side)


def test_before_fitting_widths_are_those_of_a_normal_distribution() -> None:
    for coverage, factor in ((0.95, 1.96), (0.995, 2.807)):
        assert Interval().factors(coverage) == pytest.approx((factor, factor), abs=0.01)
    assert Interval().factors(0.0001) == pytest.approx((0.0, 0.0), abs=0.001)


def test_beyond_the_last_quantile_the_interval_goes_on_widening() -> None:
    interval = Interval()
    interval.fit(SCALE, *draw(20_000, 0))
    for side in (0, 1):
        factors = [interval.factors(coverage)[side] for coverage in (0.98, 0.99, 0.991, 0.995, 0.999)]
        assert factors == sorted(factors)
        assert factors[3] / factors[1] == pytest.approx(2.807 / 2.576, rel=1e-3)  # of a normal distribution


def test_wider_where_less_is_known() -> None:
    interval = Interval()
    interval.fit(SCALE, *draw(20_000, 0))
    one, many = torch.tensor([1.0]), torch.tensor([100.0])
    assert interval.deviation(one, torch.zeros(1), many) > interval.deviation(one, many, many)
