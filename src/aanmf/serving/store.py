"""Ratings and choices since training, in a database: acknowledged when committed, never before."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aanmf.data.sql import open_engine, without_password
from aanmf.errors import AanmfError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

LEAST_FREE = 16 << 20
"""Bytes of free disk below which the store reports that the disk is full."""


class StoreError(AanmfError):
    """The database of ratings cannot be used, or does not answer."""


class StoredRating(NamedTuple):
    """One rating given since training; None: the user chose the item (a click, a purchase) and did not rate it."""

    user: str
    item: str
    rating: float | None


class RatingStore:
    """A table `ratings` with one row per user and item: SQLite, or PostgreSQL.

    >>> store = RatingStore("sqlite://")
    >>> store.add([StoredRating("1", "50", 4.0), StoredRating("1", "50", 5.0), StoredRating("1", "7", None)])
    >>> store.of_users(["1", "2"])
    {'1': {'50': 5.0, '7': None}}
    """

    def __init__(self, url: str) -> None:
        """Connects, and makes the table if it is not there.

        Raises:
            ConfigError: the URL is not one of SQLite or PostgreSQL.
            StoreError: the database cannot be opened.
        """
        sql = _sqlalchemy()
        self._sql, self._engine = sql, store_engine(url)
        self.url = self._engine.url.render_as_string(hide_password=True)
        text = sql.String().with_variant(sql.Text(), "postgresql")
        self._table = sql.Table(
            "ratings",
            sql.MetaData(),
            sql.Column("user", text, primary_key=True),
            sql.Column("item", text, primary_key=True),
            sql.Column("rating", sql.Float(53), nullable=True),
            sql.Column("time", sql.BigInteger, nullable=False),
        )
        with self._faults(), self._engine.begin() as connection:
            connection.execute(sql.schema.CreateTable(self._table, if_not_exists=True))
        with self._faults():
            self._allow_choices()

    def add(self, ratings: Sequence[StoredRating]) -> None:
        """Stores ratings in one transaction; they are on disk when this returns.

        A later rating replaces an earlier one; a choice without a rating leaves it as it is.

        Raises:
            StoreError: the database does not answer or refuses; then none of them is stored.
        """
        last: dict[tuple[str, str], float | None] = {}  # an upsert may touch a row once
        for user, item, rating in ratings:
            last[user, item] = last.get((user, item)) if rating is None else rating
        if not last:
            return
        now = int(time.time())
        rows = [{"user": u, "item": i, "rating": rating, "time": now} for (u, i), rating in sorted(last.items())]
        if self._engine.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert
        else:
            from sqlalchemy.dialects.sqlite import insert
        new = insert(self._table)
        rating = self._sql.func.coalesce(new.excluded.rating, self._table.c.rating)
        newer = {"rating": rating, "time": new.excluded.time}
        with self._faults(), self._engine.begin() as connection:
            connection.execute(new.on_conflict_do_update(index_elements=["user", "item"], set_=newer), rows)

    def add_all(self, many: Sequence[Sequence[StoredRating]]) -> list[int]:
        """Stores the ratings of several requests in one transaction, and returns how many each of them had."""
        self.add([rating for ratings in many for rating in ratings])
        return [len(ratings) for ratings in many]

    def of_users(self, users: Collection[str]) -> dict[str, dict[str, float | None]]:
        """Item id -> rating of each of these users who has any."""
        table = self._table.c
        found: dict[str, dict[str, float | None]] = {}
        asked = self._sql.select(table.user, table.item, table.rating).where(table.user.in_(users))
        with self._faults(), self._engine.connect() as connection:
            for row in connection.execute(asked.order_by(table.time, table.item)):
                found.setdefault(row.user, {})[row.item] = row.rating
        return found

    def all(self) -> list[StoredRating]:
        """Every rating, oldest first."""
        table = self._table.c
        asked = self._sql.select(table.user, table.item, table.rating).order_by(table.time, table.user, table.item)
        with self._faults(), self._engine.connect() as connection:
            return [StoredRating(*row) for row in connection.execute(asked)]

    def check(self) -> None:
        """Asks the database for a sign of life, and an SQLite file for room to grow.

        Raises:
            StoreError: there is none.
        """
        file = self._engine.url.database
        if self._engine.dialect.name == "sqlite" and file and file != ":memory:":
            free = shutil.disk_usage(Path(file).absolute().parent).free
            if free < LEAST_FREE:
                raise StoreError(
                    f"the disk that holds {self.url} is full ({free >> 10:,} KB are left): "
                    "make room, or new ratings will be refused"
                )
        with self._faults(), self._engine.connect() as connection:
            connection.execute(self._sql.text("SELECT 1"))

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    def _allow_choices(self) -> None:
        """Makes `rating` optional in a table of an earlier version, which asked for one in every row."""
        with self._engine.begin() as connection:
            if self._takes_choices(connection):
                return
            if self._engine.dialect.name == "postgresql":
                connection.exec_driver_sql("ALTER TABLE ratings ALTER COLUMN rating DROP NOT NULL")
                return
            # SQLite cannot change a column: the rows move to a new table. Two processes may get here at once.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            if self._takes_choices(connection):
                return
            connection.exec_driver_sql("ALTER TABLE ratings RENAME TO ratings_before")
            connection.execute(self._sql.schema.CreateTable(self._table))
            connection.exec_driver_sql("INSERT INTO ratings SELECT * FROM ratings_before")
            connection.exec_driver_sql("DROP TABLE ratings_before")

    def _takes_choices(self, connection: Connection) -> bool:
        columns = self._sql.inspect(connection).get_columns("ratings")
        return any(each["name"] == "rating" and each["nullable"] for each in columns)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except self._sql.exc.SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise StoreError(f"the ratings in {self.url} cannot be used: {reason}") from None


def store_engine(url: str) -> Engine:
    """A SQLAlchemy engine for `sqlite:///FILE` or `postgresql://...`.

    SQLite runs with a write-ahead log and waits for the disk at every commit.

    Raises:
        ConfigError: another database, or a URL that is none.
        MissingExtraError: the driver is not installed.
    """
    sql = _sqlalchemy()
    kind, memory = url.partition(":")[0].partition("+")[0], url in ("sqlite://", "sqlite:///:memory:")
    if kind in ("postgresql", "postgres"):
        return open_engine(url, pool_pre_ping=True, pool_size=4)
    if kind != "sqlite":
        raise ConfigError(
            f"{without_password(url)!r}: ratings are kept in sqlite:///FILE or postgresql://USER@HOST/NAME"
        )
    if memory:  # one connection, or every thread would see a database of its own
        return open_engine(url, connect_args={"check_same_thread": False}, poolclass=sql.pool.StaticPool)
    engine = open_engine(url, connect_args={"timeout": 10})
    Path(str(engine.url.database)).absolute().parent.mkdir(parents=True, exist_ok=True)

    @sql.event.listens_for(engine, "connect")
    def _settings(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    return engine


def _sqlalchemy():
    try:
        import sqlalchemy
        import sqlalchemy.event
        import sqlalchemy.exc
    except ModuleNotFoundError:
        raise MissingExtraError("ratings in a database need SQLAlchemy: pip install 'aanmf[serve]'") from None
    return sqlalchemy
