"""What every model shares: the settings of training, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Self

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from aanmf.data.attributes import AttributeSet, Context
from aanmf.data.cells import LARGEST
from aanmf.data.dataset import Vocabulary
from aanmf.data.schema import first_fault
from aanmf.errors import ConfigError, unknown
from aanmf.ratings import Ratings, TrainingData, validation_rows

__all__ = ["Ratings", "TrainingData", "validation_rows"]
FOLD_IN_DAMPING = 5.0
"""As many ratings count as much as the prior knowledge of a user's mean."""
Bounds = tuple[Tensor, Tensor, Tensor]
"""Predicted ratings, and the low and high ends of intervals around them."""
Told = tuple[int, AttributeSet | None, Tensor, Tensor, Tensor | None]
"""A user with another history than in training: the arguments of `RatingModule.fold_in`."""


class ModelConfig(BaseModel):
    """Settings that every model has. Each model adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu`, or another device of torch, such as `cuda`."""
    seed: int = Field(default=0, ge=0)
    """Fixes initial weights, validation split, order of ratings and dropout."""

    @pydantic.model_validator(mode="after")
    def _check_size(self) -> Self:
        for name, value in self:
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not abs(number) <= LARGEST:
                    about = {"name": name, "number": f"{number:g}"}
                    raise PydanticCustomError("size", "{name}: {number} is beyond the range of 32-bit numbers", about)
        return self

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Self:
        """Checks plain settings.

        Raises:
            ConfigError: naming the setting, the fault and the settings that exist.
        """
        if strange := sorted(set(settings) - set(cls.model_fields)):
            raise ConfigError(unknown("setting", strange[0], sorted(cls.model_fields)))
        try:
            return cls.model_validate(settings)
        except pydantic.ValidationError as error:
            raise ConfigError(f"setting {first_fault(error)}") from None

    def with_chosen(self, chosen: Mapping[str, Any]) -> Self:
        """These settings with those that `fit` chose (`TrainingLog.chosen`) in their place, checked too."""
        fields = type(self).model_fields
        return self.of({**self.model_dump(), **{name: value for name, value in chosen.items() if name in fields}})

    @property
    def uses_context(self) -> bool:
        """Whether the model learns from the context of ratings."""
        return False

    def read_links(self, users: Vocabulary) -> NDArray[np.int64] | None:
        """Links between users, for models that have a setting for a file of them; None: without."""
        return None


class FactorConfig(ModelConfig):
    """Settings of models that learn latent factors, epoch by epoch."""

    factors: int = Field(default=32, ge=1, le=4096)
    """K, the number of latent factors."""
    epochs: int = Field(default=30, ge=1)
    """Most passes over the training ratings; early stopping usually ends before."""
    learning_rate: float = Field(default=1e-2, gt=0)
    """Adam's step size at the start; it falls to 0 along half a cosine over `epochs`."""
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share of the training ratings to choose the number of epochs on; 0 trains for all `epochs`."""


class BatchConfig(FactorConfig):
    """Settings of models that are trained in mini-batches (`training/trainer.py`)."""

    batch_size: int | None = Field(default=None, ge=1)
    """Ratings per step; None: a 160th of the training ratings, between 32 and 131072."""
    patience: int = Field(default=5, ge=1)
    """Epochs without a better validation error after which training stops."""
    refit: bool = True
    """After the number of epochs is found, train once more on all training ratings for that many."""

    def batch_for(self, n: int) -> int:
        """Ratings per step when there are n."""
        return self.batch_size or min(max(n // 160, 32), 131_072)


class Side(NamedTuple):
    """What a model holds of n users (or items): a bias (n,) in rating points, and a vector (n, K)."""

    bias: Tensor
    vector: Tensor


class InnerProducts(NamedTuple):
    """What scores b_u + b_i + x_u . z_i are made of.

    Attributes:
        of_users: b_u (B,) and x_u (B, K) of users at positions (B,), as trained.
        items: b_i and z_i of all items.
    """

    of_users: Callable[[Tensor], Side]
    items: Side


class RatingModule(nn.Module):
    """A torch module that predicts ratings of (user, item) pairs.

    Subclasses write `forward`, and `l2_groups` to say what is regularised how strongly. Predictions are on the scale
    of the ratings, not clipped. An `AttributeSet` or `Context` that a module holds moves to another device with it.
    """

    item_sets: AttributeSet
    """Attributes of all items, in modules that use them: positions of items point into it."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for name, value in vars(self).items():
            if isinstance(value, AttributeSet | Context):
                setattr(self, name, value.map(fn))
        return super()._apply(fn, recurse)

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """Predicted ratings (B,) of user and item positions (B,).

        With `sets` (B, J), row b takes these attributes in place of its user's own: a new user, a what-if, or the
        user's own in the context of a rating (`AttributeSet.context`).
        """
        raise AssertionError(f"{type(self).__name__} must define forward")

    def attention(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """Lambda (B, J): how much each attribute slot of the user counts for the item.

        Raises:
            ConfigError: the model has no attention (`ModelSpec.attention`).
        """
        raise ConfigError(f"{type(self).__name__} has no attention")

    def context_attention(self, users: Tensor, items: Tensor, sets: AttributeSet) -> Tensor | None:
        """Kappa (B, L): how much each context attribute counts for user and item; None: no context is used."""
        return None

    def interval(self, users: Tensor, items: Tensor, coverage: float, sets: AttributeSet | None = None) -> Bounds:
        """The prediction, low and high (B,): the rating lies between the two with probability `coverage`."""
        raise ConfigError(f"{type(self).__name__} has no prediction intervals")

    def interval_folded_in(self, told: Told, asked: Tensor, coverage: float) -> Bounds:
        """The same (n,) of items at positions `asked` (n,), after new ratings of one user."""
        raise ConfigError(f"{type(self).__name__} has no prediction intervals")

    def fold_in(
        self, user: int, sets: AttributeSet | None, items: Tensor, ratings: Tensor, without: Tensor | None = None
    ) -> Tensor:
        """Scores of all items (n_items,) for one user who gave new ratings, without retraining.

        Here: the scores without them, moved by the damped mean of what they left over.

        Args:
            user: position, that of the unknown user for a new one.
            sets: (1, J) attributes of a new user; None: those of `user`.
            items, ratings: (m,) what was rated since training.
            without: (k,) items whose training ratings are left out, where the model can (`ModelSpec.retracts`).
        """
        (_, (scores,)), *_ = self.catalogue(torch.tensor([user], device=items.device), sets)
        return scores + (ratings - scores[items]).sum() / (len(items) + FOLD_IN_DAMPING)

    def sides(self) -> tuple[Side, Side]:
        """What was learned of every user and of every item, the unknown one last.

        Raises:
            ConfigError: this model has no such tables.
        """
        raise ConfigError(f"{type(self).__name__} has no table of users and items: it cannot be exported")

    def inner_products(self) -> InnerProducts:
        """The parts of the scores that rank: of `match` where the model has it, else of ratings.

        Raises:
            ConfigError: these scores are no inner products (`ModelSpec.indexes`).
        """
        raise ConfigError(f"{type(self).__name__} does not rank by inner products: it cannot be indexed")

    def export_form(self) -> nn.Module:
        """The trained model in operations that every runtime has: users (B,), items (B,) -> ratings (B,), not clipped.

        Raises:
            ConfigError: this model has none.
        """
        raise ConfigError(f"{type(self).__name__} has no export form: it cannot be exported")

    @property
    def matches(self) -> bool:
        """Whether it has learned what users choose: whether `match` answers."""
        return False

    def match(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """How likely users are to choose and like each item.

        Yields positions in `users` (b,), scores (b, n_items), higher for more likely, on a scale of the model's own,
        and the predicted ratings (b, n_items) that they rest on, None for a model that predicts none. With `sets` as in
        `catalogue`.

        Raises:
            ConfigError: this model has not learned what users choose.
        """
        raise ConfigError(f"{type(self).__name__} has not learned what users choose: rank by rating")

    def match_folded_in(
        self, user: int, sets: AttributeSet | None, items: Tensor, ratings: Tensor, without: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The same (n_items,) for one user who gave new ratings, without retraining; arguments as in `fold_in`."""
        raise ConfigError(f"{type(self).__name__} has not learned what users choose: rank by rating")

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """(l2, parameters): adds (l2 / n ratings) * sum of their squares to the mean squared error."""
        raise AssertionError(f"{type(self).__name__} must define l2_groups")

    def penalty(self, users: Tensor, items: Tensor) -> Tensor | None:
        """What a batch of training pairs adds to its mean squared error besides l2; None: nothing."""
        return None

    @torch.no_grad()
    def settle(self, rated_users: Tensor, rated_items: Tensor) -> None:
        """After training: a user or item without training ratings gets the mean embedding of those with.

        `rated_users` (n_users + 1,) and `rated_items` (n_items + 1,) are bool.
        """
        for rated, tables in ((rated_users, self.user_tables()), (rated_items, self.item_tables())):
            for table in tables:
                table[~rated] = table[rated].mean(dim=0)

    def user_tables(self) -> list[Tensor]:
        """Parameters with a row per user (and one for the unknown user)."""
        return []

    def item_tables(self) -> list[Tensor]:
        """Parameters with a row per item (and one for the unknown item)."""
        return []

    def catalogue(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Scores of all items, in blocks of users: yields (positions in `users` (b,), scores (b, n_items))."""
        n_items = self.n_items
        items = torch.arange(n_items, device=users.device)
        for start in range(0, len(users), block := max(1, 65_536 // max(1, n_items))):
            part = torch.arange(start, min(start + block, len(users)), device=users.device)
            pairs = part.repeat_interleave(n_items)
            scores = self(users[pairs], items.repeat(len(part)), None if sets is None else sets.rows(pairs))
            yield part, scores.view(len(part), n_items)

    @property
    def n_items(self) -> int:
        """Items known by id."""
        return len(self.item_tables()[0]) - 1


def embedding(rows: int, factors: int, std: float = 0.1, whole: bool = False) -> nn.Parameter:
    """An embedding table (rows, factors), normally distributed around 0.

    Args:
        rows, factors: the size.
        std: standard deviation.
        whole: under `drawing`, it has all rows nevertheless: it is not a table of users or items.
    """
    drawn = _drawn.get()
    if drawn is None:
        return nn.Parameter(torch.empty(rows, factors))
    return nn.Parameter(_draw(rows, factors, std, range(rows) if whole else drawn(rows)))


Rows = Callable[[int], range]
"""From the number of rows of a table to those that are needed."""
DRAWN_ROWS = 1 << 12
"""Rows that are drawn at a time, a multiple of 16: then torch draws the same numbers as for the whole table."""
_drawn: ContextVar[Rows | None] = ContextVar("_drawn", default=range)


def _draw(rows: int, factors: int, std: float, needed: range) -> Tensor:
    """The rows of a table that are needed, with the bits of the whole one, block by block."""
    table, start = torch.empty(len(needed), factors), 0
    while start < rows:
        end = start + DRAWN_ROWS if rows - start >= 2 * DRAWN_ROWS else rows
        first, last = max(start, needed.start), min(end, needed.stop)
        if (first, last) == (start, end):
            table[first - needed.start : last - needed.start].normal_(0.0, std)
        else:
            block = torch.empty(end - start, factors).normal_(0.0, std)
            if first < last:
                table[first - needed.start : last - needed.start] = block[first - start : last - start]
        start = end
    return table


@contextmanager
def drawing(rows: Rows | None) -> Iterator[None]:
    """Tables of users and items made by `embedding` in the block have these rows only; None: all rows, not drawn."""
    before = _drawn.get()
    _drawn.set(rows)
    try:
        yield
    finally:
        _drawn.set(before)
