"""Tables 2 and 3 show attributes of every kind."""

from __future__ import annotations

import polars as pl

from aanmf import RatingDataset
from aanmf.experiments.tables import attribute_table, sample_table

RATINGS = pl.DataFrame({"user": ["a", "b", "c", "d"], "item": ["x", "x", "y", "y"], "rating": [1.0, 2.0, 3.0, 4.0]})
USERS = pl.DataFrame(
    {
        "user": ["a", "b", "c", "d"],
        "gender": ["F", "M", "F", None],
        "cuisine": ["Thai|Greek", "Thai", None, "Thai"],
        "height": [1.5, 1.75, None, 1.9],
        "voice": [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], None],
    }
)
DATA = RatingDataset.from_frames(RATINGS, users=USERS, name="four")


def test_the_values_of_an_attribute_and_how_many_users_have_each() -> None:
    found = {name: (values, users) for name, values, users in attribute_table("four", DATA).rows}
    assert found == {
        "gender": (2, "F 50%, M 25%"),
        "cuisine": (2, "Thai 75%, Greek 25%"),
        "height": ("numeric", "1.5 to 1.9, in groups"),
        "voice": ("vector", "2 numbers each"),
    }


def test_a_sample_shows_the_codes_of_single_labels() -> None:
    table = sample_table("four", DATA)
    assert table.columns == ("row", "user id", "item id", "rating", "gender")
    assert table.rows[1] == ("1", "b", "x", "2", "M (1)")
    assert table.rows[-1] == ("3", "d", "y", "4", None)
