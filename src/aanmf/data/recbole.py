"""Atomic files of RecBole: `NAME.inter` with the ratings, `NAME.user` and `NAME.item` with the attributes.

They are tables with tabs between the cells, whose header gives each column a type: `token` (a label), `token_seq`
(labels with blanks between them), `float` and `float_seq`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from aanmf.data.attribute_kind import TITLES
from aanmf.data.codes import words_of
from aanmf.data.dataset import RatingDataset, warned
from aanmf.data.entities import EntityTable
from aanmf.data.frames import label_column, tables_of
from aanmf.data.options import ReadOptions
from aanmf.data.schema import Attribute, Kind
from aanmf.data.tables import Table
from aanmf.errors import DataError
from aanmf.storage import replace_file

RATINGS = ".inter"
SIDES = {"users": ".user", "items": ".item"}
USES = {"float": "numeric", "token_seq": "multi-valued: ", "float_seq": "vector: "}
"""What a column of each type is; tokens are read as their cells suggest, since they may be ages or years."""
TYPES = {Kind.CATEGORICAL: "token", Kind.MULTIVALUED: "token_seq", Kind.NUMERIC: "float", Kind.VECTOR: "float_seq"}


def read_recbole(path: str | Path, *, options: ReadOptions | None = None, **keywords: object) -> RatingDataset:
    """Reads atomic files.

    Args:
        path: `NAME.inter`, or a folder with such a file. The files of users and items lie next to it.
        options: how to read the tables.
        **keywords: options by name; see `ReadOptions`. What is said of a column by `attributes` replaces its type.

    Raises:
        DataError: there is no such file or folder, or a table cannot be used, with its place.
        ConfigError: an unknown option.
    """
    asked = ReadOptions.of(options, {"separator": "\t", **keywords})
    ratings = _ratings_file(Path(path))
    tables, types = {"ratings": [_table(ratings, asked)[0]]}, dict[str, str]()
    for side, ending in SIDES.items():
        file = ratings.with_suffix(ending)
        tables[side] = []
        if file.exists():
            table, found = _table(file, asked)
            tables[side] = [table]
            types |= {f"{side}.{name}": use for name, use in found.items() if name not in asked.attributes}
    asked = replace(asked, attributes={**types, **asked.attributes})
    return warned(RatingDataset.of_tables(tables, asked, ratings.stem))


def write_recbole(data: RatingDataset, folder: str | Path) -> Path:
    """Writes a data set as atomic files into a folder, named as the folder, as RecBole expects it.

    Blanks within labels of multi-valued attributes become `_`, since blanks stand between the labels.

    Returns:
        The file of ratings.

    Raises:
        DataError: the files cannot be written.
    """
    folder = Path(folder)
    ratings, users, items = tables_of(data)
    roles = {"user": "user_id:token", "item": "item_id:token", "rating": "rating:float", "time": "timestamp:float"}
    there = [pl.col(name).alias(typed) for name, typed in roles.items() if name in ratings.columns]
    tables = {RATINGS: ratings.select(*there, *(_cells(each) for each in data.context.attributes))}
    for ending, frame, side in ((".user", users, data.users), (".item", items, data.items)):
        tables[ending] = _typed(frame, side)
    try:
        for ending, frame in tables.items():
            with replace_file(folder / f"{folder.name}{ending}") as file:
                frame.write_csv(file, separator="\t")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error})") from None
    return folder / f"{folder.name}{RATINGS}"


def _ratings_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*{RATINGS}"))
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise DataError(f"{path}: one file of ratings (NAME{RATINGS}) is needed. Available: {names}")
    return found[0]


def _table(path: Path, options: ReadOptions) -> tuple[Table, dict[str, str]]:
    """A file with the plain names of its columns, and what columns are by their types."""
    table = Table.read(path, options)
    names = {column: column.partition(":")[0] for column in table.frame.columns}
    types = {column.partition(":")[0]: column.partition(":")[2] for column in table.frame.columns}
    ids = {"user_id", "item_id"}
    titles = {name for name in types if words_of(name) and words_of(name)[-1] in TITLES}
    uses = {name: USES[kind] for name, kind in types.items() if kind in USES and name not in ids | titles}
    return replace(table, frame=table.frame.rename(names)), uses


def _typed(frame: pl.DataFrame, side: EntityTable) -> pl.DataFrame:
    """The table of users (items) with types in its header, and lists as text."""
    name = frame.columns[0]
    columns = [pl.col(name).alias(f"{name}_id:token")]
    if side.labels is not None:
        columns.append(pl.col(label_column(side)).str.replace_all(r"\s+", " ").alias("title:token_seq"))
    return frame.select(*columns, *(_cells(each) for each in side.attributes))


def _cells(attribute: Attribute) -> pl.Expr:
    """An attribute as text."""
    column, kind = pl.col(attribute.name), TYPES[attribute.kind]
    if attribute.kind is Kind.CATEGORICAL:
        column = column.str.replace_all(r"\s+", " ")
    elif attribute.kind is Kind.MULTIVALUED:
        column = column.list.eval(pl.element().str.replace_all(r"\s+", "_")).list.join(" ")
    elif attribute.kind is Kind.VECTOR:
        column = column.list.eval(pl.element().cast(pl.String)).list.join(" ")
    return column.alias(f"{attribute.name}:{kind}")
