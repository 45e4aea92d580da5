"""An account of AANMF++ sums to the prediction, whatever parts the model has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aanmf import AANMFpp
from aanmf.data.attributes import AttributeEncoder
from aanmf.models.aanmfpp.account import account
from aanmf.models.aanmfpp.attribute_matrix import attribute_columns, attribute_matrix
from aanmf.models.aanmfpp.module import AANMFppModule
from tests.conftest import small_dataset

DATA = small_dataset()


def fit(**settings: object) -> AANMFppModule:
    quick = {"factors": 4, "epochs": 3, "members": 2, "parts": 5, "validation": 0, "match": False, **settings}
    module = AANMFpp(**quick).fit(DATA).module_
    assert isinstance(module, AANMFppModule)
    return module


LEFT_OUT = ("ordinal", "ridge", "history", "item_attributes", "user_attributes", "attention")
SETTINGS = [
    {},
    {"cold": 0.0},
    {"attention": "uniform"},
    {"ridge_ratings": 5},
    {"ridge_items": 5},
    *({name: False} for name in LEFT_OUT),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_sums_to_the_prediction(settings: dict[str, object]) -> None:
    module = fit(**settings)
    for user, item in [(1, 2), (5, 19), (0, 20), (41, 3), (42, 0), (3, 21), (42, 21)]:  # new ones among them
        expected = float(module(torch.tensor([user]), torch.tensor([item])).detach())
        found = account(module, user, item)
        assert float(found.total()) == pytest.approx(expected, abs=1e-5)
        assert len(found.rated) == len(found.items) == int((module.history.user == user).sum())


def test_a_changed_history_is_accounted_for_as_it_is_folded_in() -> None:
    module = fit()
    items, ratings = torch.tensor([3, 7, 11]), torch.tensor([5.0, 1.0, 4.0])
    kept, given = module.history.changed(4, items, ratings * module.scale)
    folded = module.fold_in(4, None, items, ratings)
    for item in (0, 5, 12):
        found = account(module, 4, item, history=(kept, given / module.scale))
        assert float(found.total()) == pytest.approx(float(folded[item].detach()), abs=1e-5)


def test_a_rating_taken_back_and_given_again_is_as_before() -> None:
    module = fit(match=True)
    rows = module.history.rows_of(4)
    items, ratings = module.history.item[rows][:2], module.history.rating[rows][:2] / module.scale
    nothing = items[:0], ratings[:0]
    before, rating = module.match_folded_in(4, None, *nothing)
    without, _ = module.match_folded_in(4, None, *nothing, items)
    again, rating_again = module.match_folded_in(4, None, items, ratings, items)
    assert not torch.allclose(without, before, atol=1e-3)
    torch.testing.assert_close(again, before, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rating_again, rating, atol=1e-5, rtol=1e-5)


def test_the_parts_of_attributes_sum_to_their_product() -> None:
    sets = AttributeEncoder.fit(DATA.users, np.arange(len(DATA.users))).transform(DATA.users)
    column = torch.randn(attribute_matrix(sets).shape[1])
    for row in range(5):
        one = sets.rows(torch.tensor([row]))
        found = attribute_columns(one, column)
        assert len(found) == sets.value.shape[1]
        torch.testing.assert_close(found.sum(), (attribute_matrix(one) @ column)[0], atol=1e-5, rtol=1e-5)


def test_nothing_is_said_of_parts_that_a_model_does_not_have() -> None:
    without = account(fit(user_attributes=False, item_attributes=False, history=False, ridge=False), 1, 2)
    assert not without.user_attributes.any()
    assert not without.item_attributes.any()
    np.testing.assert_allclose(without.audience, 0, atol=1e-6)


def test_deleting_a_rated_item_moves_the_prediction_as_was_said() -> None:
    module, said, moved = fit(epochs=8), [], []
    for user in range(12):
        rows = module.history.rows_of(user)
        items, ratings = module.history.item[rows], module.history.rating[rows] / module.scale
        whole = account(module, user, 20, history=(items, ratings))
        for place in whole.rated.abs().argsort(descending=True)[:3]:
            kept = torch.arange(len(items)) != place
            without = account(module, user, 20, history=(items[kept], ratings[kept]))
            said.append(float(whole.rated[place]))
            moved.append(float(whole.total() - without.total()))
    assert np.corrcoef(said, moved)[0, 1] > 0.8
