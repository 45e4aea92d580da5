"""The synthetic set keeps what its docstring promises, and the planted attention can be found again."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from aanmf import AANMF
from aanmf.account import shapley
from aanmf.data.synthetic import CONTEXT, CONTEXT_ATTENTION, VALUES, _attribute_vectors, _shares, make_synthetic
from aanmf.errors import DataError
from tests import scripts


def test_seed_fixes_everything() -> None:
    one, again, other = (make_synthetic(50, 60, 900, seed=s) for s in (1, 1, 2))
    assert one.data.fingerprint == again.data.fingerprint != other.data.fingerprint
    assert one.data.users.columns.equals(again.data.users.columns)


def test_sizes_pairs_and_scale() -> None:
    made = make_synthetic(50, 60, 1500, seed=0)
    assert len(made.data) == 1500
    assert len(set(zip(made.data.user, made.data.item, strict=True))) == 1500
    assert made.data.rating.min() >= 1
    assert made.data.rating.max() <= 5
    assert made.data.user.max() < 50
    assert made.data.item.max() < 60


def test_floor_is_the_error_of_the_truth() -> None:
    made = make_synthetic(200, 100, 8000, seed=0)
    error = made.data.rating.astype(float) - made.truth
    assert made.noise_rmse == pytest.approx(np.sqrt((error**2).mean()))
    assert 0.4 < made.noise_rmse < 0.51


def test_planted_attention_is_a_distribution() -> None:
    weights = make_synthetic(20, 40, 100).attention.drop("genres").to_numpy()
    assert weights.shape == (8, 3)
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_attribute_vectors_are_of_equal_length_and_effect() -> None:
    common = np.eye(8)[0]
    vectors = _attribute_vectors(np.random.default_rng(0), common)
    lengths = np.concatenate([np.linalg.norm(v, axis=1) for v in vectors.values()])
    np.testing.assert_allclose(lengths, lengths[0])
    spread = [np.sqrt(_shares(VALUES[name]) @ (v @ common) ** 2) for name, v in vectors.items()]
    np.testing.assert_allclose(spread, spread[0])


def test_effects_are_what_attributes_add_to_the_truth() -> None:
    made = make_synthetic(300, 100, 12_000, seed=0)
    user, item, between = made.data.user, made.data.item, (made.truth > 1) & (made.truth < 5)
    rest = made.truth - 3.5
    for name, effect in made.effects.items():
        value = np.array([list(VALUES[name]).index(each) for each in made.data.users.columns[name]])[user]
        rest = rest - effect[value, item]
    assert made.truth[between].std() > 0.6
    assert rest[between].std() < 0.2  # p_u . q_i alone
    pair = np.flatnonzero(between & (user == user[0]))[:2]
    common = [rest[pair[0]], rest[pair[1]]]
    assert common[0] == pytest.approx(common[1], abs=0.15)


def test_effects_follow_the_planted_attention() -> None:
    made = make_synthetic(50, 200, 2000, seed=3)
    genres = [genre for (genre,) in made.data.items.columns["genres"]]
    weights = {row["genres"]: row for row in made.attention.to_dicts()}
    size = {name: np.abs(effect).mean(axis=0) for name, effect in made.effects.items()}
    action, documentary = (np.flatnonzero(np.array(genres) == genre) for genre in ("action", "documentary"))
    for name, each in size.items():
        ratio = weights["action"][name] / weights["documentary"][name]
        assert each[action].mean() / each[documentary].mean() == pytest.approx(ratio, rel=0.1)


@pytest.mark.parametrize("sizes", [(0, 5, 5), (5, 5, 20)])
def test_impossible_sizes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(DataError):
        make_synthetic(*sizes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_attention_is_recovered_and_the_floor_approached(seed: int) -> None:
    made = make_synthetic(seed=seed)
    train, test = made.data.split(test=0.2, seed=seed)
    model = AANMF(l2=5.0, seed=seed).fit(train)
    learned = model.attention_map(test).table.drop("n").sort("genres").drop("genres").to_numpy()
    planted = made.attention.sort("genres").drop("genres").to_numpy()
    assert np.corrcoef(learned.ravel(), planted.ravel())[0, 1] >= 0.8
    assert model.evaluate(test).rmse <= 1.05 * made.noise_rmse


@pytest.fixture
def reasons(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return scripts.script("benchmarks/planted_reasons.py", monkeypatch)


def test_planted_shares_are_the_shapley_values_of_the_planted_rating(reasons: ModuleType) -> None:
    made = make_synthetic(20, 40, 200, seed=2)
    user, item = np.array([4]), np.array([9])
    chosen = [
        effect[list(VALUES[name]).index(made.data.users.columns[name][4])] for name, effect in made.effects.items()
    ]

    def rating(joined: np.ndarray) -> np.ndarray:
        """The item, then the attributes; without the item the mean over items."""
        added = [np.where(joined[:, 0], each[9], each.mean()) * joined[:, 1 + j] for j, each in enumerate(chosen)]
        return np.sum(added, axis=0)

    shared, whole = reasons.planted(made, user, item)
    assert shared[0] == pytest.approx(shapley(rating, 4)[1:])
    assert whole[0] == pytest.approx([each[9] for each in chosen])


@pytest.mark.slow
def test_planted_reasons_are_found(reasons: ModuleType) -> None:
    (found,) = reasons.runs_of("aanmf", 0, 200, make_synthetic(seed=0))
    assert found["shared"] >= 0.9
    assert found["whole"] >= 0.85
    (_, new) = reasons.runs_of("aanmf++", 0, 200, make_synthetic(seed=0))
    assert new["model"] == "aanmf++/new"
    assert new["whole"] >= 0.85


def test_without_context_all_is_as_ever() -> None:
    plain, nothing = make_synthetic(50, 60, 900, seed=3), make_synthetic(50, 60, 900, seed=3, context_strength=0.0)
    assert not plain.data.context.names
    assert not plain.context_effects
    assert (plain.data.rating == nothing.data.rating).all()
    assert (plain.data.user == nothing.data.user).all()
    assert nothing.data.context.names == ["company", "weather"]
    assert all((effect == 0).all() for effect in nothing.context_effects.values())


def test_the_context_moves_ratings_as_it_says() -> None:
    plain, made = make_synthetic(80, 60, 2000, seed=1), make_synthetic(80, 60, 2000, seed=1, context_strength=0.5)
    added = np.zeros(2000)
    for name, effect in made.context_effects.items():
        value = made.data.context.columns[name].replace_strict({v: k for k, v in enumerate(CONTEXT[name])}).to_numpy()
        added += effect[value, made.data.item]
    inside = (np.abs(plain.truth - 3) < 1) & (np.abs(made.truth - 3) < 1.99)
    assert inside.sum() > 500
    assert made.truth[inside] == pytest.approx((plain.truth + added)[inside], abs=1e-5)
    share = list(CONTEXT["company"].values())
    assert share @ made.context_effects["company"] == pytest.approx(0, abs=1e-12)
    of_first = CONTEXT_ATTENTION[made.data.items.columns["genres"][0][0]][0]
    assert share @ made.context_effects["company"][:, 0] ** 2 == pytest.approx((0.5 * of_first) ** 2)


def test_missing_context_is_missing_by_chance() -> None:
    whole, half = (make_synthetic(80, 60, 2000, seed=1, context_strength=1.0, context_missing=m) for m in (0.0, 0.5))
    assert (whole.data.rating == half.data.rating).all()
    columns = half.data.context.columns
    assert [columns[name].null_count() / 2000 for name in columns.columns] == pytest.approx([0.5, 0.5], abs=0.05)
    with pytest.raises(DataError, match="context_missing=1.5"):
        make_synthetic(80, 60, 2000, context_strength=1.0, context_missing=1.5)
