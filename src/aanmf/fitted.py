"""What a model learned from a data set besides its weights, and how that is kept on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aanmf.data.dataset import RatingDataset, Vocabulary
from aanmf.data.encode import AttributeEncoder, Slots
from aanmf.data.stream import RATINGS, RatingFile, StreamedDataset
from aanmf.errors import DataError
from aanmf.models.base import AttributeSets, Context, Ratings
from aanmf.training.streamed import StreamedRatings
from aanmf.training.trainer import History


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Vocabularies, encoders, training ratings and history: all of it is saved with the model."""

    users: Vocabulary
    items: Vocabulary
    item_labels: tuple[str, ...] | None
    user_encoder: AttributeEncoder
    item_encoder: AttributeEncoder
    context: Context
    data: Mapping[str, object]
    """Name, fingerprint and size of the training data, for the model's card."""
    history: History = dataclasses.field(default_factory=History)

    @classmethod
    def of(cls, data: RatingDataset | StreamedDataset) -> Self:
        """Learns encoders from the users and items that are rated; the history is still empty.

        Raises:
            DataError: there is no rating.
        """
        if len(data) == 0:
            raise DataError(f"{data.name}: no ratings to learn from")
        if isinstance(data, StreamedDataset):
            rated_users, rated_items = data.rated()
            spread, train = data.range(), StreamedRatings.over(data.file)
        else:
            rated_users, rated_items = np.unique(data.user), np.unique(data.item)
            spread = float(data.rating.min()), float(data.rating.max())
            train = Ratings.of(data.user, data.item, data.rating)
        user_encoder = AttributeEncoder.fit(data.users, rated_users)
        item_encoder = AttributeEncoder.fit(data.items, rated_items)
        return cls(
            users=data.users.ids,
            items=data.items.ids,
            item_labels=data.items.labels,
            user_encoder=user_encoder,
            item_encoder=item_encoder,
            context=_context(
                user_encoder,
                item_encoder,
                users=_with_unknown(user_encoder.transform(data.users)),
                items=_with_unknown(item_encoder.transform(data.items)),
                scale=data.scale or spread,
                train=train,
            ),
            data={"name": data.name, "fingerprint": data.fingerprint, "ratings": len(data)},
        )

    def documents(self) -> dict[str, dict[str, Any]]:
        """The part that goes into JSON files."""
        return {
            "users": {"ids": self.users.ids},
            "items": {"ids": self.items.ids, "labels": self.item_labels},
            "encoders": {
                "users": self.user_encoder.model_dump(mode="json"),
                "items": self.item_encoder.model_dump(mode="json"),
                "scale": self.context.scale,
            },
            "training": {"data": self.data, **dataclasses.asdict(self.history)},
        }

    def tensors(self) -> dict[str, Tensor]:
        """The part that goes into a tensor file: training ratings and attribute sets."""
        train, arrays = self.context.train, {}
        if not isinstance(train, StreamedRatings):
            arrays = {"train.rating": train.rating, "train.user": train.user.int(), "train.item": train.item.int()}
        for side, slots in (("users", self.context.users), ("items", self.context.items)):
            sets = AttributeSets.of(slots)
            arrays |= {f"{side}.value": sets.value, f"{side}.weight": sets.weight, f"{side}.mask": sets.mask}
            arrays |= {f"{side}.vectors.{m}": vectors for m, vectors in enumerate(sets.vectors)}
        return arrays

    def files(self) -> dict[str, Path]:
        """The part that is a file already: training ratings that were streamed."""
        train = self.context.train
        return {RATINGS: train.file.path} if isinstance(train, StreamedRatings) else {}

    @classmethod
    def restored(cls, documents: Mapping[str, Any], arrays: Mapping[str, Tensor], folder: Path) -> Self:
        """From what `documents`, `tensors` and `files` gave, the latter in `folder`."""
        if "train.user" in arrays:
            train = Ratings(arrays["train.user"].long(), arrays["train.item"].long(), arrays["train.rating"])
        else:
            train = StreamedRatings.over(RatingFile(folder / RATINGS))
        encoders = documents["encoders"]
        user_encoder = AttributeEncoder.model_validate(encoders["users"])
        item_encoder = AttributeEncoder.model_validate(encoders["items"])
        low, high = encoders["scale"]
        training = dict(documents["training"])
        data = training.pop("data")
        labels = documents["items"]["labels"]
        return cls(
            users=Vocabulary(documents["users"]["ids"]),
            items=Vocabulary(documents["items"]["ids"]),
            item_labels=tuple(labels) if labels else None,
            user_encoder=user_encoder,
            item_encoder=item_encoder,
            context=_context(
                user_encoder,
                item_encoder,
                users=_slots(arrays, "users", user_encoder),
                items=_slots(arrays, "items", item_encoder),
                scale=(low, high),
                train=train,
            ),
            data=data,
            history=History.of(training),
        )

    def user_positions(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Positions of users; that of the unknown user for those not known."""
        return _or_unknown(self.users.index(ids), self.users)

    def item_positions(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Positions of items; that of the unknown item for those not known."""
        return _or_unknown(self.items.index(ids), self.items)

    def fallbacks(self, users: list[str], items: list[str]) -> list[str | None]:
        """Per pair: null, or what was replaced by an average."""
        train = self.context.train
        kinds = (
            (self.users.index(users), torch.bincount(train.user, minlength=len(self.users)).numpy(), "user"),
            (self.items.index(items), torch.bincount(train.item, minlength=len(self.items)).numpy(), "item"),
        )
        sides: list[NDArray[np.object_]] = []
        for position, count, side in kinds:
            unrated = count[np.maximum(position, 0)] == 0
            words = np.where(position < 0, f"unknown {side}", np.where(unrated, f"{side} without ratings", ""))
            sides.append(words)
        return [", ".join(filter(None, pair)) or None for pair in zip(*sides, strict=True)]


def _context(
    user_encoder: AttributeEncoder,
    item_encoder: AttributeEncoder,
    *,
    users: Slots,
    items: Slots,
    scale: tuple[float, float],
    train: Ratings,
) -> Context:
    return Context(
        users=users,
        items=items,
        n_user_values=user_encoder.n_values,
        n_item_values=item_encoder.n_values,
        user_vector_sizes=user_encoder.vector_sizes,
        item_vector_sizes=item_encoder.vector_sizes,
        scale=scale,
        train=train,
    )


def _or_unknown(position: NDArray[np.int64], vocabulary: Vocabulary) -> NDArray[np.int64]:
    """The last row stands for the unknown."""
    return np.where(position < 0, len(vocabulary), position)


def _with_unknown(slots: Slots) -> Slots:
    """Adds the row of the unknown user (item): without attributes."""

    def grown(array: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([array, np.zeros((1, array.shape[1]), array.dtype)])

    return Slots(grown(slots.value), grown(slots.weight), grown(slots.mask), slots.vectors)


def _slots(arrays: Mapping[str, Tensor], side: str, encoder: AttributeEncoder) -> Slots:
    vectors = (arrays[f"{side}.vectors.{m}"] for m in range(len(encoder.vector_sizes)))
    value, weight, mask = (arrays[f"{side}.{part}"].numpy() for part in ("value", "weight", "mask"))
    return Slots(value, weight, mask, tuple(each.numpy() for each in vectors))
