"""The one engine that fits a model, scores it, and keeps the result: for cross-validation, experiments and benchmarks.

A `Job` states all that determines a fit; its key is a hash of that. `fit_and_score` makes the fit. A `Run` is the job
with its results, and a `RunStore` keeps runs on disk, so that what was stopped can be continued.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from aanmf.contract import BatchConfig, validation_rows
from aanmf.data.dataset import RatingDataset
from aanmf.data.split import Fold, folds
from aanmf.errors import ConfigError, DataError
from aanmf.evaluation.curve import error_curve
from aanmf.metrics import METRICS, Scores, metric_of
from aanmf.recommender import Recommender
from aanmf.storage import replace_file
from aanmf.training.log import OnEpoch
from aanmf.versions import package_version, versions

Measure = Literal["test", "validation", "curve"]
"""`test`: the test part, scored once. `validation`: ratings held out of the training part; the test part is not read.
`curve`: training and test error after every epoch, measured when training is over."""
_OF_EPOCH = ("phase", "epoch", "train_mse", "valid_mse", "seconds")


@dataclass(frozen=True)
class Job:
    """One fit to make.

    Attributes:
        model: its name.
        settings: all of them, defaults too: a changed default is another fit.
        source: name of the data set.
        fingerprint: of its ratings and attributes.
        protocol, seed, fold: which split.
        split: hash of the split's training and test rows.
        measure: what is measured.
        scored: how the test part is scored: arguments of `Recommender.evaluate`; empty: RMSE and MAE.
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
    scored: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Twelve hexadecimal digits of what determines the fit, the version of this library included."""
        stated = [_values(self, Job), package_version() or "unknown"]
        return _hash(json.dumps(stated, sort_keys=True).encode())[:12]

    @property
    def label(self) -> str:
        """How messages name it, such as `svd++ on ml-100k, u1, seed 0`."""
        measure = "" if self.measure == "test" else f" ({self.measure})"
        return f"{self.model} on {self.source}, {self.fold}, seed {self.seed}{measure}"


@dataclass(frozen=True, kw_only=True)
class Run(Job):
    """A job that was done, and what came of it.

    Attributes:
        scores: by metric, on the test part; empty where it was not scored.
        groups: the scores of groups of users, where they were asked for, by value of an attribute.
        n_test: ratings of the test part.
        validation_rmse: on the ratings held out of the training part; None where there were none.
        epochs: that the final weights were trained for.
        fit_seconds: how long the fit took.
        training_log: of every epoch: phase, epoch, train_mse, valid_mse, seconds.
        curve: of every epoch: epoch, train_mse, test_mse of its weights (measure `curve`).
        attention: mean attention per genre over the test pairs, where asked for: `genres`, attributes, `n`.
        peak_mb: peak memory of the process; None where it was not measured.
        versions: of the software.
    """

    scores: Scores
    n_test: int
    fit_seconds: float
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    validation_rmse: float | None = None
    epochs: int = 0
    training_log: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    attention: list[dict[str, Any]] = field(default_factory=list)
    peak_mb: float | None = None
    versions: dict[str, str] = field(default_factory=versions)

    @classmethod
    def of(cls, job: Job, scores: Scores, **results: Any) -> Run:
        """A job with its results; `n` of the scores is left out, as `n_test` says it."""
        groups = {group: dict(found) for group, found in scores.groups.items()}
        scores = Scores({name: value for name, value in scores.items() if name != "n"})
        return cls(**_values(job, Job), scores=scores, groups=groups, **results)

    def score(self, metric: str) -> float:
        """A score on the test part.

        Raises:
            DataError: the test part was not scored.
        """
        if self.scores.get(metric) is None:
            raise DataError(f"{self.label}: the test part was not scored by {metric} in this run")
        return self.scores[metric]

    @property
    def rmse(self) -> float:
        """RMSE on the test part; see `score`."""
        return self.score("rmse")

    @property
    def mae(self) -> float:
        """MAE on the test part; see `score`."""
        return self.score("mae")

    def row(self) -> dict[str, Any]:
        """What tables of runs show: model, split, scores, ratings of the test part, epochs, seconds."""
        split = {"model": self.model, "protocol": self.protocol, "seed": self.seed, "fold": self.fold}
        return {**split, **self.scores, "n_test": self.n_test, "epochs": self.epochs, "fit_seconds": self.fit_seconds}

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        job, run = _values(self, Job), _values(self, Run)
        rest = {name: value for name, value in run.items() if name not in (*job, "scores", "fit_seconds")}
        scores = {**dict.fromkeys(METRICS), **self.scores}
        return {"key": self.key, "job": job, **scores, "seconds": self.fit_seconds, **rest}

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> Run:
        """From what `to_json` gave."""
        own = {each.name for each in fields(cls)}
        rest = {name: value for name, value in document.items() if name in own}
        left = {name: value for name, value in document.items() if name not in {*own, "key", "job", "seconds"}}
        scored = document["job"].get("scored")
        scores = Scores({name: value for name, value in left.items() if scored or value is not None})
        return cls(**document["job"], **rest, scores=scores, fit_seconds=document["seconds"])


class RunStore:
    """A folder with one JSON file per run."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, job: Job) -> Path:
        """Where the run of a job stands, once it is done."""
        name = re.sub(r"[^\w.+-]+", "-", f"{job.source}_{job.model}_{job.measure}_{job.key}")
        return self.folder / f"{name}.json"

    def get(self, job: Job) -> Run | None:
        """The run of a job, or None if it is not done.

        Raises:
            DataError: its file cannot be read.
        """
        path = self.path(job)
        try:
            return Run.of_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            raise DataError(f"{path} is not a run of this version: remove it, and the fit is repeated") from None

    def put(self, run: Run) -> Path:
        """Writes a run."""
        path = self.path(run)
        with replace_file(path, "w", encoding="utf-8") as file:
            json.dump(run.to_json(), file, ensure_ascii=False, indent=1)
        return path

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs that are not done, without duplicates."""
        return list({job.key: job for job in jobs if not self.path(job).exists()}.values())

    def all(self, jobs: Iterable[Job]) -> list[Run]:
        """The runs of the jobs that are done, in their order."""
        return [run for run in map(self.get, jobs) if run is not None]


def job_of(
    model: str,
    settings: Mapping[str, Any],
    data: RatingDataset,
    fold: Fold,
    protocol: str,
    source: str | None = None,
    measure: Measure = "test",
    scored: Mapping[str, Any] | None = None,
) -> Job:
    """The job of fitting a model on a fold; `settings` are all of it, `source` names the data if not `data.name`."""
    return Job(
        model=model,
        settings=json.loads(json.dumps(settings)),
        source=source or data.name,
        fingerprint=fingerprint_of(data),
        protocol=protocol,
        seed=fold.seed,
        fold=fold.name,
        split=_hash(np.ascontiguousarray(fold.train).tobytes() + np.ascontiguousarray(fold.test).tobytes()),
        measure=measure,
        scored=json.loads(json.dumps(scored or {})),
    )


def fit_and_score(
    job: Job,
    model: Recommender,
    train: RatingDataset,
    test: RatingDataset,
    on_epoch: OnEpoch | None = None,
    given: RatingDataset | None = None,
) -> Run:
    """Fits a model and measures what the job asks for; with the measure `test`, `model` is fitted afterwards.

    Args:
        job: what is to be done, for the record.
        model: untrained, with the job's settings.
        train: training part.
        test: test part; read only when training is over.
        on_epoch: called after every epoch of the measure `test`.
        given: ratings that are told after training (`Fold.given`).

    Raises:
        ConfigError: training diverged; the message names the job.
    """
    _warm_up()
    start, curve, validation, scores = time.perf_counter(), [], None, Scores()
    try:
        if job.measure == "curve":
            log, curve = error_curve(model, train, test)
        elif job.measure == "validation":
            model, held_out = fit_to_validate(model, train)
            log, validation = model.fitted_.training_log, held_out.rmse
        else:
            log = model.fit(train, on_epoch=on_epoch).fitted_.training_log
    except ConfigError as error:
        raise ConfigError(f"{job.label}: {error}") from error
    seconds = time.perf_counter() - start
    if job.measure == "test":
        scores = model.evaluate(test, **job.scored, candidates=candidates_of(job.protocol, test), given=given)
    return Run.of(
        job,
        scores,
        n_test=len(test),
        fit_seconds=seconds,
        validation_rmse=log.validation_rmse if validation is None else validation,
        epochs=log.best_epoch,
        training_log=[{name: getattr(epoch, name) for name in _OF_EPOCH} for epoch in log.epochs],
        curve=curve,
    )


def fit_to_validate(
    model: Recommender,
    train: RatingDataset,
    on_epoch: OnEpoch | None = None,
    metrics: Sequence[str] | None = None,
    protocol: str | None = None,
) -> tuple[Recommender, Scores]:
    """Fits without a last fit on everything; returns the model and its scores on ratings held out of `train`.

    Models with early stopping stop on these same ratings, so theirs are the scores of the best epoch; other models are
    fitted without them, and so is every model whose lists are scored, which must not have seen them. With `protocol`,
    the held-out ratings are its first test part; without, a share of all ratings, drawn at random.
    """
    if protocol:
        fold = folds(train, protocol, [model.config.seed])[0]
        rest, held_out = fold.of(train)
        candidates = candidates_of(protocol, held_out)
        scores = model.fit(rest, on_epoch=on_epoch).evaluate(
            held_out, metrics, candidates=candidates, given=fold.given_of(train)
        )
        return model, scores
    share = getattr(model.config, "validation", 0) or 0.1
    of_lists = any(metric_of(name).of == "lists" for name in metrics or ())
    held_out = validation_rows(len(train), share, model.config.seed)
    if isinstance(model.config, BatchConfig) and not of_lists:
        model = type(model)(**{**model.get_params(), "validation": share, "refit": False}).fit(train, on_epoch=on_epoch)
    else:
        model = model.fit(train.take(np.setdiff1d(np.arange(len(train)), held_out)), on_epoch=on_epoch)
    return model, model.evaluate(train.take(held_out), metrics)


def candidates_of(protocol: str, test: RatingDataset) -> list[str] | None:
    """The items that lists are made of: all, but for new items those of the test part."""
    if not protocol.startswith("cold-item"):
        return None
    return [test.items.ids.ids[at] for at in np.unique(test.item)]


def fingerprint_of(data: RatingDataset) -> str:
    """Sixteen hexadecimal digits that change with any rating, user, item and attribute."""
    parts = [data.fingerprint]
    for table in (data.users, data.items):
        parts += [repr((table.ids.ids, table.attributes)), table.columns.write_ndjson()]
    return _hash("\n".join(parts).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _values(record: Job, of: type[Job]) -> dict[str, Any]:
    """The fields that a class declares, as they are in a record of it or of a subclass."""
    return {each.name: getattr(record, each.name) for each in fields(of)}


def _warm_up() -> None:
    """Makes torch import what its first optimiser needs, so that the first model's time does not include it."""
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
