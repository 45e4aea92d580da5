"""The context in which a page's predictions are made, chosen in its address: `/?user=1&context.companion=family`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aanmf.errors import ConfigError
from aanmf.recommender import Recommender
from aanmf.serving.bodies import context_model

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

CONTEXT = "context."
"""Stands before the name of a context attribute in the page's queries."""


def context_fields(model: Recommender) -> list[dict[str, Any]]:
    """What the form asks about the context: `name`, `kind` (a type of input, or `select`), `choices`, `many` values.

    Only what predictions depend on is asked: not what the model has left out. Vectors cannot be typed.
    """
    used, encoder = {**model.get_params(), **model.chosen_}, model.fitted_.context
    fields: list[dict[str, Any]] = []
    for each in encoder.attributes.fitted if used.get("context") else ():
        if each.name in encoder.columns and each.size is None:
            kind = "select" if each.choices else "number"
            fields.append({"name": each.name, "kind": kind, "choices": each.choices, "many": each.is_list})
    if encoder.time is not None and (used.get("context") or used.get("drift")):
        fields.append({"name": encoder.time, "kind": "datetime-local", "choices": (), "many": False})
    return fields


def read_context(query: QueryParams, model: Recommender) -> dict[str, object]:
    """The context in an address; empty where it names none.

    Raises:
        ConfigError: an attribute that the model does not know.
        ValidationError: a value that it does not know.
    """
    encoder = model.fitted_.context
    lists = {each.name for each in encoder.attributes.fitted if each.is_list}
    given: dict[str, object] = {}
    for key in query:
        name, values = key.removeprefix(CONTEXT), [value.strip() for value in query.getlist(key) if value.strip()]
        if not key.startswith(CONTEXT) or not values:
            continue
        if name not in encoder.names:
            raise ConfigError(
                f"{key}={values[-1]!r}: this model knows no such context. "
                f"Available: {', '.join(encoder.names) or 'none'}"
            )
        given[name] = values if name in lists else values[-1]
    if encoder.time in given:  # as a form gives it: 2024-12-31T20:15
        given[encoder.time] = str(given[encoder.time]).replace("T", " ")
    return context_model(encoder).model_validate(given).model_dump(by_alias=True, exclude_none=True)
