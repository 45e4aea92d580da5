"""The training loop: early stopping, refit, l2, schedule, seeds, interruption."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from aanmf import AANMF, MF
from aanmf.contract import RatingModule, TrainingData, validation_rows
from aanmf.data.attributes import AttributeSet
from aanmf.errors import ConfigError
from aanmf.models.mf import MFConfig, MFModule
from aanmf.training.predict import mean_squared_error, predict_pairs
from aanmf.training.trainer import Epoch, fit_module


def context_of(data):
    return MF(epochs=1, validation=0).fit(data).fitted_.training


def build(config: MFConfig):
    return MFModule


def equal(one: RatingModule, other: RatingModule) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_early_stopping_keeps_the_best_weights(small) -> None:
    config = MFConfig(
        factors=16, epochs=40, l2=0, l2_bias=0, refit=False, patience=3, learning_rate=0.05, batch_size=32
    )
    training = context_of(small)
    module, history = fit_module(build(config), training, config)
    errors = [epoch.valid_mse for epoch in history.epochs if epoch.valid_mse is not None]
    assert len(errors) == len(history.epochs) < 40  # it stopped early
    assert history.best_epoch == int(np.argmin(errors)) + 1 == len(errors) - 3
    held = torch.as_tensor(validation_rows(len(small), config.validation, config.seed))
    assert mean_squared_error(module, training.train.take(held), training.scale) == pytest.approx(min(errors), abs=1e-6)


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
    training = context_of(small)
    held = torch.as_tensor(validation_rows(len(small), config.validation, config.seed))
    planted = training.train.rating.clone()
    planted[held] = 6 - planted[held]
    _, clean = fit_module(build(config), training, config)
    _, leaked = fit_module(build(config), training.with_train(replace(training.train, rating=planted)), config)
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
    training = context_of(small)
    torch.manual_seed(config.seed)
    start = MFModule(config, training)
    train = training.train
    loss = (start(train.user, train.item) - train.rating).square().mean()
    tables = [(40.0, start.p), (40.0, start.q), (7.0, start.b_u), (7.0, start.b_i)]
    loss = loss + sum(l2 / len(train) * table.square().sum() for l2, table in tables)
    loss.backward()
    gradients = {n: p.grad for n, p in start.named_parameters() if p.grad is not None}
    expected = {n: start.get_parameter(n) - 0.01 * g / (g.abs() + 1e-8) for n, g in gradients.items()}
    trained, _ = fit_module(build(config), training, config)
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
    assert model.fitted_.training_log.interrupted
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


class Watched(MFModule):
    """Notes which items each training batch holds, and in which mode it was asked."""

    def __init__(self, config: MFConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        self.batches: list[list[int]] = []
        self.modes: list[bool] = []

    def forward(self, users, items, sets=None):
        self.modes.append(self.training)
        if self.training:
            self.batches.append(items.tolist())
        return super().forward(users, items, sets)


def test_an_epoch_meets_every_rating_once_in_an_order_of_its_own(small) -> None:
    config = MFConfig(factors=2, epochs=3, validation=0, batch_size=40)
    train = context_of(small).train.take(slice(0, 90))
    train = type(train)(train.user, torch.arange(90), train.rating)  # the item says which rating it is
    training = replace(
        context_of(small),
        items=AttributeSet(torch.zeros(91, 0).long(), torch.zeros(91, 0), torch.zeros(91, 0).bool()),
        train=train,
    )
    module, _ = fit_module(Watched, training, config)
    assert isinstance(module, Watched)
    assert [len(batch) for batch in module.batches] == [40, 40, 10] * 3
    orders = [list(itertools.chain(*module.batches[start : start + 3])) for start in (0, 3, 6)]
    assert all(sorted(order) == list(range(90)) for order in orders)
    assert list(range(90)) not in orders
    assert orders[0] != orders[1] != orders[2]


def test_validation_is_asked_in_evaluation_mode_and_training_goes_on_in_the_other(small) -> None:
    config = MFConfig(factors=2, epochs=2, batch_size=1000, refit=False)
    module, _ = fit_module(Watched, context_of(small), config)
    assert isinstance(module, Watched)
    assert module.modes == [True, False, True, False]
    assert not module.training


def test_training_error_is_the_mean_over_ratings_met_on_the_way(small) -> None:
    config = MFConfig(factors=2, epochs=1, validation=0, batch_size=400, learning_rate=1e-12)  # 400 and 200
    training = context_of(small)
    torch.manual_seed(config.seed)
    start = MFModule(config, training)
    train = training.train
    error = (start(train.user, train.item) - train.rating).detach().numpy()
    _, history = fit_module(build(config), training, config)
    assert history.epochs[0].train_mse == pytest.approx(float(np.mean(error.astype(float) ** 2)), rel=1e-5)


def test_validation_error_is_that_of_clipped_predictions(small) -> None:
    training = context_of(small)
    torch.manual_seed(0)
    module, train = MFModule(MFConfig(factors=2), training).eval(), training.train
    with torch.no_grad():
        module.b_u.normal_(0, 3)
        raw = module(train.user, train.item).numpy()
    assert (raw > 5).any()
    expected = np.mean((np.clip(raw, 1, 5) - train.rating.numpy()).astype(float) ** 2)
    assert mean_squared_error(module, train, (1, 5)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("block", [1, 7, 100])
def test_pairs_are_predicted_in_blocks(small, block: int) -> None:
    model = AANMF(epochs=1, factors=2, validation=0).fit(small)
    users, items = torch.full((20,), 42), torch.arange(20)
    sets = model.fitted_.training.users.rows(torch.arange(20))
    with torch.no_grad():
        expected = model.module_(users, items, sets)
    assert expected.std() > 0
    predicted = predict_pairs(model.module_, users, items, sets, block=block)
    np.testing.assert_allclose(predicted.numpy(), expected.numpy(), atol=1e-6)


OVERFIT = {"factors": 16, "l2": 0, "l2_bias": 0, "patience": 3, "learning_rate": 0.05, "batch_size": 32}


def interrupt(phase: str, epoch: int):
    def at(record: Epoch) -> None:
        if (record.phase, record.epoch) == (phase, epoch):
            raise KeyboardInterrupt

    return at


def test_interruption_after_the_best_epoch_gives_the_best_weights(small) -> None:
    config = MFConfig(epochs=40, refit=False, **OVERFIT)
    training = context_of(small)
    best, history = fit_module(build(config), training, config)
    late = interrupt("search", history.best_epoch + 2)
    stopped, other = fit_module(build(config), training, config, late)
    assert other.interrupted
    assert other.best_epoch == history.best_epoch
    assert equal(stopped, best)


def test_interruption_of_the_refit_gives_the_weights_of_the_search(small) -> None:
    training = context_of(small)
    search = MFConfig(epochs=40, refit=False, **OVERFIT)
    best, history = fit_module(build(search), training, search)
    assert history.best_epoch > 2
    config = MFConfig(epochs=40, **OVERFIT)
    stopped, other = fit_module(build(config), training, config, interrupt("final", 2))
    assert other.interrupted
    assert equal(stopped, best)
    assert other.best_epoch == history.best_epoch  # the epochs of these weights, not of the refit


def test_interruption_of_the_search_leaves_out_the_refit(small) -> None:
    config = MFConfig(epochs=5, factors=2)
    _, history = fit_module(build(config), context_of(small), config, interrupt("search", 2))
    assert {epoch.phase for epoch in history.epochs} == {"search"}


def test_interruption_without_validation_keeps_the_last_weights(small) -> None:
    config = MFConfig(epochs=4, factors=2, validation=0)
    stopped, history = fit_module(build(config), context_of(small), config, interrupt("final", 3))
    assert history.interrupted
    assert history.epochs[2].train_mse < history.epochs[0].train_mse
    torch.manual_seed(0)
    untrained = MFModule(config, context_of(small))
    assert not torch.equal(stopped.get_parameter("p"), untrained.p)


@pytest.mark.parametrize("validation", [0, 0.1])
def test_divergence_is_an_error_and_leaves_no_model(small, validation: float) -> None:
    model = MF(learning_rate=1e30, epochs=3, factors=2, validation=validation)
    with pytest.raises(ConfigError, match=r"diverged in epoch \d.*learning_rate below 1e\+30"):
        model.fit(small)
    assert not model.is_fitted


def test_users_and_items_without_ratings_are_settled(small) -> None:
    module = MF(epochs=2, factors=3).fit(small).module_
    assert isinstance(module, MFModule)
    p, q = module.p.detach(), module.q.detach()
    for row in (40, 41, 42):  # two users without ratings, and the unknown one
        np.testing.assert_allclose(p[row].numpy(), p[:40].mean(0).numpy(), atol=1e-6)
    for row in (20, 21):
        np.testing.assert_allclose(q[row].numpy(), q[:20].mean(0).numpy(), atol=1e-6)


def test_no_validation_trains_for_every_epoch_on_every_rating(small) -> None:
    config = MFConfig(factors=2, epochs=4, validation=0, batch_size=1000)
    module, history = fit_module(Watched, context_of(small), config)
    assert [(e.phase, e.epoch, e.of) for e in history.epochs] == [("final", n, 4) for n in (1, 2, 3, 4)]
    assert history.best_epoch == 4
    assert isinstance(module, Watched)
    assert [len(batch) for batch in module.batches] == [600] * 4


@pytest.mark.parametrize(("n", "expected"), [(10, 32), (100_000, 625), (10_000_000, 62_500), (100_000_000, 131_072)])
def test_batches_grow_with_the_ratings(n: int, expected: int) -> None:
    assert MFConfig().batch_for(n) == expected
    assert MFConfig(batch_size=7).batch_for(n) == 7


def test_parameters_that_no_group_names_are_trained_without_l2(small) -> None:
    class Partly(MFModule):
        def l2_groups(self):
            yield 10.0, [self.p, self.q]

    config = MFConfig(factors=2, epochs=2, validation=0)
    module, _ = fit_module(Partly, context_of(small), config)
    assert isinstance(module, Partly)
    assert float(module.b_u.detach().abs().max()) > 0
