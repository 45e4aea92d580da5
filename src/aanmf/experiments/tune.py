"""Tuning with optuna: the same number of trials for every model, judged on ratings held out of the training part."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aanmf.data.dataset import RatingDataset
from aanmf.errors import ConfigError, MissingExtraError, unknown
from aanmf.evaluation.runs import fit_to_validate
from aanmf.experiments.tuned import Tuned
from aanmf.metrics import metric_of
from aanmf.models.catalog import spec_of
from aanmf.models.space import Choice, Searched, Space, edges
from aanmf.recommender import make_model
from aanmf.training.log import Epoch
from aanmf.versions import versions

if TYPE_CHECKING:
    import optuna

Pruner = Literal["halving", "median", "none"]
"""How trials are stopped early. `halving` keeps the best third of the trials so far, once after a fifth and once after
three fifths of the epochs (asynchronous successive halving, Li et al. 2020). `median` stops a trial after two fifths or
later if it is worse than half of the others. `none` stops no trial."""
PARTS = 5
"""A trial reports its error after every fifth of its own epochs: fits of different length are compared fairly, as the
learning rate of each falls to 0 over its own length."""


@dataclass(frozen=True)
class Trial:
    """One set of settings tried.

    Attributes:
        number: from 0; trial 0 has the defaults, where the space holds them.
        settings: what was tried.
        score: the metric on validation ratings; for a pruned trial the last one before it was stopped; None if
            training diverged.
        state: `complete`, `pruned` or `diverged`.
        best: the best score of a complete trial so far.
    """

    number: int
    settings: dict[str, Any]
    score: float | None
    state: str
    best: float | None


def tune(
    train: RatingDataset,
    model: str,
    trials: int,
    journal: str | Path,
    *,
    fixed: Mapping[str, Any] | None = None,
    seed: int = 0,
    space: Space | None = None,
    pruner: Pruner = "halving",
    metric: str = "rmse",
    protocol: str | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> Tuned:
    """Searches for the settings with the best score on validation ratings.

    A trial fits on 90 % of `train`, or on what `protocol` says, and is judged on the rest, always the same
    ratings. Trial 0 has the defaults; the others are drawn by a tree-structured Parzen estimator. Where RMSE is the
    metric and the model learns epoch by epoch, trials that fall behind are stopped (`pruner`). A search that was
    stopped is continued.

    Args:
        train: the training part of a split; the test part must not be used here.
        model: by name.
        trials: how many in all, those of an earlier start included.
        journal: file in which trials are kept. One search at a time may write to it.
        fixed: settings that are not searched.
        seed: of the search, and of the models.
        space: what is searched; None: the space of the model's entry in the catalogue.
        pruner: see `Pruner`.
        metric: name of the metric that judges a trial.
        protocol: how `train` is split to judge a trial; None: at random.
        on_trial: called after each trial.

    Raises:
        MissingExtraError: optuna is not installed.
        ConfigError: no such model, setting, pruner or metric, nothing to search, or no complete trial.
    """
    optuna = _optuna()
    space = {name: each for name, each in (space or spec_of(model).space).items() if name not in (fixed or {})}
    if not space:
        raise ConfigError(f"{model}: no setting to search; give a search space, or fix fewer settings")
    fixed = {**(fixed or {}), "seed": seed}
    defaults = make_model(model, **fixed).get_params()
    if strange := sorted(set(space) - set(defaults)):
        raise ConfigError(unknown("setting", strange[0], sorted(defaults)))
    study = _study(optuna, train, model, fixed, space, pruner, metric, protocol, Path(journal))
    if not any(trial.state.name == "WAITING" or _counts(trial) for trial in study.trials):
        study.enqueue_trial({n: _label(each, defaults[n]) for n, each in space.items() if each.holds(defaults[n])})

    def objective(trial: optuna.Trial) -> float:
        settings = {name: _suggest(trial, name, each) for name, each in space.items()}
        trial.set_user_attr("settings", settings)  # the journal makes lists of tuples, as TOML does
        errors: list[float] = []

        def on_epoch(epoch: Epoch) -> None:
            if epoch.valid_mse is None or metric != "rmse":
                return
            errors.append(math.sqrt(epoch.valid_mse))
            part = epoch.epoch * PARTS // epoch.of
            if part == (epoch.epoch - 1) * PARTS // epoch.of:
                return
            trial.report(min(errors), part)
            if part < PARTS and trial.should_prune():
                raise optuna.TrialPruned

        try:
            made = make_model(model, **{**fixed, **settings})
            return fit_to_validate(made, train, on_epoch, [metric], protocol)[1][metric]
        except ConfigError:
            trial.set_user_attr("diverged", True)
            raise

    while len(_done(study)) < trials:
        study.optimize(objective, n_trials=1, catch=(ConfigError,))
        if on_trial:
            on_trial(_trial(study))
    if not _complete(study):
        raise ConfigError(f"{model}: none of {trials} trials was completed; narrow the search space, or give more")
    whole = all(each.holds(defaults[name]) for name, each in space.items())
    return _result(study, model, train, space, whole, pruner, metric, seed)


def _result(
    study: optuna.Study,
    model: str,
    train: RatingDataset,
    space: Space,
    of_defaults: bool,
    pruner: Pruner,
    metric: str,
    seed: int,
) -> Tuned:
    """The best trial; `of_defaults` says whether the first one had the defaults."""
    settings, done = dict(study.best_trial.user_attrs["settings"]), _done(study)
    tuning = {
        "model": model,
        "data": train.name,
        "training_ratings": len(train),
        "fingerprint": train.fingerprint,
        "trials": len(done),
        "pruned": sum(trial.state.name == "PRUNED" for trial in done),
        "pruner": pruner,
        "searched": sorted(space),
        "seed": seed,
        f"validation_{metric}": round(study.best_value, 5),
        f"validation_{metric}_of_defaults": round(first, 5) if of_defaults and (first := done[0].value) else None,
        "at_edge": sorted(edges(space, settings)),
        "aanmf": versions()["aanmf"],
        "torch": versions()["torch"],
    }
    return Tuned({name: value for name, value in settings.items() if value is not None}, tuning)


def _study(
    optuna: Any,
    train: RatingDataset,
    model: str,
    fixed: Mapping[str, Any],
    space: Space,
    pruner: Pruner,
    metric: str,
    protocol: str | None,
    journal: Path,
) -> optuna.Study:
    """The study of exactly this search; other data, space, pruner, metric or split are another study of the file."""
    from optuna.storages.journal import JournalFileBackend

    journal.parent.mkdir(parents=True, exist_ok=True)
    ranges = {name: repr(each) for name, each in space.items()}
    stated = [train.fingerprint, dict(fixed), ranges, pruner, metric, protocol, versions()["aanmf"]]
    search = json.dumps(stated, sort_keys=True)
    name = f"{model}-{hashlib.sha256(search.encode()).hexdigest()[:12]}"
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize" if metric_of(metric).higher_is_better else "minimize",
        load_if_exists=True,
        pruner=_pruner(optuna.pruners, pruner),
    )
    seed = fixed["seed"] + len(study.trials)  # a search that is continued must not draw the same settings again
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5, multivariate=True)
    for trial in study.trials:
        if trial.state.name == "RUNNING":  # stopped in the middle
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


def _done(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.trials if _counts(trial)]


def _counts(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial came to its end; those that were stopped from outside are tried anew."""
    return trial.state.name in ("COMPLETE", "PRUNED") or "diverged" in trial.user_attrs


def _trial(study: optuna.Study) -> Trial:
    last = study.trials[-1]
    state = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(last.state.name, "diverged")
    best = study.best_value if _complete(study) else None
    return Trial(last.number, dict(last.user_attrs.get("settings", {})), last.value, state, best)


def _pruner(pruners: Any, name: Pruner) -> optuna.pruners.BasePruner:
    """Optuna's object; a step is a fifth of a trial's epochs.

    Raises:
        ConfigError: no such pruner.
    """
    made: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "halving": lambda: pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        "median": lambda: pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        "none": pruners.NopPruner,
    }
    if name not in made:
        raise ConfigError(unknown("pruner", name, made))
    return made[name]()


def _suggest(trial: optuna.Trial, name: str, values: Searched) -> Any:
    """A value; a number has three digits, so that what a file says is exactly what was tried."""
    if isinstance(values, Choice):
        labels = {_label(values, value): value for value in values.values}
        return labels[trial.suggest_categorical(name, list(labels))]
    if values.whole:
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    return float(f"{trial.suggest_float(name, values.low, values.high, log=values.log):.3g}")


def _label(values: Searched, value: Any) -> Any:
    """A value as optuna takes it: the text of a choice, a number as it is."""
    return json.dumps(value) if isinstance(values, Choice) else value


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("tuning needs optuna: pip install 'aanmf[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
