"""A model beside damped means and the most rated items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aanmf import MF, DampedMeans, Popularity
from aanmf.data.dataset import RatingDataset
from aanmf.evaluation.baselines import baselines_for, headline_metrics, measure


def test_held_out_ratings_are_scored_and_not_learned_from(small: RatingDataset) -> None:
    runs = measure(MF(factors=2, epochs=2, seed=5), small, 0.1)
    assert [run.model for run in runs] == ["mf", "damped-means", "popularity"]
    order = np.random.default_rng(5).permutation(600)
    train, test = small.take(order[:540]), small.take(order[540:])
    for run, model in zip(runs, (MF(factors=2, epochs=2, seed=5), DampedMeans()), strict=False):
        error = model.fit(train).predict_data(test) - test.rating
        assert run.scores["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), abs=1e-6)
        assert run.n_test == 60
    changed = small.rating.copy()
    changed[order[540:]] = 1.0
    again = measure(DampedMeans(seed=5), replace(small, rating=changed), 0.1)[0]
    error = DampedMeans().fit(train).predict_data(test) - 1.0
    assert again.scores["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), abs=1e-6)


def test_the_model_itself_is_not_its_own_baseline(small: RatingDataset) -> None:
    assert [run.model for run in measure(Popularity(), small, 0.1)] == ["popularity", "damped-means"]


def test_choices_have_no_mean_rating(small: RatingDataset) -> None:
    clicks = replace(small, rating=np.ones_like(small.rating), has_ratings=False, scale=None)
    assert [each.spec.name for each in baselines_for(clicks)] == ["popularity"]
    assert headline_metrics(clicks, clicks) == ["ndcg@10", "recall@10"]


def test_lists_are_left_out_where_nothing_is_relevant(small: RatingDataset) -> None:
    low = replace(small, rating=np.ones_like(small.rating))
    assert headline_metrics(small, small) == ["rmse", "mae", "ndcg@10"]
    assert headline_metrics(small, low) == ["rmse", "mae"]
    assert headline_metrics(low, small) == ["rmse", "mae", "ndcg@10"]  # all training ratings alike: every item counts
