"""An example of every request, with ids, attributes and ratings that the model knows: each can be sent as it stands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable

import numpy as np
from fastapi import FastAPI

from aanmf.data.attribute_kind import FittedAttribute
from aanmf.fitted import Fitted

JSON = "application/json"


def request_examples(fitted: Fitted) -> dict[str, dict[str, object]]:
    """Bodies by path."""
    users, items = fitted.users, fitted.items
    user = users.ids[int(np.argmax(users.n_ratings[:-1]))]
    first, second, *_ = (items.ids[at] for at in np.argsort(-items.n_ratings[:-1], kind="stable")[:2].tolist() * 2)
    rating = fitted.training.scale[1] if fitted.training.has_ratings else None
    new = {"attributes": _first_choices(users.encoder.fitted), "ratings": {first: rating}}
    given = _first_choices(each for each in fitted.context.attributes.fitted if each.name in fitted.context.columns)
    given |= {fitted.context.time: "2024-12-31 20:15"} if fitted.context.time else {}
    context = {"context": given} if given else {}
    return {
        "/v1/predict": {"pairs": [[user, first], [user, second]], **context},
        "/v1/explain": {"user": user, "item": first, **context},
        "/v1/recommend": {**new, "n": 5, **context},
        "/v1/recommend-many": {"users": [{"user": user, **context}, new], "n": 5},
        "/v1/similar": {"item": first, "n": 5},
        "/v1/ratings": {"ratings": [{"user": user, "item": first, "rating": rating}]},
    }


def _first_choices(attributes: Iterable[FittedAttribute]) -> dict[str, object]:
    """A value of each attribute that has values to choose from."""
    return {
        each.name: list(each.choices[:1]) if each.is_list else each.choices[0] for each in attributes if each.choices
    }


def add_examples(api: FastAPI, fitted: Fitted) -> None:
    """Puts the examples into the OpenAPI document."""
    bodies = request_examples(fitted)
    for path, methods in api.openapi()["paths"].items():
        if path in bodies and "post" in methods:
            methods["post"]["requestBody"]["content"][JSON]["example"] = bodies[path]


def as_command(body: object) -> str:
    """A body as an argument of a command in a shell."""
    return shlex.quote(json.dumps(body, ensure_ascii=False))
