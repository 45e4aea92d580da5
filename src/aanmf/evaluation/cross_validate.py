"""Models side by side under one protocol: the same folds, the same seeds, every test part scored once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import polars as pl

from aanmf.data.dataset import RatingDataset
from aanmf.data.split import Fold, folds
from aanmf.errors import ConfigError
from aanmf.evaluation.significance import paired_test
from aanmf.models.catalog import CATALOG
from aanmf.recommender import Recommender, make_model

Factory = Callable[..., Recommender]
"""Makes an untrained model from settings by name, `seed` among them. A `Recommender` class is one."""


@dataclass(frozen=True)
class Run:
    """One model, trained and scored on one fold."""

    model: str
    protocol: str
    seed: int
    fold: str
    rmse: float
    mae: float
    n_test: int
    epochs: int
    fit_seconds: float


@dataclass(frozen=True)
class Summary:
    """All runs of one model: means, and the standard deviations of a sample (0 for a single run)."""

    model: str
    rmse_mean: float
    rmse_std: float
    mae_mean: float
    mae_std: float
    fit_seconds: float


@dataclass(frozen=True)
class Comparison:
    """RMSE of one model minus that of another on the same folds, and the paired t-test of it.

    Attributes:
        difference: mean of `rmse(model) - rmse(other)`; below 0, `model` is the better one.
        p_value: of no difference. Folds share training ratings, so it is a guide rather than a proof.
        folds: how many pairs there are.
    """

    model: str
    other: str
    difference: float
    p_value: float
    folds: int


@dataclass(frozen=True)
class CrossValidation:
    """The runs of `cross_validate`, in the order in which they were made, and what follows from them."""

    runs: tuple[Run, ...]

    @property
    def models(self) -> list[str]:
        """Names of the models, in order."""
        return list(dict.fromkeys(run.model for run in self.runs))

    @property
    def summary(self) -> list[Summary]:
        """Mean and spread of each model."""
        return [_summary(model, [run for run in self.runs if run.model == model]) for model in self.models]

    @property
    def comparisons(self) -> list[Comparison]:
        """Every pair of models, where there are two folds or more."""
        rmse = {model: [run.rmse for run in self.runs if run.model == model] for model in self.models}
        return [
            _comparison(one, other, rmse[one], rmse[other])
            for one, other in combinations(rmse, 2)
            if len(rmse[one]) == len(rmse[other]) >= 2
        ]

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """`runs`, `summary` and `comparisons` as plain lists of plain dictionaries."""
        return {
            "runs": [asdict(run) for run in self.runs],
            "summary": [asdict(each) for each in self.summary],
            "comparisons": [asdict(each) for each in self.comparisons],
        }

    def table(self) -> pl.DataFrame:
        """One row per run."""
        return pl.DataFrame([asdict(run) for run in self.runs])


def cross_validate(
    data: RatingDataset,
    models: Sequence[str | Factory],
    protocol: str,
    seeds: Sequence[int] = (0,),
    settings: Mapping[str, Any] | None = None,
    on_run: Callable[[Run], None] | None = None,
) -> CrossValidation:
    """Trains and scores every model on every fold of a protocol.

    A model sees the training part alone, chooses its number of epochs on validation ratings taken from that,
    and is scored once on the test part.

    Args:
        data: all ratings.
        models: names (`mf`, `aanmf`, ...) or functions that make a model from its settings.
        protocol: `u1`, `u1-u5`, `holdout:0.2`, `kfold:5`, `time:0.1`, `cold-user:0.1`: `aanmf.data.split`.
        seeds: one set of folds each. A fold's seed is also the seed of the models trained on it.
        settings: for all models; what stands as a mapping under a model's name is for that model alone:
            `{"factors": 16, "aanmf": {"layers": (16,)}}`.
        on_run: called after every run.

    Raises:
        ConfigError: an unknown model or setting (before anything is trained), or a model named twice.
        DataError: the protocol is unknown, or the data lacks what it needs.
    """
    named = _named(models)
    chosen = {name: settings_for(name, settings or {}, named) for name in named}
    for name, make in named.items():  # a typing error in a setting should not wait for its turn
        make(**{**chosen[name], "seed": 0})
    warm_up()
    runs: list[Run] = []
    for fold in folds(data, protocol, seeds):
        train, test = fold.of(data)
        for name, make in named.items():
            runs.append(_run(name, make(**{**chosen[name], "seed": fold.seed}), protocol, fold, train, test))
            if on_run:
                on_run(runs[-1])
    return CrossValidation(tuple(runs))


def warm_up() -> None:
    """Makes torch import what its first optimizer needs, so that no model's time is charged with it."""
    import torch

    torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def settings_for(model: str, settings: Mapping[str, Any], models: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one model out of those for all: shared ones, and the ones under its own name on top.

    Raises:
        ConfigError: settings under the name of a model that is not among `models`.
    """
    for name, value in settings.items():
        if isinstance(value, Mapping) and name not in models:
            raise ConfigError(f"settings for {name!r}, which is not among the models: {', '.join(models)}")
    shared = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    return {**shared, **settings.get(model, {})}


def _run(name: str, model: Recommender, protocol: str, fold: Fold, train: RatingDataset, test: RatingDataset) -> Run:
    start = time.perf_counter()
    model.fit(train)
    seconds = time.perf_counter() - start
    scores = model.evaluate(test)
    return Run(
        model=name,
        protocol=protocol,
        seed=fold.seed,
        fold=fold.name,
        rmse=scores.rmse,
        mae=scores.mae,
        n_test=scores.n,
        epochs=model.fitted_.training_log.best_epoch,
        fit_seconds=seconds,
    )


def _named(models: Sequence[str | Factory]) -> dict[str, Factory]:
    named: dict[str, Factory] = {}
    for each in models:
        name = each if isinstance(each, str) else _name_of(each)
        if name in named:
            raise ConfigError(f"model {name!r} is there twice: name each model once")
        named[name] = _by_name(each) if isinstance(each, str) else each
    if not named:
        raise ConfigError(f"no model to cross-validate; available: {', '.join(CATALOG)}")
    return named


def _name_of(factory: Factory) -> str:
    spec = getattr(factory, "spec", None)
    return spec.name if spec else getattr(factory, "__name__", repr(factory))


def _by_name(name: str) -> Factory:
    return lambda **settings: make_model(name, **settings)


def _summary(model: str, runs: Sequence[Run]) -> Summary:
    rmse, mae = [run.rmse for run in runs], [run.mae for run in runs]
    return Summary(
        model=model,
        rmse_mean=statistics.fmean(rmse),
        rmse_std=statistics.stdev(rmse) if len(runs) > 1 else 0.0,
        mae_mean=statistics.fmean(mae),
        mae_std=statistics.stdev(mae) if len(runs) > 1 else 0.0,
        fit_seconds=statistics.fmean(run.fit_seconds for run in runs),
    )


def _comparison(model: str, other: str, one: Sequence[float], two: Sequence[float]) -> Comparison:
    test = paired_test(one, two)
    return Comparison(model, other, test.difference, test.t_p, test.n)
