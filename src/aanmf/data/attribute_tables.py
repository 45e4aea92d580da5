"""How tables of users and of items are read: rows by id, columns as attributes or as labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from aanmf.data.attribute_kind import TITLES
from aanmf.data.cells import OPAQUE
from aanmf.data.codes import words_of
from aanmf.data.columns import guess_column
from aanmf.data.entities import EntityTable, Vocabulary
from aanmf.data.files import SHOWN
from aanmf.data.infer import Column, infer, joined_columns
from aanmf.data.names import ITEM_NAMES, USER_NAMES
from aanmf.data.options import ReadOptions, ask_for, ask_to_read
from aanmf.data.schema import IGNORE, LABEL, Attribute, Schema
from aanmf.data.tables import IDS, Table
from aanmf.errors import DataError, SchemaError

SIDES = ("users", "items", "ratings")


def stated_uses(tables: Mapping[str, Sequence[Table]], options: ReadOptions) -> Schema:
    """What is stated of columns of users, items and ratings, by `schema`, `attributes` and `title`.

    A bare name belongs to the only table that has a column of that name.

    Raises:
        SchemaError: no table has the column, or several have it.
    """
    schema = options.schema
    for stated, use in options.attributes.items():
        side, dot, name = stated.partition(".")
        if not dot or side not in SIDES:
            name = stated
            sides = [side for side in SIDES if any(name in table.frame.columns for table in tables.get(side, ()))]
            if len(sides) > 1 and "ratings" in sides:
                sides.remove("ratings")
            if len(sides) != 1 or (sides == ["ratings"] and use != IGNORE and name not in options.context):
                fault = "no table has" if not sides else f"the tables of {' and '.join(sides)} have"
                raise SchemaError(
                    f"attribute {stated}={use}: {fault} a column {name!r}; "
                    f"write users.{stated}={use} or items.{stated}={use} to say whose it is, or ratings.{stated}={use} "
                    "to use it as context"
                )
            side = sides[0]
        schema = schema.with_use(side, name, use)
    return schema if options.title is None else schema.with_use("items", options.title, LABEL)


def read_entities(
    side: str, tables: Sequence[Table], rated: pl.Series, key: str, schema: Schema, options: ReadOptions
) -> EntityTable:
    """The table of users (items): rows of the first table with one row per id, then ids that only have ratings.

    Args:
        side: `"users"` or `"items"`.
        tables: attributes. Further tables may have several rows per id; their columns become multi-valued.
        rated: ids of the users (items) of the ratings.
        key: column of these ids in the ratings: the tables may have the same.
        schema: what is stated of columns.
        options: empty cells, and the policies for ids without a row and for rows that cannot be read.

    Raises:
        DataError: an id, a column or a cell cannot be used, with its place.
    """
    rated = rated.unique(maintain_order=True).alias("id")
    keyed, notices = list[pl.DataFrame](), list[str]()
    for table in tables:
        frame, more = _keyed(table, side, key, rated, options)
        keyed.append(frame)
        notices += more
    main = next((frame for frame in keyed if not frame["id"].is_duplicated().any()), None)
    ids = rated
    if main is not None:
        alone = rated.filter(~rated.is_in(main["id"].implode()))
        ids = pl.concat([main["id"], alone])
        if len(alone):
            where = ", ".join(table.where for table in tables)
            text = f"{where}: {len(alone)} {side} with ratings have no row there ({_some(alone)})"
            if options.unlisted == "error":
                raise DataError(f"{text}; add them, or pass {ask_for('unlisted', 'unknown')}")
            notices.append(f"{text}: all their attributes are missing")
    columns: dict[str, pl.Series] = {}
    for frame in keyed:
        for column in _aligned(frame, ids):
            columns[column.name if column.name not in columns else f"{column.name}_{len(columns)}"] = column
    return _entities(side, ids, columns, notices, schema, options)


def _some(ids: pl.Series) -> str:
    return ", ".join(map(repr, ids[:SHOWN].to_list())) + (", ..." if len(ids) > SHOWN else "")


def column_of_ids(table: Table, side: str, key: str) -> str:
    """Where the ids of a table of users (items) stand: `key`, a column with a usual name, or the first one.

    Raises:
        DataError: the table has no columns.
    """
    columns, names = table.frame.columns, USER_NAMES if side == "users" else ITEM_NAMES
    if not columns:
        raise DataError(f"{table.where}: the table of {side} has no columns, so no ids")
    by_name = key if key in columns else guess_column(columns, (*names, "id"))
    return by_name if by_name is not None and table.has_header else columns[0]


def _keyed(
    table: Table, side: str, key: str, rated: pl.Series, options: ReadOptions
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The frame with its id column, cleaned, as `id`, and the notices of its reading."""
    table.require_rows()
    column = column_of_ids(table, side, key)
    table, read = table.read_columns({column: IDS}, options)
    found = read[column].alias("id")
    if column in rated:
        raise DataError(
            f"{table.where}: its first line looks like a row of the table: {column!r} is one of the {side}. "
            "Add a line with the names of the columns above it"
        )
    if len(rated) and options.unlisted != "unknown" and not rated.is_in(found.implode()).any():
        raise DataError(
            f"{table.where}: none of the {len(rated)} {side} with ratings has a row there: the ratings have "
            f"{_some(rated)}; column {column!r} has {_some(found)}. Make the ids agree (call their column {key!r} if "
            f"they are in another one), or continue without these attributes: {ask_for('unlisted', 'unknown')}"
        )
    others = table.frame.drop(column)
    lists = next((name for name in others.columns if others[name].dtype.is_nested()), None)
    if lists is not None and found.is_duplicated().any():
        raise DataError(
            f"{table.where}: {column!r} has several rows of the same id, and column {lists!r} holds "
            f"{others[lists].dtype} values, which cannot be joined: give one row per id, or text"
        )
    return others.insert_column(0, found), table.notices


def _aligned(frame: pl.DataFrame, ids: pl.Series) -> list[pl.Series]:
    """Columns with a row per id; where an id has several rows, their distinct values as `a|b|c`."""
    if frame["id"].is_duplicated().any():
        texts = [_one_separator(frame[c].cast(pl.String).str.strip_chars()) for c in frame.columns if c != "id"]
        rows = pl.DataFrame([frame["id"], *texts]).group_by("id", maintain_order=True)
        lists = rows.agg(pl.all().drop_nulls().unique(maintain_order=True))
        frame = lists.with_columns(pl.exclude("id").list.join("|"))
    joined = ids.to_frame("id").join(frame, on="id", how="left", maintain_order="left")
    return [joined[c] for c in joined.columns if c != "id"]


def _one_separator(column: pl.Series) -> pl.Series:
    """A list within a cell (`Mon;Tue;`) joins the list of its rows."""
    known = column.drop_nulls()
    if not len(known) or known.str.contains(";", literal=True).sum() < 0.5 * len(known):
        return column
    return column.str.strip_chars_end(";").str.replace_all(";", "|", literal=True)


def _entities(
    side: str, ids: pl.Series, columns: dict[str, pl.Series], notices: list[str], schema: Schema, options: ReadOptions
) -> EntityTable:
    """Attributes and labels out of columns."""
    if absent := schema.named(side) - set(columns):
        available = ", ".join(columns) or "none"
        raise DataError(f"{side}: no column {sorted(absent)[0]!r} for a stated attribute. Available: {available}")
    columns, joined = joined_columns(columns, schema.named(side), options.missing)
    notices = [*notices, *joined]
    declared = schema.stated(side)
    skipped = {*schema.ignored(side), schema.label(side)}
    found = {
        name: infer(column.alias(name), declared.get(name), options.missing)
        for name, column in columns.items()
        if name not in skipped
    }
    label = schema.label(side) or _label_column(side, found)
    attributes, kept = list[Attribute](), list[pl.Series]()
    for name, column in found.items():
        if column.attribute is not None and name != label:
            attributes.append(column.attribute)
            kept.append(column.values.alias(name))
        if column.notice is not None and name != label:
            notices.append(column.notice)
    if label is not None and (columns[label].dtype.is_nested() or columns[label].dtype in OPAQUE):
        raise SchemaError(f"{side}: column {label!r} holds {columns[label].dtype} values, which cannot be titles")
    labels = None if label is None else _labels(columns[label], ids, options)
    if label is not None and schema.label(side) is None and label.lower() not in TITLES:
        way = ask_to_read(label, "categorical")
        notices.append(f"column {label!r} is shown in results as the title, not used for training. {way} trains on it")
    return EntityTable(Vocabulary(ids.to_list()), pl.DataFrame(kept), tuple(attributes), labels, tuple(notices), label)


def _label_column(side: str, columns: Mapping[str, Column]) -> str | None:
    """The column that is shown beside the id: named as a title, else the only one of items with distinct text."""
    texts = [name for name, column in columns.items() if column.attribute is None and column.values.dtype == pl.String]
    by_name = [name for name in texts if name.lower() in TITLES]
    by_name += [name for name, column in columns.items() if _is_title(name) and _are_distinct(column.values)]
    distinct = [name for name, column in columns.items() if column.distinct]
    if by_name:
        return by_name[0]
    return distinct[0] if side == "items" and len(distinct) == 1 else None


def _is_title(name: str) -> bool:
    return bool(words_of(name)) and words_of(name)[-1] in TITLES


def _are_distinct(column: pl.Series) -> bool:
    known = column.drop_nulls()
    return known.dtype == pl.String and known.n_unique() > 0.9 * len(known) > 0.9


def _labels(column: pl.Series, ids: pl.Series, options: ReadOptions) -> tuple[str, ...]:
    """Names of all ids: where one is missing, the id."""
    text = column.cast(pl.String).str.strip_chars()
    text = text.set(text.is_in(["", *options.missing]).fill_null(False), None)
    return tuple(text.fill_null(ids).to_list())
