"""NFM: pooling by the double loop, layers by hand, batch norm with a batch of one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from aanmf import NFM, RatingDataset
from aanmf.models.nfm import BatchNorm, NFMConfig, NFMModule
from tests.models.test_fm import naive, randomised, training
from tests.training.test_streamed import on_disk


def statistic(norm: BatchNorm, name: Literal["running_mean", "running_var"]) -> torch.Tensor:
    found = getattr(norm, name)
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize("layers", [(), (3,), (3, 5)])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_prediction_by_naive_loop(small: RatingDataset, layers: tuple[int, ...], batch_norm: bool) -> None:
    config = NFMConfig(factors=4, layers=layers, batch_norm=batch_norm, item_attributes=True)
    m = NFMModule(config, training(small)).eval()
    randomised(m)
    for norm in m.norms:
        if isinstance(norm, BatchNorm):
            statistic(norm, "running_mean").normal_()
            statistic(norm, "running_var").uniform_(0.5, 2)
    n = {name: each.detach().numpy().astype(float) for name, each in m.state_dict().items()}

    def normal(z: np.ndarray, k: int) -> np.ndarray:
        if not batch_norm:
            return z
        at = f"norms.{k}."
        spread = np.sqrt(n[at + "running_var"] + 1e-5)
        return (z - n[at + "running_mean"]) / spread * n[at + "weight"] + n[at + "bias"]

    for user, item in [(0, 3), (5, 20), (41, 0), (42, 21)]:
        linear, z = naive(m, user, item)
        z = normal(z, 0)
        for k in range(len(layers)):
            z = np.maximum(normal(n[f"dense.{k}.weight"] @ z + n[f"dense.{k}.bias"], k + 1), 0)
        expected = linear + n["h.weight"][0] @ z
        assert m(torch.tensor([user]), torch.tensor([item])).item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_training_batch_of_one_changes_no_statistics() -> None:
    norm = BatchNorm(3).train()
    norm(torch.randn(5, 3))
    before = statistic(norm, "running_var").clone()
    assert torch.isfinite(norm(torch.randn(1, 3))).all()
    assert norm(torch.randn(0, 3)).shape == (0, 3)
    assert torch.equal(statistic(norm, "running_var"), before)


def test_without_refit_the_statistics_are_those_of_the_best_epoch(small: RatingDataset) -> None:
    settings = {"factors": 4, "refit": False, "learning_rate": 0.1, "l2": 0.0, "patience": 50}
    long = NFM(epochs=40, **settings).fit(small)
    best = long.fitted_.training_log.best_epoch
    valid = long.fitted_.training_log.epochs[best - 1].valid_mse
    assert best < 40
    from aanmf.contract import validation_rows
    from aanmf.training.predict import mean_squared_error

    held = long.fitted_.training.train.take(torch.as_tensor(validation_rows(len(small), 0.1, 0)))
    assert mean_squared_error(long.module_, held, (1, 5)) == pytest.approx(valid, rel=1e-5)


def test_streamed_ratings_are_learned_as_well(small: RatingDataset, tmp_path: Path) -> None:
    settings = {"factors": 4, "epochs": 30, "learning_rate": 0.02, "validation": 0.0, "batch_size": 200}
    memory, streamed = NFM(**settings).fit(small), NFM(**settings).fit(on_disk(small, tmp_path / "ratings.bin"))
    errors = [model.evaluate(small).rmse for model in (memory, streamed)]
    assert errors[1] == pytest.approx(errors[0], rel=0.1)
    assert errors[1] < 0.9 * float(small.rating.std())
