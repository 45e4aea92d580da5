"""Context: columns of the ratings that belong to single ratings, and the time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from aanmf.data.context import Context, ContextEncoder, ContextTable, seconds
from aanmf.data.dataset import RatingDataset
from aanmf.data.schema import Kind, Schema
from aanmf.data.sources import load
from aanmf.errors import DataError, DataWarning, SchemaError

NEW_YEAR = 1_704_067_200  # Monday 2024-01-01 00:00 UTC


def frame(**more: Any) -> pl.DataFrame:
    columns = {
        "user": ["a", "a", "b", "b", "c", "c"],
        "item": ["x", "y", "x", "z", "y", "z"],
        "rating": [1, 2, 3, 4, 5, 4],
        "companion": ["family", "alone", None, "family", "friends", "alone"],
        "weather": ["sun|wind", "rain", "sun", "", "rain|wind", "sun"],
        "temperature": [20.5, 3.25, 11.0, 17.75, None, -2.5],
        "timestamp": [NEW_YEAR + 3600 * hour for hour in (0, 5, 23, 24, 49, 6 * 24)],
    }
    return pl.DataFrame({**columns, **more})


def read(context: list[str], ratings: pl.DataFrame | None = None, **options: Any) -> RatingDataset:
    return RatingDataset.from_frames(frame() if ratings is None else ratings, context=context, **options)


def kinds(data: RatingDataset) -> dict[str, Kind]:
    return {each.name: each.kind for each in data.context.attributes}


def test_nothing_is_context_unless_it_is_named() -> None:
    with pytest.warns(DataWarning, match=r"'companion' is not used: it differs .* context=\['companion'\] \(--context"):
        data = read([])
    assert data.context.names == []
    assert "ratings" not in data.report().attributes


def test_kinds_of_context_are_inferred_as_those_of_other_attributes() -> None:
    data = read(["companion", "weather", "temperature"])
    expected = {"companion": Kind.CATEGORICAL, "weather": Kind.MULTIVALUED, "temperature": Kind.NUMERIC}
    assert kinds(data) == expected
    assert data.context.columns["companion"].to_list() == ["family", "alone", None, "family", "friends", "alone"]
    assert data.context.columns["weather"][0].to_list() == ["sun", "wind"]
    assert data.report().context == ("companion", "weather", "temperature")
    assert [each.name for each in data.report().attributes["ratings"]] == list(expected)
    assert "Attributes of ratings" in str(data.report())


def test_declared_columns_of_ratings_are_context(tmp_path: Path) -> None:
    by_name = read(["temperature"], attributes={"temperature": "categorical"})
    assert kinds(by_name) == {"temperature": Kind.CATEGORICAL}
    assert kinds(read([], attributes={"ratings.companion": "categorical"})) == {"companion": Kind.CATEGORICAL}
    (tmp_path / "schema.toml").write_text('[ratings.temperature]\nkind = "numeric"\ncuts = [0, 10]\n')
    data = read([], schema=Schema.read(tmp_path / "schema.toml"))
    assert data.context.attributes[0].cuts == (0, 10)


def test_time_is_context_by_the_name_of_its_column() -> None:
    data = read(["companion", "timestamp"])
    assert data.context.time == "timestamp"
    assert data.context.names == ["companion", "timestamp"]
    whole = data.context.with_time(data.time).columns
    assert whole["hour"].to_list() == ["00", "05", "23", "00", "01", "00"]
    assert whole["weekday"].to_list() == ["Monday", "Monday", "Monday", "Tuesday", "Wednesday", "Sunday"]


def test_a_column_of_another_role_may_look_like_context() -> None:
    ratings = frame(score=["p", "q", "p", "q", "p", "q"], time=["noon", "night"] * 3).drop("timestamp")
    data = read(["score", "time"], ratings)
    assert kinds(data) == {"score": Kind.CATEGORICAL, "time": Kind.CATEGORICAL}
    assert data.time is None
    assert not any("'time'" in notice for notice in data.notices)


def test_context_follows_its_ratings() -> None:
    data = read(["companion", "timestamp"])
    part = data.take(np.array([4, 0]))
    assert part.context.columns["companion"].to_list() == ["friends", "family"]
    assert part.context.time == "timestamp"
    train, test = data.split(0.5, seed=1)
    assert sorted(map(str, [*train.context.columns["companion"], *test.context.columns["companion"]])) == sorted(
        map(str, data.context.columns["companion"])
    )
    twice = pl.concat([frame(), frame(companion=["new"] * 6, timestamp=frame()["timestamp"] + 1)])
    assert read(["companion"], twice, repeated="last").context.columns["companion"].to_list() == ["new"] * 6
    assert data.with_context(["timestamp"]).context.columns.width == 0
    assert data.with_context([]).context.names == []


def test_rows_that_are_left_out_take_their_context_with_them() -> None:
    ratings = frame(rating=["1", "2", "?", "4", "5", "4"])
    assert read(["temperature"], ratings, bad_rows="skip").context.columns["temperature"].to_list() == [
        *(20.5, 3.25, 17.75, None, -2.5)
    ]


def test_fingerprint_changes_with_context_and_time_alone() -> None:
    plain, context, timed = read([]), read(["companion"]), read(["timestamp"])
    other = read(["companion"], frame(companion=["alone"] * 5 + ["family"]))
    later = read(["timestamp"], frame(timestamp=frame()["timestamp"] + 1))
    found = {each.fingerprint for each in (plain, context, timed, other, later)}
    assert len(found) == 5
    assert read([], frame(companion=["alone"] * 6)).fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("context", "options", "fault"),
    [
        (["mood"], {}, "no column 'mood' for the context. Available: user, item"),
        (["user"], {"user": "user"}, "context and the user of the ratings"),
        (["companion"], {"attributes": {"users.companion": "categorical"}}, "context and an attribute of users"),
        (["companion"], {"attributes": {"ratings.companion": "ignore"}}, "context and ignored"),
        (["companion"], {"attributes": {"ratings.companion": "label"}}, "context of some kind, or ignored"),
        (["companion"], {"attributes": {"ratings.companion": "numeric"}}, "not a finite number"),
    ],
)
def test_what_cannot_be_context(context: list[str], options: dict[str, Any], fault: str) -> None:
    with pytest.raises((DataError, SchemaError), match=fault):
        read(context, **options)


def test_a_role_cannot_be_context_where_it_was_guessed() -> None:
    with pytest.raises(DataError, match="cannot tell which column holds the rating"):
        read(["rating"])


def test_a_column_in_the_table_of_users_too_is_both() -> None:
    users = pl.DataFrame({"user": ["a", "b", "c"], "companion": ["alone", "family", "alone"]})
    data = RatingDataset.from_frames(frame(), users, context=["companion"])
    assert data.users.names == ["companion"] == data.context.names
    assert data.context.columns["companion"][4] == "friends"


def test_times_in_milliseconds_and_in_the_future() -> None:
    milli = read(["timestamp"], frame(timestamp=frame()["timestamp"] * 1000 + 7))
    assert milli.time is not None
    assert milli.time.tolist() == frame()["timestamp"].to_list()
    with pytest.warns(DataWarning, match=r"'timestamp': 1 times lie in the future \(the last one: 2090-"):
        read(["timestamp"], frame(timestamp=[*frame()["timestamp"][:5], 3_800_000_000]))


def test_built_in_data_sets_take_context() -> None:
    with pytest.raises(DataError, match="no context 'timestamp'. Available: none"):
        load("restaurants", context=["timestamp"])
    with pytest.raises(DataError, match="separator cannot be given"):
        load("restaurants", separator=",")


# ---------------------------------------------------------------- encoding


def encoded(data: RatingDataset) -> tuple[ContextEncoder, Context]:
    encoder = ContextEncoder.fit(data.context, data.time)
    return encoder, encoder.transform(data.context, data.time)


def test_one_set_per_attribute_and_none_where_it_is_missing() -> None:
    encoder, context = encoded(read(["companion", "weather", "timestamp"]))
    assert encoder.names == ["companion", "weather", "timestamp"]
    assert [each.name for each in encoder.attributes.fitted] == ["companion", "weather", "hour", "weekday"]
    companion, weather, *_ = context.sets
    assert companion.mask[:, 0].tolist() == [True, True, False, True, True, True]
    assert weather.weight[0].tolist() == pytest.approx([0.5**0.5] * 2)
    assert context.time is not None
    assert context.time[0] == NEW_YEAR


def test_what_the_test_part_holds_changes_nothing_in_the_encoder() -> None:
    data = read(["companion", "temperature", "timestamp"])
    rows = np.array([0, 1, 3])
    altered = frame(
        companion=["family", "alone", "NEW", "family", "NEW", "NEW"], temperature=[20.5, 3.25, 9e9, 17.75, 9e9, 0]
    )
    other = read(["companion", "temperature", "timestamp"], altered)
    one, two = (each.take(rows) for each in (data, other))
    assert ContextEncoder.fit(one.context, one.time) == ContextEncoder.fit(two.context, two.time)
    unseen = encoded(one)[0].transform(other.context, other.time)
    assert unseen.sets[0].mask[:, 0].tolist() == [True, True, False, True, False, False]


def test_requests_are_encoded_as_ratings_are() -> None:
    data = read(["companion", "temperature", "timestamp"])
    encoder, context = encoded(data)
    request = {"companion": "family", "temperature": 20.5, "timestamp": "2024-01-01"}
    asked = encoder.transform_requests([request])
    for own, trained in zip(asked.sets, context.sets, strict=True):
        assert own.value[0].tolist() == trained.value[0].tolist()
        assert own.mask.all()
    assert asked.time is not None
    assert asked.time.tolist() == [NEW_YEAR]
    nothing = encoder.transform_requests([{"companion": None}])
    assert not any(each.mask.any() for each in nothing.sets)
    assert nothing.time is None


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        ({"companion": "boss"}, "not among the values of the training data; allowed: 'alone', 'family', 'friends'"),
        ({"mood": "good"}, "unknown context 'mood'; this model knows: companion, timestamp"),
        ({"hour": "05"}, "unknown context 'hour'"),
        ({"timestamp": "soon"}, "'soon' is not a time; give seconds since 1970, or a date"),
        ({"timestamp": True}, "True is not a time"),
        ({"timestamp": [1]}, "is not a time"),
    ],
)
def test_requests_that_are_refused(request_: dict[str, object], fault: str) -> None:
    encoder, _ = encoded(read(["companion", "timestamp"]))
    with pytest.raises(SchemaError, match=fault):
        encoder.transform_requests([request_])


@pytest.mark.parametrize("value", [NEW_YEAR, NEW_YEAR * 1000, str(NEW_YEAR), "2024-01-01", "2024-01-01T00:00:00Z"])
def test_times_of_requests(value: object) -> None:
    assert seconds("timestamp", value) == NEW_YEAR


def test_a_table_survives_its_file() -> None:
    table = read(["companion", "weather", "timestamp"]).context
    again = ContextTable.from_parquet(table.to_parquet())
    assert again.columns.equals(table.columns)
    assert (again.attributes, again.time) == (table.attributes, table.time)
    empty = ContextTable.from_parquet(ContextTable(time="timestamp").to_parquet())
    assert (len(empty), empty.names) == (0, ["timestamp"])
