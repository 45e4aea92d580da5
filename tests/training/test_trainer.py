"""The training loop: early stopping, refit, l2, schedule, seeds, interruption."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from aanmf import AANMF, MF
from aanmf.models.base import RatingModule
from aanmf.models.mf import MFConfig, MFModule
from aanmf.training.trainer import Epoch, fit_module, mean_squared_error, validation_rows


def context_of(data):
    return MF(epochs=1, validation=0).fit(data).fitted_.context


def build(config: MFConfig):
    return lambda context: MFModule(config, context)


def equal(one: RatingModule, other: RatingModule) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_early_stopping_keeps_the_best_weights(small) -> None:
    config = MFConfig(factors=16, epochs=40, l2=0, l2_bias=0, refit=False, patience=3, learning_rate=0.05, batch_size=32)
    context = context_of(small)
    module, history = fit_module(build(config), context, config)
    errors = [epoch.valid_mse for epoch in history.epochs]
    assert len(errors) < 40  # it stopped early
    assert history.best_epoch == int(np.argmin(errors)) + 1 == len(errors) - 3
    held = torch.as_tensor(validation_rows(len(small), config.validation, config.seed))
    assert mean_squared_error(module, context.train.take(held), context.scale) == pytest.approx(min(errors), abs=1e-6)


def test_refit_trains_on_everything_for_the_number_of_epochs_found(small) -> None:
    config = MFConfig(factors=4, epochs=12, patience=2, learning_rate=0.05)
    _, history = fit_module(build(config), context_of(small), config)
    final = [epoch for epoch in history.epochs if epoch.phase == "final"]
    assert len(final) == history.best_epoch
    assert all(epoch.valid_mse is None for epoch in final)
    alone = MFConfig(factors=4, epochs=12, validation=0, learning_rate=0.05)
    _, whole = fit_module(build(alone), context_of(small), alone)
    assert [e.train_mse for e in whole.epochs][: len(final)] == [e.train_mse for e in final]


def test_validation_ratings_are_never_trained_on(small) -> None:
    """Planted leak: other validation ratings must change what is measured, never what is learned in an epoch."""
    config = MFConfig(factors=4, epochs=3, patience=3, refit=False)
    context = context_of(small)
    held = torch.as_tensor(validation_rows(len(small), config.validation, config.seed))
    planted = context.train.rating.clone()
    planted[held] = 6 - planted[held]
    _, clean = fit_module(build(config), context, config)
    _, leaked = fit_module(build(config), context.with_train(replace(context.train, rating=planted)), config)
    assert [e.train_mse for e in clean.epochs] == [e.train_mse for e in leaked.epochs]
    assert [e.valid_mse for e in clean.epochs] != [e.valid_mse for e in leaked.epochs]


def test_seed_fixes_the_bits(small) -> None:
    one, again, other = (AANMF(epochs=2, factors=4, seed=s).fit(small).module_ for s in (5, 5, 6))
    assert equal(one, again)
    assert not equal(one, other)


def test_fit_leaves_the_global_random_state_alone(small) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    AANMF(epochs=1, factors=2).fit(small)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_step_is_adam_on_mse_plus_l2(small) -> None:
    """One batch of everything, against Adam's first step on the penalised loss written out."""
    config = MFConfig(factors=3, epochs=1, validation=0, batch_size=10_000, l2=40.0, l2_bias=7.0, learning_rate=0.01)
    context = context_of(small)
    torch.manual_seed(config.seed)
    start = MFModule(config, context)
    train = context.train
    loss = (start(train.user, train.item) - train.rating).square().mean()
    tables = [(40.0, start.p), (40.0, start.q), (7.0, start.b_u), (7.0, start.b_i)]
    loss = loss + sum(l2 / len(train) * table.square().sum() for l2, table in tables)
    loss.backward()
    expected = {n: p - 0.01 * p.grad / (p.grad.abs() + 1e-8) for n, p in start.named_parameters()}
    trained, _ = fit_module(build(config), context, config)
    rated = {"p": train.user.unique(), "b_u": train.user.unique(), "q": train.item.unique(), "b_i": train.item.unique()}
    for name, parameter in trained.named_parameters():
        np.testing.assert_allclose(
            parameter[rated[name]].detach().numpy(), expected[name][rated[name]].detach().numpy(), atol=2e-5
        )


def test_learning_rate_falls_along_half_a_cosine(small, monkeypatch) -> None:
    rates: list[float] = []
    step = torch.optim.Adam.step

    def spy(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    MF(epochs=4, batch_size=300, validation=0, learning_rate=0.1).fit(small)
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 8)) for t in range(8)])


def test_interruption_keeps_what_was_learned(small) -> None:
    def stop_in_epoch_3(epoch: Epoch) -> None:
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    model = MF(epochs=10, factors=4)
    with pytest.raises(KeyboardInterrupt):
        model.fit(small, on_epoch=stop_in_epoch_3)
    assert model.is_fitted
    assert model.fitted_.history.interrupted
    start = MF(epochs=1, factors=4, validation=0, learning_rate=1e-9).fit(small)
    assert model.evaluate(small).rmse < start.evaluate(small).rmse


@pytest.mark.parametrize("n", [1, 2, 9, 12])
def test_a_handful_of_ratings_is_enough(small, n: int) -> None:
    model = AANMF(epochs=2, factors=2).fit(small.take(np.arange(n)))
    assert np.isfinite(model.predict_data(small)).all()


def test_progress_is_reported(small) -> None:
    seen: list[Epoch] = []
    MF(epochs=3, refit=False).fit(small, on_epoch=seen.append)
    assert [e.epoch for e in seen] == [1, 2, 3]
    assert all(e.ratings_per_second > 0 and e.phase == "search" for e in seen)


def test_validation_part_is_apart_from_the_holdout_of_the_same_seed() -> None:
    held, test = validation_rows(1000, 0.2, seed=0), np.random.default_rng(0).permutation(1000)[800:]
    assert len(held) == 200
    assert 10 < len(set(held) & set(test)) < 90  # independent draws share about 40
