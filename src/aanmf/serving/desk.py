"""The one place where requests meet the model: questions are put to its thread, and answered in batches."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from aanmf.serving.batcher import Batcher
from aanmf.serving.limits import Limits
from aanmf.serving.metrics import Metrics
from aanmf.serving.served import Listed, ServedModel, Wish
from aanmf.serving.store import RatingStore, StoredRating

BLOCK = 65_536
Result = TypeVar("Result")
Columns = dict[str, list[float] | list[str | None] | None]


@dataclass(frozen=True)
class Pairs:
    """Pairs to predict with one model."""

    model: ServedModel
    pairs: Sequence[tuple[str, str]]
    interval: float | None


@dataclass(frozen=True)
class List:
    """One list to make with one model."""

    model: ServedModel
    wish: Wish


@dataclass(frozen=True)
class Call:
    """Anything else that uses a model."""

    function: Callable[[], object]


class Desk:
    """Two threads: one for the models, one for storing ratings."""

    def __init__(self, store: RatingStore | None, limits: Limits, metrics: Metrics) -> None:
        self.store, self.metrics = store, metrics
        self._models: Batcher[Pairs | List | Call, object] = Batcher(
            self._answer, name="aanmf-model", waiting=limits.waiting
        )
        self._writes: Batcher[Sequence[StoredRating], int] = Batcher(
            self._write, name="aanmf-store", waiting=limits.waiting
        )

    def start(self) -> None:
        """Starts both threads, from the event loop."""
        self._models.start()
        self._writes.start()

    async def stop(self) -> None:
        """Answers what waits, then ends both."""
        await asyncio.gather(self._models.stop(), self._writes.stop())

    async def predict(self, model: ServedModel, pairs: Sequence[tuple[str, str]], interval: float | None) -> Columns:
        """Ratings, fallbacks and, if asked for, intervals."""
        answer = await self._models.ask(Pairs(model, pairs, interval))
        self.metrics.predictions.inc(len(pairs))
        return answer  # type: ignore[return-value]

    async def recommend(self, model: ServedModel, wish: Wish) -> Listed:
        """A list, with the ratings that are stored of the user."""
        return await self._models.ask(List(model, wish))  # type: ignore[return-value]

    async def call(self, function: Callable[[], Result]) -> Result:
        """What a function that uses a model returns, run in the models' thread."""
        return await self._models.ask(Call(function))  # type: ignore[return-value]

    async def store_ratings(self, ratings: Sequence[StoredRating]) -> int:
        """Stores ratings; they are on disk when this returns."""
        stored = await self._writes.ask(ratings)
        self.metrics.stored.inc(stored)
        return stored

    # ------------------------------------------------------------------ in the threads

    def _write(self, many: Sequence[Sequence[StoredRating]]) -> Sequence[int]:
        """All waiting ratings in one transaction: one wait for the disk."""
        assert self.store is not None
        self.store.add([rating for ratings in many for rating in ratings])
        return [len(ratings) for ratings in many]

    def _answer(self, questions: Sequence[Pairs | List | Call]) -> Sequence[object]:
        self.metrics.batch.observe(len(questions))
        answers: list[object] = [None] * len(questions)
        alike: dict[tuple[type, ServedModel], list[int]] = defaultdict(list)
        for row, question in enumerate(questions):
            if isinstance(question, Call):
                answers[row] = _outcome(question.function)
            else:
                alike[type(question), question.model].append(row)
        for (kind, model), rows in alike.items():
            method: Any = self._predict if kind is Pairs else self._recommend
            asked = [questions[row] for row in rows]
            found = _outcome(lambda method=method, model=model, asked=asked: method(model, asked))
            for at, row in enumerate(rows):
                answers[row] = found if isinstance(found, Exception) else found[at]
        return answers

    def _predict(self, model: ServedModel, asked: Sequence[Pairs]) -> list[Columns | Exception]:
        together = [pair for each in asked for pair in each.pairs]
        user, item = model.positions(together)
        blocks = range(0, len(user), BLOCK)
        ratings = np.concatenate([model.score(user[at : at + BLOCK], item[at : at + BLOCK]) for at in blocks]).tolist()
        fallbacks = model.fallbacks(user, item)
        answers: list[Columns | Exception] = []
        start = 0
        for each in asked:
            end = start + len(each.pairs)
            found: Columns = {"ratings": ratings[start:end], "fallbacks": fallbacks[start:end]}
            answers.append(_outcome(lambda each=each, found=found: _with_interval(model, each, found)))
            start = end
        return answers

    def _recommend(self, model: ServedModel, asked: Sequence[List]) -> list[Listed | Exception]:
        wishes = [each.wish for each in asked]
        users = {wish.user for wish in wishes if wish.user is not None}
        stored = self.store.of_users(users) if self.store and users else {}
        return model.recommend(wishes, stored)


def _with_interval(model: ServedModel, asked: Pairs, found: Columns) -> Columns:
    if asked.interval is not None:
        found["low"], found["high"] = model.intervals(asked.pairs, asked.interval)
    return found


def _outcome(function: Callable[[], Result]) -> Result | Exception:
    """What it returns, or the error, which goes to the asker alone."""
    try:
        return function()
    except Exception as error:
        return error
