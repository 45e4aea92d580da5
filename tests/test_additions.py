"""What came since a model was trained is read as the model knows its columns, and added to what it was trained on."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from aanmf import DampedMeans, RatingDataset
from aanmf.additions import RATINGS, Additions, Grown, grow, read_additions, tables_of
from aanmf.data.options import ReadOptions
from aanmf.errors import DataError
from aanmf.recommender import Recommender

RATED = pl.DataFrame({"user": [1, 1, 2, 2, 3], "item": ["a", "b", "a", "c", "b"], "rating": [5, 1, 4, 2, 3]})
USERS = pl.DataFrame({"user": [1, 2, 3], "city": ["01234", "01234", "99999"], "age": [20.0, 31.0, 47.0]})
ITEMS = pl.DataFrame({"item": ["a", "b", "c"], "title": ["Alpha", "Beta", "Gamma"], "tags": ["x|y", "y", "x"]})


@pytest.fixture
def model() -> Recommender:
    return DampedMeans().fit(RatingDataset.from_frames(RATED, USERS, ITEMS, attributes={"city": "categorical"}))


def added(model: Recommender, ratings: object = None, users: object = None, items: object = None) -> Grown:
    options = ReadOptions()
    return grow(model.fitted_, read_additions(model.fitted_, tables_of(options, ratings, users, items), options, "new"))


def rows(grown: Grown) -> list[tuple[str, str, float]]:
    """All ratings, by id."""
    data = grown.data
    users, items = ([side.ids.ids[i] for i in at] for side, at in ((data.users, data.user), (data.items, data.item)))
    return list(zip(users, items, data.rating.tolist(), strict=True))


def test_ratings_keep_their_places_and_new_ones_follow(model: Recommender) -> None:
    grown = added(model, pl.DataFrame({"user": [9, 2, 1], "item": ["d", "a", "a"], "rating": [3, 1, 5]}))
    assert rows(grown)[:5] == [("1", "a", 5), ("1", "b", 1), ("2", "a", 1), ("2", "c", 2), ("3", "b", 3)]
    assert rows(grown)[5:] == [("9", "d", 3)]
    assert (grown.ratings, grown.users, grown.items) == (2, 1, 1)  # that of user 1 was known
    assert grown.data.scale == (1, 5)
    assert grown.data.users.ids.ids == ("1", "2", "3", "9")


def test_nothing_new(model: Recommender) -> None:
    grown = added(model, RATED, USERS, ITEMS)
    assert (grown.ratings, grown.users, grown.items, grown.changed) == (0, 0, 0, False)
    assert not added(model).changed


def test_columns_are_of_the_kinds_that_the_model_knows(model: Recommender) -> None:
    """In a table of two users, cities are numbers, ages are few and constant, and titles are not distinct."""
    users = pl.DataFrame({"user": ["8", "9"], "city": ["00777", "00777"], "age": ["33", "33"]})
    items = pl.DataFrame({"item": ["d", "e"], "title": ["Same", "Same"], "tags": ["y", "x|y"]})
    grown = added(model, users=users, items=items)
    assert grown.data.users.attributes == model.fitted_.users.table.attributes
    assert grown.data.users.columns["city"].to_list() == ["01234", "01234", "99999", "00777", "00777"]
    assert grown.data.users.columns["age"].to_list() == [20, 31, 47, 33, 33]
    assert grown.data.items.columns["tags"].to_list()[3:] == [["y"], ["x", "y"]]
    assert grown.data.items.labels == ("Alpha", "Beta", "Gamma", "Same", "Same")
    assert (grown.ratings, grown.users, grown.items) == (0, 2, 2)


def test_cells_of_known_users_change_unless_they_are_empty(model: Recommender) -> None:
    users = pl.DataFrame({"user": ["1", "3"], "city": [None, "55555"], "age": [21.0, None]})
    grown = added(model, users=users, items=pl.DataFrame({"item": ["b"], "title": ["Better"]}))
    assert grown.data.users.columns["city"].to_list() == ["01234", "01234", "55555"]
    assert grown.data.users.columns["age"].to_list() == [21, 31, 47]
    assert grown.data.items.labels == ("Alpha", "Better", "Gamma")
    assert (grown.users, grown.items) == (2, 1)


def test_equal_ratings_are_ratings(model: Recommender) -> None:
    """A table in which all ratings are equal would otherwise be one of choices."""
    grown = added(model, pl.DataFrame({"user": [1, 2, 3], "item": ["c", "b", "a"], "rating": [5, 5, 5]}))
    assert rows(grown)[5:] == [("1", "c", 5), ("2", "b", 5), ("3", "a", 5)]


def test_a_choice_counts_as_the_rating_nearest_to_the_mean(model: Recommender) -> None:
    """And leaves a rating that is there."""
    grown = added(model, pl.DataFrame({"user": [1, 3], "item": ["a", "c"]}))
    assert rows(grown)[0] == ("1", "a", 5)
    assert rows(grown)[5:] == [("3", "c", 3)]
    assert grown.ratings == 1


def test_files_of_every_side(model: Recommender, tmp_path: Path) -> None:
    for name, frame in (("r", {"user": ["7"], "item": ["a"], "rating": ["4"]}), ("u", {"user": ["7"], "age": ["18"]})):
        pl.DataFrame(frame).write_csv(tmp_path / f"{name}.csv")
    done = model.update(tmp_path / "r.csv", users=[tmp_path / "u.csv"])
    assert (done.ratings, done.users, done.items, done.how) == (1, 1, 0, "full")
    assert model.fitted_.users.table.columns["age"].to_list() == [20, 31, 47, 18]


def test_what_is_not_used_is_said(model: Recommender) -> None:
    with pytest.warns(match=r"users: the model has no attribute 'shoe', 'hat': not used"):
        model.update(users=pl.DataFrame({"user": [1], "shoe": [43], "hat": [55]}))
    options = ReadOptions()
    tables = tables_of(options, pl.DataFrame({"user": [1, 9], "item": ["c", "a"], "rating": [1, 2]}), USERS)
    (notice,) = read_additions(model.fitted_, tables, options, "new").notices
    assert notice.startswith("users: users: 1 users with ratings have no row there ('9')")


def test_a_rating_off_the_scale(model: Recommender) -> None:
    with pytest.raises(DataError, match="rating 6 of item 'a' by user '3' is off the scale 1 to 5.*correct or remove"):
        added(model, pl.DataFrame({"user": [3, 1], "item": ["a", "c"], "rating": [6, 3]}))


def test_ratings_for_a_model_of_choices() -> None:
    model = DampedMeans().fit(RatingDataset.from_frames(RATED)).fitted_
    clicks = Additions(pl.DataFrame([("1", "c", None)], schema=RATINGS, orient="row"))
    assert grow(model, clicks).data.has_ratings
    from aanmf import EASE

    chosen = EASE().fit(RatingDataset.from_frames(RATED.drop("rating")))
    with pytest.raises(DataError, match=r"has learned choices without ratings: .*--rating-column none"):
        chosen.update(pl.DataFrame({"user": [1, 2], "item": ["c", "b"], "rating": [1, 5]}))
    assert chosen.update(pl.DataFrame({"user": [1, 2], "item": ["c", "b"]})).ratings == 2
