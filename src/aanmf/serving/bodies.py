"""The base of all requests, and the parts of them that are made for the attributes of one model."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, create_model

from aanmf.data.attributes import AttributeEncoder
from aanmf.data.context import ContextEncoder


class Body(BaseModel):
    """Base of all requests."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True, frozen=True)


def attribute_model(encoder: AttributeEncoder, side: str = "user") -> Any:
    """A model with one optional field per attribute; fields are numbered and go by their alias, any text."""
    fields: dict[str, Any] = {
        f"attribute_{j}": (each.cell_type() | None, Field(default=None, alias=each.name))
        for j, each in enumerate(encoder.fitted)
    }
    return request_model(
        f"{side.capitalize()}Attributes", f"Attributes of a new {side}; any may be left out.", **fields
    )


def context_model(encoder: ContextEncoder) -> Any:
    """A model with one optional field per context attribute, numbered as in `attribute_model`; the time is one too."""
    fields: dict[str, Any] = {
        f"context_{j}": (each.cell_type() | None, Field(default=None, alias=each.name))
        for j, each in enumerate(encoder.attributes.fitted)
        if each.name in encoder.columns
    }
    if encoder.time is not None:
        when = Field(
            default=None,
            alias=encoder.time,
            description="Seconds since 1970, or a date and time (UTC).",
            examples=["2024-12-31 20:15"],
        )
        text: Any = Annotated[str, StringConstraints(max_length=40)]
        fields["time"] = (FiniteFloat | text | None, when)
    return request_model(
        "Context", "The context of a rating; any part may be left out: what is usual counts.", **fields
    )


def context_field(encoder: ContextEncoder) -> Any:
    """The field of requests that holds their context; always null for a model that has learned from none."""
    about = "The context in which the ratings would be given; null: what is usual."
    return (context_model(encoder) | None if encoder.names else None, Field(default=None, description=about))


def request_model(name: str, about: str, base: type[Body] = Body, **fields: Any) -> Any:
    """A model with these fields, made at run time: (type, default) by name."""
    return create_model(name, __base__=base, __doc__=about, **fields)
