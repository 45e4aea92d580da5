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

from aanmf.contract import Ratings, TrainingData
from aanmf.data.attributes import AttributeEncoder, AttributeSet
from aanmf.data.dataset import RatingDataset, Vocabulary
from aanmf.data.stream import RATINGS, RatingFile, StreamedDataset
from aanmf.errors import DataError
from aanmf.training.streamed import StreamedRatings
from aanmf.training.trainer import TrainingLog


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Vocabularies, encoders, training ratings and training_log: all of it is saved with the model."""

    users: Vocabulary
    items: Vocabulary
    item_labels: tuple[str, ...] | None
    user_encoder: AttributeEncoder
    item_encoder: AttributeEncoder
    training: TrainingData
    data: Mapping[str, object]
    """Name, fingerprint and size of the training data, for the model's card."""
    training_log: TrainingLog = dataclasses.field(default_factory=TrainingLog)

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
            training=TrainingData(
                users=user_encoder.transform(data.users).with_unknown(),
                items=item_encoder.transform(data.items).with_unknown(),
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
                "scale": self.training.scale,
            },
            "training": {"data": self.data, **dataclasses.asdict(self.training_log)},
        }

    def tensors(self) -> dict[str, Tensor]:
        """The part that goes into a tensor file: training ratings and attribute sets."""
        train, arrays = self.training.train, {}
        if not isinstance(train, StreamedRatings):
            arrays = {"train.rating": train.rating, "train.user": train.user.int(), "train.item": train.item.int()}
        for side, sets in (("users", self.training.users), ("items", self.training.items)):
            arrays |= {f"{side}.value": sets.value, f"{side}.weight": sets.weight, f"{side}.mask": sets.mask}
            arrays |= {f"{side}.vectors.{m}": vectors for m, vectors in enumerate(sets.vectors)}
        return arrays

    def files(self) -> dict[str, Path]:
        """The part that is a file already: training ratings that were streamed."""
        train = self.training.train
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
            training=TrainingData(
                users=_attribute_set(arrays, "users", user_encoder),
                items=_attribute_set(arrays, "items", item_encoder),
                scale=(low, high),
                train=train,
            ),
            data=data,
            training_log=TrainingLog.of(training),
        )

    def user_positions(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Positions of users; that of the unknown user for those not known."""
        return _or_unknown(self.users.index(ids), self.users)

    def item_positions(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Positions of items; that of the unknown item for those not known."""
        return _or_unknown(self.items.index(ids), self.items)

    def fallbacks(self, users: list[str], items: list[str]) -> list[str | None]:
        """Per pair: null, or what was replaced by an average."""
        train = self.training.train
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


def _or_unknown(position: NDArray[np.int64], vocabulary: Vocabulary) -> NDArray[np.int64]:
    """The last row stands for the unknown."""
    return np.where(position < 0, len(vocabulary), position)


def _attribute_set(arrays: Mapping[str, Tensor], side: str, encoder: AttributeEncoder) -> AttributeSet:
    value, weight, mask = (arrays[f"{side}.{part}"] for part in ("value", "weight", "mask"))
    vectors = tuple(arrays[f"{side}.vectors.{m}"] for m in range(len(encoder.vector_sizes)))
    return AttributeSet(value, weight, mask, vectors, encoder.n_values)
