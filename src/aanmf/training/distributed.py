"""Data parallel training over processes: `torchrun --nproc-per-node N -m aanmf train ...`.

Every rank holds the same weights and draws the same order of ratings. Of each batch it takes its own part; the
gradients of the parts add up to that of the batch, so the weights stay those of one process alone, up to rounding.
Tables of users and items can be sharded (`sharded_tables.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from aanmf.contract import Ratings
from aanmf.training.meeting import Meeting, is_of_others, wait_time

T = TypeVar("T")
_APART: ContextVar[bool] = ContextVar("apart", default=False)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1
    meeting: Meeting | None = field(default=None, compare=False)
    """Where they have met: of those that `joined` returns."""

    @classmethod
    def current(cls) -> Ranks:
        """As torch.distributed was set up; one process alone if it was not, and inside `apart`."""
        if dist.is_available() and dist.is_initialized() and not _APART.get():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def first(self) -> bool:
        """Whether it is this one that writes and reports."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.count == 1

    def part(self, ratings: Ratings) -> Ratings:
        """This rank's part of a batch; the parts differ in length by one at most and can be empty."""
        return ratings if self.alone else ratings.take(slice(*self.bounds(len(ratings))[self.rank : self.rank + 2]))

    def bounds(self, n: int) -> list[int]:
        """Where in a batch of n the parts begin, and the last one ends."""
        return [rank * n // self.count for rank in range(self.count + 1)]

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if not self.alone:
            dist.all_reduce(tensor)
        return tensor

    def agree(self, answer: bool, by_clock: bool, device: torch.device) -> bool:
        """Whether a checkpoint is due; the first rank says so where clocks, which differ, are asked."""
        if self.alone or not by_clock:
            return answer
        said = torch.tensor([int(answer)], device=device)
        dist.broadcast(said, src=0)
        return bool(said)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all ranks, which have equal shapes, on every rank."""
        if self.alone:
            return [tensor]
        gathered = [torch.empty_like(tensor) for _ in range(self.count)]
        dist.all_gather(gathered, tensor.contiguous())
        return gathered

    def share(self, tensors: Mapping[str, Tensor], owner: int, device: torch.device) -> dict[str, Tensor]:
        """What one rank has, on every rank; the tensors of the others, of the same shapes, may be overwritten."""
        if self.alone:
            return dict(tensors)
        found = {}
        for name, each in tensors.items():
            message = each.to(device).contiguous()
            dist.broadcast(message, src=owner)
            found[name] = message.to(each.device)
        return found

    def gather_values(self, value: T) -> list[T]:
        """What each rank says, on every rank."""
        if self.alone:
            return [value]
        said: list[Any] = [None] * self.count
        dist.all_gather_object(said, value)
        return said

    def wait(self) -> None:
        """Until all are here."""
        if not self.alone:
            dist.barrier()

    def wait_for_first(self) -> None:
        """Until the first one is here, which may take it hours; it need not wait for the others."""
        if self.meeting is None:
            self.wait()
        elif self.first:
            self.meeting.first_is_done()
        else:
            self.meeting.wait_for_first()


ALONE = Ranks()
"""One process that works without others."""


@contextmanager
def joined() -> Iterator[Ranks]:
    """Joins the processes that `torchrun` started (NCCL where there is a GPU, else Gloo); leaves them at the end.

    Raises:
        RankError: a process did not come, has ended, or does not answer.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield Ranks.current()
        return
    backend, device = "gloo", None
    if torch.cuda.is_available():
        backend, device = "nccl", torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    meeting, patience = Meeting(), wait_time()
    rank, count = meeting.rank, meeting.count
    try:
        meeting.come()
        dist.init_process_group(
            backend, store=meeting.store, rank=rank, world_size=count, timeout=patience, device_id=device
        )
        yield replace(Ranks.current(), meeting=meeting)
    except RuntimeError as error:
        if is_of_others(error):
            raise meeting.lost(error) from error
        meeting.leave(f"{type(error).__name__}: {error}")
        raise
    except BaseException as error:
        meeting.leave(f"{type(error).__name__}: {error}")
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def apart() -> Iterator[None]:
    """Meanwhile this process works without the others: a fit is its own, and waits for none of them."""
    token = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(token)
