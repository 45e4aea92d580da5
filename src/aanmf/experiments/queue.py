"""Making many fits, several at a time, and reporting progress: done, running, to come, time left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

from aanmf.errors import AanmfError
from aanmf.evaluation.runs import Job, Run, RunStore
from aanmf.experiments.jobs import perform


@dataclass(frozen=True)
class Progress:
    """Where a queue of fits stands.

    Attributes:
        done: fits finished, those of an earlier start among them.
        running: labels of those under way.
        to_come: fits not yet begun.
        last: the run that has just been finished, if one has.
        seconds_left: an estimate from the fits finished so far; None while there is none.
    """

    done: int
    running: tuple[str, ...]
    to_come: int
    last: Run | None
    seconds_left: float | None


OnProgress = Callable[[Progress], None]


def run_all(
    jobs: Sequence[Job], store: RunStore, workers: int = 1, on_progress: OnProgress | None = None, later: int = 0
) -> list[Run]:
    """The runs of `jobs`, in their order; those that the store has are not made again.

    Args:
        jobs: what is needed; duplicates are made once.
        store: keeps each run as soon as it is finished.
        workers: how many fits at a time; with more than one, each in a process of one thread.
        on_progress: called when a fit begins or ends.
        later: fits that will be asked for after these, for the progress alone.

    Raises:
        AanmfError: a fit failed. Finished fits are kept, also after Ctrl-C.
    """
    waiting, done = store.missing(jobs), {run.key: run for run in store.all(jobs)}

    def tell(running: Sequence[Job], last: Run | None = None) -> None:
        if on_progress:
            left = seconds_left(done.values(), [*running, *waiting], later, workers)
            labels = tuple(job.label for job in running)
            on_progress(Progress(len(done), labels, len(waiting) + later, last, left))

    def finish(run: Run, running: Sequence[Job]) -> None:
        store.put(run)
        done[run.key] = run
        tell(running, run)

    tell([])
    if workers == 1:
        while waiting:
            job = waiting.pop(0)
            tell([job])
            finish(perform(job), [])
    elif waiting:
        _run_in_processes(waiting, workers, tell, finish)
    return [done[job.key] for job in jobs]


def seconds_left(runs: Iterable[Run], jobs: Sequence[Job], more: int, workers: int) -> float | None:
    """How long these jobs and `more` of unknown kind will take, from the runs so far; None without any run.

    Fits of one model, data set and measure take equally long; a kind without a run, as long as the average one.
    """
    if not jobs and not more:
        return 0.0
    seconds: dict[tuple[str, str, str], list[float]] = {}
    for run in runs:
        seconds.setdefault(_kind(run), []).append(run.fit_seconds)
    if not seconds:
        return None
    means = {kind: fmean(times) for kind, times in seconds.items()}
    overall = fmean(means.values())
    total = sum(means.get(_kind(job), overall) for job in jobs) + more * overall
    return total / min(workers, len(jobs) + more)


def _kind(job: Job) -> tuple[str, str, str]:
    return job.model, job.source, job.measure


def _run_in_processes(
    waiting: list[Job], workers: int, tell: Callable[[list[Job]], None], finish: Callable[[Run, list[Job]], None]
) -> None:
    running: dict[Future[Run], Job] = {}
    with _pool(workers) as pool:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                running[pool.submit(perform, job)] = job
            tell(list(running.values()))
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                try:
                    finish(future.result(), list(running.values()))
                except BrokenProcessPool:
                    raise AanmfError(
                        f"the process that fitted {job.label} was killed, perhaps because memory ran out; "
                        "start again with --jobs 1: finished fits are kept"
                    ) from None


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, ended at once when something goes wrong or Ctrl-C is pressed."""
    spawn = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_one_thread)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    pool.shutdown()


def _one_thread() -> None:
    """Prepares a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _leave_with_parent() -> None:
    """Ends this process when its parent is gone: nothing would read its result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
