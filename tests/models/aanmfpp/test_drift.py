"""What times say, against sums written out; and when held-out ratings let a part in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aanmf.models.aanmfpp.drift import SHRUNK, SPANS, weigh
from aanmf.models.aanmfpp.fit import improves
from tests.test_context import planted, small


@pytest.mark.parametrize("future", [False, True])
def test_kernels_are_their_equation(future: bool) -> None:
    data = planted().take(np.arange(600)).with_context(["timestamp"])
    drift = small(members=1, epochs=1, future=future).fit(data).module_.drift
    assert drift is not None
    history, asked = drift.history, torch.tensor([3, 3, 11, 40])
    drift.residual.copy_(torch.linspace(-1, 1, len(history)))
    when = torch.tensor([drift.time[history.user == user].sort().values[-1] for user in asked]) - 50
    gone = history.item[history.user == 3][:1]
    for left_out in (None, gone):
        found = drift.kernels(asked, when, left_out)
        for place, (user, at) in enumerate(zip(asked.tolist(), when.tolist(), strict=True)):
            for row, span in enumerate(SPANS):
                total = weights = 0.0
                for n in range(len(history)):
                    apart = at - int(drift.time[n])
                    known = int(history.user[n]) == user and (left_out is None or history.item[n] not in left_out)
                    if known and (future or apart > 0):
                        weight = np.exp(-abs(apart) / span)
                        total, weights = total + weight * float(drift.residual[n]), weights + weight
                assert float(found[row, place]) == pytest.approx(total / (weights + SHRUNK), abs=1e-5)


def test_the_kernels_of_many_users_are_made_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = planted().take(np.arange(600)).with_context(["timestamp"])
    drift = small(members=1, epochs=1).fit(data).module_.drift
    assert drift is not None
    drift.residual.copy_(torch.linspace(-1, 1, len(drift.residual)))
    users = torch.arange(60)
    when = torch.full((60,), int(drift.time.max()))
    whole = drift.kernels(users, when)
    monkeypatch.setattr("aanmf.models.aanmfpp.drift.BLOCK", 7)
    assert torch.equal(drift.kernels(users, when), whole)
    assert whole.abs().sum() > 0
    assert drift.kernels(users[:0], when[:0]).shape == (len(SPANS), 0)


def test_weights_are_least_squares_without_negative_ones() -> None:
    kernels = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    assert weigh(kernels, torch.tensor([0.5, -1.0, 1.5, -3.0])).tolist() == pytest.approx([1.0, 0.0])


def test_a_part_enters_where_its_gain_exceeds_its_standard_error() -> None:
    left = torch.tensor([1.0, 1.0, 1.0, 1.0])
    assert improves(left, left.sqrt() * 0.9)  # the same gain everywhere
    assert not improves(left, left)
    gain = torch.tensor([0.45, 0.15, -0.15, -0.25])  # mean 0.05, standard error 0.157
    assert not improves(left, (1 - gain).sqrt())
    assert improves(left, (1 - gain - 0.3).sqrt())  # mean 0.35
