"""Pictures of what a model looked at. matplotlib is imported when one is drawn; no display is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        title: stands above.
        path: where the picture goes; the ending says the format (`.png`, `.svg`, `.pdf`).

    Returns:
        The path.

    Raises:
        DataError: the table has no row or no attribute.
    """
    return attention_heatmaps({title: table}, path)


def attention_heatmaps(
    tables: Mapping[str, pl.DataFrame], path: str | Path, spreads: Mapping[str, pl.DataFrame] | None = None
) -> Path:
    """Draws several attention maps, one below the other on the same grey scale, each under its title.

    Args:
        tables: by title; see `attention_heatmap`.
        path: where the picture goes.
        spreads: by title, tables of the same form with the spread of each value, which is written below it.
    """
    read = {title: _read(title, table) for title, table in tables.items()}
    groups = max(len(names) for names, _, _ in read.values())
    rows = sum(
        len(attributes) * (1.25 if title in (spreads or {}) else 1) for title, (_, attributes, _) in read.items()
    )
    width = 2.3 + _CELL_WIDTH * max(groups, 5)
    longest = max(len(name) for names, _, _ in read.values() for name in names)
    height = (0.55 + 0.068 * longest) * len(read) + _CELL_HEIGHT * rows + 0.25 * (len(read) - 1)
    figure = new_figure(width, height)
    ratios = [len(attributes) for _, attributes, _ in read.values()]
    axes = figure.subplots(len(read), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
    finite = np.concatenate([values[np.isfinite(values)] for _, _, values in read.values()])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    images = [
        _draw(axis, title, names, attributes, values, low, high, _spread(title, spreads))
        for axis, (title, (names, attributes, values)) in zip(axes, read.items(), strict=True)
    ]
    bar = figure.colorbar(images[0], ax=list(axes), pad=0.015, aspect=11 * len(read), shrink=0.95)
    bar.set_label("mean attention")
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]
    return save_figure(figure, path)


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


def _read(title: str, table: pl.DataFrame) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Names of groups (G), names of attributes (A), values (A, G)."""
    attributes = [name for name in table.columns[1:] if name != "n"]
    if table.is_empty() or not attributes:
        raise DataError(f"attention map {title!r}: no groups or no attributes to draw")
    values = table.select(pl.col(attributes).cast(pl.Float64).fill_null(float("nan"))).to_numpy().T
    return [str(each) for each in table[table.columns[0]]], attributes, values


def _spread(title: str, spreads: Mapping[str, pl.DataFrame] | None) -> NDArray[np.float64] | None:
    return _read(title, spreads[title])[2] if spreads and title in spreads else None


def _draw(
    axis: Axes,
    title: str,
    names: Sequence[str],
    attributes: Sequence[str],
    values: NDArray[np.float64],
    low: float,
    high: float,
    spread: NDArray[np.float64] | None,
) -> AxesImage:
    """One map; the greys run from `low` to `high`, and the number stands in each cell."""
    image = axis.imshow(values, cmap="gray", vmin=low, vmax=high if high > low else low + 1e-9, aspect="auto")
    axis.set_title(title, loc="left", fontsize=12, pad=8)
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=10)
    axis.set_yticks(range(len(attributes)), attributes, fontsize=11)
    axis.tick_params(length=0)
    axis.set_xticks(np.arange(-0.5, len(names)), minor=True)
    axis.set_yticks(np.arange(-0.5, len(attributes)), minor=True)
    axis.grid(which="minor", color="0.5", linewidth=0.6)
    axis.tick_params(which="minor", length=0)
    for (row, column), value in np.ndenumerate(values):
        bright = (value - low) / (high - low) > 0.46 if high > low else False
        text = f"{value:.2f}".removeprefix("0") if np.isfinite(value) else "-"
        if spread is not None:
            text += f"\n±{spread[row, column]:.2f}".replace("±0", "±")
        axis.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=10 if spread is None else 8.5,
            color="black" if bright else "white",
        )
    return image
