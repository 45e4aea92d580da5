"""What an update of AANMF++ computes anew, what it keeps, and when it refuses."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from aanmf import AANMFpp
from aanmf.additions import RATINGS, Additions, grow
from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.fitted import Fitted
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.module import AANMFppModule
from aanmf.models.aanmfpp.update import update_aanmfpp
from aanmf.recommender import Recommender
from aanmf.training.learned import Learned, with_rows
from aanmf.training.log import Epoch
from tests.conftest import small_dataset

DATA = replace(small_dataset(), rating=small_dataset().rating.round())
NEW = [("u1", "i19", 5.0), ("u3", "i20", 1.0), ("ann", "i1", 5.0), ("ann", "i2", 4.0), ("u5", "new", 4.0)]
ANN = EntityTable(
    Vocabulary(["ann"]),
    pl.DataFrame({"gender": ["F"]}),
    tuple(each for each in DATA.users.attributes if each.name == "gender"),
)


@cache
def before() -> Recommender:
    return AANMFpp(factors=3, epochs=4, members=2, parts=2, l2=5.0, simplify_up_to=0).fit(DATA)


def chosen() -> AANMFppConfig:
    """The settings with what the fit chose."""
    config = before().module_.config
    assert isinstance(config, AANMFppConfig)
    return config


def additions(rows: list[tuple[str, str, float]] = NEW) -> Additions:
    return Additions(pl.DataFrame(rows, schema=RATINGS, orient="row"), users=ANN)


def updated(part: float = 0.0, rows: list[tuple[str, str, float]] = NEW) -> tuple[AANMFppModule, Fitted]:
    model = before()
    fitted = model.fitted_.grown(grow(model.fitted_, additions(rows)).data)
    learned = Learned(model.fitted_.training, model.module_.state_dict())
    module = update_aanmfpp(model.spec.module_type, learned, fitted.training, chosen(), part)
    assert module is not None
    return module, fitted


def pairs(fitted: Fitted) -> tuple[Tensor, Tensor]:
    users, items = torch.arange(len(fitted.users)), torch.arange(len(fitted.items))
    return users.repeat_interleave(len(items)), items.repeat(len(users))


def test_what_is_solved_from_the_ratings_is_what_a_full_fit_has() -> None:
    """Histories, damped means and the scores of choice know all ratings; so does the ridge of users with new ones."""
    module, fitted = updated()
    quick = AANMFpp(factors=3, epochs=1, members=1, parts=2, l2=5.0, cold=0, simplify_up_to=0)
    other = quick.fit(grow(before().fitted_, additions()).data).module_
    assert isinstance(other, AANMFppModule) and module.choice and other.choice and module.ridge and other.ridge
    np.testing.assert_allclose(module.damped_means(*pairs(fitted)), other.damped_means(*pairs(fitted)), rtol=1e-6)
    for name in ("choice", "taste", "alike", "group", "content"):
        torch.testing.assert_close(getattr(module.choice, name), getattr(other.choice, name))
    with_news = torch.tensor([user in {"u1", "u3", "u5", "ann"} for user in fitted.users.ids] + [False])
    rows = with_news[module.history.user]
    assert int(rows.sum()) == int(fitted.users.n_ratings[with_news].sum())
    torch.testing.assert_close(module.ridge.alpha[:, rows], other.ridge.alpha[:, rows])


def test_what_was_trained_and_chosen_stays() -> None:
    module, old = updated()[0], before().module_
    assert isinstance(old, AANMFppModule) and module.choice and old.choice
    for new, known in zip(module.members, old.members, strict=True):
        torch.testing.assert_close(new.vectors.p[:42], known.vectors.p[:42], rtol=0, atol=0)
        torch.testing.assert_close(new.vectors.q[:21], known.vectors.q[:21], rtol=0, atol=0)
        torch.testing.assert_close(new.cell.state_dict(), known.cell.state_dict(), rtol=0, atol=0)
        assert not new.vectors.p[42].any() and not new.biases.y[21].any()  # ann, and the new item
    for name in ("trust", "errors.quantile", "newcomer_errors.weight", "choice.omega"):
        torch.testing.assert_close(module.state_dict()[name], old.state_dict()[name], rtol=0, atol=0)


def test_the_ridge_of_users_without_news_stays() -> None:
    module, old = updated()[0], before().module_
    assert isinstance(old, AANMFppModule) and module.ridge and old.ridge
    for user in (0, 2, 41):
        now, then = module.history.rows_of(user), old.history.rows_of(user)
        assert torch.equal(module.history.item[now], old.history.item[then])
        assert torch.equal(module.ridge.alpha[:, now], old.ridge.alpha[:, then])


def test_a_new_user_is_predicted_by_ratings_and_attributes() -> None:
    """Almost as the same user is folded in by the old model: its means and item vectors do not know the ratings."""
    module, fitted = updated()
    user = torch.full((21,), fitted.users.position("ann"))
    now = module(user, torch.arange(21)).detach().numpy()
    then = before().predict_for({"gender": "F"}, [f"i{i}" for i in range(21)], ratings={"i1": 5, "i2": 4})
    known = [i for i in range(19) if i not in (1, 2)]
    np.testing.assert_allclose(now[known], then["rating"].to_numpy()[known], atol=0.1)


def test_training_goes_on_from_the_tables_as_they_were() -> None:
    """All users rate two items anew, against what was known of them."""
    users = DATA.users.ids.ids
    rows = [(user, "i3", 1.0) for user in users] + [(user, "i5", 5.0) for user in users]

    def error(part: float) -> float:
        module, fitted = updated(part, rows)
        train = fitted.training.train
        return float((module(train.user, train.item) - train.rating).square().mean().detach())

    assert error(1.0) < error(0.0) - 0.01


@pytest.mark.parametrize(("part", "epochs"), [(0.0, 0), (0.25, 1), (0.5, 2)])
def test_epochs_are_a_part_of_those_of_a_fit(part: float, epochs: int) -> None:
    model, met = before(), list[Epoch]()
    fitted = model.fitted_.grown(grow(model.fitted_, additions()).data)
    learned = Learned(model.fitted_.training, model.module_.state_dict())
    update_aanmfpp(model.spec.module_type, learned, fitted.training, chosen(), part, met.append)
    assert len(met) == 3 * epochs  # two members, and that for newcomers
    assert all(each.phase == "update" for each in met)


def test_a_new_value_of_ratings_has_no_level() -> None:
    model = before()
    fitted = model.fitted_.grown(grow(model.fitted_, additions([("u1", "i19", 3.5)])).data)
    learned = Learned(model.fitted_.training, model.module_.state_dict())
    assert update_aanmfpp(model.spec.module_type, learned, fitted.training, chosen(), 0.0) is None


def test_of_choices_without_ratings() -> None:
    clicks = replace(DATA, rating=np.ones_like(DATA.rating), has_ratings=False, scale=None)
    model = AANMFpp(factors=3, epochs=1, members=1, parts=2).fit(clicks)
    done = model.update(pl.DataFrame({"user": ["ann", "ann"], "item": ["i1", "i2"]}))
    assert (done.how, done.ratings) == ("histories", 2)
    assert not {"i1", "i2"} & set(model.recommend("ann", n=30)["item"])


def test_tables_grow_before_the_row_of_the_unknown_one() -> None:
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]])
    assert with_rows(table, 5).tolist() == [[1, 2], [3, 4], [0, 0], [0, 0], [9, 9]]
    assert with_rows(table, 3).tolist() == table.tolist()


def test_users_with_news_are_those_with_a_new_or_changed_rating() -> None:
    def training(rows: RatingDataset) -> Fitted:
        return Fitted.of(rows)

    old = training(DATA)
    rating = np.append(DATA.rating, 3.0).astype(np.float32)
    rating[7] = 6 - rating[7] if rating[7] != 3 else 1
    user, item = np.append(DATA.user, 41), np.append(DATA.item, 20)
    new = training(replace(DATA, user=user, item=item, rating=rating, time=None))
    news = Learned(old.training, {}).users_with_news(new.training)
    assert news.nonzero()[:, 0].tolist() == sorted({int(DATA.user[7]), 41})
