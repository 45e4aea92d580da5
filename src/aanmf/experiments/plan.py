"""Which fits each table and figure needs, and how much of everything a full and a quick report take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aanmf.errors import ConfigError, DataError
from aanmf.experiments.runs import Job, Run, by_key, jobs_of
from aanmf.experiments.tuned import Tuned, tuned_settings
from aanmf.recommender import make_model

MODELS = ("mf", "svd++", "nfm", "acmf", "aesr", "aanmf", "aanmf+p", "aanmf++")
"""Table 4: the paper's four, and what it should have compared with."""
CURVES = ("svd++", "nfm", "aanmf")
"""Figures 4 and 5."""
ATTENTIVE = ("aanmf", "aanmf++")
"""Figure 7."""
LABELS = {
    **{"mf": "MF", "svd++": "SVD++", "nfm": "NFM", "acmf": "ACMF", "aesr": "AESR", "fm": "FM", "autorec": "AutoRec"},
    **{"aanmf": "AANMF", "aanmf+p": "AANMF+P", "aanmf++": "AANMF++"},
}
"""Names for people."""
ITEMS = ("table1", "table2", "table3", "table4", "table5", "fig4", "fig5", "fig6", "fig7")
"""What a report is made of, beside the claims."""
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
            one is taken as it is.
        limits: upper limits of settings.
        synthetic: the set with planted attention beside Figure 7.
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
        ConfigError: fewer than two splits, of which no spread can be had.
    """
    chosen = QUICK if quick else FULL
    if source == "ml-1m" and not quick:
        chosen = replace(chosen, splits=3, factors=(8, 16, 32, 64), strengths=(1.0,))
    if splits is not None:
        if splits < 2:
            raise ConfigError(f"--seeds {splits}: give 2 or more, or there is no spread to show")
        chosen = replace(chosen, splits=splits)
    return chosen


@dataclass(frozen=True)
class Plan:
    """The fits of one data set.

    Attributes:
        source: its name.
        profile: how much to do.
        items: which tables and figures.
        folder: settings found by tuning, in place of those that come with the library.
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
        return self._limited(model, self.tuned(model).settings)

    def split_jobs(self) -> list[Job]:
        """Table 4, and Figure 7, which looks at the same fits."""
        if not _FROM_SPLITS & set(self.items):
            return []
        models = MODELS if _FROM_SPLITS & set(self.items) != {"fig7"} else ATTENTIVE
        seeds = range(self.profile.splits)
        return self._jobs(models, seeds, {model: self.settings(model) for model in models})

    def curve_jobs(self) -> list[Job]:
        """Figure 4: on the first split, all models for equally many epochs."""
        if "fig4" not in self.items:
            return []
        settings = {model: {**self.settings(model), "epochs": self.profile.curve_epochs} for model in CURVES}
        return jobs_of(self.source, CURVES, self.profile.protocol, [0], settings, "curve")

    def planted_jobs(self) -> list[Job]:
        """Figure 7: AANMF on ratings with planted attention."""
        if "fig7" not in self.items or self.source.startswith("synthetic"):
            return []
        settings = self._limited("aanmf", tuned_settings("synthetic", "aanmf", self.folder).settings, but="epochs")
        seeds = range(self.profile.synthetic_seeds)
        return jobs_of(self.profile.synthetic, ["aanmf"], self.profile.protocol, seeds, {"aanmf": settings})

    def candidate_jobs(self) -> list[Job]:
        """Figure 5, first half: for each number of factors, strengths of l2 to choose from on validation ratings."""
        if "fig5" not in self.items or len(self.profile.strengths) == 1:
            return []
        return [
            job
            for factors in self.profile.factors
            for strength in self.profile.strengths
            for job in self._factor_jobs(factors, dict.fromkeys(CURVES, strength), "validation")
        ]

    def factor_jobs(self, candidates: Sequence[Run]) -> list[Job]:
        """Figure 5, second half: a fit per model and number of factors, with the l2 that was chosen.

        Args:
            candidates: the runs of `candidate_jobs`.

        Raises:
            DataError: one of them is missing.
        """
        if "fig5" not in self.items:
            return []
        return [
            job
            for factors in self.profile.factors
            for job in self._factor_jobs(factors, self._chosen(factors, candidates), "test")
        ]

    def _chosen(self, factors: int, candidates: Sequence[Run]) -> dict[str, float]:
        """The strength of l2 by model that has the lowest validation error with so many factors."""
        if len(self.profile.strengths) == 1:
            return dict.fromkeys(CURVES, self.profile.strengths[0])
        chosen = {}
        for model in CURVES:
            base = self._base_l2(model)
            errors = {
                run.job.settings["l2"] / base: run.validation_rmse
                for run in candidates
                if run.job.model == model and run.job.settings["factors"] == factors and run.validation_rmse is not None
            }
            if len(errors) < len(self.profile.strengths):
                raise DataError(f"Figure 5: {model} with {factors} factors was not tried with every strength of l2")
            chosen[model] = min(errors, key=lambda strength: errors[strength])
        return chosen

    def _factor_jobs(self, factors: int, strengths: Mapping[str, float], measure: Any) -> list[Job]:
        settings = {
            model: {**self.settings(model), "factors": factors, "l2": strengths[model] * self._base_l2(model)}
            for model in CURVES
        }
        return jobs_of(self.source, CURVES, self.profile.protocol, [0], settings, measure)

    def _base_l2(self, model: str) -> float:
        return make_model(model, **self.settings(model)).get_params()["l2"]

    def _jobs(
        self, models: Sequence[str], seeds: Sequence[int], settings: Mapping[str, Mapping[str, Any]]
    ) -> list[Job]:
        return jobs_of(self.source, models, self.profile.protocol, seeds, settings)

    def _limited(self, model: str, settings: Mapping[str, Any], but: str = "") -> dict[str, Any]:
        params = make_model(model, **settings).get_params()
        limits = {name: most for name, most in self.profile.limits.items() if name in params and name != but}
        return {**settings, **{name: min(params[name], most) for name, most in limits.items()}}


@dataclass(frozen=True)
class Found:
    """The runs of one data set, by what they are for."""

    plan: Plan
    splits: list[Run]
    curves: list[Run]
    factors: list[Run]
    planted: list[Run]

    def attention(self) -> list[Run]:
        """The fits that Figure 7 looks at."""
        return [run for run in self.splits if run.attention and run.job.model in ATTENTIVE]

    def on_planted(self) -> list[Run]:
        """Fits of AANMF on ratings whose attention is planted."""
        own = self.attention() if self.plan.source.startswith("synthetic") else []
        return self.planted or [run for run in own if run.job.model == "aanmf"]

    def errors(self, metric: str = "rmse") -> dict[str, list[float]]:
        """Test errors by model, in the order of the splits; only splits that all models were scored on."""
        models = {model: runs for (model,), runs in by_key(self.splits, "model")}
        shared = set.intersection(*({run.job.split for run in runs} for runs in models.values())) if models else set()
        return {
            model: [run.test_rmse if metric == "rmse" else run.test_mae for run in runs if run.job.split in shared]
            for model, runs in models.items()
        }


def read_items(text: str | None) -> list[str]:
    """`table4,fig7` as a list; None: everything.

    Raises:
        ConfigError: an item that there is not.
    """
    if text is None:
        return list(ITEMS)
    wanted = [part.strip().lower() for part in text.split(",") if part.strip()]
    for each in wanted:
        if each not in ITEMS:
            raise ConfigError(f"--only {each}: there is no such item; there are: {', '.join(ITEMS)}")
    return [item for item in ITEMS if item in wanted]
