"""The estimator that users touch: fit, evaluate, predict, recommend, explain, save, load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, Unpack

import polars as pl

from aanmf.contract import RatingModule
from aanmf.data.dataset import RatingDataset
from aanmf.data.stream import StreamedDataset
from aanmf.errors import ConfigError, DataError, ModelFolderError, NotFittedError
from aanmf.explanation import Explanation, attention_map, explain_pair
from aanmf.fitted import Fitted
from aanmf.list_evaluation import evaluate
from aanmf.metrics import Scores
from aanmf.model_folder import read_model, write_model
from aanmf.models.catalog import CATALOG, CLASSES, ModelSpec, load_object, spec_of, with_capability
from aanmf.predictor import Floats, NewRatings, Predictor, User
from aanmf.ranking import ListArguments, ListOptions, RankBy, Ranker, make_lists, most_similar
from aanmf.storage import read_manifest
from aanmf.training.checkpoint import Checkpoints
from aanmf.training.distributed import Ranks
from aanmf.training.log import OnEpoch

Ids = str | int | Sequence[str | int]
Part = TypeVar("Part", RatingModule, Fitted)
_TEXT = {"user", "item", "fallback"}


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
        """Settings by name; they are the fields of the model's configuration class.

        Raises:
            ConfigError: an unknown setting, or a value out of range.
        """
        self.config = self.spec.config_type.of(settings)
        self._module: RatingModule | None = None
        self._fitted: Fitted | None = None
        self._predictor: Predictor | None = None

    def __repr__(self) -> str:
        changed = {name: value for name, value in self.config if value != type(self.config).model_fields[name].default}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def get_params(self) -> dict[str, Any]:
        """All settings by name, as they were asked for; what `fit` chose is in `chosen_`."""
        return self.config.model_dump()

    @property
    def chosen_(self) -> dict[str, Any]:
        """The settings that `fit` chose on held-out ratings, by name; empty where all were given."""
        return dict(self.fitted_.training_log.chosen)

    @property
    def module_(self) -> RatingModule:
        """The trained torch module."""
        return _learned(self, self._module)

    @property
    def fitted_(self) -> Fitted:
        """What `fit` learned besides the module."""
        return _learned(self, self._fitted)

    @property
    def predictor_(self) -> Predictor:
        """What predicts: the module and `fitted_` together."""
        if self._predictor is None:
            self._predictor = Predictor(self.spec, self.module_, self.fitted_)
        return self._predictor

    @property
    def is_fitted(self) -> bool:
        """Whether it can predict."""
        return self._module is not None

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
        _check_training(self.spec, isinstance(data, StreamedDataset), checkpoints)
        fitted = Fitted.of(data)
        if not (fitted.training.has_ratings or self.spec.matches):
            raise ConfigError(
                f"{self.spec.name} learns from ratings, and {data.name} has none. "
                f"Available for choices without ratings: {', '.join(with_capability('matches'))}"
            )
        training = replace(fitted.training, links=self.config.read_links(data.users.ids))
        train = load_object(self.spec.trainer)
        module, training_log = train(self.spec.module_type, training, self.config, on_epoch, checkpoints, shard_rows)
        self._module, self._fitted, self._predictor = module, replace(fitted, training_log=training_log), None
        if training_log.interrupted:
            raise KeyboardInterrupt
        return self

    def predict(self, users: Ids, items: Ids, interval: float | None = None) -> pl.DataFrame:
        """Predicts the ratings of pairs.

        Args:
            users, items: n ids each (one id goes with all of the other side).
            interval: for instance .9: adds `low` and `high`, between which the rating lies with this probability.

        Returns:
            A table of n rows: `user`, `item`, `rating` (clipped to the scale), and `fallback`: null where both were
            trained, else what was replaced by an average one (`unknown user`: predicted for an average user).

        Raises:
            DataError: users and items differ in number.
            ConfigError: an interval is asked of a model that has none.
        """
        user_ids, item_ids = _pairs(users, items)
        found, fallbacks = self.predictor_.predict(user_ids, item_ids, interval)
        return _table({"user": user_ids, "item": item_ids, **found, "fallback": fallbacks})

    def predict_for(
        self,
        attributes: Mapping[str, object],
        items: Ids,
        ratings: NewRatings | None = None,
        interval: float | None = None,
    ) -> pl.DataFrame:
        """Predicts the ratings of a new user, known by attributes and a few ratings; see `recommend_for`, `predict`."""
        _, item_ids = _pairs("", items)
        profile = self.predictor_.profile(attributes, ratings)
        found, fallbacks = self.predictor_.predict_for(profile, item_ids, interval)
        return _table({"item": item_ids, **found, "fallback": fallbacks})

    def evaluate(
        self,
        data: RatingDataset,
        metrics: Sequence[str] | None = None,
        *,
        relevant: float | None = None,
        rank_by: RankBy | None = None,
        group_by: str | None = None,
        candidates: Sequence[str] | None = None,
    ) -> Scores:
        """Scores on test ratings, matched by id: `scores.rmse`, `scores["ndcg@10"]`, ..., `scores.n`.

        A user whose id the model does not know is predicted, and ranked for, from the attributes in `data`.

        Args:
            data: test ratings.
            metrics: names such as `["rmse", "ndcg@10"]` (`docs/metrics.md`); None: RMSE and MAE, or metrics of lists
                for a model that predicts no ratings. Metrics that the model cannot have are None.
            relevant: the lowest rating that makes an item relevant in a list; None: above the mean training rating.
            rank_by: how lists are ranked, as for `recommend`.
            group_by: a categorical or multi-valued attribute of the users; `scores.groups` then has scores by value.
            candidates: ids of the items that lists are made of; None: all.

        Raises:
            ConfigError: an unknown metric, a threshold off the scale, or longer lists than there are items.
            DataError: there is no rating, or no user has a relevant item.
        """
        return evaluate(self.predictor_, data, metrics, relevant, rank_by, group_by, candidates)

    def predict_data(self, data: RatingDataset) -> Floats:
        """Predictions (n,) for the pairs of a data set, clipped to the scale; new users by their attributes."""
        return self.predictor_.predict_data(data)

    def recommend(
        self, user: User, n: int = 10, *, ratings: NewRatings | None = None, **options: Unpack[ListArguments]
    ) -> pl.DataFrame:
        """The items that suit a user best.

        Args:
            user: id of a user of the training data, or attributes of a new one.
            n: how many.
            ratings: what the user rated since training, by item id; counts at once, without retraining.
            **options: `rank_by`, `interval`, `seen`, `unrated`, `candidates`, `exclude`, `where` and `diversity`: see
                `aanmf.ranking.ListOptions`.

        Returns:
            A table of at most n rows, best first: `item`, `label` (title, if known), `rating` (if the model predicts
            ratings), the interval's ends, and `match` if that ranks, on a scale of the model's own.

        Raises:
            UnknownIdError: no such user in the training data, or no such item in `ratings`.
            SchemaError: an attribute or a value that the model does not know; the message lists those it knows.
            DataError: a rating that is not a number on the scale.
            ConfigError: the model has no intervals, or cannot rank in this way.
        """
        (found,) = self.recommend_many([user], n, ratings=[ratings], **options)
        return found

    def recommend_many(
        self,
        users: Sequence[User],
        n: int = 10,
        *,
        ratings: Sequence[NewRatings | None] | None = None,
        **options: Unpack[ListArguments],
    ) -> list[pl.DataFrame]:
        """Lists for many users at once, by id or new; `ratings` of each of them; see `recommend`."""
        given = [None] * len(users) if ratings is None else ratings
        profiles = [self.predictor_.profile(*each) for each in zip(users, given, strict=True)]
        return [found.table() for found in make_lists(self.predictor_, profiles, ListOptions(n, **options))]

    def recommend_for(
        self,
        attributes: Mapping[str, object],
        n: int = 10,
        *,
        ratings: NewRatings | None = None,
        **options: Unpack[ListArguments],
    ) -> pl.DataFrame:
        """The items for a new user, known by attributes and, optionally, a few ratings; see `recommend`.

        >>> from aanmf import MF, make_synthetic
        >>> model = MF(factors=8, epochs=5).fit(make_synthetic(n_users=200, n_items=50, n_ratings=4000, seed=0).data)
        >>> model.recommend_for({"gender": "F"}, n=3, ratings={"1": 5, "2": 1}).height
        3
        """
        return self.recommend(attributes, n, ratings=ratings, **options)

    def recommend_all(self, n: int = 10, **options: Unpack[ListArguments]) -> Iterator[pl.DataFrame]:
        """The lists of all users of the training data, in blocks: `user`, `item` and scores; see `recommend`."""
        return Ranker(self.predictor_, ListOptions(n, **options)).everyone()

    def similar(self, item: str | int | Mapping[str, object], n: int = 10) -> pl.DataFrame:
        """The items most similar to one, by id, or to a new one, by attributes: `item`, `label`, `similarity`.

        Similar are items that the same users rated, and items with the same attributes; see `aanmf.similarity`.

        Raises:
            UnknownIdError: no such item.
            SchemaError: an attribute or a value that the model does not know.
        """
        return most_similar(self.predictor_.item_similarity, item, n)

    def similar_users(self, user: User, n: int = 10) -> pl.DataFrame:
        """The users most similar to one, by id, or to a new one, by attributes: `user`, `similarity`; see `similar`."""
        return most_similar(self.predictor_.user_similarity, user, n)

    def explain(self, user: User, item: str | int) -> pl.DataFrame:
        """What the rating of an item by a user, by id or new by attributes, rests on.

        Returns:
            A row per attribute of the user: `attribute`, `value`, `attention` (lambda, summed over the values of a
            multi-valued attribute; null for models without attention) and `contribution`: by how much the predicted
            rating would fall if the attribute's weighted vector a~ were left out, attention on the others unchanged.

        Raises:
            UnknownIdError: an id that the model has not seen.
        """
        return self.explain_rating(user, item).attributes

    def explain_rating(self, user: User, item: str | int) -> Explanation:
        """The predicted rating and what it rests on; see `explain`."""
        return explain_pair(self.predictor_, self.predictor_.profile(user), item)

    def attention_map(self, data: RatingDataset, by: str = "genres") -> pl.DataFrame:
        """Mean attention on each user attribute, by the value of an item attribute, over the ratings of `data`.

        An item with several values counts for each. The ratings themselves are not used, only the pairs.

        Returns:
            A row per value: `by`, one column per user attribute, `n` (ratings averaged).

        Raises:
            ConfigError: the model has no attention.
            DataError: `by` is not a categorical or multi-valued attribute of the items.
        """
        return attention_map(self.predictor_, data, by)

    def save(self, path: str | Path) -> None:
        """Writes the model to a folder (replacing an older model there).

        Raises:
            ModelFolderError: something that is not a model stands there.
        """
        write_model(path, self.spec, self.get_params(), self.module_, self.fitted_)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Self:
        """Reads a model folder.

        Raises:
            ModelFolderError: the folder is incomplete, was changed, is newer than this library, or holds another model.
        """
        settings, module, fitted = read_model(path, cls.spec, device)
        model = cls(**settings)
        model._module, model._fitted = module, fitted
        return model


def _learned(model: Recommender, part: Part | None) -> Part:
    if part is None:
        raise NotFittedError(f"this {type(model).__name__} has learned nothing yet: call fit, or load a saved one")
    return part


def _table(columns: Mapping[str, object]) -> pl.DataFrame:
    """A table whose ids and words are text, also where it has no rows."""
    return pl.DataFrame(columns, schema_overrides={name: pl.String for name in columns.keys() & _TEXT})


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


def _check_training(spec: ModelSpec, streamed: bool, checkpoints: Checkpoints | None) -> None:
    """Raises ConfigError where a model cannot be trained in this way."""
    if streamed and not spec.streams:
        raise ConfigError(
            f"{spec.name} cannot learn from streamed ratings; {', '.join(with_capability('streams'))} can"
        )
    if not spec.processes and not Ranks.current().alone:
        raise ConfigError(f"{spec.name} does not support torchrun; {', '.join(with_capability('processes'))} do")
    if checkpoints is not None and not spec.checkpoints:
        raise ConfigError(f"{spec.name} does not support checkpoints (--resume, --checkpoint-every): leave them out")


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
