"""Ratings, users and items from a database: SQL queries through SQLAlchemy into polars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from aanmf.data.dataset import RatingDataset, warned
from aanmf.data.options import ReadOptions
from aanmf.data.tables import Table
from aanmf.errors import ConfigError, DataError, MissingExtraError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

RATINGS_QUERY = "SELECT * FROM ratings"


def read_sql(
    url: str,
    *,
    ratings: str = RATINGS_QUERY,
    users: str | None = None,
    items: str | None = None,
    options: ReadOptions | None = None,
    **keywords: object,
) -> RatingDataset:
    """Reads ratings, and attributes of users and items, from a database.

    Args:
        url: `sqlite:///FILE`, `postgresql://USER@HOST/NAME`, or another one that SQLAlchemy has a driver for.
        ratings: a query with a row per rating.
        users, items: queries with a row per user (item).
        options: how to read the tables.
        **keywords: options by name; see `ReadOptions`.

    Raises:
        ConfigError: not a database URL, or an unknown option.
        MissingExtraError: SQLAlchemy or the database's driver is not installed.
        DataError: the database cannot be reached, a query fails, or its rows cannot be used.
    """
    asked = ReadOptions.of(options, keywords)
    tables = sql_tables(url, {"ratings": ratings, "users": users, "items": items})
    return warned(RatingDataset.of_tables(tables, asked, sql_name(url)))


def sql_tables(url: str, queries: Mapping[str, str | None]) -> dict[str, list[Table]]:
    """The results of queries by name; no table for a query that is None. Raises the errors of `read_sql`."""
    engine = open_engine(url)
    from sqlalchemy.exc import SQLAlchemyError

    if engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).is_file():
        raise DataError(f"{engine.url.database}: no such file")
    place = engine.url.render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            return {
                side: [] if query is None else [Table.of(_frame(connection, side, query), f"--{side}-query")]
                for side, query in queries.items()
            }
    except SQLAlchemyError as error:  # of the connection: `_frame` reports those of a query
        raise DataError(f"{place} cannot be reached: {_reason(error)}") from None
    finally:
        engine.dispose()


def sql_name(url: str) -> str:
    """The name of a database."""
    return Path(str(open_engine(url).url.database)).stem


def open_engine(url: str, **options: Any) -> Engine:
    """A SQLAlchemy engine; PostgreSQL is reached through psycopg.

    Raises:
        ConfigError: not a database URL.
        MissingExtraError: SQLAlchemy or the database's driver is not installed.
    """
    try:
        import sqlalchemy
        import sqlalchemy.exc
    except ModuleNotFoundError:
        raise MissingExtraError("databases need SQLAlchemy: pip install 'aanmf[sql]'") from None
    try:
        parsed = sqlalchemy.make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        return sqlalchemy.create_engine(parsed, **options)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # ValueError: a port that is no number
        raise ConfigError(
            f"{without_password(url)!r} is not a database URL: write sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from None
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{without_password(url)} needs the driver {error.name}: pip install 'aanmf[sql]' for PostgreSQL"
        ) from None


def _frame(connection: Connection, side: str, query: str) -> pl.DataFrame:
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        result = connection.execute(text(query))
        if not result.returns_rows:
            raise DataError(f"--{side}-query returns no rows: write a SELECT")
        names = list(result.keys())
        rows = result.fetchall()
    except SQLAlchemyError as error:
        raise DataError(f"--{side}-query failed: {_reason(error)}") from None
    if not names:
        raise DataError(f"--{side}-query returns no columns: name some, or write SELECT *")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"--{side}-query returns two columns {twice!r}: name them apart with AS")
    try:
        frame = pl.DataFrame([tuple(row) for row in rows], schema=names, orient="row", infer_schema_length=None)
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise DataError(f"--{side}-query: a column mixes types ({_reason(error)}); CAST it to one") from None
    return frame.with_columns(pl.selectors.decimal().cast(pl.Float64))


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]


def without_password(url: str) -> str:
    """The URL without its password, for messages."""
    scheme, slashes, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{place}"
