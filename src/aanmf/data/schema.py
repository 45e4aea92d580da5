"""Attributes of users and items: their kinds, and what happens to missing and unseen values."""

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
    """What an attribute column holds.

    How a model sees a cell:

    - categorical, one label: one value of weight 1
    - multi-valued, n labels: n values of weight 1/sqrt(n)
    - numeric, a number: its group (cut at quantiles), or one value weighted by the standardised number
    - vector, d numbers: a value of its own, the vector projected to the latent space
    """

    CATEGORICAL = "categorical"
    MULTIVALUED = "multi-valued"
    NUMERIC = "numeric"
    VECTOR = "vector"


class Missing(StrEnum):
    """What a model does with an empty cell."""

    IGNORE = "ignore"
    """The attribute is left out of the user's (item's) set: attention is masked there. The default."""
    VALUE = "value"
    """"Missing" is a value like any other, with an embedding of its own."""


class Unseen(StrEnum):
    """What a model does with a value that no user (item) of the training data has."""

    MISSING = "missing"
    """It counts as an empty cell. The default."""
    ERROR = "error"
    """It is refused."""


class Attribute(BaseModel):
    """The declaration of one attribute column."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    kind: Kind
    groups: int | None = Field(default=10, ge=2, le=1000)
    """Numeric only: how many groups to cut at quantiles; `None` keeps the number, standardised."""
    cuts: tuple[float, ...] | None = None
    """Numeric only: cut points to use in place of quantiles; a group holds its lower end."""
    separator: str = Field(default="|", min_length=1)
    """Multi-valued only: what stands between the labels of a text cell."""
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
        """Reads the command line's form, `name=kind` or `name=numeric:7` (7 groups; 0 keeps the number)."""
        name, equals, kind = text.partition("=")
        kind, _, groups = kind.partition(":")
        if not equals or not name:
            raise SchemaError(f"attribute {text!r}: write name=kind, for instance age=numeric or genres=multi-valued")
        options: dict[str, object] = {"name": name, "kind": kind}
        if groups:
            options["groups"] = None if groups == "0" else groups
        return declare(options)


def declare(options: Mapping[str, object]) -> Attribute:
    """Builds an `Attribute` from plain values, with an error that names the attribute and the fault."""
    try:
        return Attribute.model_validate(options)
    except pydantic.ValidationError as error:
        raise SchemaError(f"attribute {options.get('name')!r}: {first_fault(error)}") from None


def first_fault(error: pydantic.ValidationError) -> str:
    """The first fault of a pydantic error as one line: where, what, what was given."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    given = "" if isinstance(fault["input"], dict) else f" (given: {fault['input']!r})"
    return f"{where}: {fault['msg']}{given}" if where else f"{fault['msg']}{given}"


class Schema(BaseModel):
    """The attributes stated for users and items; a column that is not named here is inferred.

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
            SchemaError: the file is not there, is not TOML, or declares an attribute wrongly.
        """
        path = Path(path)
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SchemaError(f"schema {path}: no such file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SchemaError(f"schema {path}: not readable as TOML ({error})") from None
        if unknown := set(tables) - {"users", "items"}:
            raise SchemaError(f"schema {path}: unknown table {sorted(unknown)[0]!r}; there are [users.*] and [items.*]")
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
        """The stated attributes of `"users"` or `"items"` by name."""
        return {attribute.name: attribute for attribute in (self.users if side == "users" else self.items)}

    def ignored(self, side: str) -> frozenset[str]:
        """The columns of `"users"` or `"items"` to leave out."""
        return frozenset(self.ignore_users if side == "users" else self.ignore_items)

    def with_stated(self, side: str, attributes: Iterable[Attribute]) -> Schema:
        """A copy in which these attributes of one side are stated (again)."""
        merged = {**self.stated(side), **{attribute.name: attribute for attribute in attributes}}
        return self.model_copy(update={side: tuple(merged.values())})
