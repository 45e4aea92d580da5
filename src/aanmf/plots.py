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


def attention_heatmaps(tables: Mapping[str, pl.DataFrame], path: str | Path) -> Path:
    """Draws several attention maps, one below the other on the same grey scale, each under its title.

    See `attention_heatmap`.
    """
    read = {title: _read(title, table) for title, table in tables.items()}
    groups = max(len(names) for names, _, _ in read.values())
    rows = sum(len(attributes) for _, attributes, _ in read.values())
    width = 2.3 + _CELL_WIDTH * max(groups, 5)
    longest = max(len(name) for names, _, _ in read.values() for name in names)
    height = (0.55 + 0.068 * longest) * len(read) + _CELL_HEIGHT * rows + 0.25 * (len(read) - 1)
    figure = _figure(width, height)
    ratios = [len(attributes) for _, attributes, _ in read.values()]
    axes = figure.subplots(len(read), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
    finite = np.concatenate([values[np.isfinite(values)] for _, _, values in read.values()])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    images = [
        _draw(axis, title, names, attributes, values, low, high)
        for axis, (title, (names, attributes, values)) in zip(axes, read.items(), strict=True)
    ]
    bar = figure.colorbar(images[0], ax=list(axes), pad=0.015, aspect=11 * len(read), shrink=0.95)
    bar.set_label("mean attention")
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(figure, path)
    return path


def _save(figure: Figure, path: Path) -> None:
    """Writes the same bytes for the same picture."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "aanmf"}):
        figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)


def _figure(width: float, height: float) -> Figure:
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


def _draw(
    axis: Axes,
    title: str,
    names: Sequence[str],
    attributes: Sequence[str],
    values: NDArray[np.float64],
    low: float,
    high: float,
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
        axis.text(column, row, text, ha="center", va="center", fontsize=10, color="black" if bright else "white")
    return image
