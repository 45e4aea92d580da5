"""Where the processes of a training meet: which have come, which have left and why, and which do not answer."""

from __future__ import annotations

import math
import os
import time
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore  # torch.distributed has them, untyped

from aanmf.errors import ConfigError, RankError

GRACE = 5.0
"""Seconds that a process has to say why it leaves, once another one has noticed that it does not answer."""
PREPARING = timedelta(days=1)
"""How long the first process may prepare the ratings for all."""
RESUME = "Remove the cause and give the command again; with --resume it continues from the last checkpoint"
_DONE = "the first is done"


class Meeting:
    """Notes that the processes leave for each other, in a store that one of them, or `torchrun`, holds.

    Raises:
        ConfigError: the environment does not say where to meet.
        RankError: nobody is there.
    """

    def __init__(self) -> None:
        self.rank, self.count = _number("RANK"), _number("WORLD_SIZE")
        if self.rank >= self.count:
            raise ConfigError(f"RANK is {self.rank}, and WORLD_SIZE is {self.count}: ranks are 0 to {self.count - 1}")
        self.store = self._opened()

    def come(self) -> None:
        """Waits until all processes have come.

        Raises:
            RankError: naming those that have not, after `AANMF_JOIN_MINUTES`.
        """
        self.store.set(f"come {self.rank}", "")
        end = time.monotonic() + join_time().total_seconds()
        while missing := [rank for rank in range(self.count) if not self.store.check([f"come {rank}"])]:
            if time.monotonic() > end:
                raise RankError(
                    f"{_ranks(missing)} of {self.count} did not come within {_said(join_time())}. Start all of them "
                    "with the same WORLD_SIZE, MASTER_ADDR and MASTER_PORT, each with its own RANK, and see what the "
                    "missing ones say. AANMF_JOIN_MINUTES sets another time"
                )
            time.sleep(0.1)

    def leave(self, reason: str) -> None:
        """Says why this process ends early; nobody may be there to read it."""
        try:
            self.store.set(f"left {self.rank}", reason)
        except RuntimeError:
            return

    def first_is_done(self) -> None:
        """Tells the others that they can go on."""
        self.store.set(_DONE, "")

    def wait_for_first(self) -> None:
        """Waits until the first process says that it is done.

        Raises:
            RankError: it has failed, or needs more than a day.
        """
        end = time.monotonic() + PREPARING.total_seconds()
        while not self.store.check([_DONE]):
            if self.store.check(["left 0"]):
                raise RankError(f"rank 0 has stopped: {self._reason(0)}. {RESUME}")
            if time.monotonic() > end:
                raise RankError(f"rank 0 has not prepared the ratings within {_said(PREPARING)}. {RESUME}")
            time.sleep(0.1)

    def lost(self, error: Exception) -> RankError:
        """What has become of the others, when a message to them has failed: for one of them to be told."""
        self.leave("")
        silent, end = self._others(), time.monotonic() + GRACE
        try:
            while silent and time.monotonic() < end:
                silent = [rank for rank in silent if not self.store.check([f"left {rank}"])]
                time.sleep(0.1)
            reasons = {rank: self._reason(rank) for rank in self._others() if rank not in silent}
        except RuntimeError:  # the process that holds the store is gone
            return RankError(f"rank 0 has ended: see its messages. {RESUME}")
        told = [f"rank {rank} has stopped: {reason}" for rank, reason in reasons.items() if reason]
        if silent:
            told.append(
                f"{_ranks(silent)} of {self.count} {'does' if len(silent) == 1 else 'do'} not answer: it was killed, "
                "for instance for lack of memory, it hangs, or its host is out of reach"
            )
        return RankError(f"{'; '.join(told) or str(error).strip().splitlines()[0]}. {RESUME}")

    def _others(self) -> list[int]:
        return [rank for rank in range(self.count) if rank != self.rank]

    def _reason(self, rank: int) -> str:
        return self.store.get(f"left {rank}").decode()

    def _opened(self) -> Store:
        """The store of `torchrun`; without it, the first process holds one."""
        held = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        host, port = os.environ.get("MASTER_ADDR", "localhost"), _number("MASTER_PORT")
        try:
            store = TCPStore(
                host,
                port,
                is_master=not held and self.rank == 0,
                timeout=join_time(),
                wait_for_workers=False,
                multi_tenant=not held,
            )
        except RuntimeError as error:
            if self.rank == 0 and not held:
                raise
            raise RankError(
                f"rank 0 of {self.count} did not come: nobody answers at {host}:{port}. Start it, and see whether "
                f"MASTER_ADDR and MASTER_PORT are right and the port is open ({type(error).__name__})"
            ) from None
        if os.environ.get("GROUP_WORLD_SIZE") == "1":
            # torchrun keeps its store over restarts, and with it the addresses of processes that are gone. On one host
            # the number of restarts tells old from new; with several see docs/distributed.md.
            return PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        return store


def is_of_others(error: RuntimeError) -> bool:
    """Whether it says that another process does not answer."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def join_time() -> timedelta:
    """How long a process waits for the others to come: `AANMF_JOIN_MINUTES`, else 5 minutes."""
    return _minutes("AANMF_JOIN_MINUTES", 5)


def wait_time() -> timedelta:
    """How long a process waits for the others in training, for instance while the first one writes a checkpoint, or
    while others train members that take longer: `AANMF_WAIT_MINUTES`, else 2 hours.
    """
    return _minutes("AANMF_WAIT_MINUTES", 120)


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, and {name} is {text!r}: start the processes with torchrun, "
            "which sets both"
        )
    return int(text)


def _minutes(name: str, default: float) -> timedelta:
    text = os.environ.get(name, str(default))
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found <= 60 * 24 * 365:
        raise ConfigError(f"{name}={text!r}: give a number of minutes above 0, such as {default:g}")
    return timedelta(minutes=found)


def _ranks(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _said(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:g} minutes"
