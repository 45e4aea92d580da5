"""`ReadOptions`: how tables become a data set, the same for files, frames, databases and streamed ratings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import field, fields, replace
from typing import Literal, Self

import pydantic
from pydantic.dataclasses import dataclass

from aanmf.data.schema import Schema, first_fault
from aanmf.errors import ConfigError, DataError, unknown

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "none given")
"""Texts that stand for an empty cell."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How tables of ratings, users and items are read. Every reader accepts these names as keywords too.

    >>> ReadOptions(title="Book-Title", repeated="last").changed
    ['title', 'repeated']
    """

    schema: Schema = Schema()
    """Declared attributes; the kinds of the other columns are inferred."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What columns are, by name. The uses are `categorical`, `multi-valued`, `numeric`, `vector`, `label` (shown in
    results, not used for training) and `ignore`. A separator or a number of groups follows a colon, as in
    `{"places": "multi-valued:,", "age": "numeric:7"}`. The name is `users.NAME`, `items.NAME` or `ratings.NAME` if
    several tables have the column; a kind makes the last one `context`. These uses replace those of `schema`."""
    title: str | None = None
    """Column with the titles of items, shown in results; None: found by its name. The same as `label`."""
    user: str | None = None
    """Column of user ids in the ratings; None: found by its name."""
    item: str | None = None
    """Column of item ids in the ratings; None: found by its name."""
    rating: str | None = None
    """Column of ratings; None: found by its name. `none`: there is none, each row is a choice, such as a click."""
    time: str | None = None
    """Column of times: seconds, milliseconds, ... since 1970, or dates; None: found by its name, if its values are
    plausible times. Streamed ratings have no times."""
    time_format: str | None = None
    """How times are written, such as `%d/%m/%Y` (see `datetime.strptime`); None: as numbers, or dates in an order that
    is beyond doubt, such as 2024-12-31."""
    separator: str | None = None
    """Text between the cells of text files, such as `,` or `::`; None: found in the first lines."""
    encoding: str | None = None
    """Encoding of text files, such as `cp1251`; None: UTF-8 or UTF-16, and Windows-1252 if it is neither."""
    bad_rows: Literal["error", "skip"] = "error"
    """A row without an id or a rating, or with one that cannot be read: an error, or leave the row out and say so."""
    repeated: Literal["error", "last", "last-row", "mean"] | None = None
    """A (user, item) pair that is rated several times: raise an error, keep the last rating by time (`last`) or the one
    furthest down (`last-row`), or take their mean; None: an error. Streamed ratings are not searched for such pairs:
    with None each rating counts, others are refused."""
    unlisted: Literal["unknown", "error"] | None = None
    """A user (item) with ratings but without a row in the table: all attributes missing, or an error; None: an error
    only where no user (item) has a row."""
    context: tuple[str, ...] = ()
    """Columns of the ratings that are context: what is known before a rating is given, such as company or weather. The
    column of times may be among them. Kinds are inferred, or declared as `ratings.NAME`."""
    missing: tuple[str, ...] = MISSING
    """Texts that stand for an empty cell, also in the column of ratings."""
    scale: tuple[float, float] | None = None
    """Lowest and highest possible rating; None: those of the training ratings."""
    name: str | None = None
    """Name of the data set in messages and reports; None: the name of its source."""

    @classmethod
    def of(cls, options: Self | None, keywords: dict[str, object]) -> Self:
        """Options with keywords on top of them; a keyword that is None changes nothing.

        Raises:
            ConfigError: an unknown keyword.
            DataError: a value that an option cannot have.
        """
        names = [field.name for field in fields(cls)]
        for name in keywords:
            if name not in names:
                raise ConfigError(unknown("option", name, names))
        given = {name: value for name, value in keywords.items() if value is not None}
        try:
            return replace(options or cls(), **given)
        except pydantic.ValidationError as error:
            fault = error.errors()[0]
            if fault["type"] == "literal_error":
                choices = str(fault.get("ctx", {}).get("expected")).replace("'", "")
                raise DataError(f"{fault['loc'][0]}={fault['input']!r}: choose {choices}") from None
            raise DataError(f"option {first_fault(error)}") from None

    @property
    def columns(self) -> dict[str, str | None]:
        """Stated column names of a table of ratings, by role."""
        return {"user": self.user, "item": self.item, "rating": self.rating, "time": self.time}

    @property
    def changed(self) -> list[str]:
        """Names of the options that differ from their default."""
        return [field.name for field in fields(self) if getattr(self, field.name) != getattr(type(self)(), field.name)]


def ask_for(option: str, value: str) -> str:
    """An option as both interfaces write it, for messages."""
    flag = option.replace("_", "-") + ("-column" if option in ("user", "item", "rating", "time") else "")
    return f"{option}={value!r} (--{flag} {shlex.quote(value)})"


def ask_for_context(column: str) -> str:
    """The `context` option for one column, as both interfaces write it."""
    return f"context=[{column!r}] (--context {shlex.quote(column)})"


def ask_to_read(column: str, use: str) -> str:
    """The `attributes` option for one column, as both interfaces write it."""
    return f"attributes={{{column!r}: {use!r}}} (--attribute {shlex.quote(f'{column}={use}')})"
