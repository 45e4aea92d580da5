"""Fits and their results on disk: one JSON file per fit, so that a stopped experiment goes on where it was.

A `Job` says all that determines a fit; its key is a hash of that. `perform` makes the fit, `RunStore` keeps it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aanmf.contract import BatchConfig, RatingModule, validation_rows
from aanmf.data import sources
from aanmf.data.dataset import RatingDataset
from aanmf.data.split import Fold, folds
from aanmf.errors import ConfigError, DataError
from aanmf.experiments.curve import error_curve
from aanmf.recommender import Recommender, make_model
from aanmf.training.log import OnEpoch

Measure = Literal["test", "validation", "curve"]
"""`test`: the test part, scored once. `validation`: ratings held out of the training part; the test part is not
looked at. `curve`: training and test error after every epoch, measured when training is over."""


@dataclass(frozen=True)
class Job:
    """One fit to make.

    Attributes:
        model: name, as in `aanmf.recommender.CATALOG`.
        settings: all of them, the defaults too: a changed default is another fit.
        source: name of the data set.
        fingerprint: of its ratings.
        protocol, seed, fold: which split.
        split: hash of the split's training and test rows.
        measure: what is measured.
    """

    model: str
    settings: Mapping[str, Any]
    source: str
    fingerprint: str
    protocol: str
    seed: int
    fold: str
    split: str
    measure: Measure = "test"

    @cached_property
    def key(self) -> str:
        """Twelve hexadecimal digits of what determines the fit, the version of this library among it."""
        text = json.dumps([asdict(self), package_version("aanmf")], sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """For people: `svd++ on ml-100k holdout:0.2 seed 0`."""
        measure = "" if self.measure == "test" else f" ({self.measure})"
        return f"{self.model} on {self.source}, {self.fold}, seed {self.seed}{measure}"


@dataclass(frozen=True)
class Run:
    """What came out of one fit. Errors that were not measured are None.

    Attributes:
        key, job: what was asked for.
        rmse, mae, n_test: on the test part.
        validation_rmse: on the ratings held out of the training part.
        epochs: that the final weights were trained for.
        seconds: of the fit.
        history: of every epoch: phase, epoch, train_mse, valid_mse, seconds.
        curve: of every epoch: epoch, train_mse, test_mse of its weights (measure `curve`).
        attention: mean attention per genre over the test pairs, for models that have it: `genres`, attributes, `n`.
        versions: of the software.
    """

    key: str
    job: Job
    rmse: float | None
    mae: float | None
    n_test: int
    validation_rmse: float | None
    epochs: int
    seconds: float
    history: list[dict[str, Any]]
    curve: list[dict[str, Any]]
    attention: list[dict[str, Any]]
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> Run:
        """The way back from `to_json`."""
        return cls(**{**document, "job": Job(**document["job"])})

    @property
    def test_rmse(self) -> float:
        """RMSE on the test part.

        Raises:
            DataError: the test part was not scored.
        """
        if self.rmse is None:
            raise DataError(f"{self.job.label}: the test part was not scored in this run")
        return self.rmse

    @property
    def test_mae(self) -> float:
        """MAE on the test part; see `test_rmse`."""
        if self.mae is None:
            raise DataError(f"{self.job.label}: the test part was not scored in this run")
        return self.mae


class RunStore:
    """A folder with one JSON file per finished fit."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, job: Job) -> Path:
        """Where the run of a job stands, once it is finished."""
        return self.folder / f"{job.source.replace(':', '-')}_{job.model}_{job.measure}_{job.key}.json"

    def get(self, job: Job) -> Run | None:
        """The run of a job, or None if it is not finished.

        Raises:
            DataError: its file cannot be read.
        """
        path = self.path(job)
        try:
            return Run.of_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            raise DataError(
                f"{path} is not a run that this version wrote; remove it, and the fit is made again"
            ) from None

    def put(self, run: Run) -> Path:
        """Writes a run beside its place and renames it: a file that is there is complete."""
        path = self.path(run.job)
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(run.to_json(), ensure_ascii=False, indent=1)
        handle, name = tempfile.mkstemp(prefix=".run-", dir=self.folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return path

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Those of `jobs` that are not finished, each once."""
        return list({job.key: job for job in jobs if not self.path(job).exists()}.values())

    def all(self, jobs: Iterable[Job]) -> list[Run]:
        """The finished ones among `jobs`, in their order."""
        return [run for run in map(self.get, jobs) if run is not None]


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
        settings: by model; what is not there keeps its default.
        measure: what to measure.

    Raises:
        ConfigError: a setting that its model does not have (before anything is fitted).
    """
    data = dataset(source)
    jobs = []
    for fold in _folds(source, protocol, tuple(seeds)):
        for model in models:
            made = make_model(model, **{**settings.get(model, {}), "seed": fold.seed})
            jobs.append(
                Job(
                    model=model,
                    settings=json.loads(json.dumps(made.get_params())),
                    source=source,
                    fingerprint=data.fingerprint,
                    protocol=protocol,
                    seed=fold.seed,
                    fold=fold.name,
                    split=_hash(fold),
                    measure=measure,
                )
            )
    return jobs


def perform(job: Job) -> Run:
    """Makes one fit and measures it.

    Raises:
        DataError: the data set or the split is not the one that the job was planned with.
        ConfigError: training diverged; the message names the fit.
    """
    train, test = _parts(job)
    model = make_model(job.model, **job.settings)
    start = time.perf_counter()
    rmse = mae = validation = None
    curve: list[dict[str, Any]] = []
    try:
        if job.measure == "curve":
            model, curve = error_curve(job.model, job.settings, train, test)
        elif job.measure == "validation":
            model, validation = fit_to_validate(model, train)
        else:
            model.fit(train)
    except ConfigError as error:
        raise ConfigError(f"{job.label}: {error}") from error
    seconds = time.perf_counter() - start
    history = model.fitted_.training_log
    if job.measure == "test":
        scores = model.evaluate(test)
        rmse, mae = scores.rmse, scores.mae
    errors = [epoch.valid_mse for epoch in history.epochs if epoch.valid_mse is not None]
    if validation is None and errors:
        validation = math.sqrt(min(errors))
    return Run(
        key=job.key,
        job=job,
        rmse=rmse,
        mae=mae,
        n_test=len(test),
        validation_rmse=validation,
        epochs=history.best_epoch,
        seconds=seconds,
        history=[
            {name: getattr(epoch, name) for name in ("phase", "epoch", "train_mse", "valid_mse", "seconds")}
            for epoch in history.epochs
        ],
        curve=curve,
        attention=_attention(model, test) if job.measure == "test" else [],
        versions=versions(),
    )


def fit_to_validate(
    model: Recommender, train: RatingDataset, on_epoch: OnEpoch | None = None
) -> tuple[Recommender, float]:
    """Fits without a last fit on everything; the RMSE is that on ratings held out of `train`.

    Models with early stopping stop on these same ratings, so theirs is the error of the best epoch; other models are
    fitted without them.
    """
    params = {**model.get_params(), "validation": model.config.validation or 0.1}
    if isinstance(model.config, BatchConfig):
        model = type(model)(**{**params, "refit": False}).fit(train, on_epoch)
        errors = [epoch.valid_mse for epoch in model.fitted_.training_log.epochs if epoch.valid_mse is not None]
        return model, math.sqrt(min(errors))
    held = validation_rows(len(train), params["validation"], params["seed"])
    model = model.fit(train.take(np.setdiff1d(np.arange(len(train)), held)), on_epoch)
    return model, model.evaluate(train.take(held)).rmse


@lru_cache(maxsize=4)
def dataset(source: str) -> RatingDataset:
    """A data set by name, read once per process."""
    return sources.load(source)


@cache
def versions() -> dict[str, str]:
    """Of Python and of the libraries that results depend on."""
    packages = {name: package_version(name) for name in ("aanmf", "torch", "numpy", "scipy", "polars")}
    return {"python": platform.python_version(), **packages}


def package_version(package: str) -> str:
    """The installed version, or `unknown`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


@lru_cache(maxsize=4)
def _folds(source: str, protocol: str, seeds: tuple[int, ...]) -> list[Fold]:
    return folds(dataset(source), protocol, seeds)


def _parts(job: Job) -> tuple[RatingDataset, RatingDataset]:
    data = dataset(job.source)
    if data.fingerprint != job.fingerprint:
        raise DataError(f"{job.label}: the ratings of {job.source} have changed since the fit was planned; start again")
    for fold in _folds(job.source, job.protocol, (job.seed,)):
        if fold.name == job.fold and _hash(fold) == job.split:
            return fold.of(data)
    raise DataError(f"{job.label}: {job.protocol} no longer gives this split of {job.source}; start again")


def _hash(fold: Fold) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(fold.train).tobytes())
    digest.update(np.ascontiguousarray(fold.test).tobytes())
    return digest.hexdigest()[:16]


def _attention(model: Recommender, test: RatingDataset) -> list[dict[str, Any]]:
    attends = type(model.module_).attention is not RatingModule.attention
    if not attends or "genres" not in test.items.names:
        return []
    return model.attention_map(test, by="genres").to_dicts()


def by_key(runs: Iterable[Run], *names: str) -> Iterator[tuple[tuple[Any, ...], list[Run]]]:
    """Runs grouped by fields of their jobs, in order of appearance."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(getattr(run.job, name) for name in names), []).append(run)
    yield from groups.items()
