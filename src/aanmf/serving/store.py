"""Ratings and choices since training, in a database: acknowledged when committed, never before.

| version | what changed |
|---|---|
| 1 | table `ratings`, every row with a rating |
| 2 | a row may be a choice, without a rating |
| 3 | users can be forgotten: tables `ratings_about` (version and salt) and `ratings_forgotten` (digests) |

Tables of earlier versions are brought up to this one when the store is opened.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aanmf.data.sql import open_engine, without_password
from aanmf.errors import AanmfError, ConfigError, ForgottenError, MissingExtraError
from aanmf.serving.forgotten import Forgotten

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

LEAST_FREE = 16 << 20
"""Bytes of free disk below which the store reports that the disk is full."""


VERSION = 3


class StoreError(AanmfError):
    """The database of ratings cannot be used, or does not answer."""


class StoredRating(NamedTuple):
    """One rating given since training; None: the user chose the item (a click, a purchase) and did not rate it."""

    user: str
    item: str
    rating: float | None


class RatingStore:
    """A table `ratings` with one row per user and item: SQLite, or PostgreSQL.

    Attributes:
        url: of the database, without the password.
        forgotten: users who were forgotten, as of the last look (`refresh`).

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
        name, digest = sql.Column("name", text, primary_key=True), sql.Column("digest", text, primary_key=True)
        about = sql.Table("ratings_about", sql.MetaData(), name, sql.Column("value", text, nullable=False))
        self._gone = sql.Table(
            "ratings_forgotten", sql.MetaData(), digest, sql.Column("time", sql.BigInteger, nullable=False)
        )
        with self._faults(), self._engine.begin() as connection:
            for table in (self._table, about, self._gone):
                connection.execute(sql.schema.CreateTable(table, if_not_exists=True))
            new = [{"name": "version", "value": str(VERSION)}, {"name": "salt", "value": secrets.token_hex(32)}]
            connection.execute(self._insert(about).on_conflict_do_nothing(), new)
            found = {row.name: row.value for row in connection.execute(sql.select(about.c.name, about.c.value))}
        if int(found["version"]) > VERSION:
            raise StoreError(f"the ratings in {self.url} were written by a newer version of aanmf: install that one")
        self.forgotten = Forgotten(bytes.fromhex(found["salt"]))
        with self._faults():
            self._allow_choices()
        self.refresh()

    def add(self, ratings: Sequence[StoredRating]) -> None:
        """Stores ratings in one transaction; they are on disk when this returns.

        A later rating replaces an earlier one; a choice without a rating leaves it as it is.

        Raises:
            StoreError: the database does not answer or refuses; then none of them is stored.
            ForgottenError: one is of a user who was forgotten; then none of them is stored.
        """
        last: dict[tuple[str, str], float | None] = {}  # an upsert may touch a row once
        for user, item, rating in ratings:
            last[user, item] = last.get((user, item)) if rating is None else rating
        if not last:
            return
        now = int(time.time())
        rows = [{"user": u, "item": i, "rating": rating, "time": now} for (u, i), rating in sorted(last.items())]
        new = self._insert(self._table)
        rating = self._sql.func.coalesce(new.excluded.rating, self._table.c.rating)
        newer = {"rating": rating, "time": new.excluded.time}
        digests = {self.forgotten.digest(user) for user, _ in last}
        with self._faults(), self._engine.begin() as connection:
            if self._engine.dialect.name == "postgresql":  # or a user could be forgotten between writing and looking
                connection.exec_driver_sql("LOCK TABLE ratings_forgotten IN SHARE MODE")
            connection.execute(new.on_conflict_do_update(index_elements=["user", "item"], set_=newer), rows)
            gone = self._gone.c.digest
            if connection.execute(self._sql.select(gone).where(gone.in_(digests)).limit(1)).first() is not None:
                raise ForgottenError("a user among these was forgotten on request: nothing is stored under this id")

    def add_all(self, many: Sequence[Sequence[StoredRating]]) -> list[int | Exception]:
        """Stores the ratings of several requests in one transaction, and returns how many each of them had.

        A request with a forgotten user is refused alone; the error stands in its place.
        """
        try:
            self.add([rating for ratings in many for rating in ratings])
        except ForgottenError as error:
            return [error] if len(many) == 1 else [each for one in many for each in self.add_all([one])]
        return [len(ratings) for ratings in many]

    def forget(self, user: str) -> int:
        """Removes all that is stored of a user, and takes nothing more of that id; returns how many ratings there were.

        SQLite overwrites the rows and empties its log; PostgreSQL keeps dead rows until the next VACUUM.

        Raises:
            StoreError: the database does not answer or refuses; then nothing has changed.
        """
        told = {"digest": self.forgotten.digest(user), "time": int(time.time())}
        with self._faults(), self._engine.begin() as connection:
            connection.execute(self._insert(self._gone).on_conflict_do_nothing(), [told])
            removed = connection.execute(self._sql.delete(self._table).where(self._table.c.user == user)).rowcount
        if self._engine.dialect.name == "sqlite":
            with self._faults(), self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self.refresh()
        return removed

    def refresh(self) -> bool:
        """Looks for users whom other processes have forgotten; returns whether there are more than before."""
        known, gone = self.forgotten, self._gone.c.digest
        with self._faults(), self._engine.connect() as connection:
            if connection.execute(self._sql.select(self._sql.func.count()).select_from(self._gone)).scalar() == len(
                known
            ):
                return False
            self.forgotten = known.with_digests(connection.execute(self._sql.select(gone)).scalars().all())
        return True

    def stored_of(self, user: str) -> list[dict[str, object]]:
        """All that is stored of a user, oldest first: `item`, `rating` and `time`, in seconds since 1970."""
        table = self._table.c
        asked = self._sql.select(table.item, table.rating, table.time).where(table.user == user)
        with self._faults(), self._engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(asked.order_by(table.time, table.item))]

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
        return [rating for rating, _ in self.dated()]

    def dated(self) -> list[tuple[StoredRating, int]]:
        """Every rating and when it was stored, in seconds since 1970, oldest first."""
        table = self._table.c
        columns = table.user, table.item, table.rating, table.time
        asked = self._sql.select(*columns).order_by(table.time, table.user, table.item)
        with self._faults(), self._engine.connect() as connection:
            return [(StoredRating(*row), time) for *row, time in connection.execute(asked)]

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

    def _insert(self, table: Table) -> Any:
        """An INSERT that can say what to do about rows that are there."""
        if self._engine.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert
        else:
            from sqlalchemy.dialects.sqlite import insert
        return insert(table)

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
        cursor.execute("PRAGMA secure_delete = ON")
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
