"""Our models as scorers in the pipelines of LensKit."""
# pyright: reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, Field, JsonValue

from aanmf.data.lenskit import from_lenskit
from aanmf.errors import MissingExtraError
from aanmf.predictor import Floats
from aanmf.profile import Profile
from aanmf.recommender import Recommender, make_model

try:
    from lenskit.data import Dataset, ItemList, QueryInput, RecQuery
    from lenskit.pipeline import Component
    from lenskit.training import Trainable, TrainingOptions
except ModuleNotFoundError:
    raise MissingExtraError("needs LensKit: pip install 'aanmf[lenskit]'") from None


class ScorerConfig(BaseModel, extra="forbid"):
    """Settings of `RecommenderScorer`."""

    model: str = "aanmf++"
    """Name of the model in the catalogue."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the model, such as `factors`."""
    score: Literal["match", "rating"] | None = None
    """`match`: how likely the user is to choose the item and to like it; `rating`: the predicted rating. None: `match`
    where the model has it."""


class RecommenderScorer(Component[ItemList], Trainable):
    """Scores items with any model of this library.

    A user of the training data is scored as trained, with the items in the history of the query that are new since.
    Another user is new, and known by these items alone. Ratings beyond the scale count as its nearest end. Items that
    the model does not know have no score (NaN).
    """

    config: ScorerConfig
    model_: Recommender
    """The trained model."""

    def train(self, data: Dataset, options: TrainingOptions | None = None) -> None:
        """Fits the model to the interactions and attributes of a data set of LensKit.

        A device or a seed in `options` comes before those in the settings.
        """
        given = TrainingOptions() if options is None else options
        if hasattr(self, "model_") and not given.retrain:
            return
        settings = dict(self.config.settings)
        if given.device is not None:
            settings["device"] = given.device
        if given.rng is not None:
            settings["seed"] = int(given.random_generator().integers(2**31))
        self.model_ = make_model(self.config.model, **settings).fit(from_lenskit(data))

    def __call__(self, query: QueryInput, items: ItemList) -> ItemList:
        """The items with their scores for the user of a query."""
        predictor = self.model_.predictor_
        known = predictor.items.table.ids.index(items.ids())
        scores = np.full(len(items), np.nan, np.float32)
        scores[known >= 0] = self._scores(self._profile(RecQuery.create(query)))[known[known >= 0]]
        return ItemList(items, scores=scores)

    def _profile(self, query: RecQuery) -> Profile:
        """The user of a query, with the ratings that are new since training."""
        predictor, history = self.model_.predictor_, query.history_items
        user = str(query.user_id) if str(query.user_id) in predictor.users.table.ids else {}
        if history is None or not len(history):
            return predictor.profile(user)
        ratings = history.field("rating") if predictor.fitted.training.has_ratings else None
        given = [None] * len(history) if ratings is None else np.clip(ratings, *predictor.scale).tolist()
        trained = predictor.fitted.ratings_of(predictor.profile(user).position)[0]
        old, places = set(trained), predictor.items.table.ids.index(history.ids())
        new = zip(history.ids(), given, places, strict=True)
        return predictor.profile(user, {str(item): rating for item, rating, at in new if at >= 0 and at not in old})

    def _scores(self, profile: Profile) -> Floats:
        """(n_items,) scores of all items."""
        predictor = self.model_.predictor_
        with torch.no_grad():
            kind = self.config.score or ("match" if predictor.matches else "rating")
            if kind == "match":
                predictor.check_matches()
                ((_, scores, _),) = predictor.scores_of([profile], "match")
                return scores[0].cpu().numpy()
            return predictor.ratings_for(profile, np.arange(len(predictor.items)))
