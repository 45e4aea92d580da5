"""How wrong predictions are for users who are new to a model: users of the training data are treated as new.

Held-out ratings of some users are predicted as if these users came after training: the model reads their attributes and
the first 0, 1, 2, 4, ... of their other ratings in random order, and nothing that it learned of them by id. An
interval for newcomers must rest on these errors. Those of users by id are smaller, whatever the number of ratings:
their vectors were fitted to the ratings that the model reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from aanmf.contract import Ratings
from aanmf.models.aanmfpp.module import AANMFppModule, State
from aanmf.models.aanmfpp.scores import Pairs

TOLD = (0, 1, 2, 4, 8, 16, 32)
"""Numbers of ratings that users treated as new tell."""
USERS = 2000
"""So many users are treated as new, at most."""


@torch.no_grad()
def errors_of_newcomers(module: AANMFppModule, held_out: Ratings, generator: torch.Generator) -> Tensor:
    """What `Interval.fit` learns errors from, (5, n) in scaled ratings: one column per held-out rating told.

    Args:
        module: trained without the held-out ratings.
        held_out: on the module's device.
        generator: draws users, and the order in which they tell their ratings; on the CPU.
    """
    return torch.cat(list(_errors(module, held_out, generator)), dim=1)


def _errors(module: AANMFppModule, held_out: Ratings, generator: torch.Generator) -> Iterator[Tensor]:
    history, device = module.history, held_out.user.device
    users = held_out.user.unique()
    users = users[torch.randperm(len(users), generator=generator)[:USERS].to(device)]
    entry, start = history.matrix.entries(users)
    count = history.matrix.count[users]
    order = torch.randperm(len(entry), generator=generator).to(device)
    owner = torch.repeat_interleave(torch.arange(len(users), device=device), count)
    entry = entry[order[owner[order].argsort(stable=True)]]  # user by user, each in random order
    for told in TOLD:
        enough = count >= told
        row = torch.full((history.shape[0],), -1, device=device)
        row[users[enough]] = torch.arange(int(enough.sum()), device=device)
        asked = held_out.take(row[held_out.user] >= 0)
        view = entry[start[enough][:, None] + torch.arange(told, device=device)]  # (n, told)
        state, at = _as_new(module, row[asked.user], asked, history.items_at(view), history.rating[view])
        rating, *basis = module.rating_and_basis(state, at)
        yield torch.stack([asked.rating * module.scale, rating * module.scale, *basis])


def _as_new(module: AANMFppModule, row: Tensor, asked: Ratings, rated: Tensor, ratings: Tensor) -> tuple[State, Pairs]:
    """The state with n histories (n, m) of unknown users in view; and pairs (B,): which of them, and which item."""
    state = module.state_with(module.shape[0] - 1, rated, ratings)
    features = torch.zeros(0, len(asked), device=rated.device)
    if module.ridge:
        features = module.ridge.of_new_users(row, asked.item, rated, state.explained.users.residual[0])
    context = None if asked.context is None else replace(asked.context, time=None)  # newcomers have no past
    return state, Pairs(row, asked.item, module.sets.rows(asked.user).in_context(context), features)
