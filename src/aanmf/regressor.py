"""Ratings of pairs, from ids or tables, as scikit-learn's regressors predict them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Generic, Self, cast, overload

import numpy as np
import polars as pl
from typing_extensions import TypeVar

from aanmf.data.dataset import RatingDataset
from aanmf.data.frames import as_kind, pairs_of
from aanmf.data.tables import Table, as_frame
from aanmf.errors import DataError
from aanmf.estimator import Estimator
from aanmf.predictor import Floats
from aanmf.profile import NewRatings, RequestContext

if TYPE_CHECKING:
    from sklearn.utils import Tags

Ids = str | int | Sequence[str | int]
Contexts = RequestContext | Sequence[RequestContext]
"""One for all pairs, or one for each."""
Returned = TypeVar("Returned", default=pl.DataFrame)
"""The kind of table that a model returns."""
_TEXT = {"user", "item", "fallback"}


class Regressor(Estimator, Generic[Returned]):
    """Predicts ratings.

    It follows the conventions of scikit-learn, without needing it: `clone`, `GridSearchCV`, `Pipeline` and
    `cross_val_score` take it as it is.
    """

    def __sklearn_clone__(self) -> Self:
        return type(self)(**self.get_params())

    def __sklearn_is_fitted__(self) -> bool:
        return self.is_fitted

    def __sklearn_tags__(self) -> Tags:
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        return Tags(
            estimator_type="regressor" if self.spec.rates else None,
            target_tags=TargetTags(required=False),
            regressor_tags=RegressorTags() if self.spec.rates else None,
            input_tags=InputTags(string=True, categorical=True),
        )

    @overload
    def predict(
        self, users: Ids, items: Ids, interval: float | None = None, *, context: Contexts | None = None
    ) -> Returned: ...
    @overload
    def predict(self, users: object) -> Floats: ...
    def predict(
        self,
        users: Ids | object,
        items: Ids | None = None,
        interval: float | None = None,
        *,
        context: Contexts | None = None,
    ) -> Returned | Floats:
        """Predicts the ratings of pairs.

        Args:
            users, items: n ids each (one id goes with all of the other side), or instead of both one table with columns
                of users and items (polars, pandas, Arrow, or an array), named as those of the training ratings.
            interval: for instance .9: adds `low` and `high`, between which the rating lies with this probability.
            context: in which the ratings would be given, `{"companion": "family"}`, for all pairs or one for each.
                Where it, or a part of it, is not given, predictions are averaged over what is usual.

        Returns:
            A table of n rows: `user`, `item`, `rating` (clipped to the scale), and `fallback`: null where both were
            trained, else what was replaced by an average one (`unknown user`: predicted for an average user).
            For one table, as in scikit-learn, the ratings (n,) alone.

        Raises:
            DataError: users, items and contexts differ in number, or the table lacks users or items.
            SchemaError: a part of the context, or a value, that the model does not know.
            ConfigError: an interval is asked of a model that has none, or a context of one that has learned from none.
        """
        if items is None and isinstance(users, str | int):
            raise DataError("predict: give users and items, or one table with both")
        if items is None:
            pairs = pairs_of(Table.of(as_frame(users, "pairs"), "pairs"), self.fitted_.columns)
            return self.predictor_.predict(*pairs)[0]["rating"]
        user_ids, item_ids = _pairs(cast("Ids", users), items)
        contexts = [context] * len(user_ids) if isinstance(context, Mapping) else context
        if contexts is not None and len(contexts) != len(user_ids):
            raise DataError(f"predict: {len(contexts)} contexts for {len(user_ids)} pairs; give one, or one for each")
        found, fallbacks = self.predictor_.predict(user_ids, item_ids, interval, contexts)
        return self._returned(_table({"user": user_ids, "item": item_ids, **found, "fallback": fallbacks}))

    def score(self, pairs: object, y: object) -> float:
        """R², the share of the variance of ratings `y` (n,) that the predictions of n pairs explain.

        scikit-learn compares settings by it unless another `scoring` is given; see `evaluate` for other metrics.
        """
        rating = np.asarray(y, np.float64)
        error, deviation = rating - self.predict(pairs), rating - rating.mean()
        unexplained, all_of_it = float(error @ error), float(deviation @ deviation)
        return 1 - unexplained / all_of_it if all_of_it else float(unexplained == 0)

    def predict_for(
        self,
        attributes: Mapping[str, object],
        items: Ids,
        ratings: NewRatings | None = None,
        interval: float | None = None,
        *,
        context: RequestContext | None = None,
    ) -> Returned:
        """Predicts the ratings of a new user, known by attributes and a few ratings; see `recommend_for`, `predict`."""
        _, item_ids = _pairs("", items)
        profile = self.predictor_.profile(attributes, ratings, context=context)
        found, fallbacks = self.predictor_.predict_for(profile, item_ids, interval)
        return self._returned(_table({"item": item_ids, **found, "fallback": fallbacks}))

    def predict_data(self, data: RatingDataset) -> Floats:
        """Predictions (n,) for the pairs of a data set in their context, clipped; new users by their attributes."""
        return self.predictor_.predict_data(data)

    def _returned(self, table: pl.DataFrame) -> Returned:
        return cast("Returned", as_kind(table, self.output_))


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
