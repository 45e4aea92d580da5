"""The estimator that users touch: fit, evaluate, predict, recommend, explain, save, load."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from aanmf.data.dataset import RatingDataset, Vocabulary
from aanmf.data.encode import AttributeEncoder, Slots
from aanmf.data.schema import Kind
from aanmf.errors import DataError, ModelFolderError, NotFittedError, UnknownIdError
from aanmf.evaluation.metrics import Scores, score
from aanmf.explanation import explain_pair, mean_attention
from aanmf.models.base import AttributeSets, BatchConfig, Context, ModelConfig, RatingModule, Ratings
from aanmf.storage import read_folder, write_folder
from aanmf.training.trainer import Epoch, History, OnEpoch, fit_module, pick_device, predict_pairs

Ids = str | int | Sequence[str | int]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What `fit` learned, beside the module: all of it is saved with the model."""

    users: Vocabulary
    items: Vocabulary
    item_labels: tuple[str, ...] | None
    user_encoder: AttributeEncoder
    item_encoder: AttributeEncoder
    context: Context
    history: History
    data: Mapping[str, object]
    """Name and fingerprint of the training data, for the model's card."""


class Recommender:
    """Base of all models: settings go to the constructor, ratings to `fit`.

    >>> from aanmf import AANMF, make_synthetic
    >>> data = make_synthetic(n_users=200, n_items=50, n_ratings=4000, seed=0).data
    >>> train, test = data.split(test=0.2, seed=0)
    >>> model = AANMF(factors=8, epochs=5).fit(train)
    >>> model.evaluate(test).n
    800
    """

    name: ClassVar[str]
    config_type: ClassVar[type[ModelConfig]]
    module_type: ClassVar[Callable[[Any, Context], RatingModule]]

    def __init__(self, **settings: Any) -> None:
        """Settings by name; the fields of `config_type` tell which there are.

        Raises:
            ConfigError: an unknown setting, or a value out of range.
        """
        self.config = self.config_type.of(settings)
        self._module: RatingModule | None = None
        self._fitted: Fitted | None = None

    def __repr__(self) -> str:
        changed = {name: value for name, value in self.config if value != type(self.config).model_fields[name].default}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def get_params(self) -> dict[str, Any]:
        """All settings by name."""
        return self.config.model_dump()

    @property
    def module_(self) -> RatingModule:
        """The trained torch module."""
        if self._module is None:
            raise NotFittedError(f"this {type(self).__name__} has learned nothing yet: call fit, or load a saved one")
        return self._module

    @property
    def fitted_(self) -> Fitted:
        """What `fit` learned beside the module."""
        if self._fitted is None:
            raise NotFittedError(f"this {type(self).__name__} has learned nothing yet: call fit, or load a saved one")
        return self._fitted

    @property
    def is_fitted(self) -> bool:
        """Whether it can predict."""
        return self._module is not None

    # ---------------------------------------------------------------- learning

    def fit(self, data: RatingDataset, on_epoch: OnEpoch | None = None) -> Self:
        """Learns from training ratings.

        Args:
            data: the training part; users and items without a rating in it may be there with their attributes.
            on_epoch: called after every epoch, for progress.

        Raises:
            DataError: there is no rating.
            ConfigError: training diverged: the learning rate is too high.
            KeyboardInterrupt: after Ctrl-C; the model then holds what was learned so far and can be saved.
        """
        if len(data) == 0:
            raise DataError(f"{data.name}: no ratings to learn from")
        user_encoder = AttributeEncoder.fit(data.users, np.unique(data.user))
        item_encoder = AttributeEncoder.fit(data.items, np.unique(data.item))
        context = Context(
            users=_with_unknown(user_encoder.transform(data.users)),
            items=_with_unknown(item_encoder.transform(data.items)),
            n_user_values=user_encoder.n_values,
            n_item_values=item_encoder.n_values,
            user_vector_sizes=user_encoder.vector_sizes,
            item_vector_sizes=item_encoder.vector_sizes,
            scale=data.scale or (float(data.rating.min()), float(data.rating.max())),
            train=Ratings.of(data.user, data.item, data.rating),
        )
        module, history = self._train(context, on_epoch)
        self._module = module
        self._fitted = Fitted(
            users=data.users.ids,
            items=data.items.ids,
            item_labels=data.items.labels,
            user_encoder=user_encoder,
            item_encoder=item_encoder,
            context=context,
            history=history,
            data={"name": data.name, "fingerprint": data.fingerprint, "ratings": len(data)},
        )
        if history.interrupted:
            raise KeyboardInterrupt
        return self

    def _train(self, context: Context, on_epoch: OnEpoch | None) -> tuple[RatingModule, History]:
        """Trains the module; models with a training of their own replace this."""
        assert isinstance(self.config, BatchConfig)
        return fit_module(self._build, context, self.config, on_epoch)

    def _build(self, context: Context) -> RatingModule:
        return type(self).module_type(self.config, context)

    # -------------------------------------------------------------- predicting

    def predict(self, users: Ids, items: Ids) -> pl.DataFrame:
        """Predicts the ratings of pairs.

        Args:
            users, items: n ids each (one id goes with all of the other side).

        Returns:
            A table of n rows: `user`, `item`, `rating` (clipped to the scale), and `fallback`: null where both were
            trained, else what stood in for what (`unknown user`: predicted for an average user).

        Raises:
            DataError: users and items differ in number.
        """
        user_ids, item_ids = _pairs(users, items)
        fitted = self.fitted_
        user, item = fitted.users.index(user_ids), fitted.items.index(item_ids)
        return pl.DataFrame(
            {
                "user": user_ids,
                "item": item_ids,
                "rating": self._score(_or_unknown(user, fitted.users), _or_unknown(item, fitted.items)),
                "fallback": self._fallbacks(user, item),
            },
            schema_overrides={"user": pl.String, "item": pl.String, "fallback": pl.String},
        )

    def predict_for(self, attributes: Mapping[str, object], items: Ids) -> pl.DataFrame:
        """Predicts the ratings of a new user, known by attributes alone; see `predict` and `recommend_for`."""
        _, item_ids = _pairs("", items)
        item = self.fitted_.items.index(item_ids)
        users = np.full(len(item), len(self.fitted_.users))
        sets = self._new_user(attributes).rows(torch.zeros(len(item), dtype=torch.int64, device=self._device))
        rating = self._score(users, _or_unknown(item, self.fitted_.items), sets)
        fallback = [None if known >= 0 else "unknown item" for known in item]
        return pl.DataFrame({"item": item_ids, "rating": rating, "fallback": pl.Series(fallback, dtype=pl.String)})

    def evaluate(self, data: RatingDataset) -> Scores:
        """RMSE and MAE over all ratings of `data`, matched by id.

        A user whom the model does not know by id is predicted from his attributes in `data`.
        """
        return score(self.predict_data(data), data.rating)

    def predict_data(self, data: RatingDataset) -> NDArray[np.float32]:
        """Predictions (n,) for the pairs of a data set, clipped to the scale; new users by their attributes."""
        fitted = self.fitted_
        known = fitted.users.index(data.users.ids.ids)[data.user]
        item = _or_unknown(fitted.items.index(data.items.ids.ids), fitted.items)[data.item]
        predicted = np.empty(len(data), np.float32)
        old, new = known >= 0, known < 0
        predicted[old] = self._score(known[old], item[old])
        if new.any():
            sets = AttributeSets.of(fitted.user_encoder.transform(data.users)).to(self._device)
            rows = sets.rows(torch.as_tensor(data.user[new], device=self._device))
            predicted[new] = self._score(np.full(int(new.sum()), len(fitted.users)), item[new], rows)
        return predicted

    def recommend(self, user: str | int, n: int = 10, *, seen: bool = False, unrated: bool = False) -> pl.DataFrame:
        """The items that the user is predicted to rate highest.

        Args:
            user: id of a user of the training data.
            n: how many.
            seen: also items that the user has rated.
            unrated: also items without any training rating (whose score is that of an average item).

        Returns:
            A table of at most n rows, best first: `item`, `label` (title, if known), `rating`.

        Raises:
            UnknownIdError: no such user; `recommend_for` takes new users by their attributes.
        """
        position = int(self.fitted_.users.index([user])[0])
        if position < 0:
            raise UnknownIdError(
                f"user {str(user)!r} is not in the training data; for a new user give attributes (recommend_for)"
            )
        train = self.fitted_.context.train
        rated = None if seen else train.item[train.user == position]
        return self._best(torch.tensor([position], device=self._device), None, n, rated, unrated)

    def recommend_for(self, attributes: Mapping[str, object], n: int = 10, *, unrated: bool = False) -> pl.DataFrame:
        """The items for a new user, known by attributes alone: `{"gender": "F", "age": "25-34"}`.

        Raises:
            SchemaError: an attribute or a value that the model does not know; the message lists those it knows.
        """
        unknown = torch.tensor([len(self.fitted_.users)], device=self._device)
        return self._best(unknown, self._new_user(attributes), n, None, unrated)

    def explain(self, user: str | int | Mapping[str, object], item: str | int) -> pl.DataFrame:
        """What the model looked at for one prediction.

        Args:
            user: an id, or the attributes of a new user.
            item: an id.

        Returns:
            A row per attribute of the user: `attribute`, `value`, `attention` (lambda, summed over the values of a
            multi-valued attribute; null for models without attention) and `contribution`: by how much the predicted
            rating would fall if the attribute's weighted vector a~ were left out, attention on the others unchanged.

        Raises:
            UnknownIdError: an id that the model has not seen.
        """
        fitted = self.fitted_
        position = int(fitted.items.index([item])[0])
        if position < 0:
            raise UnknownIdError(f"item {str(item)!r} is not in the training data")
        if isinstance(user, Mapping):
            u, sets = len(fitted.users), self._new_user(user)
        else:
            u = int(fitted.users.index([user])[0])
            if u < 0:
                raise UnknownIdError(f"user {str(user)!r} is not in the training data; give attributes in its place")
            row = torch.tensor([u], device=self._device)
            sets = AttributeSets.of(fitted.context.users).to(self._device).rows(row)
        return explain_pair(self.module_, fitted.user_encoder, u, position, sets)

    def attention_map(self, data: RatingDataset, by: str = "genres") -> pl.DataFrame:
        """Mean attention on each user attribute, by the value of an item attribute, over the ratings of `data`.

        An item with several values counts for each. The ratings themselves are not used, only the pairs.

        Returns:
            A row per value: `by`, one column per user attribute, `n` (ratings averaged).

        Raises:
            ConfigError: the model has no attention.
            DataError: `by` is not a categorical or multi-valued attribute of the items.
        """
        if data.items.attribute(by).kind not in (Kind.CATEGORICAL, Kind.MULTIVALUED):
            raise DataError(
                f"attention by {by!r}: a {data.items.attribute(by).kind} attribute has no values to group by"
            )
        fitted = self.fitted_
        user = _or_unknown(fitted.users.index(data.users.ids.ids), fitted.users)[data.user]
        item = _or_unknown(fitted.items.index(data.items.ids.ids), fitted.items)[data.item]
        mean = mean_attention(self.module_, fitted.user_encoder, fitted.context.users, user, item)
        names = fitted.user_encoder.names
        table = pl.DataFrame({by: data.items.columns[by][data.item], **dict(zip(names, mean.T, strict=True))})
        table = table.explode(by) if table[by].dtype.is_nested() else table
        return table.drop_nulls(by).group_by(by).agg(*[pl.col(n).mean() for n in names], pl.len().alias("n")).sort(by)

    # ------------------------------------------------------------------ on disk

    def save(self, path: str | Path) -> None:
        """Writes the model to a folder (replacing an older model there).

        Raises:
            ModelFolderError: something that is not a model stands there.
        """
        fitted, context = self.fitted_, self.fitted_.context
        arrays: dict[str, Tensor] = {"train.rating": context.train.rating}
        arrays |= {"train.user": context.train.user.int(), "train.item": context.train.item.int()}
        for side, slots in (("users", context.users), ("items", context.items)):
            sets = AttributeSets.of(slots)
            arrays |= {f"{side}.value": sets.value, f"{side}.weight": sets.weight, f"{side}.mask": sets.mask}
            arrays |= {f"{side}.vectors.{m}": vectors for m, vectors in enumerate(sets.vectors)}
        write_folder(
            path,
            about={"model": self.name, "aanmf": _version()},
            documents={
                "config": self.get_params(),
                "users": {"ids": fitted.users.ids},
                "items": {"ids": fitted.items.ids, "labels": fitted.item_labels},
                "encoders": {
                    "users": fitted.user_encoder.model_dump(mode="json"),
                    "items": fitted.item_encoder.model_dump(mode="json"),
                    "scale": context.scale,
                },
                "training": {"data": fitted.data, **dataclasses.asdict(fitted.history)},
            },
            tensors={"weights": self.module_.state_dict(), "data": arrays},
        )

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Self:
        """Reads a model folder.

        Raises:
            ModelFolderError: the folder is incomplete, was changed, is newer than this library, or holds another model.
        """
        manifest, documents, tensors = read_folder(path)
        if manifest.get("model") != cls.name:
            raise ModelFolderError(
                f"{path} holds a model of kind {manifest.get('model')!r}, not {cls.name!r}; use load_model"
            )
        needed = {"config", "users", "items", "encoders", "training", "weights", "data"}
        if lacking := sorted(needed - set(documents) - set(tensors)):
            raise ModelFolderError(f"{path}: the manifest does not name {lacking[0]}; save the model again")
        model = cls(**documents["config"])
        encoders, arrays = documents["encoders"], tensors["data"]
        user_encoder = AttributeEncoder.model_validate(encoders["users"])
        item_encoder = AttributeEncoder.model_validate(encoders["items"])
        low, high = encoders["scale"]  # type: ignore[misc]
        context = Context(
            users=_slots(arrays, "users", user_encoder),
            items=_slots(arrays, "items", item_encoder),
            n_user_values=user_encoder.n_values,
            n_item_values=item_encoder.n_values,
            user_vector_sizes=user_encoder.vector_sizes,
            item_vector_sizes=item_encoder.vector_sizes,
            scale=(low, high),
            train=Ratings(arrays["train.user"].long(), arrays["train.item"].long(), arrays["train.rating"]),
        )
        module = model._build(context)
        module.load_state_dict(tensors["weights"])
        model._module = module.to(pick_device(device)).eval()
        training = dict(documents["training"])
        data = training.pop("data")
        training["epochs"] = [Epoch(**each) for each in training["epochs"]]  # type: ignore[attr-defined]
        labels = documents["items"]["labels"]
        model._fitted = Fitted(
            users=Vocabulary(documents["users"]["ids"]),  # type: ignore[arg-type]
            items=Vocabulary(documents["items"]["ids"]),  # type: ignore[arg-type]
            item_labels=tuple(labels) if labels else None,  # type: ignore[arg-type]
            user_encoder=user_encoder,
            item_encoder=item_encoder,
            context=context,
            history=History(**training),  # type: ignore[arg-type]
            data=data,  # type: ignore[arg-type]
        )
        return model

    # ------------------------------------------------------------------ within

    @property
    def _device(self) -> torch.device:
        return next(self.module_.parameters()).device

    def _tensor(self, array: NDArray[np.int64]) -> Tensor:
        return torch.as_tensor(array, device=self._device)

    def _score(
        self, user: NDArray[np.int64], item: NDArray[np.int64], sets: AttributeSets | None = None
    ) -> NDArray[np.float32]:
        """Clipped predictions of positions (unknown ones already replaced)."""
        low, high = self.fitted_.context.scale
        predicted = predict_pairs(self.module_, self._tensor(user), self._tensor(item), sets)
        return predicted.clamp(low, high).cpu().numpy()

    def _new_user(self, attributes: Mapping[str, object]) -> AttributeSets:
        return AttributeSets.of(self.fitted_.user_encoder.transform_one(attributes)).to(self._device)

    @torch.no_grad()
    def _best(
        self, users: Tensor, sets: AttributeSets | None, n: int, rated: Tensor | None, unrated: bool
    ) -> pl.DataFrame:
        fitted = self.fitted_
        (_, scores), *_ = self.module_.catalogue(users, sets)
        scores = scores[0].clamp(*fitted.context.scale).cpu()
        if not unrated:
            scores[torch.bincount(fitted.context.train.item, minlength=len(fitted.items)) == 0] = -torch.inf
        if rated is not None:
            scores[rated] = -torch.inf
        top = torch.topk(scores, min(max(n, 0), int((scores > -torch.inf).sum())))
        rows = top.indices.tolist()
        table = pl.DataFrame({"item": [fitted.items.ids[row] for row in rows]}, schema={"item": pl.String})
        if fitted.item_labels:
            table = table.with_columns(pl.Series("label", [fitted.item_labels[row] for row in rows], dtype=pl.String))
        return table.with_columns(pl.Series("rating", top.values.numpy()))

    def _fallbacks(self, user: NDArray[np.int64], item: NDArray[np.int64]) -> list[str | None]:
        """Per pair: null, or what was replaced by an average."""
        train = self.fitted_.context.train
        kinds = (
            (user, torch.bincount(train.user, minlength=len(self.fitted_.users)).numpy(), "user"),
            (item, torch.bincount(train.item, minlength=len(self.fitted_.items)).numpy(), "item"),
        )
        sides: list[NDArray[np.object_]] = []
        for position, count, side in kinds:
            unrated = count[np.maximum(position, 0)] == 0
            words = np.where(position < 0, f"unknown {side}", np.where(unrated, f"{side} without ratings", ""))
            sides.append(words)
        return [", ".join(filter(None, pair)) or None for pair in zip(*sides, strict=True)]


def _pairs(users: Ids, items: Ids) -> tuple[list[str], list[str]]:
    """Both sides as lists of equal length."""
    left, right = (
        [str(each)] if isinstance(each, str | int) else [str(one) for one in each] for each in (users, items)
    )
    if isinstance(users, str | int):
        left *= len(right)
    elif isinstance(items, str | int):
        right *= len(left)
    if len(left) != len(right):
        raise DataError(f"predict: {len(left)} users and {len(right)} items; give as many of one as of the other")
    return left, right


def _or_unknown(position: NDArray[np.int64], vocabulary: Vocabulary) -> NDArray[np.int64]:
    """The last row stands for the unknown."""
    return np.where(position < 0, len(vocabulary), position)


def _with_unknown(slots: Slots) -> Slots:
    """Adds the row of the unknown user (item): without attributes."""

    def grown(array: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([array, np.zeros((1, array.shape[1]), array.dtype)])

    return Slots(grown(slots.value), grown(slots.weight), grown(slots.mask), slots.vectors)


def _slots(arrays: Mapping[str, Tensor], side: str, encoder: AttributeEncoder) -> Slots:
    vectors: Iterable[Tensor] = (arrays[f"{side}.vectors.{m}"] for m in range(len(encoder.vector_sizes)))
    value, weight, mask = (arrays[f"{side}.{part}"].numpy() for part in ("value", "weight", "mask"))
    return Slots(value, weight, mask, tuple(each.numpy() for each in vectors))


def _version() -> str:
    try:
        return version("aanmf")
    except PackageNotFoundError:
        return "unknown"
