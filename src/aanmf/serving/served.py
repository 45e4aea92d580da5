"""One model, made ready to answer quickly: ids to positions, what each user has rated, and lists already made."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from aanmf.data.attributes import AttributeSet
from aanmf.errors import AanmfError, ConfigError, UnknownIdError
from aanmf.recommender import Recommender, load_model
from aanmf.serving.search import Index
from aanmf.storage import read_manifest

Row = dict[str, object]
CACHED_LISTS = 20_000
MATRIX_BYTES = 256 << 20
"""Where the predictions of all users for all items fit in here, they are computed once, when the model is loaded."""
BLOCK = 256


@dataclass(frozen=True)
class Wish:
    """Whom to recommend to, and how much.

    Attributes:
        user: an id, or None for a new user.
        attributes: of a new user.
        ratings: item id -> rating, given with the request; they go over those stored.
        n: how many items.
        interval: share of ratings that shall lie between low and high; None: without.
    """

    user: str | None
    attributes: Mapping[str, object] | None
    ratings: Mapping[str, float]
    n: int
    interval: float | None = None


@dataclass(frozen=True)
class Listed:
    """Recommended items, best first, and the number of ratings since training that they rest on."""

    items: list[Row]
    new_ratings: int


class ServedModel:
    """A fitted model with the tables that answering quickly needs. One thread at a time may use it."""

    def __init__(self, model: Recommender, version: str = "") -> None:
        """Makes the tables and one prediction, so that the first request waits for nothing.

        Args:
            model: a fitted one.
            version: tells this model from others; the checksum of the folder it was read from.
        """
        fitted = model.fitted_
        self.model, self.version, self.scale = model, version, fitted.training.scale
        self.users, self.items = Index(fitted.users.ids), Index(fitted.items.ids, fitted.item_labels)
        train, n_users, n_items = fitted.training.train, len(fitted.users), len(fitted.items)
        user, item = train.user.cpu().numpy(), train.item.cpu().numpy()
        order = np.argsort(user, kind="stable")
        self._rated = item[order]  # items of user u: _rated[_start[u]:_start[u + 1]]
        self._start = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=n_users + 1))])
        self._user_seen = np.append(np.bincount(user, minlength=n_users)[:n_users] > 0, False)
        self._item_seen = np.append(np.bincount(item, minlength=n_items)[:n_items] > 0, False)
        self._never = torch.as_tensor(~self._item_seen[:-1])
        self._lists: OrderedDict[tuple[object, ...], list[Row]] = OrderedDict()
        model.module_.eval()
        self.device = next(model.module_.parameters()).device
        self._matrix: NDArray[np.float32] | None = None
        if 4 * (n_users + 1) * n_items <= MATRIX_BYTES:
            self._matrix = self._every_prediction(n_users + 1, n_items)
        self._directly(np.array([n_users]), np.array([n_items]))
        self.has_interval = self._knows_intervals()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a model folder.

        Raises:
            ModelFolderError: it is not a whole model folder.
        """
        version = folder_version(path)
        return cls(load_model(path), version)

    # -------------------------------------------------------------- predicting

    def positions(self, pairs: Sequence[tuple[str, str]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of users and items; that of the unknown one where an id is not known."""
        u, i = self.users.position, self.items.position
        no_user, no_item = len(u), len(i)
        user = np.array([u.get(pair[0], no_user) for pair in pairs], np.int64)
        item = np.array([i.get(pair[1], no_item) for pair in pairs], np.int64)
        return user, item

    def score(self, user: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.float64]:
        """Predictions of positions, clipped to the scale, to four digits."""
        if self._matrix is None:
            return self._directly(user, item)
        known = item < len(self.items)
        if known.all():
            return self._matrix[user, item].astype(np.float64).round(4)
        rating = np.empty(len(user))
        rating[known] = self._matrix[user[known], item[known]].astype(np.float64).round(4)
        rating[~known] = self._directly(user[~known], item[~known])
        return rating

    @torch.inference_mode()
    def _directly(self, user: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.float64]:
        users, items = (torch.as_tensor(side, device=self.device) for side in (user, item))
        predicted = self.model.module_(users, items).clamp(*self.scale)
        return predicted.double().cpu().numpy().round(4)

    @torch.inference_mode()
    def _every_prediction(self, n_users: int, n_items: int) -> NDArray[np.float32]:
        """(n_users, n_items) clipped predictions; the last row is the unknown user's."""
        matrix = np.empty((n_users, n_items), np.float32)
        for users in torch.arange(n_users, device=self.device).split(BLOCK):
            for part, scores in self.model.module_.catalogue(users):
                matrix[users[part].cpu().numpy()] = scores.clamp(*self.scale).cpu().numpy()
        return matrix

    def fallbacks(self, user: NDArray[np.int64], item: NDArray[np.int64]) -> list[str | None]:
        """Per pair: null, or what an average one stood in for; the words of `Recommender.predict`."""
        words: list[str | None] = [None] * len(user)
        strange = ~(self._user_seen[user] & self._item_seen[item])
        for row in np.flatnonzero(strange):
            sides = (
                ("user", user[row], self._user_seen, len(self.users)),
                ("item", item[row], self._item_seen, len(self.items)),
            )
            faults = [
                f"unknown {side}" if at == unknown else f"{side} without ratings"
                for side, at, seen, unknown in sides
                if not seen[at]
            ]
            words[row] = ", ".join(faults)
        return words

    def intervals(self, pairs: Sequence[tuple[str, str]], share: float) -> tuple[list[float], list[float]]:
        """Low and high of each pair, between which `share` of ratings should lie.

        Raises:
            ConfigError: the model has none.
        """
        self._needs_intervals()
        table = self.model.predict([user for user, _ in pairs], [item for _, item in pairs], interval=share)
        low, high = (table[side].cast(pl.Float64).round(4).to_list() for side in ("low", "high"))
        return low, high

    # ------------------------------------------------------------ recommending

    def recommend(self, wishes: Sequence[Wish], stored: Mapping[str, Mapping[str, float]]) -> list[Listed | Exception]:
        """Lists for several wishes at once; an error stands in place of the list it concerns.

        Args:
            wishes: one per list.
            stored: ratings since training, by user and item.
        """
        answers: list[Listed | Exception | None] = [None] * len(wishes)
        plain: list[int] = []
        for row, wish in enumerate(wishes):
            new = {**stored.get(wish.user or "", {}), **wish.ratings}
            new = {item: rating for item, rating in new.items() if item in self.items.position}
            try:
                key = (wish.user, _frozen(wish.attributes), frozenset(new.items()), wish.n, wish.interval)
                if (known := self._lists.get(key)) is not None:
                    self._lists.move_to_end(key)
                elif not new and wish.attributes is None and wish.user in self.users.position:
                    plain.append(row)
                    continue
                else:
                    known = self._remember(key, self._apart(wish, new))
                answers[row] = Listed(known, len(new))
            except AanmfError as error:
                answers[row] = error
        for row, items in zip(plain, self._ranked([wishes[row] for row in plain]), strict=True):
            wish = wishes[row]
            key = (wish.user, None, frozenset(), wish.n, wish.interval)
            answers[row] = Listed(self._remember(key, self._with_intervals(wish, items)), 0)
        return answers  # type: ignore[return-value]

    def _apart(self, wish: Wish, new: Mapping[str, float]) -> list[Row]:
        """A list for a new user, or for one with ratings since training."""
        model, asked = self.model, {"ratings": new or None, "interval": wish.interval}
        if wish.interval is not None:
            self._needs_intervals()
        if wish.user in self.users.position:
            if wish.attributes is not None:
                raise ConfigError(
                    f"user {wish.user!r} is known to the model with attributes of its own: leave them out"
                )
            return self._rows(model.recommend(str(wish.user), wish.n, **asked))
        if wish.user is not None and wish.attributes is None and not new:
            raise UnknownIdError(f"user {wish.user!r} is not in the training data and has no ratings; give attributes")
        return self._rows(model.recommend_for(wish.attributes or {}, wish.n, **asked))

    @torch.inference_mode()
    def _ranked(self, wishes: Sequence[Wish]) -> list[list[Row]]:
        """Lists for known users without new ratings, from one pass over the catalogue."""
        lists: list[list[Row]] = [[] for _ in wishes]
        if not wishes:
            return lists
        positions = [self.users.position[wish.user or ""] for wish in wishes]
        if self._matrix is not None:
            rows = [(at, torch.from_numpy(self._matrix[position])) for at, position in enumerate(positions)]
        else:
            blocks = self.model.module_.catalogue(torch.tensor(positions, device=self.device))
            rows = [(at, row) for part, scores in blocks for at, row in zip(part.tolist(), scores.cpu(), strict=True)]
        for at, row in rows:
            lists[at] = self.best(row.clamp(*self.scale), wishes[at].n, self.rated_by(positions[at]))
        return lists

    def best(self, scores: Tensor, n: int, rated: NDArray[np.int64] | None = None) -> list[Row]:
        """The n items of highest score that somebody has rated, without those in `rated`; changes `scores`."""
        scores[self._never] = -torch.inf
        if rated is not None:
            scores[torch.as_tensor(rated)] = -torch.inf
        top = torch.topk(scores, min(n, len(scores)))
        found = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        return [
            {"item": self.items.ids[at], "label": self.items.label(at), "rating": round(rating, 4)}
            for at, rating in found
            if rating > -torch.inf
        ]

    def rated_by(self, at: int) -> NDArray[np.int64]:
        """Positions of the items that the user at this position has rated."""
        return self._rated[self._start[at] : self._start[at + 1]]

    def _rows(self, table: pl.DataFrame) -> list[Row]:
        figures = [
            pl.col(name).cast(pl.Float64).round(4) for name in ("rating", "low", "high") if name in table.columns
        ]
        label = pl.col("label") if "label" in table.columns else pl.lit(None, pl.String).alias("label")
        return table.select("item", label, *figures).to_dicts()

    def _with_intervals(self, wish: Wish, rows: list[Row]) -> list[Row]:
        if wish.interval is not None and rows:
            low, high = self.intervals([(wish.user or "", str(row["item"])) for row in rows], wish.interval)
            for row, below, above in zip(rows, low, high, strict=True):
                row |= {"low": below, "high": above}
        return rows

    def _remember(self, key: tuple[object, ...], items: list[Row]) -> list[Row]:
        self._lists[key] = items
        if len(self._lists) > CACHED_LISTS:
            self._lists.popitem(last=False)
        return items

    def _needs_intervals(self) -> None:
        if not self.has_interval:
            raise ConfigError(f"interval: {type(self.model).__name__} has no intervals; AANMF++ has")

    def _knows_intervals(self) -> bool:
        try:
            self.model.predict(self.users.ids[:1], self.items.ids[:1], interval=0.9)
        except ConfigError:
            return False
        return True

    # -------------------------------------------------------------- explaining

    def explain(self, user: str | Mapping[str, object], item: str) -> Row:
        """A prediction and what the model looked at.

        Raises:
            UnknownIdError: no such user or item.
        """
        attributes = self.model.explain(user, item)
        if isinstance(user, Mapping):
            rating = self.model.predict_for(user, [item])["rating"][0]
        else:
            rating = self.model.predict(user, item)["rating"][0]
        at = self.items.position[item]
        return {
            "item": item,
            "label": self.items.label(at),
            "rating": round(float(rating), 4),
            "attributes": attributes.to_dicts(),
        }

    def sets_of(self, user: str | Mapping[str, object]) -> tuple[int, AttributeSet]:
        """Position and attribute set (1, J) of a user, or of a new one."""
        fitted = self.model.fitted_
        if isinstance(user, Mapping):
            return len(self.users), fitted.user_encoder.transform_one(user).to(self.device)
        at = self.users.position.get(user)
        if at is None:
            raise UnknownIdError(f"user {user!r} is not in the training data")
        row = torch.tensor([at], device=self.device)
        return at, fitted.training.users.to(self.device).rows(row)


def folder_version(path: str | Path) -> str:
    """Sixteen digits that change with whatever a model folder holds."""
    import hashlib

    return hashlib.sha256(repr(sorted(read_manifest(path).items())).encode()).hexdigest()[:16]


def known_items(model: ServedModel, items: Collection[str]) -> None:
    """Refuses items that the model does not know.

    Raises:
        UnknownIdError: naming the first one.
    """
    for item in items:
        if item not in model.items.position:
            raise UnknownIdError(f"item {item!r} is not in the training data")


def _frozen(attributes: Mapping[str, object] | None) -> object:
    return None if attributes is None else repr(sorted(attributes.items()))
