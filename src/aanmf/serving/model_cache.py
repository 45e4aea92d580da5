"""One model for all requests, with what it computed before: scores of known users, and lists."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, Self

import numpy as np

from aanmf.errors import AanmfError, ConfigError, UnknownIdError
from aanmf.explanation import Explained, Explanation, explain_pair
from aanmf.fitted import Fitted
from aanmf.manifest import MANIFEST, read_manifest
from aanmf.profile import Profile, RequestContext
from aanmf.ranking import ListOptions, make_lists
from aanmf.recommender import Recommender, load_model
from aanmf.serving.list_cache import ListCache
from aanmf.serving.search import SearchIndex
from aanmf.serving.store import RatingStore
from aanmf.similarity import most_similar

Row = dict[str, object]
SCORE_BYTES = 256 << 20
"""Where the scores of all users for all items fit in here, they are computed once, when the model is loaded."""


@dataclass(frozen=True, eq=False)
class PredictRequest:
    """Pairs to predict in one context; with an interval, also `low` and `high`."""

    pairs: Sequence[tuple[str, str]]
    interval: float | None = None
    context: RequestContext | None = None

    @property
    def kind(self) -> tuple[float | None, tuple[str, ...] | None]:
        """What requests that are answered together have in common: the interval, and which context they name."""
        return self.interval, None if self.context is None else tuple(sorted(self.context))


@dataclass(frozen=True, eq=False)
class ListRequest:
    """A list to make.

    Attributes:
        user: an id, also one that is not in the training data but has stored ratings; None for a new user.
        attributes: of a new user.
        ratings: item id -> rating, in addition to those stored and instead of them; None: chosen, not rated.
        options: what the list holds.
        without: items as if the user had not rated them.
        context: in which the list is wanted; None: what is usual.
    """

    user: str | None
    attributes: Mapping[str, object] | None
    ratings: Mapping[str, float | None]
    options: ListOptions = field(default_factory=ListOptions)
    without: tuple[str, ...] = ()
    context: RequestContext | None = None


@dataclass(frozen=True)
class ListAnswer:
    """Recommended items, best first, and the number of ratings since training that they rest on."""

    items: list[Row]
    new_ratings: int


class ModelCache:
    """A fitted model that answers many requests at once. One thread at a time may use it."""

    def __init__(
        self,
        model: Recommender,
        store: RatingStore | None = None,
        version: str = "",
        saved: float | None = None,
        list_bytes: int = 64 << 20,
    ) -> None:
        """Computes what it can now, so that the first request waits for nothing.

        Args:
            model: a fitted one.
            store: ratings given since training; None: without.
            version: tells this model from others; the checksum of the folder it was read from.
            saved: when it was saved, as seconds since 1970; None: now.
            list_bytes: what the lists that are kept may take.
        """
        self.model, self.store, self.version = model, store, version
        self.saved = time.time() if saved is None else saved
        self.fitted, self.predictor = model.fitted_, model.predictor_
        self.users = SearchIndex(self.fitted.users.ids)
        self.items = SearchIndex(self.fitted.items.ids, self.fitted.items.labels)
        self.lists = ListCache(list_bytes)
        self.predictor.store_scores(SCORE_BYTES)
        if self.predictor.rates:
            self.predictor.ratings(np.array([self.fitted.users.unknown]), np.array([self.fitted.items.unknown]))
        self.fitted.rated_by(np.array([0]))

    @classmethod
    def load(cls, path: str | Path, store: RatingStore | None = None, list_bytes: int = 64 << 20) -> Self:
        """Reads a model folder; arguments as of the constructor.

        Raises:
            ModelFolderError: it is not a whole model folder.
        """
        version = folder_version(path)
        saved = (Path(path) / MANIFEST).stat().st_mtime
        return cls(load_model(path), store, version, saved, list_bytes)

    def predict(self, asked: Sequence[PredictRequest]) -> list[Row]:
        """`ratings`, `fallbacks` and, with an interval, `low` and `high` for each of several requests."""
        answers: dict[int, Row] = {}
        for kind in {each.kind for each in asked}:
            rows = [row for row, each in enumerate(asked) if each.kind == kind]
            users, items = zip(*(pair for row in rows for pair in asked[row].pairs), strict=True)
            users = ["" if self._is_forgotten(user) else user for user in users]  # as if never known
            context = [asked[row].context or {} for row in rows for _ in asked[row].pairs]
            found, fallbacks = self.predictor.predict(users, items, kind[0], None if kind[1] is None else context)
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
        keys: list[bytes] = []
        rated = [self._new_ratings(each, stored) for each in asked]
        for row, (each, new) in enumerate(zip(asked, rated, strict=True)):
            keys.append(_digest(each, new))
            if self._is_forgotten(each.user):
                answers[row] = _unknown(each.user)
                continue
            if (kept := self.lists.get(keys[row])) is not None:
                answers[row] = ListAnswer(kept.rows(), len(new))
                continue
            try:
                missing[each.options][row] = self._profile(each, new)
            except AanmfError as error:
                answers[row] = error
        for options, profiles in missing.items():
            try:
                made = make_lists(self.predictor, list(profiles.values()), options)
            except AanmfError as error:
                answers |= dict.fromkeys(profiles, error)
                continue
            for row, ranked in zip(profiles, made, strict=True):
                self.lists.put(keys[row], ranked)
                answers[row] = ListAnswer(ranked.rows(), len(rated[row]))
        return [answers[row] for row in range(len(asked))]

    def make_many_lists(self, asked: Sequence[Sequence[ListRequest]]) -> list[list[ListAnswer] | Exception]:
        """The same for requests of several lists each; an error in one of the lists fails its request."""
        made = iter(self.make_lists([each for request in asked for each in request]))
        together = [list(islice(made, len(request))) for request in asked]
        return [_all_or_error(answers) for answers in together]

    def profile(self, asked: ListRequest) -> Profile:
        """The user of a list, with the ratings stored under the id.

        Raises:
            UnknownIdError: an id without ratings that the model does not know.
        """
        stored = self.store.of_users([asked.user]) if self.store and asked.user is not None else {}
        return self._profile(asked, self._new_ratings(asked, stored))

    def similar(self, of: str | Mapping[str, object], side: Literal["user", "item"], n: int) -> list[Row]:
        """Id, label and similarity of the n items (users) most similar to one, by id or new by attributes.

        Raises:
            UnknownIdError: no such item (user).
        """
        predictor = self.predictor
        if side == "user" and isinstance(of, str) and self._is_forgotten(of):
            raise _unknown(of)
        more = 0 if self.store is None or side == "item" else len(self.store.forgotten)
        found = most_similar(predictor.item_similarity if side == "item" else predictor.user_similarity, of, n + more)
        return [
            {"id": row[side], "label": row.get("label"), "similarity": round(row["similarity"], 4)}
            for row in found.iter_rows(named=True)
            if side == "item" or not self._is_forgotten(row[side])
        ][:n]

    def search_users(self, query: str, n: int) -> tuple[list[dict[str, str | None]], bool]:
        """As `users.search`, without users who were forgotten."""
        more = 0 if self.store is None else len(self.store.forgotten)
        found, cut = self.users.search(query, n + more)
        found = [each for each in found if not self._is_forgotten(each["id"])]
        return found[:n], cut or len(found) > n

    def knows(self, user: str) -> bool:
        """Whether a user is in the training data, and was not forgotten since."""
        return user in self.fitted.users.table.ids and not self._is_forgotten(user)

    def _is_forgotten(self, user: str | None) -> bool:
        return self.store is not None and user is not None and user in self.store.forgotten

    def _new_ratings(
        self, asked: ListRequest, stored: Mapping[str, Mapping[str, float | None]]
    ) -> dict[str, float | None]:
        """Stored ratings of items that the model knows, and over them those of the request.

        A choice without a rating of what the user rated in the training data says nothing new.
        """
        together = {**stored.get(asked.user or "", {}), **asked.ratings}
        known = {item: rating for item, rating in together.items() if item in self.fitted.items.table.ids}
        user = asked.user
        if None not in known.values() or user is None or user not in self.fitted.users.table.ids:
            return known
        _, rated = self.fitted.rated_by(np.array([self.fitted.users.position(user)]))
        trained = {self.fitted.items.ids[at] for at in rated}
        return {item: rating for item, rating in known.items() if rating is not None or item not in trained}

    def _profile(self, asked: ListRequest, new: Mapping[str, float | None]) -> Profile:
        if self._is_forgotten(asked.user):
            raise _unknown(asked.user)
        if asked.user is not None and asked.user in self.fitted.users.table.ids:
            if asked.attributes is not None:
                raise ConfigError(f"user {asked.user!r} is known to the model, attributes too: leave them out")
            return self.predictor.profile(asked.user, new, asked.without, asked.context)
        if asked.user is not None and asked.attributes is None and not new:
            raise _unknown(asked.user)
        return self.predictor.profile(asked.attributes or {}, new, asked.without, asked.context)

    def explain(
        self, asked: ListRequest, item: str, top: int = 10, of: Explained | None = None, against: str | None = None
    ) -> Explanation:
        """A prediction for the user of a list, and what it rests on; ratings stored under the id count.

        Raises:
            UnknownIdError: no such user or item.
            DataError: a rating to leave out that there is not.
            ConfigError: the model cannot explain this.
        """
        return explain_pair(self.predictor, self.profile(asked), item, top, of, against)


def known_of(fitted: Fitted, user: str) -> dict[str, object] | None:
    """What a model has learned from of a user: `ratings` by item, and `attributes`; None for an unknown one."""
    if user not in fitted.users.table.ids:
        return None
    at, table = fitted.users.position(user), fitted.users.table
    items, ratings = fitted.ratings_of(at)
    rated = {fitted.items.ids[item]: rating for item, rating in zip(items, ratings, strict=True)}
    return {"ratings": rated, "attributes": table.columns.row(at, named=True) if table.names else {}}


def _unknown(user: str | None) -> UnknownIdError:
    return UnknownIdError(f"user {user!r} is not in the training data and has no ratings; give attributes")


def _digest(asked: ListRequest, ratings: Mapping[str, float | None]) -> bytes:
    """Tells a list from others in a few bytes, however many candidates it was made from."""
    attributes, context = (None if each is None else sorted(each.items()) for each in (asked.attributes, asked.context))
    named = (asked.user, attributes, sorted(ratings.items()), asked.options, asked.without, context)
    return hashlib.blake2b(repr(named).encode(), digest_size=16).digest()


def _all_or_error(answers: list[ListAnswer | Exception]) -> list[ListAnswer] | Exception:
    lists: list[ListAnswer] = []
    for answer in answers:
        if isinstance(answer, Exception):
            return answer
        lists.append(answer)
    return lists


def folder_version(path: str | Path) -> str:
    """Sixteen digits that change with whatever a model folder holds."""
    return hashlib.sha256(repr(sorted(read_manifest(path).items())).encode()).hexdigest()[:16]
