"""Pictures: what is drawn is what stands in the table, and the same table gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from aanmf.errors import DataError
from aanmf.plots import attention_heatmap, attention_heatmaps

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
