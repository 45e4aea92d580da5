"""Options that several commands share: where ratings come from, and the settings of a model."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aanmf.models.catalog import CATALOG

if TYPE_CHECKING:
    from aanmf.data.dataset import RatingDataset
    from aanmf.data.options import ReadOptions
    from aanmf.data.stream import StreamedDataset

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document in place of a table.")]
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder written by `aanmf train --out`.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the model, for instance factors=16. Repeatable."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings from a TOML file; --set overrides it.")
]
ModelName = Annotated[str, typer.Option("--model", metavar="NAME", help=f"Which model: {', '.join(CATALOG)}.")]
DEFAULT_MODEL = next(iter(CATALOG))
"""The recommended one."""

RankBy = Annotated[
    Literal["match", "rating", "low"] | None,
    typer.Option(
        "--rank-by",
        help="match: what the user is likely to choose and like; rating: the predicted rating; low: the low end of its "
        "interval. [default: match where the model has it]",
    ),
]

_SOURCE = (
    "restaurants, ml-100k, ml-1m, synthetic, synthetic:N (ratings), a file (CSV, TSV, JSON lines, Parquet, Excel, also "
    "compressed), or a database: sqlite:///FILE, postgresql://USER@HOST/NAME. `aanmf train` also takes a folder of "
    "files, or a pattern ('ratings/*.parquet'), larger than memory."
)
_CONTEXT = (
    "Columns of the ratings that are known before the rating: companion,weather. The column of times may be one of "
    "them (of ml-100k and ml-1m: timestamp). Repeatable."
)
_USES = (
    "What a column is: categorical, multi-valued, multi-valued:, (separated by commas), numeric, numeric:7 (groups), "
    "vector, label (shown in results) or ignore. users.NAME, items.NAME or ratings.NAME (context) where several tables "
    "have it. Repeatable."
)


def _option(panel: str) -> Callable[..., Any]:
    return lambda metavar, help_, *names: typer.Option(*names, metavar=metavar, help=help_, rich_help_panel=panel)


_tables, _columns, _database = map(_option, ("Tables of users and items", "How to read", "From a database"))
UserTables = Annotated[list[Path] | None, _tables("FILE", "Table of users, one row per id. Repeatable.")]
ItemTables = Annotated[list[Path] | None, _tables("FILE", "Table of items, one row per id. Repeatable.")]
RatingsQuery = Annotated[str | None, _database("SQL", "One row per rating. [default: SELECT * FROM ratings]")]
UsersQuery = Annotated[str | None, _database("SQL", "One row per user.")]
ItemsQuery = Annotated[str | None, _database("SQL", "One row per item.")]
UserColumn = Annotated[str | None, _columns("NAME", "Guessed if not given.")]
ItemColumn = Annotated[str | None, _columns("NAME", "Guessed if not given.")]
RatingColumn = Annotated[
    str | None, _columns("NAME", "Guessed if not given. none: each row is a choice without a rating, like a click.")
]
Separator = Annotated[str | None, _columns("TEXT", "Between cells; guessed if not given.")]
Encoding = Annotated[str | None, _columns("NAME", "Of text files, for instance cp1251. [default: utf-8, else cp1252]")]
BadRows = Annotated[
    str | None, _columns("POLICY", "A row that cannot be read: error (the default), skip (and say so).")
]
Repeated = Annotated[
    str | None,
    _columns(
        "POLICY",
        "A user who rates an item twice: error (the default), last (by time), last-row, mean. "
        "Streamed ratings take none.",
    ),
]
MissingTexts = Annotated[
    list[str] | None,
    _columns("TEXT", "A cell that stands for a missing value, in addition to the usual ones. Repeatable."),
]


@dataclass(frozen=True)
class Source:
    """Where ratings, users and items come from: the options of every command that reads ratings."""

    source: Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE)]
    users: UserTables = None
    items: ItemTables = None
    attributes: Annotated[list[str] | None, _tables("NAME=USE", _USES, "--attribute")] = None
    context: Annotated[list[str] | None, _tables("NAME,...", _CONTEXT)] = None
    title: Annotated[str | None, _tables("NAME", "Column of items that is shown in results.")] = None
    schema: Annotated[Path | None, _tables("FILE.toml", "Uses of columns from a file.")] = None
    ratings_query: RatingsQuery = None
    users_query: UsersQuery = None
    items_query: ItemsQuery = None
    user_column: UserColumn = None
    item_column: ItemColumn = None
    rating_column: RatingColumn = None
    time_column: Annotated[str | None, _columns("NAME", "Guessed if not given.")] = None
    time_format: Annotated[str | None, _columns("FORMAT", "How times are written, for instance %d/%m/%Y.")] = None
    separator: Separator = None
    encoding: Encoding = None
    bad_rows: BadRows = None
    repeated: Repeated = None
    unlisted: Annotated[
        str | None,
        _columns(
            "POLICY",
            "A rating whose user or item has no row in its table: unknown (all attributes missing), error. [default: "
            "unknown, but error where no id has a row]",
        ),
    ] = None
    missing: MissingTexts = None

    def load(self) -> RatingDataset:
        """Reads everything; notices of the reader go to stderr."""
        from aanmf.cli.output import err
        from aanmf.data.sources import load
        from aanmf.data.sql import without_password

        queries = {"ratings": self.ratings_query, "users": self.users_query, "items": self.items_query}
        given = {side: query for side, query in queries.items() if query is not None}
        with err().status(f"reading {without_password(self.source)}"), _quiet():
            data = load(self.source, users=self.users, items=self.items, queries=given, options=self._options())
        _show_notices(data)
        return data

    def stream(self, folder: Path) -> StreamedDataset:
        """Prepares several files in `folder`, to be read from there in every epoch."""
        from aanmf.cli.output import err
        from aanmf.data.stream import stream_dataset

        with err().status(f"preparing {self.source} in {folder}"), _quiet():
            data = stream_dataset(self.source, folder, users=self.users, items=self.items, options=self._options())
        _show_notices(data)
        return data

    def _options(self) -> ReadOptions:
        from aanmf.data.options import MISSING, ReadOptions
        from aanmf.data.schema import Schema, name_and_use

        schema = Schema.read(self.schema) if self.schema else Schema()
        given = {
            "schema": schema,
            "attributes": dict(name_and_use(text) for text in self.attributes or []),
            "context": [name.strip() for names in self.context or () for name in names.split(",") if name.strip()],
            "title": self.title,
            "user": self.user_column,
            "item": self.item_column,
            "rating": self.rating_column,
            "time": self.time_column,
            "time_format": self.time_format,
            "separator": self.separator,
            "encoding": self.encoding,
            "bad_rows": self.bad_rows,
            "repeated": self.repeated,
            "unlisted": self.unlisted,
            "missing": (*MISSING, *(self.missing or ())),
        }
        return ReadOptions.of(None, given)


def _show_notices(data: RatingDataset | StreamedDataset) -> None:
    from aanmf.cli.output import notice
    from aanmf.data.report import notices_of

    for text in notices_of(data.notices, data.users, data.items):
        notice(text)


@contextmanager
def _quiet() -> Iterator[None]:
    """Notices are not shown as warnings: `_show_notices` prints them."""
    from aanmf.errors import DataWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


def reads_source(command: Callable[..., None]) -> Callable[..., None]:
    """Replaces the parameter `source: Source` of a command by the fields of `Source`, for typer to read."""
    fields = inspect.signature(Source, eval_str=True).parameters

    @functools.wraps(command)
    def run(**values: Any) -> None:
        command(source=Source(**{name: values.pop(name) for name in fields}), **values)

    own = inspect.signature(command, eval_str=True).parameters.values()
    expanded = [each for one in own for each in (fields.values() if one.name == "source" else [one])]
    signature = inspect.Signature([each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in expanded])
    vars(run)["__signature__"] = signature
    return run
