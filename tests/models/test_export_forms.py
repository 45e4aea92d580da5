"""Export forms predict what the modules predict, with other settings too (`test_export.py`: every model as it is)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from aanmf import make_model
from aanmf.contract import RatingModule
from aanmf.errors import ConfigError
from aanmf.recommender import Recommender
from tests.conftest import small_dataset

DATA = small_dataset()
QUICK: dict[str, Any] = {"epochs": 2, "factors": 4}
PP = QUICK | {"members": 2, "parts": 2}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("aanmf", {"interaction": "product", "init_std": 1.0}),
    ("aanmf+p", {"interaction": "product", "init_std": 1.0}),
    *(
        ("aanmf++", {name: False})
        for name in ("attention", "history", "user_attributes", "item_attributes", "ridge", "ordinal")
    ),
    ("aanmf++", {"cold": 0.0}),
    ("aanmf++", {"ridge_items": 5, "ridge_rank": 6}),
    ("autorec", {"encodes": "users"}),
]


def trained(name: str, **settings: Any) -> Recommender:
    return make_model(name, **{**(PP if name == "aanmf++" else QUICK), **settings}).fit(DATA)


def all_pairs() -> tuple[Tensor, Tensor]:
    """Every user with every item, the unknown ones too."""
    n_users, n_items = len(DATA.users) + 1, len(DATA.items) + 1
    return torch.arange(n_users).repeat_interleave(n_items), torch.arange(n_items).repeat(n_users)


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_an_export_form_predicts_what_the_model_predicts(name: str, settings: dict[str, Any]) -> None:
    module = trained(name, **settings).module_
    users, items = all_pairs()
    with torch.no_grad():
        expected, found = module(users, items), module.export_form()(users, items)
    assert expected.std() > 0.005  # not one number for all
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", ["mf", "acmf", "svd++", "fm", "autorec", "aesr"])
def test_where_tables_are_all_there_is_the_rating_is_biases_and_inner_product(name: str) -> None:
    module = trained(name).module_
    users, items = all_pairs()
    with torch.no_grad():
        of_users, of_items = module.sides()
        expected = module(users, items)
    found = of_users.bias[users] + of_items.bias[items] + (of_users.vector[users] * of_items.vector[items]).sum(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


def test_sides_of_members_stand_one_after_another() -> None:
    users, items = trained("aanmf++").module_.sides()
    assert users.vector.shape == (len(DATA.users) + 1, 3 * 4)  # two members and the one for newcomers
    assert items.vector.shape == (len(DATA.items) + 1, 3 * 4)
    assert users.bias.shape == (len(DATA.users) + 1,)


def test_tables_of_models_with_layers_are_what_the_layers_read() -> None:
    nfm, aanmf = trained("nfm").module_, trained("aanmf").module_
    assert torch.equal(aanmf.sides()[0].vector, aanmf.get_parameter("p"))
    assert not aanmf.sides()[1].bias.any()
    users, items = nfm.sides()
    assert users.vector.shape == (len(DATA.users) + 1, 4)
    torch.testing.assert_close(items.vector, nfm.get_parameter("item.v"))
    torch.testing.assert_close(items.bias, nfm.get_parameter("item.w")[:, 0])


def test_a_module_without_an_export_form_says_so() -> None:
    for ask in (RatingModule().export_form, RatingModule().sides):
        with pytest.raises(ConfigError, match="cannot be exported"):
            ask()
