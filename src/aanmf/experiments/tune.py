"""Tuning with optuna: the same number of trials for every model, judged on ratings held out of the training part."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aanmf.data.dataset import RatingDataset
from aanmf.errors import ConfigError, MissingExtraError
from aanmf.experiments.runs import fit_to_validate, versions
from aanmf.experiments.spaces import Range, Space, edges, space_of
from aanmf.experiments.tuned import Tuned
from aanmf.recommender import make_model
from aanmf.training.trainer import Epoch

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)
WARMUP = 8
"""Epochs that every trial may make before it can be pruned."""


@dataclass(frozen=True)
class Trial:
    """One set of settings tried.

    Attributes:
        number: from 0; trial 0 are the defaults.
        settings: what was tried.
        rmse: on validation ratings; for a pruned trial the last one before it was given up; None if it diverged.
        state: `complete`, `pruned` or `diverged`.
        best: the lowest RMSE of a complete trial so far.
    """

    number: int
    settings: dict[str, Any]
    rmse: float | None
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
    on_trial: Callable[[Trial], None] | None = None,
) -> Tuned:
    """Searches for the settings with the lowest validation RMSE.

    A trial fits on 90 % of `train` and is judged on the rest, always the same ratings. Trial 0 are the defaults; the
    others are drawn by a tree-structured Parzen estimator. A trial that after `WARMUP` epochs is worse than half of
    the earlier ones at the same epoch is given up. A search that was stopped goes on where it was.

    Args:
        train: the training part of a split; the test part has no business here.
        model: by name.
        trials: how many in all, those of an earlier start among them.
        journal: file in which trials are kept. One search at a time may write to it.
        fixed: settings that are not searched.
        seed: of the search, and of the models.
        space: what is searched; None: `spaces.SPACES[model]`.
        on_trial: called after each trial.

    Raises:
        MissingExtraError: optuna is not installed.
        ConfigError: no such model or setting, or no trial came to an end.
    """
    optuna = _optuna()
    space = {name: each for name, each in (space or space_of(model)).items() if name not in (fixed or {})}
    fixed = {**(fixed or {}), "seed": seed}
    defaults = make_model(model, **fixed).get_params()
    study = _study(optuna, train, model, fixed, space, seed, Path(journal))
    if not any(each.state.name == "WAITING" or _counts(each) for each in study.trials):
        study.enqueue_trial({name: defaults[name] for name in space})

    def objective(trial: optuna.Trial) -> float:
        settings = {name: _suggest(trial, name, each) for name, each in space.items()}
        trial.set_user_attr("settings", settings)

        def on_epoch(epoch: Epoch) -> None:
            if epoch.valid_mse is None:
                return
            trial.report(math.sqrt(epoch.valid_mse), epoch.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            return fit_to_validate(make_model(model, **{**fixed, **settings}), train, on_epoch)[1]
        except ConfigError:
            trial.set_user_attr("diverged", True)
            raise

    while len(_done(study)) < trials:
        study.optimize(objective, n_trials=1, catch=(ConfigError,))
        if on_trial:
            on_trial(_trial(study))
    complete = [each for each in study.trials if each.state.name == "COMPLETE"]
    if not complete:
        raise ConfigError(f"{model}: none of {trials} trials came to an end; narrow the search space, or give more")
    return _result(study, model, train, seed)


def _result(study: optuna.Study, model: str, train: RatingDataset, seed: int) -> Tuned:
    best, done = study.best_trial, _done(study)
    settings = dict(best.user_attrs["settings"])
    tuning = {
        "model": model,
        "data": train.name,
        "training_ratings": len(train),
        "fingerprint": train.fingerprint,
        "trials": len(done),
        "pruned": sum(each.state.name == "PRUNED" for each in done),
        "seed": seed,
        "validation_rmse": round(study.best_value, 5),
        "validation_rmse_of_defaults": round(first, 5) if (first := done[0].value) else None,
        "at_edge": sorted(edges(model, settings)),
        "aanmf": versions()["aanmf"],
        "torch": versions()["torch"],
    }
    return Tuned(settings, tuning)


def _study(
    optuna: Any, train: RatingDataset, model: str, fixed: Mapping[str, Any], space: Space, seed: int, journal: Path
) -> optuna.Study:
    """The study of exactly this search: other data, settings or ranges are another study in the same file."""
    from optuna.storages.journal import JournalFileBackend

    journal.parent.mkdir(parents=True, exist_ok=True)
    ranges = {name: repr(each) for name, each in space.items()}
    what = json.dumps([train.fingerprint, dict(fixed), ranges, versions()["aanmf"]], sort_keys=True)
    name = f"{model}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    # a search that goes on must not draw the same settings again
    existing = {each.study_name for each in storage.get_all_studies()}
    begun = len(optuna.load_study(study_name=name, storage=storage).trials) if name in existing else 0
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed + begun, n_startup_trials=5, multivariate=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=WARMUP),
    )
    for each in study.trials:
        if each.state.name == "RUNNING":  # stopped in the middle
            study.tell(each.number, state=optuna.trial.TrialState.FAIL)
    return study


def _done(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [each for each in study.trials if _counts(each)]


def _counts(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial came to its end; those that were stopped from outside are tried anew."""
    return trial.state.name in ("COMPLETE", "PRUNED") or "diverged" in trial.user_attrs


def _trial(study: optuna.Study) -> Trial:
    last = study.trials[-1]
    state = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(last.state.name, "diverged")
    complete = [each.value for each in study.trials if each.state.name == "COMPLETE" and each.value is not None]
    return Trial(
        number=last.number,
        settings=dict(last.user_attrs.get("settings", {})),
        rmse=last.value,
        state=state,
        best=min(complete) if complete else None,
    )


def _suggest(trial: optuna.Trial, name: str, each: Range) -> float | int:
    """A value of three digits, so that what a file says is exactly what was tried."""
    if each.whole:
        return trial.suggest_int(name, int(each.low), int(each.high), log=each.log)
    return float(f"{trial.suggest_float(name, each.low, each.high, log=each.log):.3g}")


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("tuning needs optuna: pip install 'aanmf[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
