"""One thread that answers the questions of all requests, as many at once as are waiting."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from aanmf.errors import AanmfError

Question = TypeVar("Question")
Answer = TypeVar("Answer")

logger = logging.getLogger("aanmf.serving")


class OverloadedError(AanmfError):
    """More requests are waiting than the service is willing to keep waiting."""


class Batcher(Generic[Question, Answer]):
    """Collects questions and answers them together, off the event loop.

    While the thread works on one batch the next one gathers; under light load a batch is one question and nothing
    waits for company.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Sequence[Answer | Exception]],
        *,
        name: str,
        most: int = 64,
        waiting: int = 1_000,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            answer: from questions to answers, in order; an exception in place of an answer is raised to the asker.
            name: of the thread.
            most: questions in one batch.
            waiting: questions that may wait; further ones are refused.
        """
        self._answer, self._most, self._limit = answer, most, waiting
        self._queue: SimpleQueue[tuple[Question, asyncio.Future[Answer]] | None] = SimpleQueue()
        self._waiting = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Starts the thread; call it from the event loop that asks."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Answers what is waiting, then ends the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def ask(self, question: Question) -> Answer:
        """The answer to one question.

        Raises:
            OverloadedError: too many are waiting.
        """
        if self._waiting >= self._limit:
            raise OverloadedError(f"{self._limit} requests are waiting already; try again in a second")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting += 1
        self._queue.put((question, future))
        return await future

    def _run(self) -> None:
        going_on = True
        while going_on:
            batch, going_on = self._next()
            if batch:
                answers = self._answers([question for question, _ in batch])
                assert self._loop is not None
                self._loop.call_soon_threadsafe(self._deliver, [future for _, future in batch], answers)

    def _next(self) -> tuple[list[tuple[Question, asyncio.Future[Answer]]], bool]:
        """Waits for one question and takes what else is there; False after the last one."""
        batch: list[tuple[Question, asyncio.Future[Answer]]] = []
        one = self._queue.get()
        try:
            while one is not None:
                batch.append(one)
                if len(batch) == self._most:
                    return batch, True
                one = self._queue.get_nowait()
        except Empty:
            return batch, True
        return batch, False

    def _answers(self, questions: list[Question]) -> Sequence[Answer | Exception]:
        try:
            return self._answer(questions)
        except Exception as error:  # the thread must outlive a fault in one batch
            if not isinstance(error, AanmfError):
                logger.exception("a batch failed")
            return [error] * len(questions)

    def _deliver(self, futures: list[asyncio.Future[Answer]], answers: Sequence[Answer | Exception]) -> None:
        self._waiting -= len(futures)
        for future, answer in zip(futures, answers, strict=True):
            if future.done():  # the client has gone
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
