"""Options that several commands share: where ratings come from, settings of a model, attributes of a new user."""

from __future__ import annotations

import csv
import functools
import inspect
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from aanmf.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    from aanmf.data.dataset import RatingDataset
    from aanmf.data.schema import Schema

_TABLES, _COLUMNS = "Tables of users and items", "How to read"

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document in place of a table.")]
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder written by `aanmf train --out`.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A setting of the model, for instance factors=16. Repeatable."
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE.toml", help="Settings from a TOML file; --set goes before it."),
]


@dataclass(frozen=True)
class Source:
    """Where ratings, users and items come from. Each field is an option of every command that reads ratings."""

    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="ml-100k, ml-1m, synthetic, synthetic:N (ratings), or a CSV, TSV or Parquet file of ratings.",
        ),
    ]
    users: Annotated[
        list[Path] | None,
        typer.Option(
            "--users",
            metavar="FILE",
            help="Table of users, one row per id. Repeatable.",
            rich_help_panel=_TABLES,
        ),
    ] = None
    items: Annotated[
        list[Path] | None,
        typer.Option(
            "--items",
            metavar="FILE",
            help="Table of items, one row per id. Repeatable.",
            rich_help_panel=_TABLES,
        ),
    ] = None
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            "--attribute",
            metavar="NAME=KIND",
            help="Kind of a column, in place of the inferred one: categorical, multi-valued, numeric, numeric:7 "
            "(groups), vector. users.NAME or items.NAME where both tables have it. Repeatable.",
            rich_help_panel=_TABLES,
        ),
    ] = None
    schema: Annotated[
        Path | None,
        typer.Option(
            "--schema", metavar="FILE.toml", help="Kinds of columns from a file.", rich_help_panel=_TABLES
        ),
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
        typer.Option(
            "--rating-column", metavar="NAME", help="Guessed if not given.", rich_help_panel=_COLUMNS
        ),
    ] = None
    time_column: Annotated[
        str | None,
        typer.Option("--time-column", metavar="NAME", help="Guessed if not given.", rich_help_panel=_COLUMNS),
    ] = None
    separator: Annotated[
        str | None,
        typer.Option(
            "--separator",
            metavar="TEXT",
            help="Between cells; guessed if not given.",
            rich_help_panel=_COLUMNS,
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
            help="A rating whose user or item has no row in its table: error (the default), unknown.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None
    missing: Annotated[
        list[str] | None,
        typer.Option(
            "--missing",
            metavar="TEXT",
            help="A cell that stands for a missing value. Repeatable.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None

    def load(self) -> RatingDataset:
        """Reads everything; notices of the reader go to stderr."""
        from aanmf.cli.output import err
        from aanmf.data.sources import load

        given = {name: getattr(self, name) for name in _READER_OPTIONS}
        options = {name: value for name, value in given.items() if value}
        with err().status(f"reading {self.source}"):
            return load(self.source, users=self.users, items=self.items, schema=self._schema(), **options)

    def _schema(self) -> Schema | None:
        from aanmf.data.schema import Schema

        if not self.attribute and not self.schema:
            return None
        schema = Schema.read(self.schema) if self.schema else Schema()
        return with_attributes(
            schema, self.attribute or [], self.users or [], self.items or [], self.separator
        )


_READER_OPTIONS = (
    "user_column",
    "item_column",
    "rating_column",
    "time_column",
    "separator",
    "repeated",
    "unlisted",
    "missing",
)


def reads_source(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command that takes `source: Source` all fields of `Source` as arguments and options of its own."""
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


def with_attributes(
    schema: Schema, texts: Iterable[str], users: Sequence[Path], items: Sequence[Path], separator: str | None
) -> Schema:
    """A schema in which `age=numeric` or `users.age=numeric` is stated.

    A bare name belongs to the side whose table has a column of that name.

    Raises:
        SchemaError: no table has the column, or both have it.
    """
    from aanmf.data.schema import Attribute

    for text in texts:
        attribute = Attribute.parse(text)
        side, dot, name = attribute.name.partition(".")
        if dot and side in ("users", "items"):
            schema = schema.with_stated(side, [attribute.model_copy(update={"name": name})])
            continue
        tables = {"users": users, "items": items}
        sides = [side for side, paths in tables.items() if attribute.name in column_names(paths, separator)]
        if len(sides) != 1:
            fault = "both tables have" if sides else "neither table (--users, --items) has"
            raise SchemaError(
                f"--attribute {text}: {fault} a column {attribute.name!r}; "
                f"write users.{text} or items.{text} to say which table is meant"
            )
        schema = schema.with_stated(sides[0], [attribute])
    return schema


def read_settings(texts: Iterable[str], config: Path | None) -> dict[str, Any]:
    """Settings from `--config` and, over them, `--set`: `factors=16`, `layers=[32, 16]`, `aanmf.dropout=0.2`.

    Raises:
        ConfigError: a text without `=`, or a file that is not there or not TOML.
    """
    settings = _read_toml(config) if config else {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {text}: write name=value, for instance factors=16")
        model, _, name = path.strip().rpartition(".")
        target = settings.setdefault(model, {}) if model else settings
        target[name] = toml_value(value.strip())
    return settings


def toml_value(text: str) -> Any:
    """A number, truth value, array or quoted text as TOML has them; anything else is the text itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def read_attributes(text: str) -> dict[str, str]:
    """`gender=F,age=25-34,occupation="sales, marketing"` as a dictionary; quotes keep commas together.

    Raises:
        SchemaError: a part without `=`, or an attribute named twice.
    """
    values: dict[str, str] = {}
    for part in _split_quoted(text):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise SchemaError(
                f"--attributes: {part!r} is not name=value; write for instance gender=F,age=25-34"
            )
        if name.strip() in values:
            raise SchemaError(f"--attributes: {name.strip()!r} is there twice")
        values[name.strip()] = value.strip()
    return values


def _split_quoted(text: str) -> list[str]:
    """Cuts at commas outside of double quotes, and drops the quotes."""
    parts, quoted = [""], False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    if quoted:
        raise SchemaError(f"--attributes {text}: a quotation mark is not closed")
    return [part for part in parts if part.strip()]


def column_names(paths: Iterable[Path], separator: str | None) -> set[str]:
    """Names in the header of each table; none for a file that cannot be read (the reader will say why)."""
    import polars as pl

    names: set[str] = set()
    for path in paths:
        try:
            if path.suffix.lower() in (".parquet", ".pq"):
                names |= set(pl.read_parquet_schema(path))
                continue
            with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                line = file.readline().rstrip("\r\n")
        except (OSError, pl.exceptions.PolarsError):
            continue
        cut = separator or next((each for each in ("::", "\t", ";", "|", ",") if each in line), ",")
        cells = next(csv.reader([line], delimiter=cut)) if len(cut) == 1 else line.split(cut)
        names |= {each.strip().strip('"') for each in cells}
    return names


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"--config {path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not readable as TOML ({error})") from None


def one_model(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the one model that a command trains; see `aanmf.evaluation.cross_validate.settings_for`."""
    from aanmf.evaluation.cross_validate import settings_for
    from aanmf.recommender import MODELS

    return settings_for(model, settings, list(MODELS))
