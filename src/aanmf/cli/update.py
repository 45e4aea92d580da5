"""`aanmf update`: a model learns from what came since it was trained, mostly without a full fit."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aanmf.cli.options import (
    AsJson,
    BadRows,
    Encoding,
    ItemColumn,
    ItemsQuery,
    ItemTables,
    MissingTexts,
    ModelFolder,
    RatingColumn,
    RatingsQuery,
    Repeated,
    Separator,
    UserColumn,
    UsersQuery,
    UserTables,
)
from aanmf.cli.output import emit, facts, notice, out
from aanmf.errors import ConfigError
from aanmf.locks import locked

if TYPE_CHECKING:
    from aanmf.additions import Additions
    from aanmf.data.options import ReadOptions
    from aanmf.data.tables import Table
    from aanmf.fitted import Fitted

_DONE = {
    "histories": "at once, without training",
    "training": "with some more epochs of training",
    "full": "by a full fit",
}


def update(
    folder: ModelFolder,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="New ratings: a file (CSV, TSV, JSON lines, Parquet, Excel, also compressed), or a database: "
            "sqlite:///FILE, postgresql://USER@HOST/NAME. [default: the ratings that `aanmf serve` stored]",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            "--from",
            metavar="URL",
            help="Read forgotten users, and new ratings unless SOURCE has them, from this database of `aanmf serve`. "
            "[default: next to the model]",
        ),
    ] = None,
    users: UserTables = None,
    items: ItemTables = None,
    full: Annotated[
        bool, typer.Option("--full", help="Fit again in full, whatever the number of new ratings.")
    ] = False,
    ratings_query: RatingsQuery = None,
    users_query: UsersQuery = None,
    items_query: ItemsQuery = None,
    user_column: UserColumn = None,
    item_column: ItemColumn = None,
    rating_column: RatingColumn = None,
    separator: Separator = None,
    encoding: Encoding = None,
    bad_rows: BadRows = None,
    repeated: Repeated = None,
    missing: MissingTexts = None,
    as_json: AsJson = False,
) -> None:
    """Learn from new ratings, users and items, and replace the old model with the new one.

    A few new ratings take seconds, many some training, very many a full fit; the answer says which it was. The settings
    stay, and columns mean what they meant in training. A running service loads the new model at once.
    """
    from aanmf.cli.train import summary
    from aanmf.data.options import MISSING, ReadOptions
    from aanmf.recommender import estimator_of
    from aanmf.training.progress import shown_progress

    columns = {"user": user_column, "item": item_column, "rating": rating_column}
    policies = {"separator": separator, "encoding": encoding, "bad_rows": bad_rows, "repeated": repeated}
    options = ReadOptions.of(None, {**columns, **policies, "missing": (*MISSING, *(missing or ()))})
    queries = {"ratings": ratings_query, "users": users_query, "items": items_query}
    new = NewData(folder, source, store, {"users": users, "items": items}, queries, options)
    start, kind = time.perf_counter(), estimator_of(folder)
    with locked(folder), shown_progress(folder.name) as on_epoch:
        model, done = kind.load_with(folder, new.read, full=full, on_epoch=on_epoch)
        if model.is_fitted:
            model.save(folder)
    found: dict[str, Any] = {
        "updated": model.is_fitted,
        "new_ratings": done.ratings,
        "new_users": done.users,
        "new_items": done.items,
        "forgotten_users": done.forgotten,
        "how": done.how,
        "why": done.why,
        "out": str(folder),
    }
    if model.is_fitted:
        found |= summary(model, time.perf_counter() - start)
    if as_json:
        emit(found)
    elif not model.is_fitted:
        out().print(f"{new.place} has nothing that {folder} has not learned; it stays as it is.")
    else:
        lines = [
            ("model", found["model"]),
            ("new or changed", f"{done.ratings:,} ratings, {done.users:,} users, {done.items:,} items"),
            *([("forgotten", f"{done.forgotten:,} users")] if done.forgotten else []),
            ("learned", f"{_DONE[done.how]} ({done.why})"),
            ("ratings in all", f"{found['ratings']:,} of {found['items']:,} items by {found['users']:,} users"),
            ("time", f"{found['fit_seconds']:.1f} s"),
            ("saved in", found["out"]),
        ]
        out().print(facts(None, lines))


@dataclass(frozen=True)
class NewData:
    """Where new data come from, as the command line names it."""

    folder: Path
    source: str | None
    store: str | None
    tables: dict[str, list[str] | None]
    queries: dict[str, str | None]
    options: ReadOptions

    @property
    def place(self) -> str:
        """Where ratings come from, for messages."""
        from aanmf.data.sql import without_password

        return without_password(self.source or self._store)

    @property
    def _store(self) -> str:
        from aanmf.serving.run import default_store

        return self.store or default_store(self.folder)

    def read(self, fitted: Fitted) -> Additions:
        """Reads everything as a model knows it; notices go to stderr."""
        from aanmf.additions import read_additions

        tables = self._tables()
        new = read_additions(fitted, tables, self.options, self.place)
        for text in new.notices:
            notice(text)
        stored = self._stored()  # who is forgotten there is not brought back by another source
        asked = self.source is None and not tables["ratings"]
        given = {"ratings": stored.ratings, "time": stored.time} if asked else {}
        return replace(new, **given, forgotten=stored.forgotten)

    def _tables(self) -> dict[str, list[Table]]:
        """All files and queries that are named."""
        from aanmf.additions import tables_of
        from aanmf.data.sql import RATINGS_QUERY, sql_tables
        from aanmf.data.urls import is_database

        tables = tables_of(self.options, None, *self.tables.values())
        queries = {side: query for side, query in self.queries.items() if query is not None}
        if self.source is not None and not is_database(self.source):
            if queries:
                asked = f"--{next(iter(queries))}-query"
                raise ConfigError(f"{self.source} is not a database: {asked} cannot be given for it")
            return tables | {"ratings": tables_of(self.options, self.source)["ratings"]}
        if self.source is not None:
            queries = {"ratings": RATINGS_QUERY, **queries}
        if queries:
            found = sql_tables(self.source or self._store, queries)
            tables |= {side: [*tables[side], *found[side]] for side in found}
        return tables

    def _stored(self) -> Additions:
        """What the service stored; without a store next to the model, nothing.

        Raises:
            ConfigError: the store that was named is not there, so nobody would be forgotten.
        """
        from aanmf.additions import Additions
        from aanmf.serving.update import stored_additions

        if self._store.startswith("sqlite:///") and not Path(self._store.removeprefix("sqlite:///")).exists():
            if self.store is not None:
                raise ConfigError(f"--store {self.store}: no such file; name the one that `aanmf serve` writes")
            return Additions()
        return stored_additions(self._store)
