"""One model for all requests, with what it computed before: scores of known users, and lists."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from aanmf.errors import AanmfError, ConfigError, UnknownIdError
from aanmf.predictor import Profile
from aanmf.ranking import ListOptions, make_lists
from aanmf.recommender import Recommender, load_model
from aanmf.serving.search import SearchIndex
from aanmf.serving.store import RatingStore
from aanmf.storage import read_manifest

Row = dict[str, object]
CACHED_LISTS = 20_000
SCORE_BYTES = 256 << 20
"""Where the scores of all users for all items fit in here, they are computed once, when the model is loaded."""


@dataclass(frozen=True, eq=False)
class PredictRequest:
    """Pairs to predict; with an interval, also `low` and `high`."""

    pairs: Sequence[tuple[str, str]]
    interval: float | None = None


@dataclass(frozen=True, eq=False)
class ListRequest:
    """A list to make.

    Attributes:
        user: an id, also one that is not in the training data but has stored ratings; None for a new user.
        attributes: of a new user.
        ratings: item id -> rating, in addition to those stored and instead of them.
        options: what the list holds.
    """

    user: str | None
    attributes: Mapping[str, object] | None
    ratings: Mapping[str, float]
    options: ListOptions


@dataclass(frozen=True)
class ListAnswer:
    """Recommended items, best first, and the number of ratings since training that they rest on."""

    items: list[Row]
    new_ratings: int


class ModelCache:
    """A fitted model that answers many requests at once. One thread at a time may use it."""

    def __init__(self, model: Recommender, store: RatingStore | None = None, version: str = "") -> None:
        """Computes what it can now, so that the first request waits for nothing.

        Args:
            model: a fitted one.
            store: ratings given since training; None: without.
            version: tells this model from others; the checksum of the folder it was read from.
        """
        self.model, self.store, self.version = model, store, version
        self.fitted, self.predictor = model.fitted_, model.predictor_
        self.users = SearchIndex(self.fitted.users.ids)
        self.items = SearchIndex(self.fitted.items.ids, self.fitted.items.labels)
        self._lists: OrderedDict[tuple[object, ...], list[Row]] = OrderedDict()
        self.predictor.store_scores(SCORE_BYTES)
        self.predictor.ratings(np.array([self.fitted.users.unknown]), np.array([self.fitted.items.unknown]))
        self.fitted.rated_by(np.array([0]))

    @classmethod
    def load(cls, path: str | Path, store: RatingStore | None = None) -> Self:
        """Reads a model folder.

        Raises:
            ModelFolderError: it is not a whole model folder.
        """
        version = folder_version(path)
        return cls(load_model(path), store, version)

    def predict(self, asked: Sequence[PredictRequest]) -> list[Row]:
        """`ratings`, `fallbacks` and, with an interval, `low` and `high` for each of several requests."""
        answers: dict[int, Row] = {}
        for interval in {each.interval for each in asked}:
            rows = [row for row, each in enumerate(asked) if each.interval == interval]
            users, items = zip(*(pair for row in rows for pair in asked[row].pairs), strict=True)
            found, fallbacks = self.predictor.predict(users, items, interval)
            columns = {name: values.astype(np.float64).round(4).tolist() for name, values in found.items()}
            columns = {"ratings": columns.pop("rating"), "fallbacks": fallbacks, **columns}
            start = 0
            for row in rows:
                end = start + len(asked[row].pairs)
                answers[row] = {name: values[start:end] for name, values in columns.items()}
                start = end
        return [answers[row] for row in range(len(asked))]

    def make_lists(self, asked: Sequence[ListRequest]) -> list[ListAnswer | Exception]:
        """A list for each of several requests; an error instead of a list goes to its request alone."""
        users = {each.user for each in asked if each.user is not None}
        stored = self.store.of_users(users) if self.store and users else {}
        answers: dict[int, ListAnswer | Exception] = {}
        missing: dict[ListOptions, dict[int, Profile]] = defaultdict(dict)
        keys: list[tuple[object, ...]] = []
        rated = [self._new_ratings(each, stored) for each in asked]
        for row, (each, new) in enumerate(zip(asked, rated, strict=True)):
            attributes = None if each.attributes is None else repr(sorted(each.attributes.items()))
            keys.append((each.user, attributes, frozenset(new.items()), each.options))
            if (items := self._lists.get(keys[row])) is not None:
                self._lists.move_to_end(keys[row])
                answers[row] = ListAnswer(items, len(new))
                continue
            try:
                missing[each.options][row] = self._profile(each, new)
            except AanmfError as error:
                answers[row] = error
        for options, profiles in missing.items():
            made = make_lists(self.predictor, list(profiles.values()), options)
            for row, ranked in zip(profiles, made, strict=True):
                answers[row] = ListAnswer(self._remember(keys[row], ranked.rows()), len(rated[row]))
        return [answers[row] for row in range(len(asked))]

    def _new_ratings(self, asked: ListRequest, stored: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Stored ratings of items that the model knows, and over them those of the request."""
        together = {**stored.get(asked.user or "", {}), **asked.ratings}
        return {item: rating for item, rating in together.items() if item in self.fitted.items.table.ids}

    def _profile(self, asked: ListRequest, new: Mapping[str, float]) -> Profile:
        if asked.user is not None and asked.user in self.fitted.users.table.ids:
            if asked.attributes is not None:
                raise ConfigError(f"user {asked.user!r} is known to the model, attributes too: leave them out")
            return self.predictor.profile(asked.user, new)
        if asked.user is not None and asked.attributes is None and not new:
            raise UnknownIdError(f"user {asked.user!r} is not in the training data and has no ratings; give attributes")
        return self.predictor.profile(asked.attributes or {}, new)

    def _remember(self, key: tuple[object, ...], items: list[Row]) -> list[Row]:
        self._lists[key] = items
        if len(self._lists) > CACHED_LISTS:
            self._lists.popitem(last=False)
        return items

    def explain(self, user: str | Mapping[str, object], item: str) -> Row:
        """A prediction and what it rests on.

        Raises:
            UnknownIdError: no such user or item.
        """
        found = self.model.explain_rating(user, item)
        rows = found.attributes.to_dicts()
        return {"item": found.item, "label": found.label, "rating": round(found.rating, 4), "attributes": rows}


def folder_version(path: str | Path) -> str:
    """Sixteen digits that change with whatever a model folder holds."""
    return hashlib.sha256(repr(sorted(read_manifest(path).items())).encode()).hexdigest()[:16]
