"""Users treated as new are predicted as users who come after training would be, and intervals rest on that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from aanmf import AANMFpp, RatingDataset
from aanmf.contract import Ratings
from aanmf.data.dataset import EntityTable, Vocabulary
from aanmf.data.schema import Attribute, Kind
from aanmf.data.split import cold_users
from aanmf.models.aanmfpp import newcomers
from aanmf.models.aanmfpp.module import AANMFppModule
from tests.conftest import small_dataset

DATA = replace(small_dataset(), rating=small_dataset().rating.round())


def module_of(model: AANMFpp) -> AANMFppModule:
    assert isinstance(model.module_, AANMFppModule)
    return model.module_


@pytest.fixture(
    scope="module", params=[{}, {"ridge": False}, {"history": False}], ids=["all", "no ridge", "no history"]
)
def module(request: pytest.FixtureRequest) -> AANMFppModule:
    settings = {"factors": 4, "epochs": 3, "members": 2, "cold": 0.0, "validation": 0, "l2": 5.0, "match": False}
    module = module_of(AANMFpp(**settings, **request.param).fit(DATA))
    module.trust.fill_(0.7)
    return module


def held_out(module: AANMFppModule) -> Ratings:
    """Pairs that are not in the training data, three of each user with ratings."""
    pairs = torch.ones(40, 20, dtype=torch.bool)
    pairs[module.history.user, module.history.item] = False
    rows = [(u, int(i)) for u in range(40) for i in pairs[u].nonzero()[:3, 0]]
    user, item = (torch.tensor(side) for side in zip(*rows, strict=True))
    return Ratings(user, item, torch.full((len(rows),), 3.0))


@pytest.mark.parametrize("told", [0, 1, 4])
def test_many_at_once_are_predicted_as_each_by_folding_in(module: AANMFppModule, told: int) -> None:
    history, unknown, asked = module.history, module.shape[0] - 1, held_out(module)
    users = asked.user.unique()
    view = history.matrix.start[users][:, None] + torch.arange(told)
    rated, ratings = history.item[view], history.rating[view]
    row = torch.searchsorted(users, asked.user)
    with torch.no_grad():
        rating, variance, n_user, n_item = module.rating_and_basis(
            *newcomers._as_new(module, row, asked, rated, ratings)
        )
        for place in range(len(users)):
            mine, sets = row == place, module.sets.rows(users[place][None])
            given = rated[place], ratings[place] / module.scale
            alone = module.fold_in(unknown, sets, *given)[asked.item[mine]]
            torch.testing.assert_close(rating[mine], alone, atol=1e-5, rtol=1e-5)
            low, high = module.interval_folded_in((unknown, sets, *given, None), asked.item[mine], 0.9)[1:]
            below, above = module.newcomer_errors.reach(0.9, variance[mine], n_user[mine], n_item[mine])
            torch.testing.assert_close(high - low, (below + above) / module.scale)
    assert (n_user == told).all()
    assert torch.equal(n_item, history.item_count[asked.item])


def errors(module: AANMFppModule, asked: Ratings) -> torch.Tensor:
    return newcomers.errors_of_newcomers(module, asked, torch.Generator().manual_seed(0))


def test_every_rating_is_predicted_once_per_number_told(module: AANMFppModule) -> None:
    asked, count = held_out(module), module.history.matrix.count
    found = errors(module, asked)
    expected = {told: int((count[asked.user] >= told).sum()) for told in newcomers.TOLD}
    assert {told: int((found[3] == told).sum()) for told in newcomers.TOLD} == expected
    assert expected[0] == len(asked) > expected[16] > 0
    moved = errors(module, replace(asked, rating=asked.rating + 1))
    torch.testing.assert_close(moved[0], found[0] + module.scale)
    assert torch.equal(moved[1:], found[1:])


def test_nothing_that_was_learned_of_them_by_id_counts(module: AANMFppModule) -> None:
    before = errors(module, held_out(module))
    kept = [
        (tables.p, tables.p.detach().clone()) for member in module.members for tables in (member.vectors, member.biases)
    ]
    try:
        with torch.no_grad():
            for table, _ in kept:
                table[:-1] += 1.0  # all but the unknown user's
        module.train()
        assert torch.equal(errors(module, held_out(module)), before)
    finally:
        with torch.no_grad():
            for table, old in kept:
                table.copy_(old)
        module.train().eval()


def of_attributes_and_taste(n_users: int = 400, n_items: int = 60) -> RatingDataset:
    """12,000 ratings in whole numbers, by an attribute of the user, the item and a taste that the attribute hides."""
    rng = np.random.default_rng(3)
    group, taste, topic = rng.integers(2, size=n_users), rng.normal(size=n_users), rng.choice([-1, 1], size=n_items)
    pairs = rng.permutation(n_users * n_items)[: n_users * n_items // 2]
    user, item = pairs // n_items, pairs % n_items
    liking = 3.2 + 0.5 * rng.normal(size=n_items)[item] + 0.9 * (taste[user] + group[user] - 0.5) * topic[item]
    return RatingDataset(
        users=EntityTable(
            Vocabulary(f"u{u}" for u in range(n_users)),
            pl.DataFrame({"group": [f"g{g}" for g in group]}),
            (Attribute(name="group", kind=Kind.CATEGORICAL),),
        ),
        items=EntityTable(Vocabulary(f"i{i}" for i in range(n_items)), pl.DataFrame(), ()),
        user=user,
        item=item,
        rating=np.clip(np.round(liking + 0.7 * rng.normal(size=len(user))), 1, 5).astype(np.float32),
        scale=(1.0, 5.0),
        name="taste",
    )


def test_intervals_of_new_users_cover_what_they_say_and_narrow_as_they_tell_more() -> None:
    data = of_attributes_and_taste()
    train, test = cold_users(data, 0.25, seed=0).of(data)
    settings = {"factors": 4, "members": 1, "l2": 5.0, "epochs": 6, "simplify_up_to": 0, "match": False}
    model = AANMFpp(**settings).fit(train)
    inside: dict[int, list[float]] = {0: [], 1: [], 5: [], 10: []}
    width: dict[int, list[float]] = {told: [] for told in inside}
    ids, rng = data.items.ids.ids, np.random.default_rng(0)
    for user in np.unique(test.user):
        rows = rng.permutation(np.flatnonzero(test.user == user))
        asked, attributes = rows[10:], {"group": data.users.columns["group"][int(user)]}
        for told in inside:
            given = {ids[test.item[row]]: float(test.rating[row]) for row in rows[:told]}
            found = model.predict_for(attributes, [ids[i] for i in test.item[asked]], given, interval=0.9)
            low, high, rating = found["low"].to_numpy(), found["high"].to_numpy(), test.rating[asked]
            inside[told] += ((low <= rating) & (rating <= high)).tolist()
            width[told] += (high - low).tolist()
    coverage = {told: float(np.mean(hits)) for told, hits in inside.items()}
    assert all(0.87 <= share <= 0.93 for share in coverage.values()), coverage
    widths = [float(np.mean(each)) for each in width.values()]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.9 * widths[0]
