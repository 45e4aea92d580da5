"""Each claim of the paper, and what our runs say of it: decided here by stated rules, not by taste."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

from aanmf.experiments import paper
from aanmf.experiments.figures import correlation, mean_map
from aanmf.experiments.plan import LABELS, Found
from aanmf.experiments.runs import Run
from aanmf.experiments.statistics import Contrast, Ranking, contrasts

Verdict = Literal["held", "not held", "depends"]
ALPHA = 0.05
SLACK = 0.005
"""A gain counts as reached when it falls short of the stated one by no more than half a percentage point."""


@dataclass(frozen=True)
class Claim:
    """A claim and its fate.

    Attributes:
        question: RQ1, RQ2 or RQ3.
        claim: what the paper says.
        data: what it was examined on.
        verdict: `held`, `not held` or `depends` (in part, or not to be told from so few splits).
        found: what we measured.
    """

    question: str
    claim: str
    data: str
    verdict: Verdict
    found: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def examine(found: Found, name: str, planted: pl.DataFrame) -> list[Claim]:
    """All claims that the runs of one data set can be asked about.

    Args:
        found: the runs; of what was not run there are no claims.
        name: of the data set.
        planted: the true attention of the synthetic set.
    """
    made: list[Claim] = []
    if found.curves:
        made += _curves(found, name)
    if found.factors:
        made += _factors(found, name)
    if {"aanmf", "aanmf+p", "acmf", "aesr"} <= {run.job.model for run in found.splits}:
        made += _accuracy(found, name)
    if found.attention() and "fig7" in found.plan.items:
        made += _attention(found, name)
    if "fig7" in found.plan.items and found.on_planted():
        made.append(_planted(found.on_planted(), planted))
    return made


def the_papers_own(by_rule: Ranking, printed: Ranking) -> Claim:
    """Its Nemenyi claim, from its own Table 4."""
    reached = {frozenset(pair) for pair in printed.differ(ALPHA)}
    wanted = [frozenset(("aanmf+p", other)) for other in ("acmf", "aesr")]
    return Claim(
        "RQ2",
        "By Friedman's and Nemenyi's tests AANMF+P exactly performs better than ACMF and AESR",
        "the paper's own Table 4",
        _all_some_none([pair in reached for pair in wanted]),
        f"rank gaps {printed.average[0] - printed.average[2]:.3f} and {printed.average[1] - printed.average[2]:.3f} "
        f"({by_rule.average[0] - by_rule.average[2]:.1f} twice by its own rule), critical distance at .05 "
        f"{printed.critical_distance(ALPHA):.3f}",
    )


def _curves(found: Found, name: str) -> list[Claim]:
    by_model = {run.job.model: run.curve for run in found.curves}
    claims = []
    for part, word in (("train_mse", "training"), ("test_mse", "test")):
        others = [by_model[model] for model in by_model if model != "aanmf"]
        lowest = [
            all(own[part] < other[part] for other in at) for own, *at in zip(by_model["aanmf"], *others, strict=True)
        ]
        last = ", ".join(f"{LABELS[model]} {curve[-1][part]:.3f}" for model, curve in by_model.items())
        text = f"AANMF lowest in {sum(lowest)} of {len(lowest)} epochs; after the last: {last}"
        claim = f"Fig 4: AANMF's {word} error lies below those of SVD++ and NFM"
        claims.append(Claim("RQ1", claim, name, _all_some_none(lowest), text))
    first = {model: curve[0]["test_mse"] for model, curve in by_model.items()}
    higher = [first[model] > first["svd++"] for model in ("nfm", "aanmf")]
    text = "test MSE after the first epoch: " + ", ".join(f"{LABELS[model]} {mse:.3f}" for model, mse in first.items())
    claims.append(
        Claim(
            "RQ1",
            "Fig 4: the neural models start with a higher test error than SVD++",
            name,
            _all_some_none(higher),
            text,
        )
    )
    return claims


def _factors(found: Found, name: str) -> list[Claim]:
    mse: dict[str, dict[int, float]] = {}
    for run in found.factors:
        mse.setdefault(run.job.model, {})[run.job.settings["factors"]] = run.test_rmse**2
    sizes = sorted(mse["aanmf"])
    lowest = [all(mse["aanmf"][k] < mse[other][k] for other in mse if other != "aanmf") for k in sizes]
    best = ", ".join(
        f"{LABELS[model]} {min(each.values()):.4f} (K = {min(each, key=lambda k: each[k])})"
        for model, each in mse.items()
    )
    claims = [
        Claim(
            "RQ1",
            "Fig 5: AANMF has the lowest test error at every number of factors",
            name,
            _all_some_none(lowest),
            f"lowest at {sum(lowest)} of {len(sizes)}; best of each: {best}",
        )
    ]
    bent = [sizes[0] < min(each, key=lambda k: each[k]) < sizes[-1] for each in mse.values()]
    text = "lowest between the ends for " + (
        ", ".join(LABELS[m] for m, b in zip(mse, bent, strict=True) if b) or "no model"
    )
    claims.append(
        Claim(
            "RQ1",
            "Fig 5: the error falls with the number of factors, then rises (overfitting)",
            name,
            _all_some_none(bent),
            text,
        )
    )
    gains = {model: statistics.fmean(1 - mse[model][k] / mse["svd++"][k] for k in sizes) for model in ("nfm", "aanmf")}
    gain, stated = statistics.fmean(gains.values()), paper.GAIN_OVER_SVDPP.get(found.plan.source)
    target = "" if stated is None else f" by {stated:.1%}"
    text = f"mean gain {gain:+.1%} in MSE (" + ", ".join(f"{LABELS[m]} {g:+.1%}" for m, g in gains.items()) + ")"
    claims.append(
        Claim("RQ1", f"Fig 5: the neural models improve on SVD++{target} on average", name, _gain(gain, stated), text)
    )
    return claims


def _accuracy(found: Found, name: str) -> list[Claim]:
    rmse, mae = found.errors("rmse"), found.errors("mae")
    if min(map(len, rmse.values())) < 2:
        return []
    claims = []
    stated = paper.GAIN_OVER_AESR.get(found.plan.source, (None, None))
    for metric, errors, figure in (("MAE", mae, stated[0]), ("RMSE", rmse, stated[1])):
        gain = 1 - statistics.fmean(errors["aanmf"]) / statistics.fmean(errors["aesr"])
        means = ", ".join(f"{LABELS[m]} {statistics.fmean(errors[m]):.4f}" for m in ("acmf", "aesr", "aanmf"))
        target = "" if figure is None else f" by {figure:.1%}"
        text = f"{gain:+.1%} over AESR ({means})"
        claims.append(Claim("RQ2", f"Table 4: AANMF improves {metric}{target}", name, _gain(gain, figure), text))
    for model, claim in (
        ("aanmf", "AANMF is superior to ACMF and AESR"),
        ("aanmf+p", "AANMF+P is better than ACMF and AESR"),
    ):
        family = contrasts({each: rmse[each] for each in (model, "acmf", "aesr")}, model)
        claims.append(Claim("RQ2", f"Table 4: {claim}", name, _compared(family), _said(family)))
    family = contrasts({each: rmse[each] for each in ("aanmf+p", "aanmf")}, "aanmf+p")
    claims.append(Claim("RQ2", "Table 4: pairwise pooling improves on the sum", name, _compared(family), _said(family)))
    claims.append(_nemenyi(rmse, name))
    return claims


def _nemenyi(rmse: dict[str, list[float]], name: str) -> Claim:
    columns = [rmse[model] for model in paper.RANKED]
    ranking = Ranking.of_errors(paper.RANKED, list(zip(*columns, strict=True)))
    better = ranking.differ(ALPHA)
    wanted = [("aanmf+p", other) in better for other in ("acmf", "aesr")]
    ranks = ", ".join(f"{LABELS[m]} {r:.2f}" for m, r in zip(ranking.models, ranking.average, strict=True))
    text = f"average ranks over {len(columns[0])} splits: {ranks}; critical distance {ranking.critical_distance():.2f}"
    claim = "The same three models over our splits: AANMF+P ranks better by Nemenyi's test"
    return Claim("RQ2", claim, name, _all_some_none(wanted), text)


def _attention(found: Found, name: str) -> list[Claim]:
    runs = [run for run in found.attention() if run.job.model == "aanmf"]
    maps = [mean_map([run])[0] for run in runs]
    mean = mean_map(runs)[0]
    claims = []
    for genre, attribute in (("Action", "gender"), ("Animation", "age")):
        rows = [_row(each, genre) for each in (mean, *maps)]
        if not all(rows):
            continue
        first, *each = [max(row, key=lambda a: row[a]) == attribute for row in rows]
        shown = ", ".join(f"{a} {value:.3f}" for a, value in rows[0].items())
        text = f"mean attention {shown}; {attribute} comes first in {sum(each)} of {len(each)} fits"
        claims.append(
            Claim(
                "RQ3",
                f"Fig 7: {genre.lower()} films look at {attribute} most",
                name,
                _all_some_none([first, *each]),
                text,
            )
        )
    jobs = [
        row["occupation"] == min(row.values())
        for each in maps
        for genre in each["genres"]
        if (row := _row(each, genre))
    ]
    if jobs:
        low, high = mean["occupation"].min(), mean["occupation"].max()
        text = f"least in {sum(jobs)} of {len(jobs)} rows (genre and fit); mean attention {low:.3f} to {high:.3f}"
        claims.append(
            Claim("RQ3", "Fig 7: occupation always gets the least attention", name, _all_some_none(jobs), text)
        )
    return claims


def _planted(runs: Sequence[Run], planted: pl.DataFrame) -> Claim:
    each = [correlation(planted, mean_map([run])[0]) for run in runs]
    text = "correlation of learned and planted map: " + ", ".join(f"{r:.2f}" for r in each)
    verdict = _all_some_none([r >= 0.8 for r in each])
    return Claim(
        "RQ3",
        "Learned attention can be read as an explanation (not in the paper: a planted truth is found again, r >= .8)",
        "synthetic",
        verdict,
        text,
    )


def _row(table: pl.DataFrame, genre: str) -> dict[str, float]:
    rows = table.filter(pl.col("genres") == genre).drop("genres").to_dicts()
    return rows[0] if rows and "occupation" in rows[0] else {}


def _all_some_none(each: Sequence[bool]) -> Verdict:
    return "held" if all(each) else "depends" if any(each) else "not held"


def _gain(gain: float, stated: float | None) -> Verdict:
    """Held: the stated gain is reached; depends: a smaller one; not held: none."""
    if gain <= 0 or math.isnan(gain):
        return "not held"
    return "held" if gain >= (stated or 0.0) - SLACK else "depends"


def _compared(family: Sequence[Contrast]) -> Verdict:
    """Held: better than each, by Holm's p; not held: worse on average than each; depends: anything between."""
    if all(each.difference < 0 and each.p_holm < ALPHA for each in family):
        return "held"
    return "not held" if all(each.difference >= 0 for each in family) else "depends"


def _said(family: Sequence[Contrast]) -> str:
    parts = [f"{each.difference:+.4f} against {LABELS[each.other]} (p = {each.p_holm:.3f})" for each in family]
    return f"RMSE {', '.join(parts)} over {family[0].splits} splits"
