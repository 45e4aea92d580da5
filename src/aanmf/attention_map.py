"""A map of attention: a table of its own kind, which notebooks show shaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from aanmf import html

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class AttentionMap:
    """Mean attention on each user attribute, by the value of an item attribute.

    Attributes:
        by: name of the item attribute.
        table: a row per value: `by`, a column per user attribute, `n` (pairs averaged; absent from known attention).

    >>> from aanmf import AANMF, load_restaurants
    >>> data = load_restaurants()
    >>> learned = AANMF(epochs=1).fit(data).attention_map(data, by="price")
    >>> sorted(learned.table["price"])
    ['high', 'low', 'medium']
    """

    by: str
    table: pl.DataFrame

    @property
    def attributes(self) -> list[str]:
        """Names of the user attributes."""
        return [name for name in self.table.columns if name not in (self.by, "n")]

    @property
    def title(self) -> str:
        """What the map shows."""
        return f"Attention on user attributes, by {self.by}"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws a heat map on `ax`; None: on new axes, which notebooks show."""
        from aanmf.plots import heatmap

        return heatmap(self.table, self.title, ax)

    def _repr_html_(self) -> str:
        most = max((float(self.table[name].max() or 0) for name in self.attributes), default=0.0)  # pyright: ignore[reportArgumentType]
        counts = ["n"] if "n" in self.table.columns else []
        rows = self.table.select(self.by, *self.attributes, *counts).rows()
        heads = [self.by, *self.attributes, *(["pairs"] if counts else [])]
        return html.block(self.title, html.table(heads, rows, decimals=2, shade_to=most))
