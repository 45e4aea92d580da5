"""What a model learned from a data set besides its weights, and how that is kept on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter
from torch import Tensor

from aanmf.checks import check_finite, check_positions, tensor_of
from aanmf.contract import Ratings, TrainingData
from aanmf.data.attributes import AttributeEncoder, AttributeSet
from aanmf.data.cells import LARGEST
from aanmf.data.context import ContextEncoder, ContextRows, ContextTable
from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.data.rating_file import RatingFile
from aanmf.data.scratch import picked, places_in_order
from aanmf.data.stream import RATINGS, StreamedDataset
from aanmf.data.stream_context import CONTEXT
from aanmf.errors import DataError, ModelFolderError, UnknownIdError
from aanmf.training.log import TrainingLog
from aanmf.training.streamed import StreamedRatings

_RATING = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
_SCALE, _TEXTS = TypeAdapter(tuple[_RATING, _RATING]), TypeAdapter(tuple[str, ...])


@dataclasses.dataclass(frozen=True)
class EntitySide:
    """The users, or the items, as a model knows them.

    Attributes:
        name: `user` or `item`, for messages.
        table: ids, labels and raw attributes, as given to `fit`.
        encoder: of the attributes; fitted on the users (items) with training ratings.
        attributes: the encoded table and, in the last row, an unknown user (item) without attributes.
        n_ratings: (n + 1,) training ratings of each row of `attributes`.
    """

    name: Literal["user", "item"]
    table: EntityTable
    encoder: AttributeEncoder
    attributes: AttributeSet
    n_ratings: NDArray[np.int64]

    @classmethod
    def fit(cls, name: Literal["user", "item"], table: EntityTable, train: Ratings) -> Self:
        """Learns the encoder and counts ratings."""
        n_ratings = _count(train, name, len(table))
        encoder = AttributeEncoder.fit(table, np.flatnonzero(n_ratings))
        return cls(name, table, encoder, encoder.transform(table).with_unknown(), n_ratings)

    def grown(self, table: EntityTable, train: Ratings) -> Self:
        """The same with another table and other ratings: its encoder stays, and values new to it count as missing."""
        attributes = self.encoder.transform(table).with_unknown()
        n_ratings = _count(train, self.name, len(table))
        return dataclasses.replace(self, table=table, attributes=attributes, n_ratings=n_ratings)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids, by position."""
        return self.table.ids.ids

    @property
    def labels(self) -> tuple[str, ...] | None:
        """What is shown instead of the ids (a film's title), by position."""
        return self.table.labels

    @cached_property
    def unknown(self) -> int:
        """The position that stands for an unknown user (item)."""
        return len(self.table)

    def position(self, wanted: str | int) -> int:
        """The position of an id.

        Raises:
            UnknownIdError: it is not in the training data.
        """
        position = int(self.table.ids.index([wanted])[0])
        if position < 0:
            hint = "; for a new user give attributes" if self.name == "user" else ""
            raise UnknownIdError(f"{self.name} {str(wanted)!r} is not in the training data{hint}")
        return position

    def label(self, position: int) -> str | None:
        """The label at a position; None if there are no labels."""
        return self.labels[position] if self.labels else None

    def tensors(self) -> dict[str, Tensor]:
        """The encoded attributes, for a tensor file."""
        sets, of = self.attributes, f"{self.name}s"
        vectors = {f"{of}.vectors.{m}": array for m, array in enumerate(sets.vectors)}
        return {f"{of}.value": sets.value, f"{of}.weight": sets.weight, f"{of}.mask": sets.mask, **vectors}

    @classmethod
    def restored(
        cls,
        name: Literal["user", "item"],
        documents: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        files: Mapping[str, Path],
        train: Ratings,
    ) -> Self:
        """From a model folder; one of an early version has ids and labels, but no raw attributes.

        Raises:
            ModelFolderError: its parts do not fit together.
        """
        of = f"{name}s"
        encoder = AttributeEncoder.model_validate(documents["encoders"][of])
        if early := documents.get(of):
            labels = _TEXTS.validate_python(early.get("labels") or ())
            table = EntityTable(Vocabulary(_TEXTS.validate_python(early["ids"])), labels=labels or None)
            if labels and len(labels) != len(table):
                raise ModelFolderError(f"{len(labels)} labels of {len(table)} {of}")
        else:
            table = EntityTable.from_parquet(files[f"{of}.parquet"].read_bytes())
        if not len(table):
            raise ModelFolderError(f"there are no {of}")
        if table.attributes and table.attributes != tuple(each.attribute for each in encoder.fitted):
            raise ModelFolderError(f"the table of {of} has other attributes than their encoder")
        if any(table.columns[each.name].dtype != each.dtype for each in encoder.fitted if table.attributes):
            raise ModelFolderError(f"a column of the table of {of} is of another type than its attribute")
        value = tensor_of(tensors, f"{of}.value", torch.int64, (len(table) + 1, None))
        weight = tensor_of(tensors, f"{of}.weight", torch.float32, value.shape)
        mask = tensor_of(tensors, f"{of}.mask", torch.bool, value.shape)
        vectors = tuple(
            tensor_of(tensors, f"{of}.vectors.{m}", torch.float32, (None, size))
            for m, size in enumerate(encoder.vector_sizes)
        )
        check_positions(f"{of}.value", value[mask], encoder.n_values + sum(map(len, vectors)))
        check_positions(f"{of}.value", value[~mask], 1)
        sets = AttributeSet(value, weight, mask, vectors, encoder.n_values)
        return cls(name, table, encoder, sets, _count(train, name, len(table)))


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Users, items, training ratings and the course of training: all of it is saved with the model."""

    users: EntitySide
    items: EntitySide
    training: TrainingData
    data: Mapping[str, object]
    """Name, fingerprint and size of the training data, and how many ratings came by updates (see `news`)."""
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Names of the columns of the training ratings by role (`user`, `item`, `rating`, `time`), where they are known."""
    training_log: TrainingLog = dataclasses.field(default_factory=TrainingLog)
    context: ContextEncoder = dataclasses.field(default_factory=ContextEncoder)
    """Of the context of ratings; without names where the model has not learned from any."""
    context_table: ContextTable = dataclasses.field(default_factory=ContextTable)
    """The context of the training ratings, as given to `fit`."""

    @classmethod
    def of(cls, data: RatingDataset | StreamedDataset) -> Self:
        """Learns the encoders from the users and items that are rated.

        Raises:
            DataError: there is no rating.
        """
        if len(data) == 0:
            raise DataError(f"{data.name}: no ratings to learn from")
        encoder, table = ContextEncoder(), data.context
        if isinstance(data, StreamedDataset):
            contexts = ContextRows.fit(table, data.time) if table.names else None
            encoder = encoder if contexts is None else contexts.encoder
            train, found = StreamedRatings.over(data.file, contexts), data.range()
        else:
            encoder = ContextEncoder.fit(table, data.time) if table.names else encoder
            context = encoder.transform(table, data.time) if table.names else None
            train = Ratings.of(data.user, data.item, data.rating, context, data.scratch)
            found = float(data.rating.min()), float(data.rating.max())
            if not np.isfinite(found).all():
                row = int(np.flatnonzero(~np.isfinite(data.rating))[0])
                raise DataError(f"{data.name}: rating {row + 1} is {data.rating[row]}: ratings must be finite numbers")
        users, items = EntitySide.fit("user", data.users, train), EntitySide.fit("item", data.items, train)
        training = TrainingData(
            users.attributes, items.attributes, data.scale or found, train, has_ratings=data.has_ratings
        )
        about = {"name": data.name, "fingerprint": data.fingerprint, "ratings": len(data)}
        columns = data.columns if isinstance(data, RatingDataset) else {}
        return cls(users, items, training, about, columns, context=encoder, context_table=table)

    def grown(self, data: RatingDataset, **news: int) -> Self:
        """After an update, with this data: encoders, scale and training log stay; `news` is noted (see `news`)."""
        train = Ratings.of(data.user, data.item, data.rating)
        users, items = self.users.grown(data.users, train), self.items.grown(data.items, train)
        training = dataclasses.replace(self.training, users=users.attributes, items=items.attributes, train=train)
        about = {**self.data, "fingerprint": data.fingerprint, "ratings": len(data), **news}
        return dataclasses.replace(self, users=users, items=items, training=training, data=about)

    def news(self, since: Literal["new_since_fit", "new_since_training"]) -> int:
        """Training ratings that came by updates since the last full fit, or since tables of vectors were trained."""
        found = self.data.get(since, 0)
        return found if isinstance(found, int) else 0

    def training_ratings(self) -> RatingDataset | None:
        """The training ratings, users and items as a data set; None where the ratings are streamed.

        Times are among them where they are context.
        """
        train, training = self.training.train, self.training
        if isinstance(train, StreamedRatings):
            return None
        return RatingDataset(
            self.users.table,
            self.items.table,
            *(each.numpy() for each in (train.user, train.item, train.rating)),
            time=None if train.times is None else train.times.numpy(),
            scale=training.scale if training.has_ratings else None,
            name=str(self.data.get("name", "ratings")),
            has_ratings=training.has_ratings,
            columns=self.columns,
            context=self.context_table,
        )

    def fallback(self, user: int, item: int) -> str | None:
        """What is replaced by an average one at two positions: `unknown user, item without ratings`; None: nothing."""
        words = [
            f"unknown {side.name}" if position == side.unknown else f"{side.name} without ratings"
            for side, position in ((self.users, user), (self.items, item))
            if not side.n_ratings[position]
        ]
        return ", ".join(words) or None

    @cached_property
    def _by_user(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Items and ratings (n ratings,) in order of the user, and where those of each user start (n_users + 2,)."""
        train, start = self.training.train, np.concatenate([[0], np.cumsum(self.users.n_ratings)])
        order = places_in_order(train.user, torch.from_numpy(self.users.n_ratings), train.scratch)
        item, rating = (picked(each, order, train.scratch) for each in (train.item.long(), train.rating))
        return item.numpy(), rating.numpy(), start

    def rated_by(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The training pairs of users at positions (b,): which of them (m,), and the item (m,)."""
        items, _, start = self._by_user
        count = start[users + 1] - start[users]
        row = np.repeat(np.arange(len(users)), count)
        return row, items[np.arange(len(row)) + (start[users] - (count.cumsum() - count))[row]]

    def ratings_of(self, user: int) -> tuple[list[int], list[float]]:
        """Items and training ratings of the user at a position."""
        items, ratings, start = self._by_user
        rows = slice(start[user], start[user + 1])
        return items[rows].tolist(), ratings[rows].tolist()

    def documents(self) -> dict[str, dict[str, Any]]:
        """What a model folder keeps as JSON."""
        encoders = {f"{side.name}s": side.encoder.model_dump(mode="json") for side in (self.users, self.items)}
        if self.context.names:
            encoders["context"] = self.context.model_dump(mode="json")
        return {
            "encoders": {**encoders, "scale": self.training.scale, "has_ratings": self.training.has_ratings},
            "training": {"data": self.data, "columns": dict(self.columns), **dataclasses.asdict(self.training_log)},
        }

    def tensors(self) -> dict[str, Tensor]:
        """What a model folder keeps as tensors: encoded attributes, and training ratings unless they are streamed."""
        train, sets = self.training.train, self.users.tensors() | self.items.tensors()
        if train.times is not None:
            sets["train.time"] = train.times
        if isinstance(train, StreamedRatings):
            return sets
        return {**sets, "train.rating": train.rating, "train.user": train.user.int(), "train.item": train.item.int()}

    def files(self) -> dict[str, Path | bytes]:
        """What a model folder keeps as other files: raw tables, context, and training ratings that are streamed."""
        files: dict[str, Path | bytes] = {
            f"{side.name}s.parquet": side.table.to_parquet() for side in (self.users, self.items)
        }
        if self.context.names:
            files[CONTEXT] = self.context_table.to_parquet()
        train = self.training.train
        return files | ({RATINGS: train.file.path} if isinstance(train, StreamedRatings) else {})

    @classmethod
    def restored(cls, documents: Mapping[str, Any], tensors: Mapping[str, Tensor], files: Mapping[str, Path]) -> Self:
        """From what `documents`, `tensors` and `files` gave, the latter by name.

        Raises:
            ModelFolderError: they do not fit together.
        """
        encoder, table, time = ContextEncoder.model_validate(documents["encoders"].get("context", {})), None, None
        file = RatingFile(files[RATINGS]) if RATINGS in files else None
        rating = torch.empty(len(file)) if file else tensor_of(tensors, "train.rating", torch.float32, (None,))
        if encoder.names:
            table = ContextTable.from_parquet(files[CONTEXT].read_bytes())
        if encoder.time is not None:
            time = tensor_of(tensors, "train.time", torch.int64, (len(rating),)).numpy()
        if file is None:
            user, item = (tensor_of(tensors, f"train.{of}", torch.int32, rating.shape) for of in ("user", "item"))
            context = None if table is None else encoder.transform(table, time)
            train = Ratings(user.long(), item.long(), rating, context=context)
        else:
            train = StreamedRatings.over(file, None if table is None else ContextRows(encoder, table, time))
        users = EntitySide.restored("user", documents, tensors, files, train)
        items = EntitySide.restored("item", documents, tensors, files, train)
        scale = _SCALE.validate_python(documents["encoders"]["scale"])
        if scale[0] > scale[1]:
            raise ModelFolderError(f"the scale of ratings goes from {scale[0]:g} down to {scale[1]:g}")
        log = dict(documents["training"])
        about, columns = dict(log.pop("data")), dict(log.pop("columns", {}))
        has_ratings = documents["encoders"].get("has_ratings", True) is True
        training = TrainingData(users.attributes, items.attributes, scale, train, has_ratings=has_ratings)
        return cls(
            users,
            items,
            training,
            about,
            columns,
            TrainingLog.of(log),
            encoder,
            ContextTable() if table is None else table,
        )


def _count(train: Ratings, side: Literal["user", "item"], n: int) -> NDArray[np.int64]:
    """(n + 1,) training ratings of every user (item); 0 in the last place, which stands for an unknown one.

    Raises:
        ModelFolderError: a rating is of a user (item) that there is not.
    """
    if not isinstance(train, StreamedRatings):
        check_positions(f"train.{side}", getattr(train, side), n)
        return np.bincount(getattr(train, side).numpy(), minlength=n + 1)
    counts = np.zeros(n + 1, np.int64)
    for _, rows in train.file.blocks():
        check_positions(f"{RATINGS}, {side}", torch.from_numpy(rows[side].astype(np.int64)), n)
        check_finite(f"{RATINGS}, rating", torch.from_numpy(rows["rating"].copy()))
        counts += np.bincount(rows[side], minlength=n + 1)
    return counts
