"""Questions of many requests, answered together in a thread of their own, off the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

from aanmf.errors import AanmfError
from aanmf.serving.limits import Limits
from aanmf.serving.metrics import Metrics
from aanmf.serving.store import RatingStore

MOST = 64
"""Questions that are answered together."""

Question = TypeVar("Question")
Answer = TypeVar("Answer")
logger = logging.getLogger("aanmf.serving")


@dataclass(frozen=True)
class Waiting:
    """A question and where its answer goes."""

    answer: Callable[[list[Any]], Sequence[Any]]
    question: Any
    future: asyncio.Future[Any]


class Dispatcher:
    """A thread that answers questions. While it works on one batch the next one gathers; nothing waits for company."""

    def __init__(self, name: str, observe: Callable[[int], None] | None = None) -> None:
        """Nothing runs before `start`. How many may ask is bounded by `Admission`.

        Args:
            name: of the thread.
            observe: told the size of every batch.
        """
        self._observe = observe
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread; called from the event loop that asks."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Answers what is waiting, then ends the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def ask(self, answer: Callable[[list[Question]], Sequence[Answer | Exception]], question: Question) -> Answer:
        """The answer to one question.

        Args:
            answer: from questions to answers, in order; an exception among them is raised to its asker. Questions that
                wait for the same function are answered together.
            question: one of them.
        """
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._queue.put(Waiting(answer, question, future))
        return await future

    async def call(self, function: Callable[[], Answer]) -> Answer:
        """What a function returns that is run in the thread."""
        return await self.ask(_call_all, function)

    def _run(self) -> None:
        running = True
        while running:
            batch = [self._queue.get()]
            while len(batch) < MOST and not self._queue.empty():
                batch.append(self._queue.get())
            running = None not in batch
            self._answer([each for each in batch if each is not None])

    def _answer(self, batch: list[Waiting]) -> None:
        """Answers a batch, one function after the other; the thread outlives whatever they raise."""
        if self._observe:
            self._observe(len(batch))
        together: dict[Callable[[list[Any]], Sequence[Any]], list[Waiting]] = defaultdict(list)
        for each in batch:
            together[each.answer].append(each)
        outcomes: list[tuple[asyncio.Future[Any], Any]] = []
        for answer, asked in together.items():
            try:
                answers = answer([each.question for each in asked])
            except Exception as error:
                if not isinstance(error, AanmfError):
                    logger.exception("a batch failed")
                answers = [error] * len(asked)
            outcomes += zip((each.future for each in asked), answers, strict=True)
        self._loop.call_soon_threadsafe(self._deliver, outcomes)

    def _deliver(self, outcomes: list[tuple[asyncio.Future[Any], Any]]) -> None:
        """In the event loop: hands the answers over."""
        for future, answer in outcomes:
            if future.done():  # the client has gone
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def _call_all(functions: list[Callable[[], Any]]) -> list[Any]:
    outcomes: list[Any] = []
    for function in functions:
        try:
            outcomes.append(function())
        except Exception as error:
            outcomes.append(error)
    return outcomes


class Backend:
    """What the routes of all models share: limits, metrics, the store of new ratings, and the two threads.

    Attributes:
        models: the thread that uses models.
        writes: the thread that stores ratings.
    """

    def __init__(self, store: RatingStore | None, limits: Limits) -> None:
        self.store, self.limits, self.metrics = store, limits, Metrics()
        self.models = Dispatcher("aanmf-model", self.metrics.batch.observe)
        self.writes = Dispatcher("aanmf-store")

    def start(self) -> None:
        """Starts both threads, from the event loop."""
        self.models.start()
        self.writes.start()

    async def stop(self) -> None:
        """Answers what is waiting, then ends both threads and closes the store."""
        await asyncio.gather(self.models.stop(), self.writes.stop())
        if self.store is not None:
            self.store.close()
