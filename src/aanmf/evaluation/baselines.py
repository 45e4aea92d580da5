"""A model beside the simplest ones: damped means predict ratings, the most rated items make lists."""

from __future__ import annotations

import numpy as np

from aanmf.data.dataset import RatingDataset
from aanmf.data.split import holdout
from aanmf.evaluation.runs import Run, fit_and_score, job_of
from aanmf.metrics import METRICS
from aanmf.recommender import Recommender, make_model
from aanmf.training.log import OnEpoch

BASELINES = ("damped-means", "popularity")
"""Names of the simplest models: one of ratings, one of lists."""
LONGEST = 10
"""Length of the lists that are scored; all items where there are fewer."""


def headline_metrics(train: RatingDataset, test: RatingDataset) -> list[str]:
    """Metrics to judge a model by: all of ratings, and NDCG if a test rating is relevant; without ratings, of lists."""
    longest = min(LONGEST, len(train.items))
    if not (train.has_ratings and test.has_ratings):
        return [f"ndcg@{longest}", f"recall@{longest}"]
    relevant = train.rating.min() == train.rating.max() or bool(
        (test.rating > train.rating.mean(dtype=np.float64)).any()
    )
    return [*METRICS, f"ndcg@{longest}"] if relevant else list(METRICS)


def baselines_for(data: RatingDataset) -> list[Recommender]:
    """The simplest models that can learn from the data, untrained."""
    models = [make_model(name) for name in BASELINES]
    return [model for model in models if data.has_ratings or model.spec.matches]


def fitted_baselines(data: RatingDataset) -> list[Recommender]:
    """The simplest models, fitted to the data."""
    return [model.fit(data) for model in baselines_for(data)]


def measure(model: Recommender, data: RatingDataset, share: float, on_epoch: OnEpoch | None = None) -> list[Run]:
    """Scores a model and the simplest ones on ratings held out of the data.

    Args:
        model: trained or not; a new one of the same settings is fitted to the other ratings.
        data: the ratings.
        share: of the ratings, drawn at random, that are held out.
        on_epoch: called after every epoch.

    Returns:
        A run per model, `model` first.

    Raises:
        DataError: one of the parts would be empty.
        ConfigError: training diverged.
    """
    fold = holdout(len(data), share, seed=model.config.seed)
    train, test = fold.of(data)
    runs, scored = [], {"metrics": headline_metrics(train, test)}
    others = [each for each in baselines_for(data) if each.spec is not model.spec]
    for each in (type(model)(**model.get_params()), *others):
        name = each.spec.name
        job = job_of(name, each.get_params(), data, fold, fold.name, scored=scored)
        runs.append(fit_and_score(job, each, train, test, on_epoch if each.spec is model.spec else None))
    return runs
