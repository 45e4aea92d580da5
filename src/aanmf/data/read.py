"""From tables to a `RatingDataset`: column names found, ids and ratings checked, attributes attached."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.data.infer import MISSING, TITLES, blank_out, infer
from aanmf.data.schema import Attribute, Schema
from aanmf.data.tables import as_frame, read_table
from aanmf.errors import DataError

if TYPE_CHECKING:
    from os import PathLike

    Source = str | PathLike[str]

USER_NAMES = ("user", "userid", "uid", "customer", "customerid", "reviewer", "reviewerid", "member", "memberid")
ITEM_NAMES = (
    *("item", "itemid", "iid", "movie", "movieid", "film", "filmid", "product", "productid", "book", "bookid"),
    *("isbn", "asin", "place", "placeid", "artist", "artistid", "song", "songid", "anime", "animeid", "business"),
    *("businessid", "restaurant", "restaurantid", "joke", "jokeid", "track", "trackid", "game", "gameid"),
)
RATING_NAMES = ("rating", "ratings", "score", "stars", "value", "bookrating", "overall", "label")
TIME_NAMES = ("timestamp", "time", "date", "datetime", "ratedat", "unixreviewtime", "tstamp")
SHOWN = 5


def read_dataset(
    ratings: Source,
    *,
    users: Source | Sequence[Source] | None = None,
    items: Source | Sequence[Source] | None = None,
    separator: str | None = None,
    name: str | None = None,
    **options: object,
) -> RatingDataset:
    """Reads ratings, and what is known of users and items, from files.

    Args:
        ratings: CSV, TSV (any separator, also `::`) or Parquet.
        users, items: a file with a row per user (item); or several: a further file may have several rows per user
            (one cuisine each, say), whose columns become multi-valued attributes.
        separator: of the text files; found out if None.
        name: for messages and reports; default: the file's name.
        **options: see `dataset_from_frames`.

    Raises:
        DataError: naming file, row and column, and what to do.
    """
    paths = {side: _paths(given) for side, given in (("users", users), ("items", items))}
    return dataset_from_frames(
        read_table(ratings, separator),
        users=[read_table(path, separator) for path in paths["users"]] or None,
        items=[read_table(path, separator) for path in paths["items"]] or None,
        name=name or Path(ratings).stem,
        where={"ratings": str(ratings), **{side: ", ".join(map(str, given)) for side, given in paths.items()}},
        **options,  # type: ignore[arg-type]
    )


def dataset_from_frames(
    ratings: object,
    users: object | Sequence[object] | None = None,
    items: object | Sequence[object] | None = None,
    *,
    schema: Schema | None = None,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    time: str | None = None,
    repeated: Literal["error", "last", "mean"] = "error",
    unlisted: Literal["unknown", "error"] = "unknown",
    missing: Sequence[str] = MISSING,
    scale: tuple[float, float] | None = None,
    name: str = "ratings",
    where: dict[str, str] | None = None,
) -> RatingDataset:
    """Builds a data set from polars, pandas or Arrow tables.

    Args:
        ratings: a row per rating.
        users, items: one table, or several, of what is known (see `read_dataset`).
        schema: attributes stated; the others are inferred.
        user, item, rating, time: column names in `ratings`; guessed if None.
        repeated: what to do with a (user, item) pair rated more than once: refuse, keep the last, or take the mean.
        unlisted: a user or item that has ratings but no row in its table: has all attributes missing, or is refused.
        missing: text that stands for an empty cell.
        scale: lowest and highest possible rating.
        name: for messages and reports.
        where: what to call the tables in messages.

    Raises:
        DataError: naming table, row and column, and what to do.
    """
    where = {"ratings": "ratings", "users": "users", "items": "items", **(where or {})}
    schema = schema or Schema()
    frame = as_frame(ratings, where["ratings"])
    if frame.height == 0:
        raise DataError(f"{where['ratings']}: the table has no rows")
    columns = rating_columns(frame, where["ratings"], user=user, item=item, rating=rating, time=time)
    first = 1 if columns["user"].startswith("column_") else 2  # the number of the first row, as an editor shows it
    user_ids = clean_ids(frame[columns["user"]], where["ratings"], first)
    item_ids = clean_ids(frame[columns["item"]], where["ratings"], first)
    values = finite(frame[columns["rating"]], where["ratings"], first)
    stamps = _times(frame[columns["time"]], where["ratings"], first) if "time" in columns else None
    tables = {}
    for side, given, ids in (("users", users, user_ids), ("items", items, item_ids)):
        frames = [] if given is None else [as_frame(each, where[side]) for each in _several(given)]
        key = columns[side[:-1]]
        tables[side] = entities(side, frames, ids, key, schema, tuple(missing), unlisted, where[side])
    data = RatingDataset(
        users=tables["users"],
        items=tables["items"],
        user=tables["users"].ids.index(user_ids),
        item=tables["items"].ids.index(item_ids),
        rating=values.to_numpy().astype(np.float32),
        time=None if stamps is None else stamps.to_numpy(),
        scale=scale,
        name=name,
    )
    return _without_repeats(data, repeated, where["ratings"], first)


# -------------------------------------------------------------------- columns of ratings


def rating_columns(frame: pl.DataFrame, where: str, **given: str | None) -> dict[str, str]:
    """Which column is which: as given, by position without a header, else by name."""
    guesses = {"user": USER_NAMES, "item": ITEM_NAMES, "rating": RATING_NAMES, "time": TIME_NAMES}
    found: dict[str, str] = {}
    by_position = dict(zip(guesses, frame.columns, strict=False)) if frame.columns[0] == "column_1" else {}
    for role, names in guesses.items():
        if (column := given[role]) is not None:
            if column not in frame.columns:
                raise DataError(f"{where}: no column {column!r}; there are: {', '.join(frame.columns)}")
            found[role] = column
        elif role in by_position:
            found[role] = by_position[role]
        elif guess := guess_column(frame.columns, names):
            found[role] = guess
        elif role != "time":
            raise DataError(
                f"{where}: cannot tell which column holds the {role}; there are: {', '.join(frame.columns)}. "
                f"Name it ({role}=... in Python, --{role}-column on the command line)"
            )
    return found


def guess_column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The column whose name, without case, blanks and underscores, is the earliest of `names`."""
    plain = {"".join(c for c in column.lower() if c.isalnum()): column for column in reversed(columns)}
    return next((plain[name] for name in names if name in plain), None)


def clean_ids(column: pl.Series, where: str, first: int = 1) -> pl.Series:
    """Ids as strings: whole floats lose their `.0`, blanks around text go.

    Raises:
        DataError: an empty id, a fraction, or a type that is no id.
    """
    if column.dtype == pl.Boolean or column.dtype.is_nested():
        raise DataError(f"{where}: column {column.name!r} holds {column.dtype} values, which cannot be ids")
    if column.dtype.is_float():
        broken = column.is_not_null() & (column != column.round()).fill_null(True)
        _refuse(broken, column, where, first, "is not an id; ids are text or whole numbers")
        column = column.cast(pl.Int64, strict=False)
    text = column.cast(pl.String).str.strip_chars()
    _refuse(text.is_null() | (text == ""), column, where, first, "is empty where an id must stand")
    return text


def finite(column: pl.Series, where: str, first: int) -> pl.Series:
    """Ratings as finite numbers.

    Raises:
        DataError: naming the first row that is not one.
    """
    numbers = column.str.strip_chars() if column.dtype == pl.String else column
    numbers = numbers.cast(pl.Float64, strict=False)
    bad = numbers.is_null() | numbers.is_nan() | numbers.is_infinite()
    _refuse(bad.fill_null(True), column, where, first, "is not a finite number; correct it or take the row out")
    return numbers


def _times(column: pl.Series, where: str, first: int) -> pl.Series:
    """Whole seconds, from numbers or from dates as text."""
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("ms")).dt.epoch("s")
    text = column.cast(pl.String).str.strip_chars()
    seconds = text.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    if seconds.is_null().all():
        with suppress(pl.exceptions.ComputeError):  # raised where there is not one date
            seconds = text.str.to_datetime(strict=False, time_unit="ms").dt.epoch("s")
    _refuse(seconds.is_null(), column, where, first, "is not a time; give seconds since 1970 or a date like 2024-12-31")
    return seconds


def _refuse(bad: pl.Series, column: pl.Series, where: str, first: int, why: str) -> None:
    if bad.any():
        rows = bad.arg_true()
        more = f" ({len(rows)} such rows)" if len(rows) > 1 else ""
        raise DataError(f"{where}: row {rows[0] + first}, column {column.name!r}: {column[rows[0]]!r} {why}{more}")


def _without_repeats(data: RatingDataset, policy: str, where: str, first: int) -> RatingDataset:
    """Applies the policy for (user, item) pairs that are rated more than once."""
    pair = data.user * len(data.items) + data.item
    _, start, inverse, count = np.unique(pair, return_index=True, return_inverse=True, return_counts=True)
    if len(start) == len(data):
        return data
    if policy == "error":
        twice = np.flatnonzero(count[inverse] > 1)
        again = [row for row in twice if start[inverse[row]] != row]
        rows = ", ".join(str(row + first) for row in again[:SHOWN])
        u, i = (
            vocabulary.ids[rows_[again[0]]]
            for vocabulary, rows_ in ((data.users.ids, data.user), (data.items.ids, data.item))
        )
        raise DataError(
            f"{where}: {len(again)} ratings repeat a (user, item) pair "
            f"(rows {rows}{', ...' if len(again) > SHOWN else ''}; the first: user {u!r}, item {i!r}). "
            "Say what to do: repeated='last' or 'mean' (--repeated last|mean)"
        )
    if policy == "last":
        last = np.zeros(len(start), np.int64)
        last[inverse] = np.arange(len(data))  # later rows overwrite earlier ones
        return data.take(np.sort(last))
    if policy == "mean":
        mean = np.bincount(inverse, weights=data.rating) / count
        kept = np.sort(start)
        result = data.take(kept)
        result.rating[:] = mean[inverse[kept]]
        return result
    raise DataError(f"repeated={policy!r}: choose error, last or mean")


# ------------------------------------------------------------------- users and items


def entities(
    side: str,
    frames: list[pl.DataFrame],
    rated: pl.Series,
    key: str,
    schema: Schema,
    missing: tuple[str, ...],
    unlisted: str,
    where: str,
) -> EntityTable:
    """The table of users (items): rows of the first frame, then ids that only have ratings."""
    rated = rated.unique(maintain_order=True).alias("id")
    keyed = [_keyed(frame, side, key, where) for frame in frames]
    main = next((frame for frame in keyed if not frame["id"].is_duplicated().any()), None)
    listed = rated.clear() if main is None else main["id"]
    alone = rated.filter(~rated.is_in(listed.implode()))
    notices: list[str] = []
    if frames and main is not None and len(alone):
        shown = ", ".join(map(repr, alone[:SHOWN].to_list()))
        more = ", ..." if len(alone) > SHOWN else ""
        text = f"{where}: {len(alone)} {side} with ratings have no row there ({shown}{more})"
        if unlisted == "error":
            raise DataError(
                f"{text}; add them, or say unlisted='unknown' (--unlisted unknown) to take them as they are"
            )
        if unlisted != "unknown":
            raise DataError(f"unlisted={unlisted!r}: choose unknown or error")
        notices.append(f"{text}: all their attributes are missing")
    ids = pl.concat([listed, alone]) if main is not None else rated
    columns: dict[str, pl.Series] = {}
    for frame in keyed:
        for column in _aligned(frame, ids):
            columns[column.name if column.name not in columns else f"{column.name}_{len(columns)}"] = column
    return _table(side, ids, columns, schema, missing, notices, where)


def _keyed(frame: pl.DataFrame, side: str, key: str, where: str) -> pl.DataFrame:
    """The frame with its id column, cleaned, as `id`."""
    names = USER_NAMES if side == "users" else ITEM_NAMES
    column = key if key in frame.columns else guess_column(frame.columns, (*names, "id"))
    column = column or frame.columns[0]
    if frame.height == 0:
        raise DataError(f"{where}: the table has no rows")
    ids = clean_ids(frame[column], where, 1 if column.startswith("column_") else 2)
    return frame.drop(column).insert_column(0, ids.alias("id"))


def _aligned(frame: pl.DataFrame, ids: pl.Series) -> list[pl.Series]:
    """Columns with a row per id; where an id has several rows, their distinct values as `a|b|c`."""
    if frame["id"].is_duplicated().any():
        plain = [_one_separator(frame[c].cast(pl.String).str.strip_chars()) for c in frame.columns if c != "id"]
        rows = pl.DataFrame([frame["id"], *plain]).group_by("id", maintain_order=True)
        frame = rows.agg(pl.all().drop_nulls().unique(maintain_order=True)).with_columns(
            pl.exclude("id").list.join("|")
        )
    joined = ids.to_frame("id").join(frame, on="id", how="left", maintain_order="left")
    return [joined[c] for c in joined.columns if c != "id"]


def _one_separator(column: pl.Series) -> pl.Series:
    """A list within a cell (`Mon;Tue;`) joins the list of its rows."""
    semicolons = column.drop_nulls().str.contains(";", literal=True).mean()
    if not semicolons or semicolons < 0.5:  # type: ignore[operator]
        return column
    return column.str.strip_chars_end(";").str.replace_all(";", "|", literal=True)


def _table(
    side: str,
    ids: pl.Series,
    columns: dict[str, pl.Series],
    schema: Schema,
    missing: tuple[str, ...],
    notices: list[str],
    where: str,
) -> EntityTable:
    stated, ignored = schema.stated(side), schema.ignored(side)
    if absent := (set(stated) | ignored) - set(columns):
        raise DataError(
            f"{where}: no column {sorted(absent)[0]!r} for a stated attribute; "
            f"there are: {', '.join(columns) or 'none'}"
        )
    attributes: list[Attribute] = []
    kept: list[pl.Series] = []
    labels: tuple[str, ...] | None = None
    for name, column in columns.items():
        if name in ignored:
            continue
        found = infer(column.alias(name), stated.get(name), missing)
        if found.attribute is None:
            if labels is None and _is_title(found.values):
                text = blank_out(column, missing).cast(pl.String)
                labels = tuple(text.fill_null(ids).to_list())
                notices.append(f"column {name!r} holds names: shown beside the id, not used as an attribute")
            else:
                notices.append(found.notice or "")
        else:
            attributes.append(found.attribute)
            kept.append(found.values.alias(name))
    return EntityTable(Vocabulary(ids.to_list()), pl.DataFrame(kept), tuple(attributes), labels, tuple(notices))


def _is_title(values: pl.Series) -> bool:
    return values.dtype == pl.String and values.name.lower() in TITLES


def _several(given: object) -> Sequence[object]:
    return given if isinstance(given, list | tuple) else [given]


def _paths(given: Source | Sequence[Source] | None) -> list[Source]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]  # type: ignore[list-item]
