"""Fits of data sets that are known by name: planned, and made in any process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from aanmf.data import sources
from aanmf.data.dataset import RatingDataset
from aanmf.data.split import Fold, folds
from aanmf.errors import DataError
from aanmf.evaluation.runs import Job, Measure, Run, fit_and_score, job_of
from aanmf.models.catalog import spec_of
from aanmf.recommender import make_model


@lru_cache(maxsize=4)
def dataset(source: str) -> RatingDataset:
    """A data set by name, read once per process."""
    return sources.load(source)


@lru_cache(maxsize=16)
def _folds(source: str, protocol: str, seed: int) -> list[Fold]:
    return folds(dataset(source), protocol, [seed])


def jobs_of(
    source: str,
    models: Sequence[str],
    protocol: str,
    seeds: Sequence[int],
    settings: Mapping[str, Mapping[str, Any]],
    measure: Measure = "test",
) -> list[Job]:
    """A job for each fold and model; the fold's seed is the model's.

    Args:
        source: name of a data set.
        models: by name.
        protocol: as in `aanmf.data.split`.
        seeds: of the folds.
        settings: by model; others keep their defaults.
        measure: what to measure.

    Raises:
        ConfigError: a setting that its model does not have (before anything is fitted).
    """
    jobs: list[Job] = []
    for seed in seeds:
        for fold in _folds(source, protocol, seed):
            for model in models:
                chosen = make_model(model, **{**settings.get(model, {}), "seed": fold.seed}).get_params()
                jobs.append(job_of(model, chosen, dataset(source), fold, protocol, source, measure))
    return jobs


def perform(job: Job) -> Run:
    """Makes one fit of a data set that is known by name, and measures it.

    The mean attention per genre over the test part is measured, too, where the model has attention.

    Raises:
        DataError: the data set or the split is not the one that the job was planned with.
        ConfigError: training diverged; the message names the fit.
    """
    data, model = dataset(job.source), make_model(job.model, **job.settings)
    for fold in _folds(job.source, job.protocol, job.seed):
        if job_of(job.model, job.settings, data, fold, job.protocol, job.source, job.measure).key == job.key:
            break
    else:
        raise DataError(f"{job.label}: the data or the split have changed since the fit was planned; start again")
    train, test = fold.of(data)
    run = fit_and_score(job, model, train, test)
    if job.measure == "test" and spec_of(job.model).attention and "genres" in test.items.names:
        run = replace(run, attention=model.attention_map(test, by="genres").table.to_dicts())
    return run


def grouped(runs: Iterable[Run], field: str) -> dict[Any, list[Run]]:
    """Runs by a field of theirs, in order of appearance."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(getattr(run, field), []).append(run)
    return groups
