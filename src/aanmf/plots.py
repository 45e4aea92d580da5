"""Pictures of attention and of explanations. matplotlib is imported when one is drawn; no display is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_NEEDED = "pictures need matplotlib: pip install matplotlib"
_CELL_WIDTH, _CELL_HEIGHT = 0.45, 0.42  # inches
_MORE, _LESS, _QUIET = "#0072B2", "#D55E00", "#808080"  # distinct for the colour-blind, and on white as on black
_LONGEST = 46  # characters of a label


class Explained(Protocol):
    """What `waterfall` draws: `aanmf.explanation.Explanation`."""

    @property
    def title(self) -> str:
        """What is explained."""
        ...

    @property
    def base(self) -> float:
        """Where the account begins."""
        ...

    @property
    def parts(self) -> pl.DataFrame:
        """`kind`, `name`, `value`, `contribution`."""
        ...


def waterfall(explanation: Explained, ax: Axes | None = None) -> Axes:
    """Draws an explanation from its base, at the top, to its prediction, at the bottom, with a bar for each part.

    Bars that add are blue, those that subtract are orange; each has its contribution written next to it.

    Args:
        explanation: what `Recommender.explain` returns.
        ax: where to draw; None: on new axes, which notebooks show.

    Returns:
        The axes: `axes.figure.savefig("why.png")`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    parts = explanation.parts
    added = parts["contribution"].to_numpy()
    steps = explanation.base + np.concatenate([[0.0], np.cumsum(added)])  # the sum before each part, and after the last
    rows, last = np.arange(len(steps)), len(steps)  # the base in row 0, a part in each row behind it, the prediction
    reach = float(np.ptp(steps)) or 1.0
    ax = ax or _new_axes(7.5, 1.2 + 0.3 * (last + 1))
    ink = ax.yaxis.label.get_color()
    ax.barh(rows[1:], added, left=steps[:-1], height=0.62, color=np.where(added >= 0, _MORE, _LESS))
    ax.vlines(steps, rows, rows + 1, color=_QUIET, linewidth=0.8, zorder=0.9)
    ax.plot(steps[[0, -1]], [0, last], linestyle="none", marker="D", markersize=6, color=ink)
    digits = max(2, 1 - math.floor(math.log10(reach)))
    values = [f"{steps[0]:.{digits}f}", *(f"{each:+.{digits}f}" for each in added), f"{steps[-1]:.{digits}f}"]
    right = [steps[0], *np.maximum(steps[:-1], steps[1:]), steps[-1]]
    for row, (text, x) in enumerate(zip(values, right, strict=True)):
        ax.text(x + 0.02 * reach, row, text, va="center", fontsize=9, color=ink)
    labels = ["base", *map(_label, parts.iter_rows(named=True)), "prediction"]
    ax.set_yticks(range(len(labels)), labels, parse_math=False, fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.set_xlim(steps.min() - 0.03 * reach, steps.max() + 0.14 * reach)
    ax.grid(axis="x", color=_QUIET, alpha=0.25, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_title(explanation.title, loc="left", fontsize=11, parse_math=False)
    return ax


def _label(part: Mapping[str, object]) -> str:
    """`user attribute: age 25-34`, cut where it is too long."""
    words = " ".join(str(part[name]) for name in ("name", "value") if part[name] is not None)
    text = f"{part['kind']}: {words}" if words else str(part["kind"])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def heatmap(table: pl.DataFrame, title: str, ax: Axes | None = None) -> Axes:
    """Draws one attention map on axes; see `attention_heatmap`, which writes a file.

    Args:
        table: as for `attention_heatmap`.
        title: written above the map.
        ax: where to draw; None: on new axes, which notebooks show.

    Raises:
        DataError: the table has no row or no attribute.
        MissingExtraError: matplotlib is not installed.
    """
    drawn = _Map.read(title, table, None)
    ax = ax or _new_axes(*_size([drawn]))
    image = drawn.draw(ax, title, *_range([drawn]))
    assert ax.figure is not None
    _scale(ax.figure.colorbar(image, ax=ax, pad=0.015))
    return ax


def attention_heatmap(table: pl.DataFrame, title: str, path: str | Path) -> Path:
    """Draws mean attention by attribute and item group, as Fig 7 of the paper: white is high, black is low.

    Args:
        table: of what `Recommender.attention_map` returns: a row per group (its name in the first column), a
            column per user attribute, and optionally `n`.
        title: written above the map.
        path: where the picture goes; its ending gives the format (`.png`, `.svg`, `.pdf`).

    Returns:
        The path.

    Raises:
        DataError: the table has no row or no attribute.
    """
    return attention_heatmaps({title: table}, path)


def attention_heatmaps(
    tables: Mapping[str, pl.DataFrame], path: str | Path, deviations: Mapping[str, pl.DataFrame] | None = None
) -> Path:
    """Draws several attention maps, one below the other on the same grey scale, each under its title.

    Args:
        tables: by title; see `attention_heatmap`.
        path: where the picture goes.
        deviations: by title, tables of the same form with the standard deviation of each value, written below it.
    """
    maps = {title: _Map.read(title, table, (deviations or {}).get(title)) for title, table in tables.items()}
    drawn = list(maps.values())
    rows = [len(each.attributes) for each in drawn]
    figure = new_figure(*_size(drawn))
    axes = figure.subplots(len(maps), 1, squeeze=False, gridspec_kw={"height_ratios": rows})[:, 0]
    low, high = _range(drawn)
    images = [each.draw(axis, title, low, high) for axis, (title, each) in zip(axes, maps.items(), strict=True)]
    _scale(figure.colorbar(images[0], ax=list(axes), pad=0.015, aspect=11 * len(maps), shrink=0.95))
    return save_figure(figure, path)


def _size(maps: Sequence[_Map]) -> tuple[float, float]:
    """Width and height of a figure with these maps one below the other, in inches."""
    heights = sum(len(each.attributes) * (1 if each.deviation is None else 1.25) for each in maps)
    longest = max(len(name) for each in maps for name in each.groups)
    width = 2.3 + _CELL_WIDTH * max(5, *(len(each.groups) for each in maps))
    return width, (0.55 + 0.068 * longest) * len(maps) + _CELL_HEIGHT * heights + 0.25 * (len(maps) - 1)


def _range(maps: Sequence[_Map]) -> tuple[float, float]:
    """The lowest and the highest value."""
    finite = np.concatenate([each.values[np.isfinite(each.values)] for each in maps])
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)


def _scale(bar: Colorbar) -> None:
    bar.set_label("mean attention")
    bar.ax.spines["outline"].set_linewidth(0.5)


@dataclass(frozen=True)
class _Map:
    """One map: names of groups (G), names of attributes (A), values and their standard deviations (A, G)."""

    groups: list[str]
    attributes: list[str]
    values: NDArray[np.float64]
    deviation: NDArray[np.float64] | None

    @classmethod
    def read(cls, title: str, table: pl.DataFrame, deviations: pl.DataFrame | None) -> _Map:
        group, *attributes = (name for name in table.columns if name != "n")
        if table.is_empty() or not attributes:
            raise DataError(f"attention map {title!r}: no groups or no attributes to draw")
        values, deviation = (
            None if each is None else each.select(pl.col(attributes).cast(pl.Float64)).to_numpy().T
            for each in (table, deviations)
        )
        assert values is not None
        return cls([str(name) for name in table[group]], attributes, values, deviation)

    def draw(self, axis: Axes, title: str, low: float, high: float) -> AxesImage:
        """The greys run from `low` to `high`, and the number is written in each cell."""
        image = axis.imshow(self.values, cmap="gray", vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
        axis.set_title(title, loc="left", fontsize=12, pad=8, parse_math=False)
        slanted = {"rotation": 40, "ha": "right", "rotation_mode": "anchor", "fontsize": 10, "parse_math": False}
        axis.set_xticks(range(len(self.groups)), self.groups, **slanted)
        axis.set_yticks(range(len(self.attributes)), self.attributes, fontsize=11, parse_math=False)
        axis.tick_params(length=0)
        axis.set_xticks(np.arange(-0.5, len(self.groups)), minor=True)
        axis.set_yticks(np.arange(-0.5, len(self.attributes)), minor=True)
        axis.grid(which="minor", color="0.5", linewidth=0.6)
        axis.tick_params(which="minor", length=0)
        for (row, column), value in np.ndenumerate(self.values):
            bright = high > low and (value - low) / (high - low) > 0.46
            text, size = f"{value:.2f}".removeprefix("0") if np.isfinite(value) else "-", 10.0
            if self.deviation is not None:
                text, size = f"{text}\n±{self.deviation[row, column]:.2f}".replace("±0", "±"), 8.5
            colour = "black" if bright else "white"
            axis.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
        return image


def _new_axes(width: float, height: float) -> Axes:
    """Axes on a new figure of pyplot, which shows it at the end of a notebook's cell; sizes in inches."""
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingExtraError(_NEEDED) from None
    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Writes a picture: the same bytes for the same picture. Returns the path."""
    import matplotlib as mpl

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "aanmf"}):
        figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def new_figure(width: float, height: float) -> Figure:
    """An empty picture on white; sizes in inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(_NEEDED) from None
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure
