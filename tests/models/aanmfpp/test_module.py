"""AANMF++ against its equations in plain loops; its fast paths against the slow one; folding in; small data."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from aanmf import AANMFpp, RatingDataset
from aanmf.models.aanmfpp.equations import Member
from aanmf.models.aanmfpp.module import AANMFppModule
from tests.conftest import small_dataset

DATA = replace(small_dataset(), rating=small_dataset().rating.round())


def fit(data: RatingDataset = DATA, **settings: object) -> AANMFpp:
    return AANMFpp(**{"factors": 4, "epochs": 3, "members": 2, "validation": 0, "l2": 5.0, **settings}).fit(data)


@pytest.fixture(scope="module")
def model() -> AANMFpp:
    return fit()


def module_of(model: AANMFpp) -> AANMFppModule:
    module = model.module_
    assert isinstance(module, AANMFppModule)
    return module


def naive_score(module: AANMFppModule, member: Member, u: int, i: int) -> float:
    """The expected rating from the equations at the top of equations.py, one number at a time."""
    h, vectors, biases = module.history, member.vectors, member.biases
    with torch.no_grad():
        seen = h.see_all(module.config.damping)
        mu, b_u, b_i = float(seen.mean), seen.users.offset.tolist(), seen.items.offset.tolist()
        n_u, n_i = int((h.user == u).sum()), int((h.item == i).sum())
        s_u, s_i = (n_u + 1) ** -0.7 * 50**0.2, (n_i + 1) ** -0.6 * 50**0.1
        items, users = module.item_sets, module.sets
        sides = []
        for tables in (vectors, biases):
            x, z, g = tables.p[u].double().clone(), tables.q[i].double().clone(), tables.g(items.vectors)
            for e in range(len(h)):
                v, j = int(h.user[e]), int(h.item[e])
                left = float(h.rating[e]) - mu - b_u[v] - b_i[j]
                if v == u:
                    x += s_u * (tables.y[j] + left * tables.c[j])
                if j == i:
                    z += s_i * (tables.w[v] + left * tables.d[v])
            for value, weight, there in zip(items.value[i], items.weight[i], items.mask[i], strict=True):
                if there:
                    z += weight * g[value]
            sides.append((x, z))
        (x, z), (x_bias, z_bias) = sides
        a, beta = vectors.a(users.vectors).double(), biases.a(users.vectors)[:, 0].double()
        cell = member.cell
        scores, values = [], []
        for value, weight, there in zip(users.value[u], users.weight[u], users.mask[u], strict=True):
            if there:
                joint = torch.tanh(cell.value(a[value].float()) + cell.item(z.float()))
                scores.append(float(cell.out.weight[0] @ joint))
                values.append(float(weight * (a[value] @ z + beta[value])))
        total = sum(math.exp(s) for s in scores)
        f = mu + b_u[u] + float(x_bias) + b_i[i] + float(z_bias) + float(x @ z)
        f += sum(math.exp(s) / total * v for s, v in zip(scores, values, strict=True))
        if module.ridge:
            f += float(module.ridge.features(torch.tensor([u]), torch.tensor([i]))[:, 0] @ member.t)
        levels, sigma = module.levels.tolist(), math.exp(float(member.log_sigma))
        steps = zip(levels, levels[1:], member.theta.tolist(), strict=False)
        return levels[0] + sum((b - a) * float(norm.cdf((f - theta) / sigma)) for a, b, theta in steps)


def test_predictions_are_those_of_plain_loops(model: AANMFpp) -> None:
    module = module_of(model)
    users, items = torch.tensor([1, 5, 41, 12, 0]), torch.tensor([2, 0, 3, 20, 7])
    with torch.no_grad():
        got = module(users, items)
    for row, (u, i) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        *known, newcomer = module.members
        rated = (module.history.user == u).any() and (module.history.item == i).any()
        each = [naive_score(module, member, u, i) for member in (known if rated else [newcomer])]
        assert float(got[row]) == pytest.approx(np.mean(each) / float(module.scale), abs=2e-4)


@pytest.mark.parametrize(
    "settings",
    [
        *({}, {"attention": False}, {"attention": "uniform"}, {"user_attributes": False}, {"ridge": False}),
        {"ridge_items": 5, "ridge_rank": 6},
    ],
    ids=str,
)
def test_the_catalogue_is_scored_as_pairs_are(settings: dict[str, object]) -> None:
    module = module_of(fit(**settings))
    users = torch.tensor([3, 5, 9])
    for part, scores in module.catalogue(users):
        for row, position in enumerate(part.tolist()):
            pairs = module(users[position].expand(module.n_items), torch.arange(module.n_items))
            torch.testing.assert_close(scores[row], pairs, atol=1e-4, rtol=1e-4)


def test_newcomers_have_a_member_of_their_own(model: AANMFpp) -> None:
    without = fit(cold=0.0)
    known, new = ["u1", "u2"], {"gender": "F"}
    assert model.predict(known, ["i1", "i2"])["rating"].equals(without.predict(known, ["i1", "i2"])["rating"])
    assert not np.allclose(
        model.predict_for(new, ["i1", "i2"])["rating"], without.predict_for(new, ["i1", "i2"])["rating"], atol=1e-4
    )


def test_folding_in_the_ratings_of_training_changes_nothing(model: AANMFpp) -> None:
    module = module_of(model)
    module.trust.fill_(0.8)
    try:
        rows = module.history.rows_of(4)
        items, ratings = module.history.item[rows], module.history.rating[rows] / module.scale
        with torch.no_grad():
            folded = module.fold_in(4, None, items, ratings)
            ((_, (scores,)),) = module.catalogue(torch.tensor([4]))
        unrated = [i for i in range(module.n_items) if i not in items.tolist()]
        torch.testing.assert_close(folded[unrated], scores[unrated], atol=1e-4, rtol=1e-4)
    finally:
        module.trust.fill_(1.0)


def test_a_new_user_who_likes_everything_is_predicted_higher(model: AANMFpp) -> None:
    items = [str(each) for each in DATA.items.ids.ids[:6]]
    other = [str(each) for each in DATA.items.ids.ids[6:12]]
    best = model.predict_for({}, other, ratings=dict.fromkeys(items, 5.0))["rating"].to_numpy()
    worst = model.predict_for({}, other, ratings=dict.fromkeys(items, 1.0))["rating"].to_numpy()
    assert (best > worst).all()


def test_new_ratings_of_a_known_user_count_at_once(model: AANMFpp) -> None:
    before = model.recommend("u1", n=30)
    rated = before["item"][0]
    after = model.recommend("u1", n=30, ratings={rated: 1.0})
    assert rated not in after["item"].to_list()
    assert after["rating"].to_numpy().mean() < before["rating"].to_numpy().mean()


def test_where_ratings_are_noise_it_is_no_worse_than_damped_means() -> None:
    generator = np.random.default_rng(0)
    noise = replace(DATA, rating=generator.integers(1, 6, len(DATA)).astype(np.float32))
    train, test = noise.split(test=0.3, seed=0)
    model = fit(train, validation=0.4, l2=None, epochs=8)
    module = module_of(model)
    means = module.damped_means(torch.as_tensor(test.user), torch.as_tensor(test.item))
    rmse_of_means = float((means - torch.as_tensor(test.rating)).square().mean().sqrt())
    assert model.evaluate(test).rmse <= rmse_of_means + 0.01


def test_intervals_widen_with_coverage_and_hold_the_prediction(model: AANMFpp) -> None:
    narrow = model.predict(["u1", "u2"], ["i3", "i4"], interval=0.5)
    wide = model.predict(["u1", "u2"], ["i3", "i4"], interval=0.95)
    assert (wide["high"] - wide["low"] >= narrow["high"] - narrow["low"]).all()
    assert (narrow["low"] <= narrow["rating"]).all()
    assert (narrow["rating"] <= narrow["high"]).all()


def test_ranking_by_the_lower_bound_is_ordered_by_it(model: AANMFpp) -> None:
    low = model.recommend("u3", n=8, rank_by="low")["low"].to_list()
    assert low == sorted(low, reverse=True)


def test_lists_show_the_interval_that_was_asked_for(model: AANMFpp) -> None:
    found = model.recommend("u3", n=3, interval=0.7)
    expected = model.predict("u3", found["item"].to_list(), interval=0.7)
    for side in ("rating", "low", "high"):
        np.testing.assert_allclose(found[side].to_numpy(), expected[side].to_numpy(), atol=1e-5)


def test_new_ratings_move_prediction_and_interval(model: AANMFpp) -> None:
    plain = model.predict_for({"gender": "F"}, ["i3", "i4", "nothing"], interval=0.3)
    given = {"i1": 5, "i2": 5}
    told = model.predict_for({"gender": "F"}, ["i3", "i4", "nothing"], given, interval=0.3)
    assert told["rating"][0] != plain["rating"][0]
    ratings = model.predict_for({"gender": "F"}, ["i3", "i4", "nothing"], given)["rating"]
    np.testing.assert_allclose(told["rating"].to_numpy(), ratings.to_numpy(), atol=1e-6)
    np.testing.assert_allclose((told["low"] + told["high"])[:2] / 2, ratings[:2], atol=1e-5)
    assert told.row(2) == plain.row(2)
    assert told["fallback"].to_list() == [None, None, "unknown item"]


def test_who_tells_again_what_is_known_has_the_same_interval(model: AANMFpp) -> None:
    row = int(np.flatnonzero(DATA.user == 3)[0])
    given = {DATA.items.ids.ids[DATA.item[row]]: float(DATA.rating[row])}
    others = np.setdiff1d(np.arange(20), DATA.item[DATA.user == 3])  # a regression does not see the user's own ratings
    again = model.predictor_.bounds_for(model.predictor_.profile("u3", given), others, 0.5)
    before = model.predict("u3", [f"i{i}" for i in others], interval=0.5)
    for name, column in again.items():
        np.testing.assert_allclose(column, before[name].to_numpy(), atol=1e-4)


def test_a_rating_left_out_counts_for_the_interval_too(model: AANMFpp) -> None:
    rated = [DATA.items.ids.ids[item] for item in DATA.item[DATA.user == 3]]
    predictor, every = model.predictor_, np.arange(20)
    profile = predictor.profile("u3", without=rated[1:])
    found, before = (
        predictor.bounds_for(profile, every, 0.5),
        model.predict("u3", [f"i{i}" for i in range(20)], interval=0.5),
    )
    np.testing.assert_allclose(found["rating"], predictor.ratings_for(profile, every), atol=1e-5)
    assert np.abs(found["rating"] - before["rating"].to_numpy()).max() > 1e-3


def test_newcomers_have_errors_of_their_own(model: AANMFpp) -> None:
    module = module_of(model)
    errors = module.newcomer_errors.state_dict()
    known, new = model.predict("u3", ["i3"], interval=0.5), model.predict_for({"gender": "F"}, ["i3"], interval=0.5)
    told = model.predict_for({"gender": "F"}, ["i3"], {"i1": 5}, interval=0.5)
    try:
        module.newcomer_errors.load_state_dict({**errors, "quantile": errors["quantile"] / 2})
        assert model.predict("u3", ["i3"], interval=0.5).equals(known)
        half = model.predict_for({"gender": "F"}, ["i3"], interval=0.5)
        np.testing.assert_allclose(2 * (half["high"] - half["low"]), new["high"] - new["low"], rtol=1e-4)
        half = model.predict_for({"gender": "F"}, ["i3"], {"i1": 5}, interval=0.5)
        np.testing.assert_allclose(2 * (half["high"] - half["low"]), told["high"] - told["low"], rtol=1e-4)
    finally:
        module.newcomer_errors.load_state_dict(errors)


def test_continuous_ratings_are_fitted_by_squared_error() -> None:
    model = fit(small_dataset())
    assert not module_of(model).ordinal
    assert np.isfinite(model.predict_data(DATA)).all()


def test_a_new_user_is_predicted_as_a_known_one_without_ratings_whose_attributes_are_the_same(model: AANMFpp) -> None:
    items = [f"i{i}" for i in range(20)]
    row = DATA.users.columns.row(40, named=True)
    known = model.predict("u40", items)["rating"].to_numpy()
    same = {name: value for name, value in row.items() if value is not None}
    np.testing.assert_allclose(model.predict_for(same, items)["rating"].to_numpy(), known, atol=1e-5)
    other = model.predict_for({**same, "voice": [-9.0, 4.0, 2.0]}, items)["rating"].to_numpy()
    assert np.abs(other - known).max() > 1e-3
    pairs = model.predict_for({**same, "voice": [-9.0, 4.0, 2.0]}, "i3")["rating"].to_numpy()
    np.testing.assert_allclose(pairs, other[3], atol=1e-5)


@pytest.mark.parametrize("attention", [True, False, "uniform"])
def test_a_table_of_attention_predicts_as_pair_by_pair(monkeypatch: pytest.MonkeyPatch, attention: bool | str) -> None:
    data = DATA.with_attributes(users=["gender", "hobbies", "age"])
    model = fit(data, attention=attention)
    module, users, items = module_of(model), torch.arange(40), torch.arange(40) % 20
    with torch.no_grad():
        table = module(users, items), dict(module.catalogue(torch.arange(3)))
        monkeypatch.setattr("aanmf.models.aanmfpp.equations.TABLE", 0)
        module.train()
        module.eval()
        pairs = module(users, items), dict(module.catalogue(torch.arange(3)))
    torch.testing.assert_close(table[0], pairs[0])
    for a, b in zip(table[1].values(), pairs[1].values(), strict=True):
        torch.testing.assert_close(a, b)


def test_uniform_attention_averages_attributes() -> None:
    module = module_of(fit(attention="uniform"))
    users, items = torch.arange(20), torch.arange(20)
    mask = module.sets.rows(users).mask
    torch.testing.assert_close(module.attention(users, items), mask / mask.sum(1, keepdim=True))
