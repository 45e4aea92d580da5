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
    inside = error.abs() <= interval.width(coverage) * interval.deviation(variance, n_user, n_item)
    assert float(inside.float().mean()) == pytest.approx(coverage, abs=0.01)
    assert float(inside[n_user < 3].float().mean()) == pytest.approx(coverage, abs=0.04)


def test_before_fitting_widths_are_those_of_a_normal_distribution() -> None:
    assert Interval().width(0.95) == pytest.approx(1.96, abs=0.01)


def test_wider_where_less_is_known() -> None:
    interval = Interval()
    interval.fit(*draw(20_000, 0))
    one, many = torch.tensor([1.0]), torch.tensor([100.0])
    assert interval.deviation(one, torch.zeros(1), many) > interval.deviation(one, many, many)
