"""The declaration of attributes: their kind, and the policy for missing and unseen values."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Self

import pydantic
from pydantic import BaseModel, ConfigDict, Field, model_validator

from aanmf.errors import SchemaError


class Kind(StrEnum):
    """What an attribute column holds. `aanmf.data.kinds` has a class for each kind.

    >>> Kind("multi-valued")
    <Kind.MULTIVALUED: 'multi-valued'>
    """

    CATEGORICAL = "categorical"
    """One label per cell."""
    MULTIVALUED = "multi-valued"
    """Any number of labels per cell."""
    NUMERIC = "numeric"
    """A number per cell: cut into groups at quantiles, or standardised."""
    VECTOR = "vector"
    """A fixed number of numbers per cell, such as an embedding."""


class Missing(StrEnum):
    """What a model does with an empty cell."""

    IGNORE = "ignore"
    """The attribute is left out of the user's (item's) set; its attention is 0. The default."""
    VALUE = "value"
    """"Missing" is a value like any other, with its own embedding."""


class Unseen(StrEnum):
    """What a model does with a value that no user (item) of the training data has."""

    MISSING = "missing"
    """It counts as an empty cell. The default."""
    ERROR = "error"
    """It raises a `SchemaError`."""


class Attribute(BaseModel):
    """The declaration of one attribute column.

    >>> Attribute(name="age", kind=Kind.NUMERIC, groups=7) == Attribute.of_use("age", "numeric:7")
    True
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    kind: Kind
    groups: int | None = Field(default=10, ge=2, le=1000)
    """Numeric only: the number of groups to cut at quantiles; `None` standardises the number instead."""
    cuts: tuple[float, ...] | None = None
    """Numeric only: cut points that replace the quantiles; a group includes its lower end."""
    separator: str = Field(default="|", min_length=1)
    """Multi-valued and vector: the text between the values of a text cell; not stated: found in the cells."""
    missing: Missing = Missing.IGNORE
    unseen: Unseen = Unseen.MISSING

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.cuts is not None and list(self.cuts) != sorted(set(self.cuts)):
            raise ValueError("cuts must rise: each one larger than the one before")
        if self.kind is Kind.VECTOR and self.missing is Missing.VALUE:
            raise ValueError("a missing vector cannot be a value of its own; use missing = 'ignore'")
        return self

    @classmethod
    def parse(cls, text: str) -> Attribute:
        """Reads the form of the command line, `name=kind`; see `of_use`."""
        return cls.of_use(*name_and_use(text))

    @classmethod
    def of_use(cls, name: str, use: str) -> Attribute:
        """A kind in words: `vector`, `numeric:7` (7 groups; 0 keeps the number), `multi-valued:,` (commas between)."""
        kind, _, detail = use.partition(":")
        if kind not in list(Kind):
            raise SchemaError(f"attribute {name!r}: {use!r} is no use of a column. Available: {', '.join(USES)}")
        options: dict[str, object] = {"name": name, "kind": kind}
        if detail and kind == Kind.NUMERIC:
            options["groups"] = None if detail == "0" else detail
        elif detail and kind in (Kind.MULTIVALUED, Kind.VECTOR):
            options["separator"] = detail
        elif detail:
            raise SchemaError(f"attribute {name!r}: {kind} takes nothing after the colon (given: {detail!r})")
        return declare(options)


LABEL, IGNORE = "label", "ignore"
USES = (*Kind, "multi-valued:,", "numeric:7", LABEL, IGNORE)
"""What a column can be: an attribute of some kind, the label that is shown in results, or nothing."""


def name_and_use(text: str) -> tuple[str, str]:
    """Cuts `name=use`, the form of the command line."""
    name, equals, use = text.rpartition("=")
    if not equals or not name.strip() or not use.strip():
        raise SchemaError(f"attribute {text!r}: write name=kind, for instance age=numeric or genres=multi-valued")
    return name.strip(), use.strip()


def declare(options: Mapping[str, object]) -> Attribute:
    """Builds an `Attribute` from untyped options; a `SchemaError` names the attribute and the fault."""
    try:
        return Attribute.model_validate(options)
    except pydantic.ValidationError as error:
        raise SchemaError(f"attribute {options.get('name')!r}: {first_fault(error)}") from None


def first_fault(error: pydantic.ValidationError) -> str:
    """The first fault of a pydantic error in one line: its place, the fault, the value given."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    given = "" if isinstance(fault["input"], dict) else f" (given: {fault['input']!r:.100})"
    return f"{where}: {fault['msg']}{given}" if where else f"{fault['msg']}{given}"


class Schema(BaseModel):
    """The attributes declared for users, items and ratings; the kind of every other column is inferred.

    As a TOML file::

        [users.age]
        kind = "numeric"
        groups = 7

        [items.genres]
        kind = "multi-valued"
        separator = ","

        [items.url]
        kind = "ignore"

        [items]
        title = "Book-Title"

        [ratings.companion]
        kind = "categorical"

    A column of the ratings that is declared is context, see `ReadOptions.context`.

    >>> schema = Schema(users=(Attribute(name="age", kind=Kind.NUMERIC, groups=7),), ignore_items=("url",))
    >>> schema.users[0].kind
    <Kind.NUMERIC: 'numeric'>
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: tuple[Attribute, ...] = ()
    items: tuple[Attribute, ...] = ()
    ratings: tuple[Attribute, ...] = ()
    ignore_users: tuple[str, ...] = ()
    ignore_items: tuple[str, ...] = ()
    ignore_ratings: tuple[str, ...] = ()
    label_users: str | None = None
    """Column that is shown in results beside the id; None: found by its name."""
    label_items: str | None = None

    @classmethod
    def read(cls, path: str | Path) -> Schema:
        """Reads a TOML schema.

        Raises:
            SchemaError: the file does not exist, is not TOML, or a declaration in it is wrong.
        """
        path = Path(path)
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SchemaError(f"schema {path}: no such file") from None
        except (ValueError, RecursionError, OSError) as error:
            raise SchemaError(f"schema {path}: not readable as TOML ({error})") from None
        sides = ("users", "items", "ratings")
        if unknown := set(tables) - set(sides):
            raise SchemaError(f"schema {path}: unknown table {sorted(unknown)[0]!r}. Available: {', '.join(sides)}")
        schema = cls()
        for side in sides:
            table = tables.get(side, {})
            if not isinstance(table, dict):
                raise SchemaError(f"schema {path}: {side} must be a table, not {table!r}")
            columns = dict(table)
            ignored = (
                [] if isinstance(table.get("ignore"), dict) else columns.pop("ignore", [])
            )  # a column of this name
            titles = [] if isinstance(table.get("title"), dict) else [columns.pop("title")] if "title" in table else []
            for option, names, use in (("ignore", ignored, IGNORE), ("title", titles, LABEL)):
                if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                    form = "a list of names of columns" if use == IGNORE else "the name of a column"
                    raise SchemaError(f"schema {path}: {side}.{option} must be {form}, not {table[option]!r}")
                for name in names:
                    schema = schema.with_use(side, name, use)
            for name, options in columns.items():
                if not isinstance(options, dict):
                    raise SchemaError(f"schema {path}: {side}.{name} must be a table with a kind, not {options!r}")
                if options.get("kind") in (LABEL, IGNORE):
                    schema = schema.with_use(side, name, options["kind"])
                else:
                    schema = schema.with_stated(side, [declare({"name": name, **options})])
        return schema

    def stated(self, side: str) -> dict[str, Attribute]:
        """The declared attributes of `"users"`, `"items"` or `"ratings"` by name."""
        stated = {"users": self.users, "items": self.items, "ratings": self.ratings}[side]
        return {attribute.name: attribute for attribute in stated}

    def ignored(self, side: str) -> frozenset[str]:
        """The columns of `"users"`, `"items"` or `"ratings"` that are not used."""
        return frozenset({"users": self.ignore_users, "items": self.ignore_items, "ratings": self.ignore_ratings}[side])

    def with_stated(self, side: str, attributes: Iterable[Attribute]) -> Schema:
        """A copy in which these attributes of one side are declared, instead of earlier declarations."""
        merged = {**self.stated(side), **{attribute.name: attribute for attribute in attributes}}
        return self.model_copy(update={side: tuple(merged.values())})

    def label(self, side: str) -> str | None:
        """The column stated to be shown with the ids of `"users"` or `"items"`."""
        return {"users": self.label_users, "items": self.label_items, "ratings": None}[side]

    def named(self, side: str) -> frozenset[str]:
        """All columns of one side about which something is stated."""
        return frozenset(self.stated(side)) | self.ignored(side) | ({self.label(side) or ""} - {""})

    def with_use(self, side: str, name: str, use: str) -> Schema:
        """A copy in which a column of one side is used as stated: as `label`, `ignore`, or a kind of attribute.

        Raises:
            SchemaError: no such use.
        """
        if side == "ratings" and use == LABEL:
            raise SchemaError(
                f"attribute ratings.{name}={use}: a column of the ratings is context of some kind, or ignored"
            )
        others = {side: tuple(each for each in self.stated(side).values() if each.name != name)}
        if use == LABEL:
            return self.model_copy(update={**others, f"label_{side}": name})
        if use == IGNORE:
            return self.model_copy(update={**others, f"ignore_{side}": (*self.ignored(side), name)})
        return self.with_stated(side, [Attribute.of_use(name, use)])
