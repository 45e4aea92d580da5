"""The synthetic set keeps what its docstring promises, and the planted attention can be found again."""

from __future__ import annotations

import numpy as np
import pytest

from aanmf import AANMF
from aanmf.data.synthetic import VALUES, _attribute_vectors, _shares, make_synthetic
from aanmf.errors import DataError


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
    learned = model.attention_map(test).drop("n").sort("genres").drop("genres").to_numpy()
    planted = made.attention.sort("genres").drop("genres").to_numpy()
    assert np.corrcoef(learned.ravel(), planted.ravel())[0, 1] >= 0.8
    assert model.evaluate(test).rmse <= 1.05 * made.noise_rmse
