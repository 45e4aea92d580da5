"""Figures 4-7. Lines differ in colour (safe for the colour-blind), dash and mark, so that grey print does as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from aanmf.evaluation.runs import Run
from aanmf.evaluation.significance import Ranking
from aanmf.experiments import paper
from aanmf.experiments.jobs import grouped
from aanmf.experiments.plan import label_of
from aanmf.plots import attention_heatmaps, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = {
    "svd++": {"color": "#0072B2", "linestyle": (0, (5, 2)), "marker": "s"},
    "nfm": {"color": "#D55E00", "linestyle": (0, (1, 1.2)), "marker": "^"},
    "aanmf": {"color": "#000000", "linestyle": "-", "marker": "o"},
}
"""Of each model's line: Okabe and Ito's colours."""
FORMATS = ("svg", "png")
_LINE = 0.62  # of ranks, inches below the title


def learning_curves(name: str, runs: Sequence[Run], folder: Path) -> None:
    """Figure 4: training and test MSE after every epoch, side by side on one scale.

    Args:
        name: of the data set, for the title.
        runs: one per model, measure `curve`.
        folder: where `fig4-*.svg` and `.png` go; `name` gives the rest of the file name.
    """
    figure = new_figure(8.6, 3.5)
    left, right = figure.subplots(1, 2, sharey=True)
    for axis, part, title in ((left, "train_mse", "training"), (right, "test_mse", "test")):
        for run in runs:
            _line(axis, run.model, {point["epoch"]: point[part] for point in run.curve})
        _dress(axis, f"{name}: {title} error", "epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    left.set_ylabel("mean squared error")
    right.legend(frameon=False)
    _zoom(left, [run.curve for run in runs])
    _write(figure, folder / f"fig4-{slug(name)}")


def factor_curves(name: str, runs: Sequence[Run], folder: Path) -> None:
    """Figure 5: test MSE against the number of latent factors; see `learning_curves`."""
    figure = new_figure(5.4, 3.6)
    axis = figure.subplots()
    for model, own in grouped(runs, "model").items():
        _line(axis, model, dict(sorted((run.settings["factors"], run.rmse**2) for run in own)))
    ticks = sorted({run.settings["factors"] for run in runs})
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    _dress(axis, f"{name}: test error", "latent factors")
    axis.set_ylabel("mean squared error")
    axis.legend(frameon=False)
    _write(figure, folder / f"fig5-{slug(name)}")


def critical_distance(panels: Mapping[str, Ranking], path: Path, alpha: float = 0.05) -> None:
    """Figure 6: average ranks on a line, the best at the left; a bar joins models that cannot be told apart.

    Args:
        panels: rankings by title, drawn one below the other.
        path: without ending.
        alpha: of the critical distance, which is drawn above each line.
    """
    heights = [_below(ranking, alpha) + 0.2 * ((len(ranking.models) + 1) // 2) + 0.15 for ranking in panels.values()]
    figure = new_figure(7.4, sum(heights))
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, (title, ranking), height in zip(axes, panels.items(), heights, strict=True):
        _rank_line(axis, title, ranking, alpha, height)
    _write(figure, path)


def _below(ranking: Ranking, alpha: float) -> float:
    """Where the names begin, below the bars; inches."""
    return _LINE + 0.3 + 0.11 * len(ranking.cliques(alpha))


def _rank_line(axis: Axes, title: str, ranking: Ranking, alpha: float, height: float) -> None:
    """One panel; y runs downwards in inches."""
    k, distance, overhang = len(ranking.models), ranking.critical_distance(alpha), 0.006 * (len(ranking.models) - 1)
    axis.set_xlim(1 - 0.25 * (k - 1), k + 0.25 * (k - 1))  # room for names on both sides
    axis.set_ylim(height, 0.0)
    axis.axis("off")
    axis.set_title(title, loc="left", fontsize=11)
    axis.plot([1, k], [_LINE, _LINE], color="black", linewidth=1)
    for rank in range(1, k + 1):
        axis.plot([rank, rank], [_LINE - 0.05, _LINE], color="black", linewidth=1)
        axis.text(rank, _LINE - 0.08, str(rank), ha="center", va="bottom", fontsize=9)
    axis.plot([1, min(1 + distance, k)], [0.18, 0.18], color="black", linewidth=1.6, marker="|", markersize=7)
    beyond = "" if 1 + distance <= k else " (longer than the axis)"
    axis.text(1, 0.09, f"critical distance {distance:.2f}{beyond}", ha="left", va="bottom", fontsize=9)
    average = dict(zip(ranking.models, ranking.average.tolist(), strict=True))
    for level, clique in enumerate(ranking.cliques(alpha)):
        places, y = [average[model] for model in clique], _LINE + 0.1 + 0.11 * level
        ends = [min(places) - overhang, max(places) + overhang]
        axis.plot(ends, [y, y], color="black", linewidth=3.5, solid_capstyle="butt")
    for at, model in enumerate(sorted(ranking.models, key=lambda model: average[model])):
        left = at < (k + 1) // 2
        y = _below(ranking, alpha) + 0.2 * (at if left else k - 1 - at)
        side = axis.get_xlim()[0 if left else 1]
        axis.plot([average[model], average[model], side], [_LINE, y, y], color="0.35", linewidth=0.8)
        text = f"{label_of(model)}  {f'{average[model]:.3f}'.rstrip('0').rstrip('.')}"
        axis.text(side, y - 0.02, text, ha="left" if left else "right", va="bottom", fontsize=9)


def attention_maps(name: str, runs: Sequence[Run], folder: Path, planted: pl.DataFrame | None = None) -> None:
    """Figure 7: mean attention by genre over test ratings and fits, with the standard deviation between fits.

    Args:
        name: of the data set.
        runs: fits of one or more models with attention; a map for each model, all on one scale.
        folder: where `fig7-*.svg` and `.png` go.
        planted: the true map of synthetic ratings, to stand above the learned ones.
    """
    tables: dict[str, pl.DataFrame] = {} if planted is None else {f"{name}: planted": planted}
    deviations: dict[str, pl.DataFrame] = {}
    for model, fits in grouped(runs, "model").items():
        title = f"{name}: {label_of(model)}, {len(fits)} fits"
        tables[title], deviations[title] = mean_map(fits)
    for ending in FORMATS:
        attention_heatmaps(tables, folder / f"fig7-{slug(name)}.{ending}", deviations)


def mean_map(runs: Sequence[Run]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Mean and standard deviation over fits: a row per genre, a column per attribute.

    Of MovieLens' genres only those of the figure (`paper.GENRES`), in its order of attributes.
    """
    rows = pl.concat([pl.DataFrame(run.attention) for run in runs])
    if set(paper.GENRES) <= set(rows["genres"]):
        rows = rows.filter(pl.col("genres").is_in(paper.GENRES))
    names = [name for name in paper.ATTRIBUTES if name in rows.columns]
    names += [name for name in rows.columns if name not in (*names, "genres", "n")]
    groups = rows.group_by("genres")
    mean, deviation = groups.agg(pl.col(names).mean()), groups.agg(pl.col(names).std().fill_null(0.0))
    return mean.sort("genres"), deviation.sort("genres")


def correlation(planted: pl.DataFrame, learned: pl.DataFrame) -> float:
    """Pearson's r of two maps over genres and attributes."""
    both = planted.join(learned, on="genres", suffix=" learned")
    names = [name for name in planted.columns if name != "genres"]
    one = both.select(names).to_numpy().ravel()
    other = both.select([f"{name} learned" for name in names]).to_numpy().ravel()
    return float(np.corrcoef(one, other)[0, 1])


def slug(name: str) -> str:
    """A name as part of a file name."""
    return name.lower().replace(" ", "-").replace(":", "-")


def _line(axis: Axes, model: str, points: Mapping[Any, float]) -> None:
    every = max(1, len(points) // 8)
    style: dict[str, Any] = {**STYLE[model], "linewidth": 1.6, "markersize": 4.5, "markevery": every}
    axis.plot(list(points), list(points.values()), label=label_of(model), **style)


def _dress(axis: Axes, title: str, x: str) -> None:
    axis.set_title(title, loc="left", fontsize=11)
    axis.set_xlabel(x)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)


def _zoom(axis: Axes, curves: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """Leaves the first epoch's height out of the scale where it would flatten the rest."""
    first, rest = (
        [point[part] for curve in curves for point in curve[rows] for part in ("train_mse", "test_mse")]
        for rows in (slice(0, 1), slice(1, None))
    )
    if not rest:
        return
    low, high = min(first + rest), max(rest)
    if max(first) < high + 0.5 * (high - low):
        high = max(high, *first)
    pad = 0.06 * (high - low) or 0.01
    axis.set_ylim(low - pad, high + pad)


def _write(figure: Figure, path: Path) -> None:
    for ending in FORMATS:
        save_figure(figure, path.with_name(f"{path.name}.{ending}"))
