"""Where bars stand, and how numbers are written."""

from __future__ import annotations

import pytest

from aanmf.serving.charts import Axis, axis_around, fixed, shade, signed, tick, waterfall


def test_bars_follow_each_other_on_one_axis() -> None:
    axis, bars = waterfall(3.5, [1.0, -0.5, 0.25], least=1.0)
    assert axis == Axis(3.5, 4.5, (3.5, 4.0, 4.5))
    assert [(bar.start, bar.end) for bar in bars] == [(0, 100), (100, 50), (50, 75)]
    assert [(bar.left, bar.width) for bar in bars] == [(0, 100), (50, 50), (50, 25)]


def test_small_parts_look_small() -> None:
    axis, (bar,) = waterfall(3.56, [0.01], least=1.0)
    assert axis.high - axis.low >= 1
    assert bar.width <= 1
    assert waterfall(0.0, [], least=1.0)[1] == []


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((3.56, 4.89), (3.5, 4.0, 4.5, 5.0)),
        ((-17.5, -7.2), (-20, -15, -10, -5)),
        ((0.0, 2.73, -2.0), (-2, 0, 2, 4)),
        ((100.0, 900.0), (0, 200, 400, 600, 800, 1000)),
    ],
)
def test_ticks_are_round_and_cover_all(values: tuple[float, ...], ticks: tuple[float, ...]) -> None:
    axis = axis_around(values, least=0.5)
    assert axis.ticks == ticks
    assert (axis.low, axis.high) == (ticks[0], ticks[-1])
    assert axis.at(ticks[0]) == 0
    assert axis.at(ticks[-1]) == 100


def test_shades_do_not_depend_on_the_map() -> None:
    assert [shade(share) for share in (0.0, 0.09, 0.1, 0.27, 0.39, 0.999, 1.0)] == [0, 0, 1, 2, 3, 9, 9]


def test_numbers() -> None:
    assert [signed(value) for value in (0.414, -0.056, -0.0049, 0.0)] == ["+0.41", "−0.06", "0.00", "0.00"]
    assert [fixed(3.0), fixed(-7.155), tick(-20.0), tick(3.5)] == ["3.00", "−7.16", "−20", "3.5"]
