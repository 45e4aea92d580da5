"""What requests and answers look like. Requests are made for one model: its attribute names and values are checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, create_model

from aanmf.data.attributes import AttributeEncoder
from aanmf.serving.limits import Limits

Id = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""An id as text; a number counts as its digits, as everywhere in this library."""


class Body(BaseModel):
    """Base of all requests."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, frozen=True)


class Fault(BaseModel):
    """What was wrong."""

    kind: str
    message: str


class ErrorAnswer(BaseModel):
    """The answer to a request that was refused."""

    error: Fault


class Predictions(BaseModel):
    """Predicted ratings, in the order of the pairs."""

    ratings: list[float]
    fallbacks: list[str | None]
    """Null where user and item were trained, else what was replaced by an average one."""
    low: list[float] | None = None
    high: list[float] | None = None


class RecommendedItem(BaseModel):
    """One line of a list, best first."""

    item: str
    label: str | None
    rating: float
    low: float | None = None
    """Where an interval was asked for."""
    high: float | None = None


class Recommendations(BaseModel):
    """A list of recommended items."""

    items: list[RecommendedItem]
    new_ratings: int
    """How many ratings given since training the list takes into account."""


class Contribution(BaseModel):
    """One attribute of the user in one prediction."""

    attribute: str
    value: str
    attention: float | None
    contribution: float
    """By how much the predicted rating would fall without the attribute."""


class Explanation(BaseModel):
    """A predicted rating and what it rests on."""

    item: str
    label: str | None
    rating: float
    attributes: list[Contribution]


class Found(BaseModel):
    """Users or items that a search found."""

    found: list[dict[str, str | None]]
    more: bool
    """Whether more were found."""


class Stored(BaseModel):
    """Ratings that are on disk now."""

    stored: int


@dataclass(frozen=True)
class Requests:
    """The requests that one model understands: pydantic models, made at run time."""

    predict: Any
    recommend: Any
    explain: Any
    ratings: Any


def request_models(users: AttributeEncoder, scale: tuple[float, float], limits: Limits) -> Requests:
    """Request models with the attribute names, allowed values and rating scale of one model."""
    low, high = scale
    attributes = (attribute_model(users) | None, None)
    rating: Any = Annotated[FiniteFloat, Field(ge=low, le=high)]
    given: Any = Annotated[dict[Id, rating], Field(max_length=limits.pairs)]
    row: Any = _request("Rating", "One rating.", user=(Id, ...), item=(Id, ...), rating=(rating, ...))
    share: Any = Annotated[FiniteFloat, Field(gt=0, lt=1)]
    interval = (share | None, None)
    return Requests(
        predict=_request(
            "PredictRequest",
            "Pairs of user and item id; `interval` (0.9, say) asks for low and high, if the model has them.",
            pairs=(Annotated[list[tuple[Id, Id]], Field(min_length=1, max_length=limits.pairs)], ...),
            interval=interval,
        ),
        recommend=_request(
            "RecommendRequest",
            "A user by id, or a new one by attributes; `ratings` (item id: rating) in addition to those stored.",
            user=(Id | None, None),
            attributes=attributes,
            ratings=(given, Field(default_factory=dict)),
            n=(Annotated[int, Field(ge=1, le=limits.items)], 10),
            interval=interval,
        ),
        explain=_request(
            "ExplainRequest",
            "A user by id, or a new one by attributes, and an item.",
            user=(Id | None, None),
            attributes=attributes,
            item=(Id, ...),
        ),
        ratings=_request(
            "RatingsRequest",
            "Ratings to keep; a later rating of the same item by the same user replaces the earlier one.",
            ratings=(Annotated[list[row], Field(min_length=1, max_length=limits.pairs)], ...),
        ),
    )


def attribute_model(users: AttributeEncoder) -> Any:
    """A model with one optional field per attribute; fields are numbered and go by their alias, any text."""
    fields: dict[str, Any] = {
        f"attribute_{j}": (each.cell_type() | None, Field(default=None, alias=each.name))
        for j, each in enumerate(users.fitted)
    }
    return _request("UserAttributes", "Attributes of a new user; any may be left out.", **fields)


def _request(name: str, about: str, **fields: Any) -> Any:
    return create_model(name, __base__=Body, __doc__=about, **fields)


def fault_of(error: pydantic.ValidationError, names: list[str]) -> str:
    """The first fault of a request in one line: where, what, what was given.

    Args:
        error: what pydantic found.
        names: attributes of the model, for the message about an unknown one.
    """
    fault = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "json_invalid":
        return f"the body is not JSON: {fault['msg']}"
    if fault["type"] == "extra_forbidden" and fault["loc"][0] == "attributes":
        return f"{where}: unknown attribute; this model knows: {', '.join(names) or 'none'}"
    given = fault["input"]
    shown = f" (given: {given!r:.100})" if isinstance(given, str | int | float | bool) else ""
    return f"{where + ': ' if where else ''}{fault['msg']}{shown}"
