"""Tables of users and of items that are sharded: rank r holds the r-th block of rows of each.

A batch fetches the rows that it needs. As every rank knows the whole batch, none has to ask for them: each sends what
the others need in one message. Another one takes the gradients of these rows back, and those of all other parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.func import functional_call

from aanmf.contract import RatingModule, Ratings, TrainingData, drawing
from aanmf.data.attributes import AttributeSet
from aanmf.training.distributed import Ranks

SHORT = 100_000
"""Gradients that need not be summed on the way."""


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
        self.fetched: dict[str, tuple[Route, Tensor]] = {}  # by table, for the batch whose gradients are being computed
        for name, rows in self.rows.items():
            table = self.module.get_parameter(name)
            if len(table) == rows:  # not made by `embedding`
                table.data = self.own(name, [table.data])
        self.module.to(device)
        moves = self.users or training.train.context is not None
        self.sets = training.users.to(device) if moves else training.users
        self.item_sets: AttributeSet | None = getattr(self.module, "item_sets", None)

    def __call__(self, batch: Ratings) -> Tensor:
        """What the module predicts (b,) of this rank's part of a batch, in the context of ratings, if they have one."""
        own, sets = self.ranks.part(batch), None
        if self.users or own.context is not None:
            sets = self.sets.rows(own.user).in_context(own.context)
        if not self.rows:
            return self.module(own.user, own.item, sets)
        users, items, routes = own.user, own.item, dict[str, Route]()
        if self.users:
            route = Route.of(batch.user, self._block(self.rows[self.users[0]]), self.ranks)
            users, routes = route.place, dict.fromkeys(self.users, route)
        if self.items:
            route = Route.of(batch.item, self._block(self.rows[self.items[0]]), self.ranks)
            items, routes = route.place, routes | dict.fromkeys(self.items, route)
            if self.item_sets is not None:
                self.module.item_sets = self.item_sets.rows(route.needed)
        rows = fetch([self.module.get_parameter(name) for name in routes], list(routes.values()))
        tables = dict(zip(routes, rows, strict=True))
        if torch.is_grad_enabled():
            self.fetched = {name: (routes[name], each.requires_grad_()) for name, each in tables.items()}
        return functional_call(self.module, tables, (users, items, sets))

    def add_gradients(self) -> None:
        """After a backward pass: sums gradients over all ranks, those of sharded rows where the rows are.

        Gloo reduces nothing in less than 1.5 ms. What is short goes to all ranks, in the message that rows go in.
        """
        ranks, shared = self.ranks, [each for name, each in self.module.named_parameters() if name not in self.rows]
        if ranks.alone:
            return
        messages = [(_gradient(rows), route.to_get, route.to_give) for route, rows in self.fetched.values()]
        none = next(self.module.parameters()).new_zeros(0)
        sums = torch.cat([none, *(_gradient(each).reshape(-1) for each in shared)])
        short = len(sums) <= SHORT and sums.device.type == "cpu"
        if short:
            messages.append((sums.repeat(ranks.count), [len(sums)] * ranks.count, [len(sums)] * ranks.count))
        else:
            dist.all_reduce(sums)
        returned = exchange(messages)
        if short:
            sums = returned.pop().view(ranks.count, -1).sum(0)
        for each, part in zip(shared, sums.split([each.numel() for each in shared]), strict=True):
            each.grad = part.view_as(each)
        for (name, (route, _)), grad in zip(self.fetched.items(), returned, strict=True):
            table = self.module.get_parameter(name)
            table.grad = torch.zeros_like(table).index_add_(0, route.given, grad)

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
    """Which rows of a sharded table each rank needs for its part of a batch; rank r has the r-th block of rows."""

    needed: Tensor
    """Distinct rows that this rank needs, in order."""
    place: Tensor
    """(b,) where the row of each rating of its part is among these."""
    to_get: list[int]
    """How many of them each rank has."""
    to_give: list[int]
    """How many rows of this rank's each one needs."""
    given: Tensor
    """These rows, counted from the first one of the block, rank after rank."""

    @classmethod
    def of(cls, ids: Tensor, block: int, ranks: Ranks) -> Route:
        """For the positions (B,) of the users, or items, of a batch, in a table in blocks of so many rows."""
        bounds, first = torch.tensor(ranks.bounds(len(ids)), device=ids.device), ranks.rank * block
        needed, place = distinct(ids[bounds[ranks.rank] : bounds[ranks.rank + 1]])
        own = ((ids >= first) & (ids < first + block)).nonzero()[:, 0]
        who = torch.bucketize(own, bounds[1:], right=True)
        given, _ = distinct(who * block + ids.index_select(0, own) - first)
        to_get, to_give = (torch.bincount(each // block, minlength=ranks.count).tolist() for each in (needed, given))
        return cls(needed, place, to_get, to_give, given % block)


def distinct(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct ones (m,) of (n,), in order, and where each of the n is among them; NumPy is faster on a CPU."""
    if ids.device.type != "cpu":
        return torch.unique(ids, return_inverse=True)
    found, place = np.unique(ids.numpy(), return_inverse=True)
    return torch.from_numpy(found), torch.from_numpy(place)


@torch.no_grad()
def fetch(blocks: Sequence[Tensor], routes: Sequence[Route]) -> list[Tensor]:
    """The rows that this rank needs of each table, by its block of rows of each."""
    rows = [block.index_select(0, route.given) for block, route in zip(blocks, routes, strict=True)]
    return exchange([(each, route.to_give, route.to_get) for each, route in zip(rows, routes, strict=True)])


def exchange(messages: Sequence[tuple[Tensor, list[int], list[int]]]) -> list[Tensor]:
    """Rows of several tables to and from all ranks, in one message to each.

    Args:
        messages: of each table rows (n, ...), rank after rank; and how many go to each rank, and come from it.

    Returns:
        What came, in the same order.
    """
    if not messages:
        return []
    shapes = [rows.shape[1:] for rows, _, _ in messages]
    given = zip(*(rows.split(give) for rows, give, _ in messages), strict=True)  # by rank
    sizes = [[n * shape.numel() for n in get] for shape, (_, _, get) in zip(shapes, messages, strict=True)]
    from_ranks = [list(of_rank) for of_rank in zip(*sizes, strict=True)]
    parts = [torch.cat([part.reshape(-1) for part in of_rank]) for of_rank in given]
    message = torch.cat(parts)
    received = message.new_empty(sum(map(sum, from_ranks)))
    dist.all_to_all_single(received, message, [*map(sum, from_ranks)], [*map(len, parts)])
    pieces = received.split([n for of_rank in from_ranks for n in of_rank])
    return [torch.cat(pieces[at :: len(messages)]).view(-1, *shape) for at, shape in enumerate(shapes)]


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
