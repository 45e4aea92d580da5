"""Which fits each table and figure needs, and how much of everything a full and a quick report take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aanmf.errors import ConfigError, DataError
from aanmf.evaluation.runs import Job, Measure, Run
from aanmf.experiments.jobs import grouped, jobs_of
from aanmf.experiments.paper import CURVES
from aanmf.experiments.tuned import Tuned, tuned_settings
from aanmf.models.catalog import CATALOG, spec_of, with_capability
from aanmf.recommender import make_model

_RECOMMENDED, *_OTHERS = with_capability("in_report")
MODELS = (*sorted(_OTHERS, key=lambda model: CATALOG[model].attention), _RECOMMENDED)
"""Table 4: the paper's four and what it should have compared with; the model that the catalogue recommends last."""
ATTENTIVE = ("aanmf", "aanmf++")
"""Figure 7."""
ITEMS = ("table1", "table2", "table3", "table4", "table5", "fig4", "fig5", "fig6", "fig7")
"""The tables and figures of a report, which ends in the claims."""
_FROM_SPLITS = {"table4", "table5", "fig6", "fig7"}


@dataclass(frozen=True)
class Profile:
    """How much to do.

    Attributes:
        name: `full` or `quick`.
        protocol: of all splits.
        splits: seeds 0, 1, ... of it, for Table 4 and what follows from it.
        curve_epochs: iterations of Figure 4.
        factors: numbers of latent factors of Figure 5.
        strengths: Figure 5 chooses l2 on validation ratings among these multiples of the tuned one; a single
            one is used as it is.
        limits: upper limits of settings.
        synthetic: the set with planted attention, for comparison with Figure 7.
        synthetic_seeds: how many models are trained on it.
    """

    name: str
    protocol: str
    splits: int
    curve_epochs: int
    factors: tuple[int, ...]
    strengths: tuple[float, ...]
    limits: Mapping[str, int] = field(default_factory=dict)
    synthetic: str = "synthetic"
    synthetic_seeds: int = 3


FULL = Profile("full", "holdout:0.2", 10, 30, (4, 8, 16, 32, 64), (0.5, 1.0, 2.0))
QUICK = Profile(
    "quick",
    "holdout:0.2",
    splits=2,
    curve_epochs=8,
    factors=(4, 16, 48),
    strengths=(1.0,),
    limits={"epochs": 8, "factors": 16, "members": 1},
    synthetic="synthetic:30000",
    synthetic_seeds=2,
)


def profile_for(source: str, *, quick: bool = False, splits: int | None = None) -> Profile:
    """What to do for a data set.

    ML-1M takes ten times as long as ML-100K: 3 splits, fewer numbers of factors, and l2 as tuned for all of them.

    Raises:
        ConfigError: fewer than two splits, which have no standard deviation.
    """
    chosen = QUICK if quick else FULL
    if source == "ml-1m" and not quick:
        chosen = replace(chosen, splits=3, factors=(8, 16, 32, 64), strengths=(1.0,))
    if splits is None:
        return chosen
    if splits < 2:
        raise ConfigError(f"--seeds {splits}: give 2 or more; a standard deviation needs two splits")
    return replace(chosen, splits=splits)


@dataclass(frozen=True)
class Plan:
    """The fits of one data set.

    Attributes:
        source: its name.
        profile: how much to do.
        items: which tables and figures.
        folder: settings found by tuning, instead of those that come with the library.
    """

    source: str
    profile: Profile
    items: Collection[str] = ITEMS
    folder: Path | None = None

    def tuned(self, model: str) -> Tuned:
        """What tuning found for a model; empty where it was not tuned."""
        return tuned_settings(self.source, model, self.folder)

    def settings(self, model: str) -> dict[str, Any]:
        """Of a model in this report: those tuned, within the limits of the profile."""
        return self._limited(model, self.tuned(model).settings, self.profile.limits)

    def split_jobs(self) -> list[Job]:
        """Table 4, and Figure 7, which shows the same fits."""
        wanted = _FROM_SPLITS & set(self.items)
        models = () if not wanted else ATTENTIVE if wanted == {"fig7"} else MODELS
        return self._jobs({model: self.settings(model) for model in models}, self.profile.splits)

    def curve_jobs(self) -> list[Job]:
        """Figure 4: on the first split, all models for equally many epochs."""
        models, epochs = CURVES if "fig4" in self.items else (), self.profile.curve_epochs
        return self._jobs({model: {**self.settings(model), "epochs": epochs} for model in models}, 1, "curve")

    def planted_jobs(self) -> list[Job]:
        """Figure 7: AANMF on ratings with planted attention."""
        if "fig7" not in self.items or self.source.startswith("synthetic"):
            return []
        limits = {name: most for name, most in self.profile.limits.items() if name != "epochs"}
        settings = self._limited("aanmf", tuned_settings("synthetic", "aanmf", self.folder).settings, limits)
        other = replace(self, source=self.profile.synthetic)
        return other._jobs({"aanmf": settings}, self.profile.synthetic_seeds)

    def candidate_jobs(self) -> list[Job]:
        """Figure 5, first half: for each number of factors, strengths of l2 to choose from on validation ratings."""
        if "fig5" not in self.items or len(self.profile.strengths) == 1:
            return []
        return [
            job
            for factors in self.profile.factors
            for strength in self.profile.strengths
            for job in self._factor_jobs(factors, {model: strength * self._l2(model) for model in CURVES}, "validation")
        ]

    def factor_jobs(self, candidates: Sequence[Run]) -> list[Job]:
        """Figure 5, second half: a fit per model and number of factors, with the l2 that was chosen.

        Args:
            candidates: the runs of `candidate_jobs`.

        Raises:
            DataError: one of them is missing.
        """
        factors = self.profile.factors if "fig5" in self.items else ()
        return [job for k in factors for job in self._factor_jobs(k, self._chosen_l2(k, candidates), "test")]

    def _chosen_l2(self, factors: int, candidates: Sequence[Run]) -> dict[str, float]:
        """The l2 by model that has the lowest validation error with so many factors."""
        if len(self.profile.strengths) == 1:
            return {model: self.profile.strengths[0] * self._l2(model) for model in CURVES}
        chosen: dict[str, float] = {}
        for model in CURVES:
            runs = [run for run in candidates if run.model == model and run.settings["factors"] == factors]
            errors = {run.settings["l2"]: run.validation_rmse for run in runs if run.validation_rmse is not None}
            if len(errors) < len(self.profile.strengths):
                raise DataError(f"Figure 5: {model} with {factors} factors was not tried with every strength of l2")
            chosen[model] = min(errors, key=lambda l2: errors[l2])
        return chosen

    def _factor_jobs(self, factors: int, l2: Mapping[str, float], measure: Measure) -> list[Job]:
        settings = {model: {**self.settings(model), "factors": factors, "l2": l2[model]} for model in CURVES}
        return self._jobs(settings, 1, measure)

    def _l2(self, model: str) -> float:
        return make_model(model, **self.settings(model)).get_params()["l2"]

    def _jobs(self, settings: Mapping[str, Mapping[str, Any]], splits: int, measure: Measure = "test") -> list[Job]:
        """Of the models that have an entry in `settings`, on the first `splits` splits."""
        if not settings:
            return []
        return jobs_of(self.source, list(settings), self.profile.protocol, range(splits), settings, measure)

    def _limited(self, model: str, settings: Mapping[str, Any], limits: Mapping[str, int]) -> dict[str, Any]:
        params = make_model(model, **settings).get_params()
        return {**settings, **{name: min(params[name], most) for name, most in limits.items() if name in params}}


@dataclass(frozen=True)
class Found:
    """The runs of one data set, by what they are for."""

    plan: Plan
    splits: list[Run]
    curves: list[Run]
    factors: list[Run]
    planted: list[Run]

    def attention(self) -> list[Run]:
        """The fits that Figure 7 shows."""
        return [run for run in self.splits if run.attention and run.model in ATTENTIVE]

    def on_planted(self) -> list[Run]:
        """Fits of AANMF on ratings whose attention is planted."""
        own = self.attention() if self.plan.source.startswith("synthetic") else []
        return self.planted or [run for run in own if run.model == "aanmf"]

    def scores(self, metric: str = "rmse") -> dict[str, list[float]]:
        """Test scores by model, in the order of the splits; only splits that all models were scored on."""
        models = grouped(self.splits, "model")
        shared = set.intersection(*({run.split for run in runs} for runs in models.values())) if models else set()
        return {model: [run.score(metric) for run in runs if run.split in shared] for model, runs in models.items()}


def label_of(model: str) -> str:
    """How tables and figures name a model."""
    return spec_of(model).label


def read_items(text: str | None) -> list[str]:
    """`table4,fig7` as a list; None: everything.

    Raises:
        ConfigError: an unknown item.
    """
    if text is None:
        return list(ITEMS)
    wanted = [part.strip().lower() for part in text.split(",") if part.strip()]
    if unknown := [item for item in wanted if item not in ITEMS]:
        raise ConfigError(f"--only {unknown[0]}: no such table or plot. Available: {', '.join(ITEMS)}")
    return [item for item in ITEMS if item in wanted]
