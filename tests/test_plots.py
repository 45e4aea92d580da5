"""Pictures: what is drawn is what stands in the table, and the same table gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from aanmf.attention_map import AttentionMap
from aanmf.errors import DataError
from aanmf.explanation import SCHEMA, Explanation
from aanmf.plots import attention_heatmap, attention_heatmaps, new_figure, save_figure, waterfall

TABLE = pl.DataFrame(
    {"genre": ["action", "drama & film", "<war>"], "gender": [0.7, 0.25, 0.5], "age": [0.3, 0.75, 0.5], "n": [9, 8, 7]}
)


def pixels(path: Path):
    image = pytest.importorskip("matplotlib.image")
    return image.imread(path)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_writes_every_format(tmp_path: Path, ending: str) -> None:
    path = attention_heatmap(TABLE, "Attention", tmp_path / "new" / f"map.{ending}")
    assert path.stat().st_size > 1000


def test_svg_is_reproducible_and_has_the_title(tmp_path: Path) -> None:
    first = attention_heatmap(TABLE, "Where it looks", tmp_path / "a.svg").read_bytes()
    second = attention_heatmap(TABLE, "Where it looks", tmp_path / "b.svg").read_bytes()
    assert first == second
    assert b"Where it looks" in first  # matplotlib leaves the text as a comment beside its outlines


def test_values_names_and_attributes_are_drawn_but_not_the_counts(tmp_path: Path) -> None:
    svg = attention_heatmap(TABLE, "t", tmp_path / "a.svg").read_text()
    for text in ("gender", "age", "action", ".70", ".25", ".75"):
        assert f"<!-- {text} -->" in svg
    assert "<!-- n -->" not in svg


def test_high_is_white_and_low_is_black_and_nothing_is_coloured(tmp_path: Path) -> None:
    image = pixels(attention_heatmap(TABLE, "t", tmp_path / "a.png"))
    assert (abs(image[..., 0] - image[..., 1]) < 0.01).all()
    assert (abs(image[..., 0] - image[..., 2]) < 0.01).all()
    assert image[..., 0].min() < 0.02
    assert image[..., 0].max() > 0.98


def test_several_maps_share_one_picture(tmp_path: Path) -> None:
    one = pixels(attention_heatmap(TABLE, "learned", tmp_path / "a.png"))
    two = pixels(attention_heatmaps({"planted": TABLE, "learned": TABLE}, tmp_path / "b.png"))
    assert two.shape[0] > 1.5 * one.shape[0]


@pytest.mark.parametrize("value", [0.5, None])
def test_maps_without_contrast_or_with_gaps_are_drawn(tmp_path: Path, value: float | None) -> None:
    table = pl.DataFrame({"genre": ["a", "b"], "gender": [value, 0.5]}, schema_overrides={"gender": pl.Float64})
    assert attention_heatmap(table, "t", tmp_path / "a.png").exists()


def test_an_empty_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no groups"):
        attention_heatmap(TABLE.clear(), "t", tmp_path / "a.png")
    with pytest.raises(DataError, match="no groups"):
        attention_heatmap(TABLE.select("genre", "n"), "t", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


@pytest.fixture
def axes() -> Iterator[Axes]:
    figure = new_figure(6, 4)
    yield figure.subplots()


def account(**changes: Any) -> Explanation:
    rows = [("user", "7", None, 0.5), ("item", "$5 & <more> for $6", None, -0.8), ("audience", None, "4 ratings", 0.1)]
    parts = [dict(zip(("kind", "name", "value", "contribution"), row, strict=True), attention=None) for row in rows]
    made = Explanation(
        item="1",
        label="A film for $1 or $2",
        of="rating",
        against=None,
        prediction=3.3,
        base=3.5,
        parts=pl.DataFrame(parts, schema=SCHEMA),
        fallback=None,
    )
    return replace(made, **changes)


def test_bars_run_from_base_to_prediction(axes: Axes) -> None:
    waterfall(account(), axes)
    bars = [(bar.get_x(), bar.get_width()) for bar in axes.patches if isinstance(bar, Rectangle)]
    assert bars == [pytest.approx(each) for each in [(3.5, 0.5), (4.0, -0.8), (3.2, 0.1)]]
    assert [text.get_text() for text in axes.texts] == ["3.50", "+0.50", "-0.80", "+0.10", "3.30"]
    assert [label.get_text() for label in axes.get_yticklabels()][1:3] == ["user: 7", "item: $5 & <more> for $6"]
    low, high = axes.get_xlim()
    assert low < 3.2
    assert high > 4.0
    blue, orange, _ = (to_hex(bar.get_facecolor()) for bar in axes.patches)
    assert blue != orange


def test_dollars_in_titles_are_no_formulas(tmp_path: Path, axes: Axes) -> None:
    waterfall(account(), axes)
    figure = axes.get_figure()
    assert figure is not None
    svg = save_figure(figure, tmp_path / "a.svg").read_text()  # pyright: ignore[reportArgumentType]
    assert "<!-- A film for $1 or $2: predicted rating 3.30 -->" in svg
    table = TABLE.rename({"gender": "$a$"}).with_columns(genre=pl.lit("$x$"))
    assert "<!-- $a$ -->" in attention_heatmap(table, "t", tmp_path / "b.svg").read_text()


def test_small_contributions_get_more_digits_and_long_names_are_cut(axes: Axes) -> None:
    parts = pl.DataFrame([{"kind": "item", "name": "x" * 80, "contribution": 0.0012}], schema=SCHEMA)
    waterfall(account(base=0.0, parts=parts), axes)
    assert axes.texts[1].get_text() == "+0.0012"
    (label,) = [text for each in axes.get_yticklabels() if "x" in (text := each.get_text())]
    assert len(label) <= 46
    assert label.endswith("…")


def test_an_explanation_without_parts_is_drawn(axes: Axes) -> None:
    waterfall(account(parts=pl.DataFrame(schema=SCHEMA)), axes)
    assert [text.get_text() for text in axes.texts] == ["3.50", "3.50"]


def test_objects_draw_themselves_on_a_new_figure_or_on_given_axes(axes: Axes) -> None:
    drawn = AttentionMap("genre", TABLE)
    assert drawn.plot(axes) is axes
    for shown in (account().plot(), drawn.plot()):
        assert shown.figure.number in pyplot.get_fignums()  # pyright: ignore
        pyplot.close(shown.figure)  # pyright: ignore[reportArgumentType]
    assert [text.get_text() for text in axes.texts][:3] == [".70", ".25", ".50"]
