"""An example of every request, with ids, attributes and ratings that the model knows: each can be sent as it stands."""

from __future__ import annotations

import json
import shlex

import numpy as np
from fastapi import FastAPI

from aanmf.fitted import Fitted

JSON = "application/json"


def request_examples(fitted: Fitted) -> dict[str, dict[str, object]]:
    """Bodies by path."""
    users, items = fitted.users, fitted.items
    user = users.ids[int(np.argmax(users.n_ratings[:-1]))]
    first, second, *_ = (items.ids[at] for at in np.argsort(-items.n_ratings[:-1], kind="stable")[:2].tolist() * 2)
    rating = fitted.training.scale[1] if fitted.training.has_ratings else None
    attributes = {
        each.name: list(each.choices[:1]) if each.is_list else each.choices[0]
        for each in users.encoder.fitted
        if each.choices
    }
    new = {"attributes": attributes, "ratings": {first: rating}}
    return {
        "/v1/predict": {"pairs": [[user, first], [user, second]]},
        "/v1/explain": {"user": user, "item": first},
        "/v1/recommend": {**new, "n": 5},
        "/v1/recommend-many": {"users": [{"user": user}, new], "n": 5},
        "/v1/similar": {"item": first, "n": 5},
        "/v1/ratings": {"ratings": [{"user": user, "item": first, "rating": rating}]},
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
