"""Splits as the protocol defines them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aanmf.data.dataset import RatingDataset
from aanmf.data.split import cold_users, folds, holdout, kfold, last_of_each_user
from aanmf.errors import DataError


@given(st.integers(10, 300), st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 5))
def test_holdout_is_the_end_of_the_permutation(n: int, test: float, seed: int) -> None:
    fold = holdout(n, test, seed)
    order = np.random.default_rng(seed).permutation(n)
    k = n - round(n * test)
    np.testing.assert_array_equal(fold.train, order[:k])
    np.testing.assert_array_equal(fold.test, order[k:])


def test_holdout_of_movielens_sizes() -> None:
    assert len(holdout(100_000, 0.2, 0).train) == 80_000
    assert len(holdout(1_000_209, 0.1, 0).train) == 900_188


@given(st.integers(10, 200), st.integers(2, 7), st.integers(0, 3))
def test_kfold_tests_every_rating_once(n: int, k: int, seed: int) -> None:
    parts = kfold(n, k, seed)
    assert sorted(np.concatenate([fold.test for fold in parts])) == list(range(n))
    for fold in parts:
        assert sorted([*fold.train, *fold.test]) == list(range(n))
    np.testing.assert_array_equal(
        np.concatenate([fold.test for fold in parts]), np.random.default_rng(seed).permutation(n)
    )


def test_time_holds_out_the_last_ratings_of_each_user(small) -> None:
    fold = last_of_each_user(small, 0.2)
    for user in np.unique(small.user):
        mine = small.user[fold.train] == user
        held = fold.test[small.user[fold.test] == user]
        assert len(held) == max(1, round(0.2 * (small.user == user).sum()))
        assert small.time[fold.train[mine]].max() <= small.time[held].min()
    assert sorted([*fold.train, *fold.test]) == list(range(len(small)))


def test_cold_users_have_no_training_rating(small) -> None:
    fold = cold_users(small, 0.1, seed=1)
    assert not set(small.user[fold.train]) & set(small.user[fold.test])
    assert len(set(small.user[fold.test])) == 4  # a tenth of 40 rated users
    assert sorted([*fold.train, *fold.test]) == list(range(len(small)))
    assert set(small.user[fold.test]) != set(small.user[cold_users(small, 0.1, seed=2).test])


def test_protocols_by_name(small) -> None:
    assert [fold.seed for fold in folds(small, "holdout:0.1", (3, 4))] == [3, 4]
    assert len(folds(small, "kfold:3", (0, 1))) == 6
    assert len(folds(small, "kfold")) == 5
    assert len(folds(small, "time")[0].test) > 0
    assert len(folds(small, "cold-user")[0].test) > 0


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("bootstrap", "unknown protocol 'bootstrap'. Available"),
        ("u1", "does not come with a split 'u1'"),
        ("holdout:1.5", "between 0 and 1"),
        ("holdout:x", "'x' is not a number"),
        ("kfold:1", "between 2 and"),
        ("kfold:2.5", "must be whole"),
        ("holdout:0.0001", "both parts need some"),
    ],
)
def test_a_wrong_protocol_is_named(small, protocol: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        folds(small, protocol)


def test_time_needs_time_stamps(small) -> None:
    from dataclasses import replace

    with pytest.raises(DataError, match="needs times"):
        folds(replace(small, time=None), "time")


def test_a_part_keeps_users_items_and_rows_together(small) -> None:
    train, test = small.split(test=0.25, seed=3)
    assert len(train) == 450
    assert len(test) == 150
    fold = holdout(len(small), 0.25, 3)
    np.testing.assert_array_equal(test.rating, small.rating[fold.test])
    np.testing.assert_array_equal(train.time, small.time[fold.train])
    assert train.users is small.users
    assert train.fingerprint != test.fingerprint


def test_the_last_ratings_of_all(small: RatingDataset) -> None:
    (fold,) = folds(small, "time-global:0.2")
    assert fold.name == "time-global:0.2"
    assert len(fold.test) == 120
    assert small.time is not None
    assert small.time[fold.test].min() >= small.time[fold.train].max()
    with pytest.raises(DataError, match="needs times"):
        folds(replace(small, time=None), "time-global")


def test_items_that_are_new(small: RatingDataset) -> None:
    (fold,) = folds(small, "cold-item:0.25", [3])
    new = set(small.item[fold.test])
    assert len(new) == 5
    assert not new & set(small.item[fold.train])
    assert len(fold.test) == np.isin(small.item, list(new)).sum()
    assert folds(small, "cold-item:0.25", [4])[0].test.tolist() != fold.test.tolist()


def test_new_users_who_tell_some_ratings(small: RatingDataset) -> None:
    alone, told = (folds(small, protocol, [3])[0] for protocol in ("cold-user:0.2", "cold-user:0.2+2"))
    np.testing.assert_array_equal(told.train, alone.train)
    np.testing.assert_array_equal(np.sort([*told.test, *told.given]), alone.test)
    whole, given = (np.bincount(small.user[rows]) for rows in (alone.test, told.given))
    np.testing.assert_array_equal(given, np.minimum(whole, 2)[: len(given)])
    assert not np.array_equal(told.given, folds(small, "cold-user:0.2+2", [4])[0].given)
    assert len(alone.given) == 0
    assert alone.given_of(small) is None
    with pytest.raises(DataError, match="'x' is not a number of ratings"):
        folds(small, "cold-user:0.2+x")
    with pytest.raises(DataError, match="no user has more than 5000 ratings"):
        folds(small, "cold-user:0.2+5000")
