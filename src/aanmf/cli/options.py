"""Options that several commands share: where ratings come from, and the settings of a model."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from aanmf.cli.parse import with_attributes
from aanmf.models.catalog import CATALOG

if TYPE_CHECKING:
    from aanmf.data.dataset import RatingDataset
    from aanmf.data.schema import Schema
    from aanmf.data.stream import StreamedDataset

_TABLES, _COLUMNS, _DATABASE = "Tables of users and items", "How to read", "From a database"

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


@dataclass(frozen=True)
class Source:
    """Where ratings, users and items come from: the options of every command that reads ratings."""

    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="ml-100k, ml-1m, synthetic, synthetic:N (ratings), a file (CSV, TSV, Parquet), or a database: "
            "sqlite:///FILE, postgresql://USER@HOST/NAME. `aanmf train` also takes a folder of files, or a pattern "
            "('ratings/*.parquet'), larger than memory.",
        ),
    ]
    users: Annotated[
        list[Path] | None,
        typer.Option(
            "--users", metavar="FILE", help="Table of users, one row per id. Repeatable.", rich_help_panel=_TABLES
        ),
    ] = None
    items: Annotated[
        list[Path] | None,
        typer.Option(
            "--items", metavar="FILE", help="Table of items, one row per id. Repeatable.", rich_help_panel=_TABLES
        ),
    ] = None
    ratings_query: Annotated[
        str | None,
        typer.Option(
            "--ratings-query",
            metavar="SQL",
            help="One row per rating. [default: SELECT * FROM ratings]",
            rich_help_panel=_DATABASE,
        ),
    ] = None
    users_query: Annotated[
        str | None, typer.Option("--users-query", metavar="SQL", help="One row per user.", rich_help_panel=_DATABASE)
    ] = None
    items_query: Annotated[
        str | None, typer.Option("--items-query", metavar="SQL", help="One row per item.", rich_help_panel=_DATABASE)
    ] = None
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            "--attribute",
            metavar="NAME=KIND",
            help="Kind of a column, in place of the inferred one: categorical, multi-valued, numeric, "
            "numeric:7 (groups), vector. users.NAME or items.NAME where both tables have it. Repeatable.",
            rich_help_panel=_TABLES,
        ),
    ] = None
    schema: Annotated[
        Path | None,
        typer.Option("--schema", metavar="FILE.toml", help="Kinds of columns from a file.", rich_help_panel=_TABLES),
    ] = None
    user_column: Annotated[
        str | None,
        typer.Option("--user-column", metavar="NAME", help="Guessed if not given.", rich_help_panel=_COLUMNS),
    ] = None
    item_column: Annotated[
        str | None,
        typer.Option("--item-column", metavar="NAME", help="Guessed if not given.", rich_help_panel=_COLUMNS),
    ] = None
    rating_column: Annotated[
        str | None,
        typer.Option("--rating-column", metavar="NAME", help="Guessed if not given.", rich_help_panel=_COLUMNS),
    ] = None
    time_column: Annotated[
        str | None,
        typer.Option("--time-column", metavar="NAME", help="Guessed if not given.", rich_help_panel=_COLUMNS),
    ] = None
    separator: Annotated[
        str | None,
        typer.Option(
            "--separator", metavar="TEXT", help="Between cells; guessed if not given.", rich_help_panel=_COLUMNS
        ),
    ] = None
    repeated: Annotated[
        str | None,
        typer.Option(
            "--repeated",
            metavar="POLICY",
            help="A user who rates an item twice: error (the default), last, mean.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None
    unlisted: Annotated[
        str | None,
        typer.Option(
            "--unlisted",
            metavar="POLICY",
            help="A rating whose user or item has no row in its table: unknown (the default), error.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None
    missing: Annotated[
        list[str] | None,
        typer.Option(
            "--missing",
            metavar="TEXT",
            help="A cell that stands for a missing value, beside the usual ones. Repeatable.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None

    def load(self) -> RatingDataset:
        """Reads everything; notices of the reader go to stderr."""
        from aanmf.cli.output import err
        from aanmf.data.infer import MISSING
        from aanmf.data.sources import load
        from aanmf.data.sql import without_password

        given: dict[str, Any] = {
            "user": self.user_column,
            "item": self.item_column,
            "rating": self.rating_column,
            "time": self.time_column,
            "separator": self.separator,
            "repeated": self.repeated,
            "unlisted": self.unlisted,
            "missing": (*MISSING, *self.missing) if self.missing else None,
        }
        options = {name: value for name, value in given.items() if value is not None}
        queries = {"ratings": self.ratings_query, "users": self.users_query, "items": self.items_query}
        if asked := {side: query for side, query in queries.items() if query is not None}:
            options["queries"] = asked
        with err().status(f"reading {without_password(self.source)}"):
            data = load(self.source, users=self.users, items=self.items, schema=self._schema(), **options)
        _show_notices(data)
        return data

    def stream(self, folder: Path) -> StreamedDataset:
        """Prepares several files in `folder`, to be read from there in every epoch.

        Raises:
            DataError: --repeated was given: that takes all ratings at once.
        """
        from aanmf.cli.output import err
        from aanmf.data.infer import MISSING
        from aanmf.data.stream import stream_dataset
        from aanmf.errors import DataError

        if self.repeated is not None:
            raise DataError("--repeated cannot be followed where ratings are streamed: take repeated ones out before")
        with err().status(f"preparing {self.source} in {folder}"):
            data = stream_dataset(
                self.source,
                folder,
                users=self.users,
                items=self.items,
                schema=self._schema(),
                user=self.user_column,
                item=self.item_column,
                rating=self.rating_column,
                separator=self.separator,
                unlisted=self.unlisted or "unknown",
                missing=(*MISSING, *(self.missing or ())),
            )
        _show_notices(data)
        return data

    def _schema(self) -> Schema | None:
        from aanmf.data.schema import Schema

        if not self.attribute and not self.schema:
            return None
        schema = Schema.read(self.schema) if self.schema else Schema()
        return with_attributes(schema, self.attribute or [], self.users or [], self.items or [], self.separator)


def _show_notices(data: RatingDataset | StreamedDataset) -> None:
    from aanmf.cli.output import notice

    for side, table in (("users", data.users), ("items", data.items)):
        for text in table.notices:
            notice(f"{side}: {text}")


def reads_source(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command that takes a `Source` the fields of it as arguments and options of its own."""
    hints = get_type_hints(Source, include_extras=True)
    expanded: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.annotation is not Source:
            expanded.append(parameter)
            continue
        expanded += [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default if each.name != "source" else inspect.Parameter.empty,
                annotation=hints[each.name],
            )
            for each in fields(Source)
        ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        source = Source(**{each.name: values.pop(each.name) for each in fields(Source)})
        command(source=source, **values)

    keyword_only = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in expanded]
    run.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in keyword_only}
    return run
