"""One object of options for all readers, from keywords that are checked once."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import polars as pl
import pytest

from aanmf import RatingDataset
from aanmf.cli.options import Source
from aanmf.data.options import ReadOptions
from aanmf.data.sources import load
from aanmf.data.stream import stream_dataset
from aanmf.errors import ConfigError, DataError

RATINGS = pl.DataFrame({"who": ["a", "a", "b"], "item": ["x", "x", "y"], "rating": [1.0, 3.0, 5.0]})


def test_options_and_keywords_are_the_same() -> None:
    asked = ReadOptions(user="who", repeated="mean", name="mine")
    one = RatingDataset.from_frames(RATINGS, options=asked)
    two = RatingDataset.from_frames(RATINGS, user="who", repeated="mean", name="mine")
    assert (one.rating.tolist(), one.name) == (two.rating.tolist(), two.name) == ([2.0, 5.0], "mine")
    last = RatingDataset.from_frames(RATINGS, options=asked, repeated="last-row", name=None)  # None changes nothing
    assert (last.rating.tolist(), last.name) == ([3.0, 5.0], "mine")
    with pytest.raises(FrozenInstanceError):
        asked.user = "else"  # type: ignore[misc]


def test_an_unknown_keyword_is_named_by_every_reader(tmp_path) -> None:
    message = "Unknown option 'repeat'. Did you mean 'repeated'\\? Available: schema, attributes"
    for reader in (
        lambda: RatingDataset.from_frames(RATINGS, repeat="last"),
        lambda: RatingDataset.read(tmp_path / "r.csv", repeat="last"),
        lambda: load("ml-100k", repeat="last"),
        lambda: stream_dataset(tmp_path, tmp_path / "work", repeat="last"),
    ):
        with pytest.raises(ConfigError, match=message):
            reader()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"unlisted": "drop"}, "^unlisted='drop': choose unknown or error$"),
        ({"scale": (1, "five")}, "option scale"),
        ({"missing": "?"}, "option missing"),
        ({"user": 3}, "option user"),
    ],
)
def test_a_wrong_value_is_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ReadOptions.of(None, given)


def test_the_command_line_has_every_option() -> None:
    """`scale` and `name` are for Python alone."""
    offered = {field.name.removesuffix("_column") for field in fields(Source)}
    assert {field.name for field in fields(ReadOptions)} - offered == {"scale", "name"}


@pytest.mark.parametrize("repeated", ["error", "last", "mean"])
def test_repeated_ratings_are_not_looked_for_in_streams(tmp_path, repeated: str) -> None:
    twice = pl.concat([RATINGS, RATINGS[:1]])
    (tmp_path / "r").mkdir()
    twice.write_csv(tmp_path / "r" / "r.csv")
    with pytest.raises(DataError, match=rf"\(--repeated {repeated}\): streamed ratings are not searched"):
        stream_dataset(tmp_path / "r", tmp_path / "work", user="who", repeated=repeated)
    assert len(stream_dataset(tmp_path / "r", tmp_path / "work", user="who")) == len(twice)
