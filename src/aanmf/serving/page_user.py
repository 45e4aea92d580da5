"""The user that a page is about: one of the training data, or one described by attributes; and what-if changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import torch
from pydantic import BaseModel

from aanmf.errors import SchemaError
from aanmf.predictor import Predictor
from aanmf.profile import Profile
from aanmf.serving.model_cache import ModelCache

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

PREFIX = "a."
"""Stands before an attribute's name in the page's queries: `/?a.gender=F&a.age=25-34`."""


@dataclass(frozen=True)
class PageUser:
    """A user of the training data by id, or a new one by attributes."""

    id: str | None
    attributes: Mapping[str, object]

    @property
    def asked(self) -> str | Mapping[str, object]:
        """As the model takes it."""
        return self.attributes if self.id is None else self.id

    @property
    def title(self) -> str:
        """As a person reads it."""
        if self.id is not None:
            return f"user {self.id}"
        parts = [f"{name} {_words(value)}" for name, value in self.attributes.items()]
        return f"a new user ({', '.join(parts)})" if parts else "a new user without attributes"

    def fields(self) -> list[tuple[str, str]]:
        """Name and value of every field that says who it is, for links and forms."""
        if self.id is not None:
            return [("user", self.id)]
        pairs = [("new", "1")]
        for name, value in self.attributes.items():
            pairs += [(PREFIX + name, str(each)) for each in (value if isinstance(value, list) else [value])]
        return pairs


def address(user: PageUser | None, path: str, **more: str) -> str:
    """The address of a page, about a user if there is one."""
    return f"{path}?{urlencode([*(user.fields() if user else []), *more.items()])}"


def read_user(query: QueryParams, cache: ModelCache, attribute_model: type[BaseModel]) -> PageUser | None:
    """The user that an address is about; None if it names none.

    Raises:
        UnknownIdError: no such user.
        ValidationError: an attribute or value that the model does not know.
    """
    if user := (query.get("user") or "").strip():
        cache.fitted.users.position(user)
        return PageUser(user, {})
    if query.get("new") is None:
        return None
    lists = {each.name for each in cache.fitted.users.encoder.fitted if each.is_list}
    given: dict[str, object] = {}
    for key in query:
        name, values = key.removeprefix(PREFIX), [value for value in query.getlist(key) if value.strip()]
        if key.startswith(PREFIX) and values:
            given[name] = values if name in lists else values[-1]
    checked = attribute_model.model_validate(given)
    return PageUser(None, checked.model_dump(by_alias=True, exclude_none=True))


def changed(predictor: Predictor, profile: Profile, name: str, value: object) -> Profile:
    """The same user with another value of one attribute.

    Raises:
        SchemaError: an attribute or value that the model does not know.
    """
    encoder, old = predictor.users.encoder, predictor.attributes(profile)
    new = encoder.transform_one({name: value}).to(predictor.device)
    j = encoder.names.index(name)
    if encoder.fitted[j].size is not None:
        raise SchemaError(f"attribute {name!r}: vectors cannot be changed here")
    kept = torch.as_tensor(encoder.slot_attributes(old)[0] != j, device=predictor.device)
    fresh = torch.as_tensor(encoder.slot_attributes(new)[0] == j, device=predictor.device)
    value_, weight, mask = (
        torch.cat([mine[:, kept], other[:, fresh]], dim=1)
        for mine, other in zip(old.tensors()[:3], new.tensors()[:3], strict=True)
    )
    return replace(profile, attributes=replace(old, value=value_, weight=weight, mask=mask))


def _words(value: object) -> str:
    if isinstance(value, list):
        return " and ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
