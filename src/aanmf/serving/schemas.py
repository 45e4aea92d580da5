"""What requests and answers look like. Requests are made for one model: its attribute names and values are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, Field, FiniteFloat, StringConstraints

from aanmf.explanation import Explained
from aanmf.fitted import Fitted
from aanmf.ranking import RankBy
from aanmf.serving.bodies import attribute_model, context_field, request_model
from aanmf.serving.limits import Limits

LIST_OPTIONS = ("n", "interval", "rank_by", "seen", "unrated", "candidates", "exclude", "where", "diversity")
"""Fields of a request that say what a list holds; each is one of `ListOptions` too."""
Id = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""An id as text; a number counts as its digits, as everywhere in this library."""


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
    rating: float | None = None
    """The predicted rating, if the model predicts ratings."""
    low: float | None = None
    """Where an interval was asked for."""
    high: float | None = None
    match: float | None = None
    """Where the list is ranked by match: what ranks, on a scale of the model's own."""


class Recommendations(BaseModel):
    """A list of recommended items."""

    items: list[RecommendedItem]
    new_ratings: int
    """How many ratings given since training the list takes into account."""


class ManyRecommendations(BaseModel):
    """A list per user, in the order of the request."""

    lists: list[Recommendations]


class SimilarOne(BaseModel):
    """An item or user like the one asked about."""

    id: str
    label: str | None
    similarity: float
    """From 0 to 1."""


class Similar(BaseModel):
    """Items or users, most similar first."""

    similar: list[SimilarOne]


class Part(BaseModel):
    """What one part of a prediction adds to it; the kinds are those of `aanmf.explanation.KINDS_OF_PARTS`."""

    kind: str
    name: str | None
    value: str | None
    attention: float | None
    contribution: float


class Explanation(BaseModel):
    """A prediction as a base and parts: base + the sum of contributions = prediction."""

    item: str
    label: str | None
    of: Explained
    against: str | None
    prediction: float
    base: float
    parts: list[Part]


class Found(BaseModel):
    """Users or items that a search found."""

    found: list[dict[str, str | None]]
    more: bool
    """Whether more were found."""


class Stored(BaseModel):
    """Ratings that are on disk now."""

    stored: int


class UserData(BaseModel):
    """All that is known of a user."""

    user: str
    stored: list[dict[str, object]]
    """Since training: `item`, `rating` (null: chosen, not rated) and `time`."""
    learned: dict[str, object] | None
    """What the model has learned from: `ratings` by item, and `attributes`; null where it does not know the user."""


class Erased(BaseModel):
    """What was done to forget a user."""

    erased: int
    """Ratings that were removed from the store."""
    learned: bool
    """Whether the model has learned from the user: until the next `aanmf update` its folder holds the ratings."""


@dataclass(frozen=True)
class Requests:
    """The requests that one model understands: pydantic models, made at run time."""

    predict: Any
    recommend: Any
    recommend_many: Any
    similar: Any
    explain: Any
    ratings: Any


def request_models(fitted: Fitted, limits: Limits) -> Requests:
    """Request models with the attribute names, allowed values and rating scale of one model."""
    low, high = fitted.training.scale
    attributes = (attribute_model(fitted.users.encoder) | None, None)
    on_scale: Any = Annotated[FiniteFloat, Field(ge=low, le=high)]
    rating: Any = on_scale | None if fitted.training.has_ratings else None
    optional = Field(default=None, description="Leave out, or null: the user chose the item and did not rate it.")
    row: Any = request_model("Rating", "One rating.", user=(Id, ...), item=(Id, ...), rating=(rating, optional))
    share: Any = Annotated[FiniteFloat, Field(gt=0, lt=1)]
    interval = (share | None, None)
    n = (Annotated[int, Field(ge=1, le=limits.items)], Field(default=10, description="Items at most."))
    given: Any = Annotated[dict[Id, rating], Field(max_length=limits.pairs)]
    about = "By item id, in addition to those stored; null: chosen, not rated."
    ratings = (given, Field(default_factory=dict, description=about))
    options = {"n": n, "interval": interval, **list_options(fitted, limits)}
    context = context_field(fitted.context)
    one: Any = request_model(
        "ListUser",
        "A user by id, or a new one by attributes, ratings or both.",
        user=(Id | None, None),
        attributes=attributes,
        ratings=ratings,
        without=(
            Annotated[list[Id], Field(max_length=limits.pairs)],
            Field(default_factory=list, description="Items as if the user had not rated them; they are not listed."),
        ),
        context=context,
    )
    return Requests(
        predict=request_model(
            "PredictRequest",
            "Pairs of user and item id; `interval` (0.9, say) asks for low and high, if the model has them.",
            pairs=(Annotated[list[tuple[Id, Id]], Field(min_length=1, max_length=limits.pairs)], ...),
            interval=interval,
            context=context,
        ),
        recommend=request_model(
            "RecommendRequest",
            "A user by id, or a new one by attributes, ratings or both; and what the list holds.",
            one,
            **options,
        ),
        recommend_many=request_model(
            "RecommendManyRequest",
            "Users by id, or new ones by attributes, ratings or both; and what their lists hold.",
            users=(Annotated[list[one], Field(min_length=1, max_length=limits.users)], ...),
            **options,
        ),
        similar=request_model(
            "SimilarRequest",
            "An item or a user by id, or a new one by attributes: one of the four.",
            item=(Id | None, None),
            item_attributes=(attribute_model(fitted.items.encoder, "item") | None, None),
            user=(Id | None, None),
            attributes=attributes,
            n=n,
        ),
        explain=request_model(
            "ExplainRequest",
            "A user by id, or a new one by attributes, ratings or both, and an item.",
            one,
            item=(Id, ...),
            top=(
                Annotated[int, Field(ge=1, le=limits.items)],
                Field(default=10, description="Parts that are listed; the others are summed up."),
            ),
            of=(
                Explained | None,
                Field(
                    default=None,
                    description="rating, or match: the place in a list. Null: the rating where the model predicts any.",
                ),
            ),
            against=(
                Id | None,
                Field(default=None, description="Another item: why the one and not this. Numbers are differences."),
            ),
        ),
        ratings=request_model(
            "RatingsRequest",
            "Ratings and choices to keep; a later rating of the same item by the same user replaces the earlier one.",
            ratings=(Annotated[list[row], Field(min_length=1, max_length=limits.pairs)], ...),
        ),
    )


def list_options(fitted: Fitted, limits: Limits) -> dict[str, Any]:
    """Fields that say what a list holds; see `aanmf.ranking.ListOptions`."""
    some, labelled = list(fitted.items.ids[:2]), [each for each in fitted.items.encoder.fitted if each.known_labels]
    ids: Any = Annotated[list[Id], Field(max_length=limits.pairs)]
    value: Any = Annotated[str, Field(max_length=200)] | FiniteFloat
    several: Any = Annotated[list[value | None], Field(min_length=1, max_length=100)]
    where: Any = Annotated[dict[str, value | several], Field(max_length=20)]
    return {
        "rank_by": (
            RankBy | None,
            Field(
                default=None,
                description="match: how likely the user is to choose the item and to like it; rating: the predicted "
                "rating; low: the lower end of the interval around it. Null: match where the model has it. "
                "/v1/model says which a model offers.",
            ),
        ),
        "seen": (bool, Field(default=False, description="Also items that the user has rated.")),
        "unrated": (
            bool | None,
            Field(
                default=None,
                description="Also items without any training rating. Null: where the model scores them by their "
                "attributes.",
            ),
        ),
        "candidates": (
            ids | None,
            Field(default=None, description="Ids that may be listed; null: all.", examples=[some]),
        ),
        "exclude": (ids, Field(default_factory=list, description="Ids that may not be listed.", examples=[some])),
        "where": (
            where,
            Field(
                default_factory=dict,
                description="Conditions on attributes of the items, all of which must hold: a value, or several of "
                "which one must be there; of a number a pair [low, high], each of which may be null.",
                examples=[{each.attribute.name: each.known_labels[0] for each in labelled[:1]}],
            ),
        ),
        "diversity": (
            Annotated[FiniteFloat, Field(ge=0, le=1)],
            Field(
                default=0.0,
                description="From 0 (the order of the scores) to 1: how much an item loses by its similarity to those "
                "above it.",
                examples=[0.3],
            ),
        ),
    }


def fault_of(error: pydantic.ValidationError, names: Mapping[str, Sequence[str]]) -> str:
    """The first fault of a request in one line: where, what, what was given.

    Args:
        error: what pydantic found.
        names: attributes that the model knows, by the field that holds them, for the message about an unknown one.
    """
    fault = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    field = str(fault["loc"][-1]) if fault["loc"] else ""
    if fault["type"] == "json_invalid":
        return f"the body is not JSON: {fault['msg']}"
    holder = str(fault["loc"][-2]) if len(fault["loc"]) > 1 else ""
    if fault["type"] == "extra_forbidden" and (known := names.get(holder)) is not None:
        return f"{where}: unknown attribute. Available: {', '.join(known) or 'none'}"
    if fault["type"] == "none_required" and field == "context":
        return f"{where}: this model has learned from no context; leave it out"
    if fault["type"] == "none_required":
        return f"{where}: this model was trained on choices without ratings; leave the rating out"
    given = fault["input"]
    shown = f" (given: {given!r:.100})" if isinstance(given, str | int | float | bool) else ""
    return f"{where + ': ' if where else ''}{fault['msg']}{shown}"
