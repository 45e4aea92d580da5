"""Models side by side under one protocol: the same folds, the same seeds, every test part scored once."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

import polars as pl

from aanmf import html
from aanmf.data.dataset import RatingDataset
from aanmf.data.split import folds
from aanmf.errors import ConfigError
from aanmf.evaluation.runs import Run, RunStore, fit_and_score, job_of
from aanmf.evaluation.significance import paired_test
from aanmf.metrics import COUNTS, METRICS, OF_LISTS, Scores, label_of, metric_of
from aanmf.models.catalog import CATALOG
from aanmf.ranking import RankBy, can_rank_by
from aanmf.recommender import Recommender, make_model
from aanmf.training.distributed import ALONE, Ranks, apart

Factory = Callable[..., Recommender]
"""Makes an untrained model from settings by name, `seed` among them. A `Recommender` class is one."""


@dataclass(frozen=True)
class Summary:
    """All runs of one model.

    Attributes:
        model: its name.
        scores: means and standard deviations of a sample (0 for a single run) by metric: `rmse_mean`, `rmse_std`, ...,
            which are also attributes of the summary; None where the model does not have the metric.
        fit_seconds: mean.
    """

    model: str
    scores: Scores
    fit_seconds: float

    def __getattr__(self, name: str) -> float:
        return getattr(self.__dict__.get("scores", Scores()), name)

    def to_json(self) -> dict[str, Any]:
        """`model`, `rmse_mean`, `rmse_std`, ..., `fit_seconds`."""
        return {"model": self.model, **self.scores, "fit_seconds": self.fit_seconds}


@dataclass(frozen=True)
class Comparison:
    """A metric of one model minus that of another on the same folds, and the paired t-test of it.

    Attributes:
        metric: its name.
        model, other: names of the models.
        difference: mean of `metric(model) - metric(other)`; for errors, `model` is the better one below 0.
        p_value: of no difference. Folds share training ratings, so it is a guide rather than a proof.
        folds: how many pairs there are.
    """

    metric: str
    model: str
    other: str
    difference: float
    p_value: float
    folds: int


@dataclass(frozen=True)
class CrossValidation:
    """The runs of `cross_validate`, in the order in which they were made, with their means and comparisons.

    >>> from aanmf import load_restaurants
    >>> found = cross_validate(load_restaurants(), ["damped-means"], "kfold:5")
    >>> [name for name in found.summary[0].scores if name.startswith("rmse")]
    ['rmse_mean', 'rmse_std']
    """

    runs: tuple[Run, ...]

    @property
    def models(self) -> list[str]:
        """Names of the models, in order."""
        return list(dict.fromkeys(run.model for run in self.runs))

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in order."""
        return [name for name in self.runs[0].scores if name not in COUNTS] if self.runs else []

    @property
    def summary(self) -> list[Summary]:
        """Mean and standard deviation of each model."""
        return [_summary(model, self._runs(model), self.metrics) for model in self.models]

    @property
    def comparisons(self) -> list[Comparison]:
        """Every pair of models by every metric that both have, where there are two folds or more."""
        found: list[Comparison] = []
        for metric in self.metrics:
            having = [model for model in self.models if self._runs(model)[0].scores[metric] is not None]
            for one, other in combinations(having, 2):
                values, others = self._values(metric, one), self._values(metric, other)
                if len(values) == len(others) >= 2:
                    test = paired_test(values, others)
                    found.append(Comparison(metric, one, other, test.difference, test.t_p, test.n))
        return found

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """`runs`, `summary` and `comparisons`, and `groups` if there are any, as lists of dictionaries."""
        return {
            "runs": [run.row() for run in self.runs],
            "summary": [summary.to_json() for summary in self.summary],
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            **({"groups": self.groups} if self.groups else {}),
        }

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Scores of groups of users, a row for each group of each run: `model`, `fold`, `seed`, `group`, metrics."""
        return [
            {"model": run.model, "fold": run.fold, "seed": run.seed, "group": group, **found}
            for run in self.runs
            for group, found in run.groups.items()
        ]

    def table(self) -> pl.DataFrame:
        """One row per run."""
        return pl.DataFrame([run.row() for run in self.runs])

    def _repr_html_(self) -> str:
        labels, seconds = [label_of(metric) for metric in self.metrics], "seconds to fit"
        means = [
            (each.model, *(_deviating(each, metric) for metric in self.metrics), each.fit_seconds)
            for each in self.summary
        ]
        parts = [html.table(["model", *labels, seconds], means, decimals=1)]
        if compared := self.comparisons:
            heads = ("models", "metric", "mean difference", "p", "folds")
            rows = [
                (f"{c.model} – {c.other}", label_of(c.metric), f"{c.difference:+.4f}", f"{c.p_value:.2g}", c.folds)
                for c in compared
            ]
            parts.append(html.fold("comparisons, paired t-tests over the same folds", html.table(heads, rows)))
        rows = [
            (run.model, run.fold, str(run.seed), *(run.scores[metric] for metric in self.metrics)) for run in self.runs
        ]
        parts.append(html.fold("every run", html.table(["model", "fold", "seed", *labels], rows, decimals=4)))
        return html.block(f"Cross-validation: {self._protocol()}", *parts)

    def _protocol(self) -> str:
        """`holdout:0.2 of ml-100k, 5 runs of each model`."""
        if not self.runs:
            return "no runs"
        first, n = self.runs[0], len(self.runs) // len(self.models)
        return f"{first.protocol} of {first.source}, {n} run{'s' if n != 1 else ''} of each model"

    def _values(self, metric: str, model: str) -> list[float]:
        return [run.score(metric) for run in self._runs(model)]

    def _runs(self, model: str) -> list[Run]:
        return [run for run in self.runs if run.model == model]


def cross_validate(
    data: RatingDataset,
    models: Sequence[str | Factory],
    protocol: str,
    seeds: Sequence[int] = (0,),
    settings: Mapping[str, Any] | None = None,
    on_run: Callable[[Run], None] | None = None,
    *,
    metrics: Sequence[str] | None = None,
    relevant: float | None = None,
    rank_by: RankBy | None = None,
    group_by: str | None = None,
    on_start: Callable[[int], None] | None = None,
    folder: str | Path | None = None,
    ranks: Ranks = ALONE,
) -> CrossValidation:
    """Trains and scores every model on every fold of a protocol.

    A model sees the training part alone, chooses its number of epochs on validation ratings taken from that,
    and is scored once on the test part.

    Args:
        data: all ratings.
        models: names (`mf`, `aanmf`, ...) or functions that make a model from its settings.
        protocol: `u1`, `u1-u5`, `holdout:0.2`, `kfold:5`, `time:0.1`, `time-global:0.2`, `cold-user:0.1`,
            `cold-user:0.1+5`, `cold-item:0.1`: see `aanmf.data.split`.
        seeds: the folds are drawn once per seed. A fold's seed is also the seed of the models trained on it.
        settings: for all models; a mapping under a model's name is for that model alone:
            `{"factors": 16, "aanmf": {"layers": (16,)}}`.
        on_run: called after every run of this process.
        metrics: names such as `["rmse", "ndcg@10"]`; None: RMSE and MAE, or metrics of lists where no model has these.
        relevant, rank_by: for metrics of lists; see `Recommender.evaluate`. With `cold-item`, lists are made of the
            new items. A model that does not rank in this way ranks as it does by default.
        group_by: an attribute of the users; the result's `groups` then have the scores of each of its values.
        on_start: called with the number of runs that this process makes, before the first one.
        folder: where runs are kept; those that it has already are not repeated. None: nowhere.
        ranks: processes that divide the runs; all of them call this and get all runs.

    >>> from aanmf import load_restaurants
    >>> found = cross_validate(load_restaurants(), ["popularity", "ease"], "holdout:0.2", [0, 1], metrics=["ndcg@10"])
    >>> found.models, len(found.runs)
    (['popularity', 'ease'], 4)

    Raises:
        ConfigError: an unknown model or setting (before anything is trained), or a duplicate model.
        DataError: the protocol is unknown, or the data lacks what it needs.
    """
    named = _named(models)
    chosen = {name: settings_for(name, settings or {}, named) for name in named}
    for name, make in named.items():  # a typing error in a setting should not wait for its turn
        make(**{**chosen[name], "seed": 0})
    if group_by:
        data.users.attribute(group_by)
    scored = _scored(named, metrics, {"relevant": relevant, "rank_by": rank_by, "group_by": group_by})
    store, runs = RunStore(folder) if folder else None, dict[tuple[str, int], Run]()
    splits = folds(data, protocol, seeds)
    own = set(list(product(named, range(len(splits))))[ranks.rank :: ranks.count])  # of each model about as many
    if on_start:
        on_start(len(own))
    for number, fold in enumerate(splits):
        names = [name for name in named if (name, number) in own]
        if not names:
            continue
        (train, test), given = fold.of(data), fold.given_of(data)
        for name in names:
            model = named[name](**{**chosen[name], "seed": fold.seed})
            asked = {key: value for key, value in scored.items() if key != "rank_by" or can_rank_by(model.spec, value)}
            job = job_of(name, model.get_params(), data, fold, protocol, scored=asked)
            run = store.get(job) if store else None
            if run is None:
                with apart():
                    run = fit_and_score(job, model, train, test, given=given)
                if store:
                    store.put(run)
            runs[name, number] = run
            if on_run:
                on_run(run)
    for others in ranks.gather_values(runs):
        runs |= others
    return CrossValidation(tuple(runs[name, number] for number in range(len(splits)) for name in named))


def settings_for(model: str, settings: Mapping[str, Any], models: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one model out of those for all: shared ones, overridden by those under its own name.

    Raises:
        ConfigError: settings under the name of a model that is not among `models`.
    """
    for name, value in settings.items():
        if isinstance(value, Mapping) and name not in models:
            raise ConfigError(f"settings for {name!r}, which is not among the models: {', '.join(models)}")
    shared = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    return {**shared, **settings.get(model, {})}


def _named(models: Sequence[str | Factory]) -> dict[str, Factory]:
    named: dict[str, Factory] = {}
    for model in models:
        name = model if isinstance(model, str) else _name_of(model)
        if name in named:
            raise ConfigError(f"duplicate model {name!r}: name each model once")
        named[name] = partial(make_model, model) if isinstance(model, str) else model
    if not named:
        raise ConfigError(f"no model to cross-validate. Available: {', '.join(CATALOG)}")
    return named


def _scored(models: Mapping[str, Factory], metrics: Sequence[str] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """What `Recommender.evaluate` is told: nothing if all models are scored by their default, RMSE and MAE."""
    rates = [name not in CATALOG or CATALOG[name].rates for name in models]
    names = list(metrics or (METRICS if any(rates) else OF_LISTS))
    for name in names:
        metric_of(name)
    given = {name: value for name, value in options.items() if value is not None}
    return {} if names == list(METRICS) and all(rates) and "group_by" not in given else {"metrics": names, **given}


def _deviating(summary: Summary, metric: str) -> str | None:
    """`0.9110 ± 0.0045`."""
    mean, deviation = summary.scores[f"{metric}_mean"], summary.scores[f"{metric}_std"]
    return None if mean is None else f"{mean:.4f} ± {deviation:.4f}"


def _name_of(factory: Factory) -> str:
    spec = getattr(factory, "spec", None)
    return spec.name if spec else getattr(factory, "__name__", repr(factory))


def _summary(model: str, runs: Sequence[Run], metrics: Sequence[str]) -> Summary:
    scores = Scores()
    for metric in metrics:
        values = [run.scores[metric] for run in runs if run.scores[metric] is not None]
        scores[f"{metric}_mean"] = statistics.fmean(values) if values else None
        scores[f"{metric}_std"] = (statistics.stdev(values) if len(values) > 1 else 0.0) if values else None
    return Summary(model, scores, statistics.fmean(run.fit_seconds for run in runs))
