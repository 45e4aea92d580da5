"""What users touch: every model predicts, evaluates, recommends and explains; fit, save and load are `Estimator`'s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, get_args, overload

import polars as pl

from aanmf.additions import Update, read_additions, tables_of
from aanmf.attention_map import AttentionMap
from aanmf.data.dataset import RatingDataset
from aanmf.data.frames import TableKind
from aanmf.data.options import ReadOptions
from aanmf.data.report import warn_of
from aanmf.errors import ConfigError, ModelFolderError
from aanmf.explanation import Explained, Explanation, attention_map, explain_pair
from aanmf.list_evaluation import evaluate
from aanmf.manifest import read_manifest
from aanmf.metrics import Scores
from aanmf.models.catalog import CATALOG, CLASSES, spec_of
from aanmf.profile import NewRatings, RequestContext, User
from aanmf.ranking import ListArguments, ListOptions, RankBy, Ranker, make_lists
from aanmf.regressor import Regressor, Returned
from aanmf.similarity import most_similar
from aanmf.training.distributed import ALONE, Ranks
from aanmf.training.log import OnEpoch

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class Recommender(Regressor[Returned]):
    """Base of all models: settings go to the constructor, ratings to `fit`.

    Tables that are returned are those of polars, or of the library whose table `fit` was given; see `with_output`.

    >>> from aanmf import AANMF, make_synthetic
    >>> train, test = make_synthetic(n_users=200, n_items=50, n_ratings=4000).data.split(test=0.2, seed=0)
    >>> model = AANMF(factors=8, epochs=5).fit(train)
    >>> model.evaluate(test).n
    800
    """

    def update(
        self,
        ratings: object = None,
        users: object = None,
        items: object = None,
        *,
        full: bool = False,
        on_epoch: OnEpoch | None = None,
        **keywords: object,
    ) -> Update:
        """Learns from what came since training, mostly without a full fit (`docs/howto/update.md`).

        A new rating replaces that of the same user and item. Users and items who are new may come with attributes, also
        without ratings; known ones may have other attributes than before. Columns mean what they meant in training.

        >>> from aanmf import EASE, make_synthetic
        >>> model = EASE().fit(make_synthetic(n_users=200, n_items=50, n_ratings=4000, seed=0).data)
        >>> model.update(pl.DataFrame({"user": ["newcomer"] * 2, "item": ["1", "2"], "rating": [5, 4]})).users
        1

        Args:
            ratings: a file with new ratings, or a polars, pandas or Arrow table; None: none.
            users, items: files or tables with attributes of users and items, new or known; None: none.
            full: fit again in full, whatever the number of new ratings: also attributes that the model has not known
                and values that it has not seen count from then on.
            on_epoch: called after every epoch, if there are any.
            **keywords: how to read the tables; see `ReadOptions`.

        Raises:
            DataError: naming table, row and column, and what to do; or a rating off the scale.
            ConfigError: an unknown option.
        """
        options = ReadOptions.of(None, keywords)
        new = read_additions(self.fitted_, tables_of(options, ratings, users, items), options, "the new ratings")
        warn_of("update", new.notices)
        return self.add(new, full=full, on_epoch=on_epoch)

    @overload
    def with_output(self, output: Literal["polars"]) -> Recommender[pl.DataFrame]: ...
    @overload
    def with_output(self, output: Literal["pandas"]) -> Recommender[pd.DataFrame]: ...
    @overload
    def with_output(self, output: Literal["arrow"]) -> Recommender[pa.Table]: ...
    def with_output(self, output: TableKind) -> Recommender[Any]:
        """This model with tables of another library: `model.with_output("pandas").recommend("1")`.

        What was learned is shared, not copied.

        Raises:
            ConfigError: no such kind of table.
        """
        if output not in get_args(TableKind):
            raise ConfigError(f"output={output!r}. Available: {', '.join(get_args(TableKind))}")
        other = copy(self)
        other.output_ = output
        return other

    def evaluate(
        self,
        data: RatingDataset,
        metrics: Sequence[str] | None = None,
        *,
        relevant: float | None = None,
        rank_by: RankBy | None = None,
        group_by: str | None = None,
        candidates: Sequence[str] | None = None,
        given: RatingDataset | None = None,
        diversity: float = 0.0,
        ranks: Ranks = ALONE,
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
            given: ratings of users in `data` that the model is told now, without retraining, as with
                `recommend(ratings=...)`.
            diversity: of the lists, as for `recommend`.
            ranks: processes that divide the work; all of them call this and get all scores.

        Raises:
            ConfigError: an unknown metric, a threshold off the scale, or longer lists than there are items.
            DataError: there is no rating, or no user has a relevant item.
        """
        asked = metrics, relevant, rank_by, group_by, candidates, given, diversity
        return evaluate(self.predictor_, data, *asked, ranks)

    def recommend(
        self,
        user: User,
        n: int = 10,
        *,
        ratings: NewRatings | None = None,
        without: Sequence[str | int] | None = None,
        context: RequestContext | None = None,
        **options: Unpack[ListArguments],
    ) -> Returned:
        """The items that suit a user best.

        Args:
            user: id of a user of the training data, or attributes of a new one.
            n: how many.
            ratings: what the user rated since training, by item id; counts at once, without retraining.
            without: items as if the user had not rated them; they are not listed either.
            context: in which the list is wanted, as for `predict`; it changes predicted ratings, and by them the match.
            **options: `rank_by`, `interval`, `seen`, `unrated`, `candidates`, `exclude`, `where` and `diversity`: see
                `aanmf.ranking.ListOptions`.

        Returns:
            A table of at most n rows, best first: `item`, `label` (title, if known), `rating` (if the model predicts
            ratings), the interval's ends, and `match` if that ranks, on a scale of the model's own.

        Raises:
            UnknownIdError: no such user in the training data, or no such item in `ratings` or `without`.
            SchemaError: an attribute or a value that the model does not know; the message lists those it knows.
            DataError: a rating that is not a number on the scale, or an item in `without` that the user has not rated.
            ConfigError: the model has no intervals, does not rank in this way, leave out ratings, or know a context.
        """
        profile = self.predictor_.profile(user, ratings, without, context)
        (found,) = make_lists(self.predictor_, [profile], ListOptions(n, **options))
        return self._returned(found.table())

    def recommend_many(
        self,
        users: Sequence[User],
        n: int = 10,
        *,
        ratings: Sequence[NewRatings | None] | None = None,
        context: RequestContext | None = None,
        **options: Unpack[ListArguments],
    ) -> list[Returned]:
        """Lists for many users at once, by id or new; `ratings` of each of them, one context; see `recommend`."""
        given = [None] * len(users) if ratings is None else ratings
        profiles = [self.predictor_.profile(*each, context=context) for each in zip(users, given, strict=True)]
        lists = make_lists(self.predictor_, profiles, ListOptions(n, **options))
        return [self._returned(found.table()) for found in lists]

    def recommend_for(
        self,
        attributes: Mapping[str, object],
        n: int = 10,
        *,
        ratings: NewRatings | None = None,
        context: RequestContext | None = None,
        **options: Unpack[ListArguments],
    ) -> Returned:
        """The items for a new user, known by attributes and, optionally, a few ratings; see `recommend`.

        >>> from aanmf import MF, make_synthetic
        >>> model = MF(factors=8, epochs=5).fit(make_synthetic(n_users=200, n_items=50, n_ratings=4000, seed=0).data)
        >>> model.recommend_for({"gender": "F"}, n=3, ratings={"1": 5, "2": 1}).height
        3
        """
        return self.recommend(attributes, n, ratings=ratings, context=context, **options)

    def recommend_all(
        self, n: int = 10, *, context: RequestContext | None = None, ranks: Ranks = ALONE, **more: Unpack[ListArguments]
    ) -> Iterator[Returned]:
        """The lists of all users of the training data, in blocks: `user`, `item`, `label` and scores; see `recommend`.

        Several processes (`ranks`) divide the users; all of them read on to the end, and get all lists.
        `pandas.concat(model.recommend_all())`, or `polars.concat`, puts them into one table.
        """
        return map(self._returned, Ranker(self.predictor_, ListOptions(n, **more)).everyone(context, ranks))

    def similar(self, item: str | int | Mapping[str, object], n: int = 10) -> Returned:
        """The items most similar to one, by id, or to a new one, by attributes: `item`, `label`, `similarity`.

        Similar are items that the same users rated, and items with the same attributes; see `aanmf.similarity`.

        Raises:
            UnknownIdError: no such item.
            SchemaError: an attribute or a value that the model does not know.
        """
        return self._returned(most_similar(self.predictor_.item_similarity, item, n))

    def similar_users(self, user: User, n: int = 10) -> Returned:
        """The users most similar to one, by id, or to a new one, by attributes: `user`, `similarity`; see `similar`."""
        return self._returned(most_similar(self.predictor_.user_similarity, user, n))

    def explain(
        self,
        user: User,
        item: str | int,
        top: int = 10,
        *,
        ratings: NewRatings | None = None,
        of: Explained | None = None,
        against: str | int | None = None,
        without: Sequence[str | int] | None = None,
        context: RequestContext | None = None,
    ) -> Explanation:
        """What the predicted rating of an item by a user rests on: a base, and what each part adds to it.

        Args:
            user: id of a user of the training data, or attributes of a new one.
            item: id of an item of the training data.
            top: parts that are listed; the others are one part of the kind `rest`.
            ratings: what the user rated since training, by item id.
            of: `rating`, or `match`: the item's place in a list, on a scale of the model's own; None: the rating where
                the model predicts ratings.
            against: id of another item: why this one and not that one. All numbers are then differences.
            without: items as if the user had not rated them.
            context: in which the rating would be given, as for `predict`.

        Returns:
            An explanation: `prediction`, `base`, and `parts`, a table of `kind`, `name`, `value`, `attention` (lambda;
            null for parts without) and `contribution`. base + the sum of contributions = prediction.

        Raises:
            UnknownIdError: an id that the model has not seen.
            DataError: a rating that is not a number on the scale, or an item in `without` that the user has not rated.
            ConfigError: the model predicts no ratings, has not learned what users choose, or cannot leave out a rating.
        """
        profile = self.predictor_.profile(user, ratings, without, context)
        return explain_pair(self.predictor_, profile, item, top, of, against)

    def attention_map(self, data: RatingDataset, by: str = "genres") -> AttentionMap:
        """Mean attention on each user attribute, by the value of an item attribute, over the ratings of `data`.

        An item with several values counts for each. The ratings themselves are not used, only the pairs.

        Returns:
            A map that notebooks show shaded, with `plot()`; its `table` has a row per value: `by`, one column per user
            attribute (`age of users` where `by` is `age` too), `n` (ratings averaged).

        Raises:
            ConfigError: the model has no attention.
            DataError: `by` is not a categorical or multi-valued attribute of the items.
        """
        return AttentionMap(by, attention_map(self.predictor_, data, by))


@cache
def estimator(class_name: str) -> type[Recommender]:
    """The estimator of a catalogue's class name: `aanmf.AANMF` is `estimator("AANMF")`."""
    spec = CLASSES[class_name]
    described = f"""{spec.label}: {spec.summary}.

    The settings are the fields of `{spec.config.rpartition(":")[2]}`; the methods are those of `Recommender`.

    >>> from aanmf import {class_name}, load_restaurants
    >>> {class_name}().fit(load_restaurants()).recommend("U1001", n=3).columns[:2]
    ['item', 'label']
    """
    return type(class_name, (Recommender,), {"spec": spec, "__doc__": described, "__module__": "aanmf"})


def make_model(name: str, **settings: Any) -> Recommender:
    """A model by its name on the command line.

    >>> make_model("aanmf+p", factors=16)
    AANMF(factors=16, pooling='pairwise')

    Raises:
        ConfigError: no such model.
    """
    spec = spec_of(name)
    return estimator(spec.class_name)(**{**spec.settings, **settings})


def load_model(path: str | Path, device: str = "auto") -> Recommender:
    """Reads a model folder of any kind; see `Recommender.load`.

    >>> from tempfile import mkdtemp
    >>> from aanmf import EASE, load_restaurants
    >>> EASE().fit(load_restaurants()).save(folder := mkdtemp())
    >>> load_model(folder)
    EASE()
    """
    return estimator_of(path).load(path, device)


def estimator_of(path: str | Path) -> type[Recommender]:
    """The estimator of the model in a folder.

    Raises:
        ModelFolderError: there is none, or of a kind that this version does not have.
    """
    name = read_manifest(path).get("model")
    if not isinstance(name, str) or name not in CATALOG:
        raise ModelFolderError(f"{path} holds a model of kind {name!r}, which this version of aanmf does not have")
    return estimator(CATALOG[name].class_name)
