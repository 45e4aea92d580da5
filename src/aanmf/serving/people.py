"""Whom the page speaks of: a known user, or one described by attributes; and what if they were another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import torch
from pydantic import BaseModel

from aanmf.data.attributes import AttributeSet
from aanmf.errors import SchemaError, UnknownIdError
from aanmf.serving.served import Row, ServedModel

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

PREFIX = "a."
"""Stands before an attribute's name in the page's queries: `/?a.gender=F&a.age=25-34`."""


@dataclass(frozen=True)
class Person:
    """A user of the training data by id, or a new one by attributes."""

    user: str | None
    attributes: Mapping[str, object]

    @property
    def who(self) -> str | Mapping[str, object]:
        """As the model takes it."""
        return self.attributes if self.user is None else self.user

    @property
    def title(self) -> str:
        """As a person reads it."""
        if self.user is not None:
            return f"user {self.user}"
        parts = [f"{name} {_words(value)}" for name, value in self.attributes.items()]
        return f"a new user ({', '.join(parts)})" if parts else "a new user, of whom nothing is known"

    def address(self, path: str, **more: str) -> str:
        """The address of a page about this person."""
        return f"{path}?{urlencode([*self.fields(), *more.items()])}"

    def fields(self) -> list[tuple[str, str]]:
        """Name and value of every field that says who it is, for links and forms."""
        if self.user is not None:
            return [("user", self.user)]
        pairs = [("new", "1")]
        for name, value in self.attributes.items():
            pairs += [(PREFIX + name, str(each)) for each in (value if isinstance(value, list) else [value])]
        return pairs


def read_person(query: QueryParams, served: ServedModel, attribute_model: type[BaseModel]) -> Person | None:
    """Whom an address speaks of; None if it says nothing.

    Raises:
        UnknownIdError: no such user.
        ValidationError: an attribute or value that the model does not know.
    """
    if user := (query.get("user") or "").strip():
        if user not in served.users.position:
            raise UnknownIdError(f"user {user!r} is not in the training data; describe a new one instead")
        return Person(user, {})
    if query.get("new") is None:
        return None
    named = [key for key in query if key.startswith(PREFIX)]
    lists = {each.name for each in served.model.fitted_.user_encoder.fitted if each.is_list}
    given: dict[str, object] = {}
    for key in named:
        name, values = key.removeprefix(PREFIX), [value for value in query.getlist(key) if value.strip()]
        if values:
            given[name] = values if name in lists else values[-1]
    checked = attribute_model.model_validate(given)
    return Person(None, checked.model_dump(by_alias=True, exclude_none=True))


def changed(served: ServedModel, sets: AttributeSet, name: str, value: object) -> AttributeSet:
    """The set (1, J') with another value of one attribute, the others as they are.

    Raises:
        SchemaError: an attribute or value that the model does not know.
    """
    encoder = served.model.fitted_.user_encoder
    slots = encoder.transform_one({name: value})
    j = encoder.names.index(name)
    if encoder.fitted[j].size is not None:
        raise SchemaError(f"attribute {name!r}: vectors cannot be changed here")
    new = slots.to(served.device)
    kept = torch.as_tensor(encoder.slot_attributes(sets)[0] != j, device=served.device)
    fresh = torch.as_tensor(encoder.slot_attributes(slots)[0] == j, device=served.device)
    value_, weight, mask = (
        torch.cat([old[:, kept], one[:, fresh]], dim=1)
        for old, one in zip(sets.tensors()[:3], new.tensors()[:3], strict=True)
    )
    return AttributeSet(value_, weight, mask, sets.vectors, sets.n_values)


@torch.inference_mode()
def ranked(served: ServedModel, user: str | None, at: int, sets: AttributeSet, n: int) -> list[Row]:
    """The n items for a user with these attributes; what a known user has rated is left out."""
    (_, scores), *_ = served.model.module_.catalogue(torch.tensor([at], device=served.device), sets)
    rated = None if user is None else served.rated_by(at)
    return served.best(scores[0].clamp(*served.scale).cpu(), n, rated)


def _words(value: object) -> str:
    if isinstance(value, list):
        return " and ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
