"""The user that a page is about: one of the training data or a new one, as the address says; and what-if changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import torch
from pydantic import BaseModel

from aanmf.errors import ConfigError, SchemaError
from aanmf.fitted import EntitySide
from aanmf.predictor import Predictor
from aanmf.profile import Profile
from aanmf.ranking import ListOptions
from aanmf.serving.model_cache import ListRequest, ModelCache
from aanmf.serving.page_context import CONTEXT, read_context

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

ATTRIBUTE, RATING, IF, WITHOUT = "a.", "r.", "if.", "without"
"""In the page's queries: attributes of a new user, ratings by item, and what-if: another value of an attribute, items
as if not rated. `/?new=1&a.gender=F&r.50=5&if.age=25-34&without=50`"""


@dataclass(frozen=True)
class PageUser:
    """A user of the training data by id, or a new one by attributes and ratings.

    Attributes:
        id: None for a new user.
        attributes: of a new user.
        ratings: by item id, given in the address; None: chosen, not rated.
        context: in which predictions are made; empty: what is usual.
    """

    id: str | None
    attributes: Mapping[str, object] = field(default_factory=dict)
    ratings: Mapping[str, float | None] = field(default_factory=dict)
    context: Mapping[str, object] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """As a person reads it."""
        return f"user {self.id}" if self.id is not None else "you"

    def asked(self, options: ListOptions | None = None) -> ListRequest:
        """As the model takes it."""
        attributes = self.attributes if self.id is None else None
        return ListRequest(self.id, attributes, self.ratings, options or ListOptions(), context=self.context or None)

    def fields(self) -> list[tuple[str, str]]:
        """Name and value of every field that says who it is, and in which context, for links and forms."""
        pairs = [("new", "1")] if self.id is None else [("user", self.id)]
        for prefix, values in ((ATTRIBUTE, self.attributes), (CONTEXT, self.context)):
            for name, value in values.items():
                pairs += [(prefix + name, _word(each)) for each in (value if isinstance(value, list) else [value])]
        return pairs + [
            (RATING + item, "yes" if value is None else f"{value:g}") for item, value in self.ratings.items()
        ]

    def without(self, item: str) -> PageUser:
        """The same without one of the ratings in the address."""
        return replace(self, ratings={each: value for each, value in self.ratings.items() if each != item})

    def in_context(self, context: Mapping[str, object]) -> PageUser:
        """The same in another context."""
        return replace(self, context=context)


@dataclass(frozen=True)
class Change:
    """What if: other values of attributes, by name, and items as if the user had not rated them."""

    attributes: Mapping[str, str]
    without: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.attributes or self.without)

    def profile(self, user: PageUser, cache: ModelCache) -> Profile:
        """The changed user, with the ratings stored since training.

        Raises:
            SchemaError: an attribute or value that the model does not know.
            DataError: an item that the user has not rated.
        """
        profile = cache.profile(replace(user.asked(), without=self.without))
        for name, value in self.attributes.items():
            profile = changed(cache.predictor, profile, name, value)
        return profile


def address(user: PageUser | None, path: str, **more: str) -> str:
    """The address of a page, about a user if there is one."""
    query = urlencode([*(user.fields() if user else []), *more.items()])
    return f"{path}?{query}" if query else path


def read_user(query: QueryParams, cache: ModelCache, attribute_model: type[BaseModel]) -> PageUser | None:
    """The user that an address is about; None if it names none. Whether the model knows the id, its profile tells.

    Raises:
        ConfigError: a rating that is not a number, or a context that the model does not know.
        ValidationError: an attribute or value that the model does not know.
    """
    ratings, context = read_ratings(query, cache.fitted.training.has_ratings), read_context(query, cache.model)
    if user := (query.get("user") or "").strip():
        return PageUser(user, {}, ratings, context)
    if query.get("new") is None:
        return None
    checked = attribute_model.model_validate(read_attributes(query, cache))
    return PageUser(None, checked.model_dump(by_alias=True, exclude_none=True), ratings, context)


def read_attributes(query: QueryParams, cache: ModelCache) -> dict[str, object]:
    """The attributes in an address as they were typed, a list for those that may have several values."""
    lists = {each.name for each in cache.fitted.users.encoder.fitted if each.is_list}
    given: dict[str, object] = {}
    for key in query:
        name, values = key.removeprefix(ATTRIBUTE), [value for value in query.getlist(key) if value.strip()]
        if key.startswith(ATTRIBUTE) and values:
            given[name] = values if name in lists else values[-1]
    return given


def read_ratings(query: QueryParams, has_ratings: bool) -> dict[str, float | None]:
    """The ratings in an address, by item id.

    Raises:
        ConfigError: a rating that is not a number.
    """
    ratings: dict[str, float | None] = {}
    for key, value in query.items():
        if not key.startswith(RATING) or not value.strip():
            continue
        try:
            ratings[key.removeprefix(RATING)] = float(value) if has_ratings else None
        except ValueError:
            raise ConfigError(f"{key}={value!r}: give a number") from None
    return ratings


def read_change(query: QueryParams, cache: ModelCache, now: Mapping[str, str]) -> Change:
    """The what-if of an address. A value that the user has already is no change.

    Args:
        query: of the address.
        cache: of the model.
        now: the user's attributes, as `described` gives them.

    Raises:
        ConfigError: an attribute that the model does not know.
    """
    names, attributes = cache.fitted.users.encoder.names, dict[str, str]()
    for key, value in query.items():
        name = key.removeprefix(IF)
        if not key.startswith(IF) or not value.strip() or value == now.get(name):
            continue
        if name not in names:
            raise ConfigError(f"{key}={value!r}: choose one of {', '.join(names)}")
        attributes[name] = value.strip()
    return Change(attributes, tuple(dict.fromkeys(filter(None, query.getlist(WITHOUT)))))


def described(user: PageUser, cache: ModelCache) -> dict[str, str]:
    """The user's attributes as they were given, by name; several values stand in one line."""
    if user.id is None:
        return {name: _word(value) for name, value in user.attributes.items()}
    side = cache.fitted.users
    if not cache.knows(user.id):
        return {}
    at, columns = side.position(user.id), side.table.columns
    sized = {each.name for each in side.encoder.fitted if each.size is not None}
    row = {name: columns[name][at] for name in side.table.names if name not in sized}
    return {name: _word(value) for name, value in row.items() if value is not None}


def form_fields(users: EntitySide) -> list[dict[str, Any]]:
    """What forms ask about a user: `name`, `choices`, `many` values, and of a number `low`, `high` and `step`.

    Vectors cannot be typed.
    """
    fields: list[dict[str, Any]] = []
    for each in users.encoder.fitted:
        if each.size is not None:
            continue
        column = users.table.columns.get_column(each.name, default=None)
        known = column.drop_nulls() if column is not None and column.dtype.is_numeric() else None
        whole = known is not None and (known == known.round()).all()
        low, high = (None, None) if known is None or known.is_empty() else (known.min(), known.max())
        field = {"name": each.name, "many": each.is_list, "choices": each.choices}
        fields.append({**field, "low": low, "high": high, "step": 1 if whole else "any"})
    return fields


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


def _word(value: object) -> str:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
