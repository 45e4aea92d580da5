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
    """What an attribute column holds. `aanmf.data.kinds` has a class for each kind."""

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
    """The declaration of one attribute column."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    kind: Kind
    groups: int | None = Field(default=10, ge=2, le=1000)
    """Numeric only: the number of groups to cut at quantiles; `None` standardises the number instead."""
    cuts: tuple[float, ...] | None = None
    """Numeric only: cut points that replace the quantiles; a group includes its lower end."""
    separator: str = Field(default="|", min_length=1)
    """Multi-valued and vector: the text between the values of a text cell."""
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
        """Reads the form of the command line, `name=kind` or `name=numeric:7` (7 groups; 0 keeps the number)."""
        name, equals, kind = text.partition("=")
        kind, _, groups = kind.partition(":")
        if not equals or not name:
            raise SchemaError(f"attribute {text!r}: write name=kind, for instance age=numeric or genres=multi-valued")
        options: dict[str, object] = {"name": name, "kind": kind}
        if groups:
            options["groups"] = None if groups == "0" else groups
        return declare(options)


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
    given = "" if isinstance(fault["input"], dict) else f" (given: {fault['input']!r})"
    return f"{where}: {fault['msg']}{given}" if where else f"{fault['msg']}{given}"


class Schema(BaseModel):
    """The attributes declared for users and items; the kind of every other column is inferred.

    As a TOML file::

        [users.age]
        kind = "numeric"
        groups = 7

        [items.genres]
        kind = "multi-valued"
        separator = ","

        [items]
        ignore = ["url"]
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: tuple[Attribute, ...] = ()
    items: tuple[Attribute, ...] = ()
    ignore_users: tuple[str, ...] = ()
    ignore_items: tuple[str, ...] = ()

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
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SchemaError(f"schema {path}: not readable as TOML ({error})") from None
        if unknown := set(tables) - {"users", "items"}:
            raise SchemaError(f"schema {path}: unknown table {sorted(unknown)[0]!r}. Available: [users.*], [items.*]")
        parts: dict[str, object] = {}
        for side in ("users", "items"):
            table = dict(tables.get(side, {}))
            parts[f"ignore_{side}"] = tuple(table.pop("ignore", ()))
            for name, options in table.items():
                if not isinstance(options, dict):
                    raise SchemaError(f"schema {path}: {side}.{name} must be a table with a kind, not {options!r}")
            parts[side] = tuple(declare({"name": name, **options}) for name, options in table.items())
        return cls.model_validate(parts)

    def stated(self, side: str) -> dict[str, Attribute]:
        """The declared attributes of `"users"` or `"items"` by name."""
        return {attribute.name: attribute for attribute in (self.users if side == "users" else self.items)}

    def ignored(self, side: str) -> frozenset[str]:
        """The columns of `"users"` or `"items"` that are not attributes."""
        return frozenset(self.ignore_users if side == "users" else self.ignore_items)

    def with_stated(self, side: str, attributes: Iterable[Attribute]) -> Schema:
        """A copy in which these attributes of one side are declared, in place of earlier declarations."""
        merged = {**self.stated(side), **{attribute.name: attribute for attribute in attributes}}
        return self.model_copy(update={side: tuple(merged.values())})
