"""After a fault at any statement or commit the store holds what it held before, or all that was asked for.

A `kill` leaves the files as they are at that moment: they are copied, and the copy is opened as after a restart. An
`EIO` raises what SQLite raises when the disk fails; `full` leaves no room for another page. What SQLite itself does
between two writes is tested by SQLite.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from aanmf.serving.store import RatingStore, StoredRating, StoreError, store_engine

FAULTS = ("kill", "EIO", "full")
OLD = [StoredRating(f"u{n}", "i1", 1.0) for n in range(20)]
NEW = [StoredRating(f"u{n}", f"i{k}", 2.0) for n in range(20) for k in range(1, 9)]
State = tuple[list[StoredRating], bool]


class FailingStatements:
    """Counts statements (before and after each) and commits, and makes the n-th fail.

    Attributes:
        done: steps so far.
        acknowledged: whether the action returned as if it had worked.
    """

    def __init__(self, folder: Path, fault: str | None, at: int) -> None:
        self.folder, self.fault, self.at, self.done, self.acknowledged = folder, fault, at, 0, False

    def step(self, raw: sqlite3.Connection) -> None:
        """One step; the one that is to fail fails."""
        self.done += 1
        if self.done != self.at:
            return
        if self.fault == "kill":
            shutil.copytree(self.folder, self.folder.parent / "killed")
        elif self.fault == "EIO":
            raise sqlite3.OperationalError("disk I/O error")
        elif self.fault == "full":
            raw.execute(f"PRAGMA max_page_count = {raw.execute('PRAGMA page_count').fetchone()[0]}")


@contextmanager
def failing(folder: Path, fault: str | None = None, at: int = 0) -> Iterator[FailingStatements]:
    """Within the block every engine of SQLAlchemy on this folder fails as asked; a service may still use others."""
    failed = FailingStatements(folder, fault, at)

    def is_here(connection: Connection) -> bool:
        return Path(connection.engine.url.database or "").parent == folder

    def around(connection: Connection, cursor: sqlite3.Cursor, *_: object) -> None:
        if is_here(connection):
            failed.step(cursor.connection)

    def commit(connection: Connection) -> None:
        if is_here(connection):
            failed.step(connection.connection.driver_connection)  # type: ignore[arg-type]

    listened = (("before_cursor_execute", around), ("after_cursor_execute", around), ("commit", commit))
    for name, function in listened:
        event.listen(Engine, name, function)
    try:
        yield failed
    finally:
        for name, function in listened:
            event.remove(Engine, name, function)


def state(folder: Path) -> State:
    """Ratings, and whether u3 is forgotten, as they are after a restart."""
    store = RatingStore(f"sqlite:///{folder / 'r.sqlite'}")
    try:
        return sorted(store.all()), "u3" in store.forgotten
    finally:
        store.close()


def add(url: str) -> None:
    store = RatingStore(url)
    try:
        store.add(NEW)
    finally:
        store.close()


def forget(url: str) -> None:
    store = RatingStore(url)
    try:
        store.forget("u3")
    finally:
        store.close()


def begin(folder: Path, version: int) -> None:
    """A store with some ratings: of this version, or of the first one."""
    url = f"sqlite:///{folder / 'r.sqlite'}"
    if version == 1:
        engine = store_engine(url)
        with engine.begin() as connection:
            columns = '"user" TEXT NOT NULL, item TEXT NOT NULL, rating DOUBLE NOT NULL, time BIGINT NOT NULL'
            connection.exec_driver_sql(f'CREATE TABLE ratings ({columns}, PRIMARY KEY ("user", item))')
            for row in OLD:
                connection.exec_driver_sql("INSERT INTO ratings VALUES (?, ?, ?, 1)", tuple(row))
        engine.dispose()
    else:
        store = RatingStore(url)
        store.add(OLD)
        store.close()


ACTIONS: dict[str, tuple[Callable[[str], None], int, State]] = {
    "ratings stored": (
        add,
        3,
        (sorted({**{row[:2]: row for row in OLD}, **{row[:2]: row for row in NEW}}.values()), False),
    ),
    "user forgotten": (forget, 3, ([row for row in sorted(OLD) if row.user != "u3"], True)),
    "store of version 1 opened": (lambda url: RatingStore(url).close(), 1, (sorted(OLD), False)),
}


def every_statement(place: Path, name: str, fault: str) -> int:
    """Lets every step of an action fail; returns how many steps there are."""
    action, version, after = ACTIONS[name]
    steps, at = 1, 0
    while at < steps:
        folder, killed = place / str(at) / "store", place / str(at) / "killed"
        folder.mkdir(parents=True)
        begin(folder, version)
        with failing(folder, fault if at else None, at) as failed, suppress(StoreError, sqlite3.OperationalError):
            action(f"sqlite:///{folder / 'r.sqlite'}")
            failed.acknowledged = True
        if at == 0:
            steps = failed.done
            assert state(folder) == after
        else:
            assert failed.done >= at
            found = state(killed if fault == "kill" else folder)
            assert found in ((sorted(OLD), False), after), f"step {at}: neither the old state nor the new one"
            assert fault == "kill" or not failed.acknowledged or found == after
            action(f"sqlite:///{(killed if fault == 'kill' else folder) / 'r.sqlite'}")  # the next one works
            assert state(killed if fault == "kill" else folder) == after
        shutil.rmtree(place / str(at))
        at += 1
    return steps - 1


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_statement_fails_once(tmp_path: Path, name: str, fault: str) -> None:
    assert every_statement(tmp_path, name, fault) > 5
