"""Data parallel training over processes: `torchrun --nproc-per-node N -m aanmf train ...`.

Every rank holds the same weights and draws the same order of ratings. Of each batch it takes its own part; the
gradients of the parts add up to that of the batch, so the weights stay those of one process alone, up to rounding.
Tables with a row per user can be sharded: each rank holds a block of rows, and a batch fetches those that it needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from aanmf.contract import RatingModule, Ratings, TrainingData
from aanmf.data.attributes import Context
from aanmf.training.checkpoint import Every
from aanmf.training.meeting import Meeting, is_of_others, wait_time


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1
    meeting: Meeting | None = field(default=None, compare=False)
    """Where they have met: of those that `joined` returns."""

    @classmethod
    def current(cls) -> Ranks:
        """As torch.distributed was set up; one process alone if it was not."""
        if dist.is_available() and dist.is_initialized():
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
        if self.alone:
            return ratings
        n = len(ratings)
        return ratings.take(slice(self.rank * n // self.count, (self.rank + 1) * n // self.count))

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        if not self.alone:
            dist.all_reduce(tensor)
        return tensor

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sums the gradients over all ranks, in one message."""
        if self.alone:
            return
        parameters = list(parameters)
        for each in parameters:
            if each.grad is None:
                each.grad = torch.zeros_like(each)
        gradients = [each.grad for each in parameters if each.grad is not None]
        message = torch.cat([each.reshape(-1) for each in gradients])
        dist.all_reduce(message)
        for each, part in zip(gradients, message.split([each.numel() for each in gradients]), strict=True):
            each.copy_(part.view_as(each))

    def agree(self, answer: bool, every: Every, device: torch.device) -> bool:
        """Whether a checkpoint is due; the first rank says so where clocks, which differ, are asked."""
        if self.alone or every.seconds is None:
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


class ShardedTables:
    """The tables of a module that have a row per user, sharded: rank r holds the r-th block of rows.

    For every batch the module is called with tables that hold the batch's users only, and with positions in these.

    Args:
        module: its user tables are cut to this rank's rows, in place.
        training: what it was built from.
        ranks: all of which do the same.
        shard_rows: tables with fewer rows are left whole; None: all are.
    """

    def __init__(self, module: RatingModule, training: TrainingData, ranks: Ranks, shard_rows: int | None) -> None:
        self.module, self.ranks = module, ranks
        self.n_rows = training.n_users + 1
        self.block = -(-self.n_rows // ranks.count)
        wanted = shard_rows is not None and self.n_rows >= shard_rows and not ranks.alone
        users = {id(table) for table in module.user_tables()} if wanted else set()
        self.tables = {name: each for name, each in module.named_parameters() if id(each) in users}
        moves = wanted or training.train.context is not None
        self.sets = training.users.to(next(module.parameters()).device) if moves else training.users
        for name, table in self.tables.items():
            table.data = self.own(name, table.data)

    def __call__(self, users: Tensor, items: Tensor, context: Context | None = None) -> Tensor:
        """What the module predicts (B,), in the context of ratings, if they have one."""
        sets = None if context is None else self.sets.rows(users).in_context(context)
        if not self.tables:
            return self.module(users, items, sets)
        unique, place = torch.unique(users, return_inverse=True)
        route = Route.of(unique, self.block, self.ranks)
        fetched = {name: Fetch.apply(table, route) for name, table in self.tables.items()}
        return functional_call(self.module, fetched, (place, items, self.sets.rows(users) if sets is None else sets))

    def shared(self) -> list[nn.Parameter]:
        """Parameters that all ranks hold, whose gradients are to be summed."""
        return [each for name, each in self.module.named_parameters() if name not in self.tables]

    def own(self, name: str, tensor: Tensor) -> Tensor:
        """This rank's rows of a sharded table (or of something of its shape); anything else as it is."""
        if name not in self.tables or tensor.ndim == 0:
            return tensor
        return tensor[self.ranks.rank * self.block : (self.ranks.rank + 1) * self.block].clone()

    def whole(self, name: str, tensor: Tensor) -> Tensor:
        """The reverse of `own`: all rows, on every rank."""
        if name not in self.tables or tensor.ndim == 0:
            return tensor
        padded = tensor.new_zeros(self.block, *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        return torch.cat(self.ranks.gather(padded))[: self.n_rows]

    def join(self) -> None:
        """Makes the module whole again, on every rank."""
        for name, table in self.tables.items():
            table.data = self.whole(name, table.data)
        self.tables = {}


@dataclass(frozen=True)
class Route:
    """Which rows a rank asks of each other one, and which the others ask of it."""

    asked: Tensor
    """Rows of the own block, in the order of those who ask."""
    to_answer: list[int]
    """How many rows each rank asks of this one."""
    to_get: list[int]
    """How many rows this one asks of each rank."""

    @classmethod
    def of(cls, rows: Tensor, block: int, ranks: Ranks) -> Route:
        """For sorted rows (n,) of a table of which rank r holds rows r * block to (r + 1) * block."""
        to_get = torch.bincount(rows // block, minlength=ranks.count)
        to_answer = torch.empty_like(to_get)
        dist.all_to_all_single(to_answer, to_get)
        get, answer = to_get.tolist(), to_answer.tolist()
        asked = rows.new_empty(sum(answer))
        dist.all_to_all_single(asked, rows % block, answer, get)
        return cls(asked, answer, get)


class Fetch(torch.autograd.Function):
    """Rows of a sharded table; their gradients go back to the owners, who add them up."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, route: Route) -> Tensor:
        """This rank's block of rows -> the rows that it asked for."""
        ctx.route, ctx.shape = route, table.shape
        fetched = table.new_empty(sum(route.to_get), *table.shape[1:])
        dist.all_to_all_single(fetched, table.index_select(0, route.asked), route.to_get, route.to_answer)
        return fetched

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradient of the block."""
        route: Route = ctx.route
        answered = grad.new_empty(len(route.asked), *grad.shape[1:])
        dist.all_to_all_single(answered, grad.contiguous(), route.to_answer, route.to_get)
        return grad.new_zeros(ctx.shape).index_add_(0, route.asked, answered), None
