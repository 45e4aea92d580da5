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

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder written by `aanmf train --out`.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Change a setting of the model, for instance factors=16. Repeatable."
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE.toml", help="Read settings from a TOML file; --set overrides it."),
]
ModelName = Annotated[str, typer.Option("--model", metavar="NAME", help=f"Choose a model: {', '.join(CATALOG)}.")]
DEFAULT_MODEL = next(iter(CATALOG))
"""The recommended one."""

RankBy = Annotated[
    Literal["match", "rating", "low"] | None,
    typer.Option(
        "--rank-by",
        help="Rank by match, rating or low. Match: how likely the user is to choose and like an item; low: the lower "
        "end of the interval of its rating. [default: match if the model has it]",
    ),
]

_SOURCE = (
    "Read ratings from a file (CSV, TSV, JSON lines, Parquet, Excel, also compressed) or a database "
    "(sqlite:///FILE, postgresql://USER@HOST/NAME). Built-in data sets are restaurants, ml-100k, ml-1m, synthetic, and "
    "synthetic:N (N ratings). `aanmf train` also reads a folder of files, or a pattern such as 'ratings/*.parquet'. "
    "Files may be URLs: s3://, gs://, az://, https://."
)
_CONTEXT = (
    "Use columns of the ratings that are known before the rating: companion,weather. The column of times may be one of "
    "them (timestamp in ml-100k and ml-1m). Repeatable."
)
_USES = (
    "Say what a column is: categorical, multi-valued, multi-valued:, (separated by commas), numeric, numeric:7 (7 "
    "groups), vector, label (shown in results) or ignore. Write users.NAME, items.NAME or ratings.NAME (context) if "
    "several tables have the column. Repeatable."
)


def _option(panel: str) -> Callable[..., Any]:
    return lambda metavar, help_, *names: typer.Option(*names, metavar=metavar, help=help_, rich_help_panel=panel)


_tables, _columns, _database = map(_option, ("Tables of users and items", "How to read", "From a database"))
UserTables = Annotated[
    list[str] | None, _tables("FILE", "Read attributes of users from this table, one row per id. Repeatable.")
]
ItemTables = Annotated[
    list[str] | None, _tables("FILE", "Read attributes of items from this table, one row per id. Repeatable.")
]
RatingsQuery = Annotated[str | None, _database("SQL", "Select one row per rating. [default: SELECT * FROM ratings]")]
UsersQuery = Annotated[str | None, _database("SQL", "Select one row per user.")]
ItemsQuery = Annotated[str | None, _database("SQL", "Select one row per item.")]
UserColumn = Annotated[str | None, _columns("NAME", "Read user ids from this column. [default: guessed]")]
ItemColumn = Annotated[str | None, _columns("NAME", "Read item ids from this column. [default: guessed]")]
RatingColumn = Annotated[
    str | None,
    _columns(
        "NAME",
        "Read ratings from this column; none: each row is a choice without a rating, such as a click. "
        "[default: guessed]",
    ),
]
Separator = Annotated[str | None, _columns("TEXT", "Split rows into cells at this text. [default: guessed]")]
Encoding = Annotated[
    str | None, _columns("NAME", "Read text files in this encoding, such as cp1251. [default: utf-8, else cp1252]")
]
BadRows = Annotated[
    str | None,
    _columns("POLICY", "Treat a row that cannot be read as an error, or skip it with a notice. [default: error]"),
]
Repeated = Annotated[
    str | None,
    _columns(
        "POLICY",
        "Treat repeated ratings of an item by the same user as an error, or keep the last one by time (last), the "
        "last row (last-row), or the mean. Not for a folder of files. [default: error]",
    ),
]
MissingTexts = Annotated[
    list[str] | None, _columns("TEXT", "Treat this text as a missing value, in addition to the usual ones. Repeatable.")
]


@dataclass(frozen=True)
class Source:
    """Where ratings, users and items come from: the options of every command that reads ratings."""

    source: Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE)]
    users: UserTables = None
    items: ItemTables = None
    attributes: Annotated[list[str] | None, _tables("NAME=USE", _USES, "--attribute")] = None
    context: Annotated[list[str] | None, _tables("NAME,...", _CONTEXT)] = None
    title: Annotated[str | None, _tables("NAME", "Show this column of items in results.")] = None
    schema: Annotated[Path | None, _tables("FILE.toml", "Read what the columns are from a TOML file.")] = None
    ratings_query: RatingsQuery = None
    users_query: UsersQuery = None
    items_query: ItemsQuery = None
    user_column: UserColumn = None
    item_column: ItemColumn = None
    rating_column: RatingColumn = None
    time_column: Annotated[str | None, _columns("NAME", "Read times from this column. [default: guessed]")] = None
    time_format: Annotated[str | None, _columns("FORMAT", "Read times in this format, for instance %d/%m/%Y.")] = None
    separator: Separator = None
    encoding: Encoding = None
    bad_rows: BadRows = None
    repeated: Repeated = None
    unlisted: Annotated[
        str | None,
        _columns(
            "POLICY",
            "Treat users and items without a row in their table as having no attributes (unknown), or as an error. "
            "[default: unknown, but error if no id has a row]",
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
        from aanmf.data.urls import located

        with err().status(f"preparing {located(self.source)} in {folder}"), _quiet():
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
