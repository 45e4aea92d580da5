"""Pictures of attention. matplotlib is imported when one is drawn; no display is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_CELL_WIDTH, _CELL_HEIGHT = 0.45, 0.42  # inches


def attention_heatmap(table: pl.DataFrame, title: str, path: str | Path) -> Path:
    """Draws mean attention by attribute and item group, as Fig 7 of the paper: white is high, black is low.

    Args:
        table: what `Recommender.attention_map` returns: a row per group (its name in the first column), a
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
    names = [name for each in maps.values() for name in each.groups]
    rows = [len(each.attributes) for each in maps.values()]
    heights = sum(len(each.attributes) * (1 if each.deviation is None else 1.25) for each in maps.values())
    width = 2.3 + _CELL_WIDTH * max(5, *(len(each.groups) for each in maps.values()))
    longest = max(map(len, names))
    height = (0.55 + 0.068 * longest) * len(maps) + _CELL_HEIGHT * heights + 0.25 * (len(maps) - 1)
    figure = new_figure(width, height)
    axes = figure.subplots(len(maps), 1, squeeze=False, gridspec_kw={"height_ratios": rows})[:, 0]
    finite = np.concatenate([each.values[np.isfinite(each.values)] for each in maps.values()])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    images = [each.draw(axis, title, low, high) for axis, (title, each) in zip(axes, maps.items(), strict=True)]
    bar = figure.colorbar(images[0], ax=list(axes), pad=0.015, aspect=11 * len(maps), shrink=0.95)
    bar.set_label("mean attention")
    bar.ax.spines["outline"].set_linewidth(0.5)
    return save_figure(figure, path)


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
        axis.set_title(title, loc="left", fontsize=12, pad=8)
        slanted = {"rotation": 40, "ha": "right", "rotation_mode": "anchor", "fontsize": 10}
        axis.set_xticks(range(len(self.groups)), self.groups, **slanted)
        axis.set_yticks(range(len(self.attributes)), self.attributes, fontsize=11)
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
        raise MissingExtraError("pictures need matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure
