"""Columns of every type that Polars has, in every role: they are read, left out with a notice, or refused."""

from __future__ import annotations

import datetime as dt
import warnings
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from aanmf import RatingDataset
from aanmf.errors import AanmfError

NUMBERS = pl.Series([1, 2, 3, 4])
TYPES = {
    "text": pl.Series(["p", "q", "p", "r"]),
    "text of numbers": pl.Series(["1", "2", "3", "4"]),
    "boolean": pl.Series([True, False, True, True]),
    "int8": NUMBERS.cast(pl.Int8),
    "int128": NUMBERS.cast(pl.Int128),
    "uint64": NUMBERS.cast(pl.UInt64),
    "float32": NUMBERS.cast(pl.Float32),
    "decimal": pl.Series([Decimal("1.50"), Decimal("2"), Decimal("3"), Decimal("4")]),
    "date": pl.Series([dt.date(2020, 1, day) for day in (1, 2, 3, 4)]),
    "datetime": pl.Series([dt.datetime(2020, 1, day) for day in (1, 2, 3, 4)]),
    "datetime of a zone": pl.Series([dt.datetime(2020, 1, day) for day in (1, 2, 3, 4)]).dt.replace_time_zone(
        "Asia/Tokyo"
    ),
    "time": NUMBERS.cast(pl.Time),
    "duration": NUMBERS.cast(pl.Duration("us")),
    "categorical": pl.Series(["p", "q", "p", "r"]).cast(pl.Categorical),
    "categorical of numbers": pl.Series(["1", "2", "3", "4"]).cast(pl.Categorical),
    "enum": pl.Series(["p", "q", "p", "r"]).cast(pl.Enum(["p", "q", "r"])),
    "bytes that are text": pl.Series([b"p", b"q", b"p", b"r"]),
    "bytes": pl.Series([b"\xff\xfe", b"q", None, b"r"]),
    "null": pl.Series([None] * 4),
    "list of numbers": pl.Series([[1.0, 2.0]] * 4),
    "list of text": pl.Series([["a", "b"], ["b"], [], None]),
    "list of bytes": pl.Series([[b"\xff"]] * 4),
    "list of lists": pl.Series([[[1]]] * 4),
    "list of structs": pl.Series([[{"a": 1}]] * 4),
    "array": pl.Series([[1, 2]] * 4).cast(pl.Array(pl.Int64, 2)),
    "struct": pl.Series([{"a": 1}] * 4),
    "object": pl.Series([object() for _ in range(4)], dtype=pl.Object),
}
ROLES = (
    "user",
    "item",
    "rating",
    "timestamp",
    "unused",
    "of users",
    "of items",
    "user in users",
    "title",
    "declared",
    "context",
)


def tables(kind: str, role: str) -> tuple[pl.DataFrame, dict[str, object]]:
    """Ratings with a column of this type in this role, and what else is given."""
    column = TYPES[kind]
    columns = {
        "user": pl.Series(["a", "b", "c", "a"]),
        "item": pl.Series(["x", "y", "x", "y"]),
        "rating": pl.Series([1.0, 2.0, 3.0, 4.0]),
    }
    given: dict[str, object] = {}
    match role:
        case "user" | "item" | "rating" | "timestamp":
            columns[role] = column
        case "unused":
            columns["extra"] = column
        case "context":
            columns["extra"], given = column, {"context": ["extra"]}
        case "of users":
            given = {"users": pl.DataFrame({"user": ["a", "b", "c"], "x": column[:3]})}
        case "declared":
            users = pl.DataFrame({"user": ["a", "b", "c"], "x": column[:3]})
            given = {"users": users, "attributes": {"users.x": "categorical"}}
        case "of items":
            given = {"items": pl.DataFrame({"item": ["x", "y"], "x": column[:2]})}
        case "title":
            given = {"items": pl.DataFrame({"item": ["x", "y"], "title": column[:2]})}
        case "user in users":
            given = {"users": pl.DataFrame({"user": column[:3], "x": [1, 2, 3]})}
    return pl.DataFrame(columns), given


def read(kind: str, role: str) -> RatingDataset | str:
    """The data set, or what was refused."""
    frame, given = tables(kind, role)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return RatingDataset.from_frames(frame, **given)  # pyright: ignore[reportArgumentType]
        except AanmfError as error:
            return str(error)


def data_of(kind: str, role: str) -> RatingDataset:
    """The data set, which must be read."""
    found = read(kind, role)
    assert isinstance(found, RatingDataset), found
    return found


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", TYPES)
def test_no_type_is_a_fault_of_the_library(kind: str, role: str) -> None:
    found = read(kind, role)
    if isinstance(found, str):
        assert len(found) > 20
    else:
        assert len(found) == 4


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        *((kind, role) for kind in ("categorical", "enum", "bytes that are text") for role in ("of users", "item")),
        ("categorical of numbers", "rating"),
    ],
)
def test_categories_and_bytes_are_text(kind: str, role: str) -> None:
    found, as_text = data_of(kind, role), data_of("text of numbers" if role == "rating" else "text", role)
    assert found.items.ids == as_text.items.ids
    assert found.rating.tolist() == as_text.rating.tolist()
    assert found.users.columns.equals(as_text.users.columns)


@pytest.mark.parametrize("kind", ["bytes", "duration", "object"])
def test_cells_that_say_nothing_are_left_out_with_a_notice(kind: str) -> None:
    found = data_of(kind, "of users")
    assert found.users.columns.is_empty()
    assert any("values: left out" in notice for notice in found.users.notices)
    assert "give numbers or text" in str(read(kind, "declared"))
    assert "is not used: it holds" in " ".join(data_of(kind, "unused").notices)


def test_bytes_of_a_file_are_text(tmp_path: Path) -> None:
    """As written by programs that do not mark text in Parquet as such."""
    frame, _ = tables("text", "unused")
    binary = frame.with_columns(pl.col("user", "item").cast(pl.Binary))
    binary.write_parquet(tmp_path / "r.parquet")
    data = RatingDataset.read(tmp_path / "r.parquet")
    assert data.users.ids.ids == ("a", "b", "c")
