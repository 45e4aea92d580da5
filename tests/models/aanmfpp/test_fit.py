"""What fitting AANMF++ chooses on held-out ratings, how it cuts them, and that no step reads what it is fitted to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from aanmf import AANMFpp, load_model
from aanmf.data.dataset import RatingDataset
from aanmf.errors import ConfigError
from aanmf.models.aanmfpp import fit, run
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.equations import Equations, Member
from aanmf.models.aanmfpp.fit import Selection, fewer_members, simpler, some_users, validation_cuts
from aanmf.models.aanmfpp.module import AANMFppModule
from aanmf.models.aanmfpp.run import batches
from aanmf.training.log import Epoch
from tests.conftest import small_dataset, threads

DATA = replace(small_dataset(), rating=small_dataset().rating.round())
QUICK = {"factors": 2, "epochs": 2, "members": 1, "parts": 2}


def of_ids_alone() -> RatingDataset:
    """Ratings that depend on latent factors of user and item alone, and not on attributes."""
    rng = np.random.default_rng(1)
    taste = rng.normal(size=(len(DATA.users), 2)) @ rng.normal(size=(2, len(DATA.items)))
    return replace(DATA, rating=np.clip(np.round(3 + 1.2 * taste[DATA.user, DATA.item]), 1, 5).astype(np.float32))


OVERFIT = {**QUICK, "epochs": 8, "learning_rate": 0.1}
"""Whatever there is to learn from is learned by heart."""


def test_what_was_chosen_is_logged_and_the_settings_stay(tmp_path) -> None:
    model = AANMFpp(**OVERFIT, l2_candidates=(1.0, 2.0)).fit(of_ids_alone())
    chosen = model.fitted_.training_log.chosen
    assert chosen["l2"] in (1.0, 2.0)
    assert 0 < chosen["trust"] <= 1
    assert float(model.module_.state_dict()["trust"]) == pytest.approx(chosen["trust"])
    assert model.get_params()["l2"] is None
    assert chosen["user_attributes"] is chosen["item_attributes"] is False
    assert model.get_params()["user_attributes"] is True
    model.save(tmp_path / "m")
    assert load_model(tmp_path / "m").fitted_.training_log.chosen == chosen


def test_the_error_on_held_out_ratings_is_logged_on_their_scale(tmp_path) -> None:
    data = of_ids_alone()
    log = AANMFpp(**QUICK, l2=1.0).fit(data).fitted_.training_log
    assert log.validation_rmse == pytest.approx(math.sqrt(log.selected_mse))
    assert 0.4 < log.validation_rmse < data.rating.std()  # better than the mean
    assert AANMFpp(**QUICK, l2=1.0, validation=0).fit(data).fitted_.training_log.validation_rmse is None


def test_parts_are_left_out_of_small_data_only() -> None:
    data = of_ids_alone()
    kept = AANMFpp(**OVERFIT, l2=1.0, simplify_up_to=len(data) - 1).fit(data)
    left_out = AANMFpp(**OVERFIT, l2=1.0, simplify_up_to=len(data)).fit(data)
    assert set(kept.fitted_.training_log.chosen) == {"l2", "trust"}
    assert set(left_out.fitted_.training_log.chosen) > {"l2", "trust"}
    assert not np.allclose(kept.predict_data(data), left_out.predict_data(data), atol=1e-3)


def test_histories_are_left_out_of_data_of_any_size_where_they_are_noise() -> None:
    """Users of a group agree about an item up to noise: who else rated what says nothing more."""
    rng = np.random.default_rng(3)
    kinds = DATA.users.columns.select(DATA.users.names[0]).to_series().to_list()
    group = np.array([sorted({str(k) for k in kinds}).index(str(k)) for k in kinds])
    effect = rng.normal(size=(group.max() + 1, len(DATA.items)))
    rating = np.round(3 + effect[group[DATA.user], DATA.item] + 0.5 * rng.normal(size=len(DATA)))
    data = replace(DATA, rating=np.clip(rating, 1, 5).astype(np.float32))
    settings = {
        **QUICK,
        "factors": 4,
        "epochs": 20,
        "learning_rate": 0.05,
        "l2": 3.0,
        "steps": 1,
        "attention_rate": 1.0,
        "match": False,
    }
    chosen = AANMFpp(**settings, simplify_up_to=1).fit(data).chosen_
    assert chosen["history"] is chosen["ridge"] is False
    (changes,) = simpler(AANMFppConfig(simplify_up_to=1), 80_000)
    assert changes == {"history": False, "ridge": False, "attention_rate": 10.0, "steps": 4}
    assert set(AANMFpp(**settings, simplify_up_to=0).fit(data).chosen_) == {"l2", "trust"}


def test_without_validation_nothing_is_compared() -> None:
    log = AANMFpp(**QUICK, validation=0, l2_candidates=(1.0, 2.0, 3.0, 4.0)).fit(DATA).fitted_.training_log
    assert log.chosen == {"l2": 2.0, "trust": 1.0}
    assert {epoch.phase for epoch in log.epochs} == {"final"}


def test_epochs_are_counted_over_members() -> None:
    seen = []
    model = AANMFpp(**{**QUICK, "members": 2}, l2=5.0, validation_cuts=1, simplify_up_to=0)
    log = model.fit(DATA, on_epoch=seen.append).fitted_.training_log
    assert log.epochs == seen
    assert [(e.phase, e.epoch, e.of) for e in seen] == [
        *(("search", n, 2) for n in (1, 2)),
        *(("final", n, 6) for n in range(1, 7)),  # two members and one for newcomers
    ]
    assert log.best_epoch == 2


def test_divergence_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"diverged in epoch \d.*learning_rate below 1e\+30"):
        AANMFpp(**QUICK, learning_rate=1e30, ordinal=False).fit(DATA)


@pytest.mark.parametrize(("n", "cuts", "size"), [(600, 5, 60), (20_000, 2, 2000), (80_000, 1, 8000), (3, 3, 1)])
def test_small_data_is_cut_several_times(n: int, cuts: int, size: int) -> None:
    found = validation_cuts(n, AANMFppConfig(validation=0.1))
    assert [len(rows) for rows in found] == [size] * cuts
    assert len(np.unique(np.concatenate(found))) == cuts * size
    assert len(validation_cuts(n, AANMFppConfig(validation=0.1, validation_cuts=1))) == 1


def equations() -> Equations:
    return Equations(AANMFppConfig.of(QUICK), AANMFpp(**QUICK, validation=0).fit(DATA).fitted_.training)


def test_every_rating_is_fitted_once_an_epoch_with_other_parts_in_view() -> None:
    model = equations()
    features = torch.arange(float(len(DATA)))[None]  # say which rating it is
    found = list(batches(model, features, (4, 3), 0.0, torch.Generator().manual_seed(0)))
    rows = [batch.at.features[0].long() for batch in found]
    assert len(rows) == 12
    assert sorted(torch.cat(rows).tolist()) == list(range(len(DATA)))
    for first in range(0, 12, 3):
        in_view = torch.ones(len(DATA)).index_fill_(0, torch.cat(rows[first : first + 3]), 0)
        for batch, own in zip(found[first : first + 3], rows[first : first + 3], strict=True):
            assert torch.equal(batch.seen.users.weight[0], in_view)
            assert torch.equal(batch.rows, own)
            assert torch.equal(batch.rating, model.history.rating[own])


def test_users_and_items_treated_as_new_are_out_of_view() -> None:
    model = equations()
    features = torch.ones(1, len(DATA))
    for batch in batches(model, features, (2, 2), 0.5, torch.Generator().manual_seed(0)):
        counts = batch.seen.users.count[:40]
        assert 5 < int((counts == 0).sum()) < 35  # of 40 users with ratings, half
        hidden = (batch.seen.users.count == 0)[batch.at.users]
        assert hidden.any()
        assert (batch.at.features[0, hidden] == 0).all()
        assert (batch.at.features != 0).any()


def stopped_at(phase: str, epoch: int, data: RatingDataset, **settings: object) -> AANMFpp:
    """A model whose training was interrupted after this epoch."""

    def stop(record: Epoch) -> None:
        if (record.phase, record.epoch) == (phase, epoch):
            raise KeyboardInterrupt

    model = AANMFpp(**{**QUICK, "epochs": 4, "members": 2, **settings})
    with pytest.raises(KeyboardInterrupt):
        model.fit(data, on_epoch=stop)
    return model


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Members are trained one after another."""
    with threads(1):
        yield


def same(one: Member, other: Member) -> bool:
    return all(torch.equal(one.state_dict()[name], value) for name, value in other.state_dict().items())


def test_members_side_by_side_are_those_trained_one_after_another() -> None:
    told: dict[int, list[Epoch]] = {1: [], 2: []}
    trained = {}
    for n, epochs in told.items():
        with threads(n):
            model = AANMFpp(**{**QUICK, "epochs": 3, "members": 2}).fit(DATA, on_epoch=epochs.append)
            assert torch.get_num_threads() == n
            trained[n] = model.module_.members
    for one, other in zip(trained[1], trained[2], strict=True):
        for name, value in one.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value)
    for epochs in told.values():
        assert [each.epoch for each in epochs if each.phase == "final"] == [*range(1, 10)]
    one, two = ([each.train_mse for each in epochs if each.phase == "final"] for epochs in told.values())
    taking_turns = (0, 3, 6, 1, 4, 7, 2, 5, 8)
    assert two == pytest.approx([one[k] for k in taking_turns], rel=1e-4)


def test_a_member_that_fails_stops_those_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, steps = AANMFppModule.loss, Counter[bool]()

    def failing(self: AANMFppModule, member: Member, *given: Any) -> torch.Tensor:
        fails = member is self.members[1]
        steps[fails] += 1
        if fails and steps[fails] == 3:
            raise ZeroDivisionError
        return loss(self, member, *given)

    monkeypatch.setattr(AANMFppModule, "loss", failing)
    asked = {**QUICK, "epochs": 1, "members": 2, "parts": 200, "steps": 1, "validation": 0.0, "match": False}
    with threads(2), pytest.raises(ZeroDivisionError):
        AANMFpp(**asked).fit(DATA)
    assert steps[True] == 3
    assert steps[False] < 200


def test_interrupted_side_by_side_all_take_the_weights_of_the_one_trained_longest() -> None:
    with threads(2):
        model = stopped_at("final", 3, DATA)
    first, second, newcomer = model.module_.members
    assert same(first, second)
    assert same(newcomer, first)
    assert model.fitted_.training_log.interrupted


@pytest.mark.usefixtures("one_thread")
def test_interrupted_members_take_the_weights_of_a_complete_one(tmp_path) -> None:
    whole = AANMFpp(**{**QUICK, "epochs": 4, "members": 2}).fit(DATA).module_.members
    model = stopped_at("final", 6, DATA)
    first, second, newcomer = model.module_.members
    assert same(first, whole[0])
    assert same(second, first)
    assert same(newcomer, first)
    assert not same(whole[1], first)
    model.save(tmp_path / "m")
    log = load_model(tmp_path / "m").fitted_.training_log
    assert log.interrupted
    assert log.validation_rmse is not None


def test_interrupted_in_the_search_the_model_keeps_what_the_search_learned() -> None:
    model = stopped_at("search", 3, DATA)
    log, trained = model.fitted_.training_log, model.predict("u1", ["i1", "i2", "i3"])["rating"]
    assert log.interrupted
    assert log.validation_rmse is None
    assert [each.phase for each in log.epochs] == ["search"] * 3
    assert trained.n_unique() == 3
    assert len(model.recommend("u1", n=3)) == 3


def test_interrupted_before_the_first_epoch_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "half_cosine", stop)
    model = AANMFpp(**QUICK)
    with pytest.raises(KeyboardInterrupt):
        model.fit(DATA)
    assert not model.is_fitted


def test_choices_are_made_on_half_of_many_ratings(monkeypatch: pytest.MonkeyPatch) -> None:
    training = AANMFpp(**QUICK, validation=0).fit(DATA).fitted_.training
    n = len(training.train)
    sizes = []
    for enough in (n, n - 1, n // 3):
        monkeypatch.setattr("aanmf.models.aanmfpp.fit.ENOUGH", enough)
        sizes.append(len(some_users(training, AANMFppConfig()).train))
    assert sizes[0] == n
    assert n // 2 < sizes[1] < n
    assert n // 3 < sizes[2] <= n // 2


def test_choices_on_many_ratings_are_made_on_all_those_of_some_users() -> None:
    training = AANMFpp(**QUICK, validation=0).fit(DATA).fitted_.training
    n = len(training.train)
    assert some_users(training, AANMFppConfig(search_ratings=n)) is training
    few = some_users(training, AANMFppConfig(search_ratings=n // 2)).train
    assert n // 3 < len(few) <= n // 2
    whole, part = (torch.bincount(each.user, minlength=50) for each in (training.train, few))
    assert ((part == whole) | (part == 0)).all()
    assert len(some_users(training, AANMFppConfig(search_ratings=1)).train) > 0
    other = some_users(training, AANMFppConfig(search_ratings=n // 2, seed=1)).train
    assert not torch.equal(few.user.unique(), other.user.unique())


def test_what_is_chosen_on_some_users_is_trained_with_the_steps_for_all_ratings() -> None:
    asked = AANMFppConfig()
    searched = Selection(asked.model_copy(update=simpler(asked, 200_000)[0]), 1.0)
    assert searched.config.steps == 4
    assert searched.at_full_size(asked, 4_000_000).config.steps == 12
    assert Selection(asked, 1.0).at_full_size(asked, 4_000_000).config == asked


def test_a_model_that_was_chosen_on_some_users_predicts_for_all() -> None:
    model = AANMFpp(**QUICK, l2_candidates=(1.0, 5.0), search_ratings=300).fit(DATA)
    assert model.chosen_["l2"] in (1.0, 5.0)
    assert np.isfinite(model.predict_data(DATA)).all()
    assert len(model.recommend("u1", n=3)) == 3


MANY = {**QUICK, "members": 6, "cold": 0.0, "search_ratings": 400, "l2_candidates": (5.0,)}


@pytest.mark.parametrize(("learning_rate", "few"), [(1e-4, True), (0.3, False)])
def test_members_on_many_ratings_are_as_many_as_help(tmp_path, learning_rate: float, few: bool) -> None:
    """Members that hardly learn are alike, so one is enough; those that learn by heart differ."""
    model = AANMFpp(**{**MANY, "learning_rate": learning_rate, "epochs": 6}).fit(DATA)
    n = len(model.module_.members)
    assert (n == 1) if few else (n > 1)
    assert model.chosen_.get("members", 6) == n
    assert model.get_params()["members"] == 6
    model.save(tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    assert len(loaded.module_.members) == n
    assert loaded.predict("u1", ["i1", "i2"]).equals(model.predict("u1", ["i1", "i2"]))
    few_ratings = AANMFpp(**{**MANY, "learning_rate": learning_rate, "search_ratings": 10_000}).fit(DATA)
    assert len(few_ratings.module_.members) == 6


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.3])
def test_errors_of_means_of_members_are_those_of_members_drawn(monkeypatch: pytest.MonkeyPatch, spread: float) -> None:
    """Against means of many errors with this variance by the seed."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(20_000, generator=generator)
    errors = [common + spread**0.5 * torch.randn(20_000, generator=generator) for _ in range(8)]
    config = AANMFppConfig(members=8)
    both = [Selection(config, 5.0, left=each) for each in errors[:2]]
    monkeypatch.setattr(fit, "validate", lambda *_: both)
    found = fewer_members(Any, Any, both[0]).config.members  # pyright: ignore[reportArgumentType]
    mse = [float(torch.stack(errors[:m]).mean(0).square().mean()) for m in range(1, 9)]
    assert mse[found - 1] <= mse[-1] * 1.004
    assert found == 1 or mse[found - 2] > mse[-1] * 0.998
    assert (found == 1) == (spread == 0)


@pytest.mark.parametrize(
    ("n", "steps", "epochs"), [(100, 1, 8), (1_000_000, 2, 8), (4_000_000, 3, 5), (25_000_000, 5, 3)]
)
def test_steps_in_all_hardly_grow_with_the_ratings(n: int, steps: int, epochs: int) -> None:
    config = AANMFppConfig()
    assert run.steps_per_part(config, n) == steps
    assert run.epochs_of(config, n) == epochs
    assert run.epochs_of(AANMFppConfig(steps=steps), n) == 8  # what is given is taken as it is
    assert run.epochs_of(AANMFppConfig(epochs=1), n) == 1
