"""The context of a rating as inputs of an ONNX file, in which there is no text.

| kind | input | missing |
|---|---|---|
| categorical | int64 (B,) position among its values | -1 |
| multi-valued | int64 (B, W) positions, as many as any training rating has; no value twice | -1 |
| numeric | float32 (B,) | NaN |
| vector | float32 (B, D) | NaN |
| time | int64 (B,) seconds since 1970, of which hour and weekday are taken | -1 |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aanmf.data.attribute_kind import FittedAttribute
from aanmf.data.attributes import AttributeSet, Context
from aanmf.data.context import HOURS, WEEKDAYS, ContextEncoder
from aanmf.data.schema import Kind, Missing

Array = NDArray[np.generic]
OF_TIME = {"hour": (HOURS, 3600, 0), "weekday": (WEEKDAYS, 86_400, 3)}
"""Labels, how long each lasts in seconds, and the number of the one in which 1970 began (a Thursday)."""


class AttributeInput(nn.Module):
    """One attribute of the context: from numbers to slots, as its `FittedAttribute` encodes cells.

    Args:
        fitted: the attribute.
        sets: of the training ratings; no rating has more labels than these have slots.
    """

    def __init__(self, fitted: FittedAttribute, sets: AttributeSet) -> None:
        super().__init__()
        self.fitted, self.width = fitted, sets.mask.shape[1]
        self.numbers = fitted.size or int(fitted.attribute.kind is Kind.NUMERIC)
        self.register_buffer("center", torch.tensor(fitted.center or (0.0,)))
        self.register_buffer("cuts", torch.tensor(fitted.cuts or ()))

    def forward(self, given: Tensor) -> AttributeSet:
        """Slots (B, W) of an input (B,) or (B, W)."""
        given, n = given if given.ndim == 2 else given[:, None], self.fitted.n_values
        if not self.numbers:
            mask = (given >= 0) & (given < n)
            count = mask.sum(1, keepdim=True).clamp(min=1)
            return self._filled(torch.where(mask, given, 0), mask / count.sqrt(), mask)
        mask = ~given.isnan().any(1, keepdim=True)
        if self.fitted.cuts is not None:
            return self._filled((given >= self.get_buffer("cuts")).sum(1, keepdim=True), mask.float(), mask)
        number = torch.where(mask, (given - self.get_buffer("center")) / self.fitted.deviation, 0.0)
        if self.fitted.attribute.kind is Kind.NUMERIC:
            return self._filled(torch.zeros_like(mask, dtype=torch.int64), number, mask)
        place = n + torch.arange(given.shape[0], device=given.device)[:, None]
        return self._filled(place * mask, mask.float(), mask, (number,))

    def _filled(self, value: Tensor, weight: Tensor, mask: Tensor, vectors: tuple[Tensor, ...] = ()) -> AttributeSet:
        """With the label of empty cells, where it has one."""
        n = self.fitted.n_values
        if self.fitted.attribute.missing is Missing.VALUE:
            empty = ~mask.any(1, keepdim=True) & (torch.arange(mask.shape[1], device=mask.device) == 0)
            value, weight = torch.where(empty, n - 1, value), torch.where(empty, 1.0, weight)
            mask = mask | empty
        return AttributeSet(value, weight, mask, vectors, n)

    def example(self, rng: np.random.Generator, size: int) -> Array:
        """Some input (size,) or (size, W), missing values among it."""
        if not self.numbers:
            shape = (size,) if self.fitted.attribute.kind is not Kind.MULTIVALUED else (size, self.width)
            return rng.integers(-1, self.fitted.n_values, shape)
        middle = self.fitted.center or np.mean(self.fitted.cuts or (0.0,))
        numbers = rng.normal(middle, self.fitted.deviation, (size, self.numbers)).astype(np.float32)
        numbers[rng.random(size) < 0.2] = np.nan
        return numbers[:, 0] if self.fitted.attribute.kind is Kind.NUMERIC else numbers

    def about(self) -> dict[str, Any]:
        """For the file's metadata."""
        kind = self.fitted.attribute.kind
        return {"kind": kind.value, "values": list(self.fitted.labels) if not self.numbers else None}


class ContextInputs(nn.Module):
    """The context of B ratings, from one input per name that a request may give.

    Args:
        encoder: of the model.
        context: of its training ratings.
    """

    def __init__(self, encoder: ContextEncoder, context: Context) -> None:
        super().__init__()
        fitted = encoder.attributes.fitted
        self.time, self.attributes = encoder.time, [each.name for each in fitted]
        self.given = [name for name in self.attributes if name in encoder.columns]
        self.of = nn.ModuleList(AttributeInput(*pair) for pair in zip(fitted, context.sets, strict=True))
        for each in fitted:
            if each.name not in self.given:  # taken from the time
                known, labels = list(each.labels), OF_TIME[each.name][0]
                places = [known.index(label) if label in known else -1 for label in labels]
                self.register_buffer(f"places_{each.name}", torch.tensor(places))

    @property
    def names(self) -> list[str]:
        """Of the inputs."""
        return [f"context.{name}" for name in (*self.given, *([] if self.time is None else [self.time]))]

    def forward(self, given: Sequence[Tensor]) -> Context:
        """The context; a time counts by its hour and weekday alone."""
        by_name = dict(zip(self.given, given, strict=False))
        numbers = [by_name[name] if name in by_name else self._part(name, given[-1]) for name in self.attributes]
        return Context(tuple(each(number) for each, number in zip(self.of, numbers, strict=True)))

    def _part(self, name: str, time: Tensor) -> Tensor:
        """Position of the hour or weekday of times (B,)."""
        labels, lasts, first = OF_TIME[name]
        since = time % (lasts * len(labels))  # small: ONNX divides as 32-bit floats
        number = (torch.div(since, lasts, rounding_mode="floor") + first) % len(labels)
        return torch.where(time < 0, -1, self.get_buffer(f"places_{name}")[number])

    def _inputs(self) -> list[AttributeInput]:
        """Of the attributes that are given, in order."""
        return [each for each in self.of if isinstance(each, AttributeInput) and each.fitted.name in self.given]

    def examples(self, rng: np.random.Generator, size: int) -> list[Array]:
        """Some input, missing values among it."""
        found = [each.example(rng, size) for each in self._inputs()]
        return found if self.time is None else [*found, rng.integers(-1, 2_000_000_000, size)]

    def about(self) -> dict[str, Any]:
        """Of each input, for the file's metadata."""
        found = [each.about() for each in self._inputs()]
        if self.time is not None:
            found.append({"kind": "time", "values": None})
        return dict(zip(self.names, found, strict=True))
