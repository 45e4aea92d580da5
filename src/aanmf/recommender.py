"""The estimator that users touch: fit, evaluate, predict, recommend, explain, save, load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from aanmf.contract import ModelConfig, RatingModule, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.data.dataset import RatingDataset
from aanmf.data.schema import Kind
from aanmf.data.stream import StreamedDataset
from aanmf.errors import ConfigError, DataError, ModelFolderError, NotFittedError, UnknownIdError
from aanmf.explanation import explain_pair, mean_attention
from aanmf.fitted import Fitted
from aanmf.legacy import weights_of_format_1
from aanmf.metrics import Scores, score
from aanmf.models.catalog import CATALOG, CLASSES, ModelSpec, load_object, spec_of, with_capability
from aanmf.ranking import top_items, top_items_of_all
from aanmf.storage import read_folder, read_manifest, write_folder
from aanmf.training.checkpoint import Checkpoints
from aanmf.training.distributed import Ranks
from aanmf.training.log import OnEpoch, TrainingLog
from aanmf.training.predict import pick_device, predict_pairs

Ids = str | int | Sequence[str | int]
NewRatings = Mapping[str, float] | Mapping[int, float]
"""Ratings given since training, by item id."""


class Recommender:
    """Base of all models: settings go to the constructor, ratings to `fit`.

    >>> from aanmf import AANMF, make_synthetic
    >>> data = make_synthetic(n_users=200, n_items=50, n_ratings=4000, seed=0).data
    >>> train, test = data.split(test=0.2, seed=0)
    >>> model = AANMF(factors=8, epochs=5).fit(train)
    >>> model.evaluate(test).n
    800
    """

    spec: ClassVar[ModelSpec]
    """The model's entry in the catalogue."""

    def __init__(self, **settings: Any) -> None:
        """Settings by name; the fields of `config_type` tell which there are.

        Raises:
            ConfigError: an unknown setting, or a value out of range.
        """
        self.config = self.spec.config_type.of(settings)
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

    def fit(
        self,
        data: RatingDataset | StreamedDataset,
        on_epoch: OnEpoch | None = None,
        *,
        checkpoints: Checkpoints | None = None,
        shard_rows: int | None = None,
    ) -> Self:
        """Learns from training ratings.

        Args:
            data: the training part; users and items without a rating in it may be there with their attributes.
                What `stream_dataset` gives is read from disk in every epoch.
            on_epoch: called after every epoch, for progress.
            checkpoints: where to write them, and whether to go on from the last one; None: nowhere.
            shard_rows: where several processes train together (`docs/distributed.md`), tables of users with at least
                so many rows are divided among them; None: each holds them whole.

        Raises:
            DataError: there is no rating.
            ConfigError: training diverged: the learning rate is too high; or the model does not take `checkpoints`.
            CheckpointError: a checkpoint cannot be written, or is of another training.
            KeyboardInterrupt: after Ctrl-C; the model then holds what was learned so far and can be saved.
        """
        if isinstance(data, StreamedDataset) and not self.spec.streams:
            raise ConfigError(f"{self.spec.name} cannot learn from streamed ratings; {_capable('streams')} can")
        fitted = Fitted.of(data)
        training = replace(fitted.training, links=self.config.read_links(data.users.ids))
        module, training_log = self._train(training, on_epoch, checkpoints, shard_rows)
        self._module, self._fitted = module, replace(fitted, training_log=training_log)
        if training_log.interrupted:
            raise KeyboardInterrupt
        return self

    def _train(
        self, training: TrainingData, on_epoch: OnEpoch | None, checkpoints: Checkpoints | None, shard_rows: int | None
    ) -> tuple[RatingModule, TrainingLog]:
        """Trains the module with the trainer of the catalogue."""
        spec = self.spec
        if not spec.processes and not Ranks.current().alone:
            raise ConfigError(f"{spec.name} does not support torchrun; {_capable('processes')} do")
        if checkpoints is not None and not spec.checkpoints:
            raise ConfigError(
                f"{spec.name} does not support checkpoints (--resume, --checkpoint-every): leave them out"
            )
        return load_object(spec.trainer)(self._build, training, self.config, on_epoch, checkpoints, shard_rows)

    def _build(self, config: ModelConfig, training: TrainingData) -> RatingModule:
        return self.spec.module_type(config, training)

    # -------------------------------------------------------------- predicting

    def predict(self, users: Ids, items: Ids, interval: float | None = None) -> pl.DataFrame:
        """Predicts the ratings of pairs.

        Args:
            users, items: n ids each (one id goes with all of the other side).
            interval: for instance .9: adds `low` and `high`, between which the rating lies with this probability.

        Returns:
            A table of n rows: `user`, `item`, `rating` (clipped to the scale), and `fallback`: null where both were
            trained, else what stood in for what (`unknown user`: predicted for an average user).

        Raises:
            DataError: users and items differ in number.
            ConfigError: an interval is asked of a model that has none.
        """
        user_ids, item_ids = _pairs(users, items)
        fitted = self.fitted_
        user, item = fitted.user_positions(user_ids), fitted.item_positions(item_ids)
        columns: dict[str, object] = {"user": user_ids, "item": item_ids, "rating": self._score(user, item)}
        if interval is not None:
            columns |= self._interval(user, item, None, interval)
        columns["fallback"] = fitted.fallbacks(user_ids, item_ids)
        strings = {"user": pl.String, "item": pl.String, "fallback": pl.String}
        return pl.DataFrame(columns, schema_overrides=strings)

    def predict_for(
        self,
        attributes: Mapping[str, object],
        items: Ids,
        ratings: NewRatings | None = None,
        interval: float | None = None,
    ) -> pl.DataFrame:
        """Predicts the ratings of a new user, known by attributes and a few ratings; see `recommend_for`, `predict`."""
        _, item_ids = _pairs("", items)
        fitted, sets = self.fitted_, self._new_user(attributes)
        item = fitted.item_positions(item_ids)
        every = self._of_every_item(len(fitted.users), sets, ratings, interval)
        alone = self._of_pairs(len(fitted.users), np.array([len(fitted.items)]), sets, interval)  # an unknown item
        columns = {name: np.append(each.numpy(), alone[name])[item] for name, each in every.items()}
        fallback = [None if known < len(fitted.items) else "unknown item" for known in item]
        table = {"item": item_ids, **columns, "fallback": fallback}
        return pl.DataFrame(table, schema_overrides={"item": pl.String, "fallback": pl.String})

    def evaluate(self, data: RatingDataset) -> Scores:
        """RMSE and MAE over all ratings of `data`, matched by id.

        A user whom the model does not know by id is predicted from his attributes in `data`.
        """
        return score(self.predict_data(data), data.rating)

    def predict_data(self, data: RatingDataset) -> NDArray[np.float32]:
        """Predictions (n,) for the pairs of a data set, clipped to the scale; new users by their attributes."""
        fitted = self.fitted_
        known = fitted.users.index(data.users.ids.ids)[data.user]
        item = fitted.item_positions(data.items.ids.ids)[data.item]
        predicted = np.empty(len(data), np.float32)
        old, new = known >= 0, known < 0
        predicted[old] = self._score(known[old], item[old])
        if new.any():
            sets = fitted.user_encoder.transform(data.users).to(self._device)
            rows = sets.rows(torch.as_tensor(data.user[new], device=self._device))
            predicted[new] = self._score(np.full(int(new.sum()), len(fitted.users)), item[new], rows)
        return predicted

    def recommend(
        self,
        user: str | int,
        n: int = 10,
        *,
        ratings: NewRatings | None = None,
        by: Literal["rating", "low"] = "rating",
        interval: float | None = None,
        seen: bool = False,
        unrated: bool = False,
    ) -> pl.DataFrame:
        """The items that the user is predicted to rate highest.

        Args:
            user: id of a user of the training data.
            n: how many.
            ratings: what the user rated since training, by item id; counts at once, without retraining.
            by: `low` ranks by the lower end of the interval (of 90 %, if none is given).
            interval: for instance .9: adds `low` and `high`, between which the rating lies with this probability.
            seen: also items that the user has rated.
            unrated: also items without any training rating (whose score is that of an average item).

        Returns:
            A table of at most n rows, best first: `item`, `label` (title, if known), `rating`, and the interval's ends.

        Raises:
            UnknownIdError: no such user (`recommend_for` takes new users by their attributes), or item in `ratings`.
            DataError: a rating that is not a number on the scale.
            ConfigError: an interval is asked of a model that has none.
        """
        position = int(self.fitted_.users.index([user])[0])
        if position < 0:
            raise UnknownIdError(
                f"user {str(user)!r} is not in the training data; for a new user give attributes (recommend_for)"
            )
        train = self.fitted_.training.train
        rated = train.item[train.user == position]
        return self._best(position, None, n, ratings, by, interval, rated=None if seen else rated, unrated=unrated)

    def recommend_for(
        self,
        attributes: Mapping[str, object],
        n: int = 10,
        *,
        ratings: NewRatings | None = None,
        by: Literal["rating", "low"] = "rating",
        interval: float | None = None,
        unrated: bool = False,
    ) -> pl.DataFrame:
        """The items for a new user, known by attributes and, if there are, a few ratings; see `recommend`.

        >>> from aanmf import MF, make_synthetic
        >>> model = MF(factors=8, epochs=5).fit(make_synthetic(n_users=200, n_items=50, n_ratings=4000, seed=0).data)
        >>> model.recommend_for({"gender": "F"}, n=3, ratings={"1": 5, "2": 1}).height
        3

        Raises:
            SchemaError: an attribute or a value that the model does not know; the message lists those it knows.
        """
        none = torch.zeros(0, dtype=torch.int64)
        sets = self._new_user(attributes)
        return self._best(len(self.fitted_.users), sets, n, ratings, by, interval, rated=none, unrated=unrated)

    def recommend_all(self, n: int = 10, *, seen: bool = False, unrated: bool = False) -> Iterator[pl.DataFrame]:
        """The n best items of every user of the training data, in blocks of users: `user`, `item`, `rating`.

        Args:
            n, seen, unrated: as for `recommend`.
        """
        return top_items_of_all(self.fitted_, self.module_, n, seen=seen, unrated=unrated)

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
            sets = fitted.training.users.to(self._device).rows(row)
        return explain_pair(self.module_, fitted.user_encoder, u, position, sets, attention=self.spec.attention)

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
        user = fitted.user_positions(data.users.ids.ids)[data.user]
        item = fitted.item_positions(data.items.ids.ids)[data.item]
        mean = mean_attention(self.module_, fitted.user_encoder, fitted.training.users, user, item)
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
        fitted = self.fitted_
        write_folder(
            path,
            about={"model": self.spec.name, "aanmf": _version()},
            documents={"config": self.get_params(), **fitted.documents()},
            tensors={"weights": self.module_.state_dict(), "data": fitted.tensors()},
            files=fitted.files(),
        )

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Self:
        """Reads a model folder.

        Raises:
            ModelFolderError: the folder is incomplete, was changed, is newer than this library, or holds another model.
        """
        manifest, documents, tensors = read_folder(path)
        if manifest.get("model") != cls.spec.name:
            raise ModelFolderError(
                f"{path} holds a model of kind {manifest.get('model')!r}, not {cls.spec.name!r}; use load_model"
            )
        needed = {"config", "users", "items", "encoders", "training", "weights", "data"}
        if lacking := sorted(needed - set(documents) - set(tensors)):
            raise ModelFolderError(f"{path}: the manifest does not name {lacking[0]}; save the model again")
        model = cls(**documents["config"])
        weights = tensors["weights"]
        if manifest["format"] == 1:
            weights = weights_of_format_1(cls.spec.name, weights)
        model._fitted = Fitted.restored(documents, tensors["data"], Path(path))
        chosen = model.config.with_chosen(model._fitted.training_log.chosen)
        module = model._build(chosen, model._fitted.training)
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            made = manifest.get("aanmf", "an unknown version")
            raise ModelFolderError(
                f"{path}: its weights do not fit {cls.spec.name!r} of aanmf {_version()}; the folder was written by "
                f"{made}: train again, or use that version"
            ) from error
        model._module = module.to(pick_device(device)).eval()
        return model

    # ------------------------------------------------------------------ within

    @property
    def _device(self) -> torch.device:
        return next(self.module_.parameters()).device

    def _tensor(self, array: NDArray[np.int64]) -> Tensor:
        return torch.as_tensor(array, device=self._device)

    def _score(
        self, user: NDArray[np.int64], item: NDArray[np.int64], sets: AttributeSet | None = None
    ) -> NDArray[np.float32]:
        """Clipped predictions of positions (unknown ones already replaced)."""
        low, high = self.fitted_.training.scale
        predicted = predict_pairs(self.module_, self._tensor(user), self._tensor(item), sets)
        return predicted.clamp(low, high).cpu().numpy()

    def _new_user(self, attributes: Mapping[str, object]) -> AttributeSet:
        return self.fitted_.user_encoder.transform_one(attributes).to(self._device)

    def _interval(
        self, user: NDArray[np.int64], item: NDArray[np.int64], sets: AttributeSet | None, coverage: float
    ) -> dict[str, NDArray[np.float32]]:
        """`low` and `high` of pairs of positions."""
        if not 0 < coverage < 1:
            raise ConfigError(f"interval={coverage}: give a probability between 0 and 1, such as 0.9")
        if not self.spec.intervals:
            raise ConfigError(f"{self.spec.name} gives no intervals; {_capable('intervals')} does")
        with torch.no_grad():
            bounds = self.module_.interval(self._tensor(user), self._tensor(item), coverage, sets)
        return {
            name: bound.clamp(*self.fitted_.training.scale).cpu().numpy()
            for name, bound in zip(("low", "high"), bounds, strict=True)
        }

    @torch.no_grad()
    def _folded_in(self, user: int, sets: AttributeSet | None, ratings: NewRatings) -> Tensor:
        """Scores (n_items,) for a user with new ratings."""
        item, rating = self._new_ratings(ratings)
        return self.module_.fold_in(user, sets, item, rating)

    def _new_ratings(self, ratings: NewRatings) -> tuple[Tensor, Tensor]:
        item = self.fitted_.items.index(list(ratings))
        low, high = self.fitted_.training.scale
        for (one, value), position in zip(ratings.items(), item, strict=True):
            if position < 0:
                raise UnknownIdError(f"ratings: item {str(one)!r} is not in the training data")
            if not (isinstance(value, int | float) and low <= value <= high):
                raise DataError(f"ratings: {value!r} for item {str(one)!r} is not a number from {low:g} to {high:g}")
        return self._tensor(item), torch.tensor([float(each) for each in ratings.values()], device=self._device)

    def _best(
        self,
        user: int,
        sets: AttributeSet | None,
        n: int,
        ratings: NewRatings | None,
        by: Literal["rating", "low"],
        interval: float | None,
        *,
        rated: Tensor | None,
        unrated: bool,
    ) -> pl.DataFrame:
        """The n best items of one user; those in `rated` (and in `ratings`) are left out unless it is None."""
        if by not in ("rating", "low"):
            raise ConfigError(f"by={by!r}: give 'rating' or 'low'")
        coverage = 0.9 if by == "low" and interval is None else interval
        shown = self._of_every_item(user, sets, ratings, coverage)
        hidden = [] if rated is None else [rated, self._new_ratings(ratings or {})[0].cpu()]
        return top_items(self.fitted_, shown, by, n, hidden, unrated)

    @torch.no_grad()
    def _of_every_item(
        self, user: int, sets: AttributeSet | None, ratings: NewRatings | None, interval: float | None
    ) -> dict[str, Tensor]:
        """`rating` (n_items,) of one user, with an interval `low` and `high`.

        Around a prediction that rests on new ratings the interval is as wide as without them: rather too wide.
        """
        scale = self.fitted_.training.scale
        if ratings:
            scores = self._folded_in(user, sets, ratings)
        else:
            (_, (scores,)), *_ = self.module_.catalogue(torch.tensor([user], device=self._device), sets)
        rating = scores.clamp(*scale).cpu()
        if interval is None:
            return {"rating": rating}
        alone = self._of_pairs(user, np.arange(len(self.fitted_.items)), sets, interval)
        moved = {side: rating + torch.as_tensor(alone[side] - alone["rating"]) for side in ("low", "high")}
        return {"rating": rating, **{side: bound.clamp(*scale) for side, bound in moved.items()}}

    def _of_pairs(
        self, user: int, item: NDArray[np.int64], sets: AttributeSet | None, interval: float | None
    ) -> dict[str, NDArray[np.float32]]:
        """`rating` (n,) of one user and n items, with an interval `low` and `high`."""
        users = np.full(len(item), user)
        same = None if sets is None else sets.rows(torch.zeros(len(item), dtype=torch.int64, device=self._device))
        bounds = {} if interval is None else self._interval(users, item, same, interval)
        return {"rating": self._score(users, item, same), **bounds}


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


def _version() -> str:
    try:
        return version("aanmf")
    except PackageNotFoundError:
        return "unknown"


def _capable(capability: str) -> str:
    return ", ".join(with_capability(capability))


@cache
def estimator(class_name: str) -> type[Recommender]:
    """The estimator of a catalogue's class name: `aanmf.AANMF` is `estimator("AANMF")`."""
    spec = CLASSES[class_name]
    described = f"{spec.label}: {spec.summary}. Settings: `{spec.config.rpartition(':')[2]}`."
    return type(class_name, (Recommender,), {"spec": spec, "__doc__": described, "__module__": "aanmf"})


def make_model(name: str, **settings: Any) -> Recommender:
    """A model by name: `make_model("aanmf+p", factors=16)`.

    Raises:
        ConfigError: no such model.
    """
    spec = spec_of(name)
    return estimator(spec.class_name)(**{**spec.settings, **settings})


def load_model(path: str | Path, device: str = "auto") -> Recommender:
    """Reads a model folder of any kind; see `Recommender.load`."""
    name = read_manifest(path).get("model")
    if not isinstance(name, str) or name not in CATALOG:
        raise ModelFolderError(f"{path} holds a model of kind {name!r}, which this version of aanmf does not have")
    return estimator(CATALOG[name].class_name).load(path, device)
