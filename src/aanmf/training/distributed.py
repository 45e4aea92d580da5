"""Data parallel training over processes: `torchrun --nproc-per-node N -m aanmf train ...`.

Every rank holds the same weights and draws the same order of ratings. Of each batch it takes its own part; the
gradients of the parts add up to that of the batch, so the weights stay those of one process alone, up to rounding.
Tables of users and items can be sharded: each rank holds a block of rows, and a batch fetches those that it needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from aanmf.contract import RatingModule, Ratings, TrainingData, drawing
from aanmf.data.attributes import AttributeSet, Context
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
        parameters = list(parameters)
        if self.alone or not parameters:
            return
        for each in parameters:
            if each.grad is None:
                each.grad = torch.zeros_like(each)
        gradients = [each.grad for each in parameters if each.grad is not None]
        message = torch.cat([each.reshape(-1) for each in gradients])
        dist.all_reduce(message)
        for each, part in zip(gradients, message.split([each.numel() for each in gradients]), strict=True):
            each.copy_(part.view_as(each))

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


class ShardedTables:
    """A module whose tables of users and of items are sharded: rank r holds the r-th block of rows of each.

    For every batch the module is called with tables that hold the batch's users and items only, and with positions in
    these.

    Args:
        build: makes the module; tables to be sharded are made with this rank's rows only.
        training: what it is built from.
        ranks: all of which do the same.
        shard_rows: tables with fewer rows are left whole; None: all are.
        device: where the module goes.
    """

    def __init__(
        self,
        build: Callable[[], RatingModule],
        training: TrainingData,
        ranks: Ranks,
        shard_rows: int | None,
        device: torch.device,
    ) -> None:
        self.ranks, self.least = ranks, None if ranks.alone else shard_rows
        with drawing(self._own_rows):
            self.module = build()
        names = {id(table): name for name, table in self.module.named_parameters()}
        n_users, n_items = training.n_users + 1, training.n_items + 1
        self.users = [names[id(each)] for each in self.module.user_tables() if self._sharded(n_users)]
        self.items = [names[id(each)] for each in self.module.item_tables() if self._sharded(n_items)]
        self.rows = dict.fromkeys(self.users, n_users) | dict.fromkeys(self.items, n_items)
        for name, rows in self.rows.items():
            table = self.module.get_parameter(name)
            if len(table) == rows:  # not made by `embedding`
                table.data = self.own(name, [table.data])
        self.module.to(device)
        moves = self.users or training.train.context is not None
        self.sets = training.users.to(device) if moves else training.users
        self.item_sets: AttributeSet | None = getattr(self.module, "item_sets", None)

    def __call__(self, users: Tensor, items: Tensor, context: Context | None = None) -> Tensor:
        """What the module predicts (B,), in the context of ratings, if they have one."""
        sets = None
        if self.users or context is not None:
            sets = self.sets.rows(users).in_context(context)
        if not self.rows:
            return self.module(users, items, sets)
        fetched: dict[str, Tensor] = {}
        if self.users:
            _, users = self._fetch(self.users, users, fetched)
        if self.items:
            unique, items = self._fetch(self.items, items, fetched)
            if self.item_sets is not None:
                self.module.item_sets = self.item_sets.rows(unique)
        return functional_call(self.module, fetched, (users, items, sets))

    def _fetch(self, names: list[str], asked: Tensor, fetched: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Adds the rows of the distinct ones (n,) of `asked` (B,) to `fetched`, by table.

        Returns:
            The distinct ones, in order, and the place of each asked one among them (B,).
        """
        unique, place = torch.unique(asked, return_inverse=True)
        route = Route.of(unique, self._block(self.rows[names[0]]), self.ranks)
        for name in names:
            fetched[name] = Fetch.apply(self.module.get_parameter(name), route)
        return unique, place

    def shared(self) -> list[nn.Parameter]:
        """Parameters that all ranks hold, whose gradients are to be summed."""
        return [each for name, each in self.module.named_parameters() if name not in self.rows]

    def own(self, name: str, pieces: Sequence[Tensor]) -> Tensor:
        """This rank's rows of a table (or of something of its shape), all of them if it is not sharded.

        Args:
            name: of the table.
            pieces: its rows, in order, in one tensor or in several.
        """
        if name not in self.rows or pieces[0].ndim == 0:
            return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))
        found, at, needed = [], 0, self._own_rows(self.rows[name])
        for piece in pieces:
            found.append(piece[max(needed.start - at, 0) : max(needed.stop - at, 0)])
            at += len(piece)
        return torch.cat(found)

    def join(self) -> RatingModule:
        """The module, made whole again on every rank."""
        for name, rows in self.rows.items():
            table = self.module.get_parameter(name)
            block = self._block(rows)
            own = table.new_zeros(block, *table.shape[1:])
            whole = table.new_empty(block * self.ranks.count, *table.shape[1:])
            own[: len(table)] = table.data
            dist.all_gather(list(whole.split(block)), own)
            table.data = whole[:rows]
        if self.item_sets is not None:
            self.module.item_sets = self.item_sets
        self.users, self.items, self.rows = [], [], {}
        return self.module

    def _sharded(self, rows: int) -> bool:
        return self.least is not None and rows >= self.least

    def _block(self, rows: int) -> int:
        """Rows of a rank; the last ranks can have fewer."""
        return -(-rows // self.ranks.count)

    def _own_rows(self, rows: int) -> range:
        """This rank's rows of a table of users or items."""
        block = self._block(rows) if self._sharded(rows) else rows
        rank = self.ranks.rank if self._sharded(rows) else 0
        return range(min(rank * block, rows), min((rank + 1) * block, rows))


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
