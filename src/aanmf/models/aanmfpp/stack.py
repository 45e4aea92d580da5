"""The weights of the scores of choice, learned on ratings and users that the scores have not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aanmf.contract import TrainingData
from aanmf.models.aanmfpp.choice import FEW, WEIGHTS, ChoiceHead
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.histories import Histories
from aanmf.training.distributed import ALONE, Ranks

Rates = Callable[[Tensor], Tensor]
"""Predicted ratings (b, I) of users (b,)."""
CANDIDATES, TOP = 500, 100
"""Weights are learned among so many items of a user, then again among those that come first by the weights found."""
LIKED, NEW = 10_000, 300
"""Held-out ratings above the mean, and users held out whole, that weights are learned from; at most."""
LIST = 10
"""No user counts for more than this many ratings: so many items are listed."""
DAMPING = 3.0
"""So many held-out ratings count as much as the weights before learning."""


@dataclass(frozen=True)
class Candidates:
    """The items that come first for b users.

    Attributes:
        features: (b, C, F) log scores.
        count: (b,) ratings of the user in view.
        listed: (b, C) whether the item can be listed: it has ratings, and is not one that the user has rated in view.
        wanted: (b, C) whether the user rated it, and above the mean.
    """

    features: Tensor
    count: Tensor
    listed: Tensor
    wanted: Tensor

    def take(self, columns: Tensor) -> Candidates:
        """Some candidates (b, c) of every user."""
        features = self.features.gather(1, columns[..., None].expand(-1, -1, self.features.shape[2]))
        return Candidates(features, self.count, self.listed.gather(1, columns), self.wanted.gather(1, columns))


def learn_weights(
    config: AANMFppConfig, training: TrainingData, cuts: Iterable[tuple[Tensor, Rates | None]], ranks: Ranks = ALONE
) -> Tensor:
    """omega (2, F) of `ChoiceHead`.

    Args:
        cuts: rows of training ratings to hold out, each with predictions of a model that has not seen them.
        ranks: all of which do the same, and divide the regressions of the scores.
    """
    generator = torch.Generator().manual_seed(config.seed)
    found = [part for rows, rates in cuts for part in held_out(config, training, rows, rates, generator, ranks)]
    return maximise(found)


@torch.no_grad()
def held_out(
    config: AANMFppConfig,
    training: TrainingData,
    rows: Tensor,
    rates: Rates | None,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
) -> Iterator[Candidates]:
    """What users with a history chose among the held-out rows, and what users did who were held out whole."""
    train, n_users = training.train, training.n_users + 1
    liked = train.rating > train.mean if training.scale[1] > training.scale[0] else torch.ones_like(train.user) > 0
    held = torch.zeros(len(train), dtype=torch.bool).index_fill_(0, rows, True)
    users = shuffled(train.user[~held].unique(), generator)
    new = users[: min(NEW, len(users) // 10)]
    of_new = torch.isin(train.user, new)
    head = ChoiceHead(config, training.with_train(train.take(~held & ~of_new))).fit(ranks)

    targets = held & liked & (head.ratings.count[train.user] > 0)
    counts = torch.bincount(train.user[targets], minlength=n_users)
    known = shuffled(counts.nonzero()[:, 0], generator)
    known = known[: int((counts[known].cumsum(0) <= LIKED).sum())]
    wanted = cells(known, train.user[targets], train.item[targets], head)
    yield from candidates(head, known, head.histories(known), wanted, rates)

    own = shuffled(of_new.nonzero()[:, 0], generator)
    own = own[train.user[own].argsort(stable=True)]  # the ratings of new users, user by user in random order
    new, n = train.user[own].unique_consecutive(return_counts=True)
    rank = torch.arange(len(own)) - torch.repeat_interleave(n.cumsum(0) - n, n)
    few = torch.minimum(1 + torch.randint(int(2 * FEW) - 1, n.shape, generator=generator), n // 2)
    for shown in (torch.zeros_like(few), few):
        view = rank < torch.repeat_interleave(shown, n)
        weight = head.weigh(train.rating[own[view]])
        target = own[~view][liked[own[~view]]]
        wanted = cells(new, train.user[target], train.item[target], head)
        yield from candidates(head, new, Histories.counted(train.item[own[view]], weight, shown), wanted, None)


def shuffled(values: Tensor, generator: torch.Generator) -> Tensor:
    """In random order."""
    return values[torch.randperm(len(values), generator=generator)]


def cells(users: Tensor, user: Tensor, item: Tensor, head: ChoiceHead) -> Tensor:
    """(b, I) True at some pairs; pairs of other users are left out."""
    row = torch.full((len(head.users),), -1).index_put_((users,), torch.arange(len(users)))[user]
    result = torch.zeros(len(users), head.n_items, dtype=torch.bool)
    result[row[row >= 0], item[row >= 0]] = True
    return result


def candidates(
    head: ChoiceHead, users: Tensor, h: Histories, wanted: Tensor, rates: Rates | None
) -> Iterator[Candidates]:
    """The first items of users by the weights before learning, in blocks of users."""
    for rows in torch.arange(len(users)).split(max(1, 1_000_000 // head.n_items)):
        if not len(rows):
            return
        some = h.rows(rows)
        read, rating = head.read(some, head.users[users[rows]]), rates(users[rows]) if rates else None
        features = torch.stack(list(head.features(read, slice(0, head.n_items), rating)), dim=-1)  # (b, I, F)
        scores = torch.einsum("bif,bf->bi", features, read.weight)
        scores.masked_fill_((some.dense(head.n_items) > 0) | (head.count == 0), -torch.inf)
        top = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1)
        yield Candidates(features, some.count, scores > -torch.inf, wanted[rows]).take(top.indices)


def maximise(found: Sequence[Candidates]) -> Tensor:
    """omega (2, F) by the likelihood of the wanted items among the candidates, then among the first of these."""
    start = torch.tensor(list(WEIGHTS.values())).T.contiguous()
    rows = [part.wanted.any(1) for part in found]
    if not any(row.any() for row in rows):
        return start
    features, count, listed, wanted = (
        torch.cat([getattr(part, name)[row] for part, row in zip(found, rows, strict=True)])
        for name in ("features", "count", "listed", "wanted")
    )
    scale = features[listed].std(0).clamp(min=1e-3)  # damping is the same for scores that vary much and little
    everything = Candidates(features / scale, count, listed, wanted)
    omega = _maximum(everything, start * scale, start * scale)
    first = _scores(everything, omega).topk(min(TOP, features.shape[1]), dim=1).indices
    return _maximum(everything.take(first), start * scale, omega) / scale


def _scores(at: Candidates, omega: Tensor) -> Tensor:
    """(b, C), far below all others where an item cannot be listed."""
    new = (FEW / (FEW + at.count))[:, None]
    scores = new * (at.features @ omega[0]) + (1 - new) * (at.features @ omega[1])
    return scores.masked_fill(~at.listed, -1e9)


def _maximum(at: Candidates, start: Tensor, omega: Tensor) -> Tensor:
    """Maximises the likelihood from `omega`; the damping draws to `start`, and what is 0 there stays 0."""
    wanted = at.wanted.float()
    wanted = wanted * (LIST / wanted.sum(1, keepdim=True).clamp(min=LIST))
    leaf = omega.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([leaf], max_iter=40, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_likelihood = (_scores(at, leaf * (start != 0)).log_softmax(1) * wanted).sum()
        value = (DAMPING * (leaf - start).square().sum() - log_likelihood) / wanted.sum().clamp(min=1)
        value.backward()
        return value

    optimizer.step(loss)
    return leaf.detach() * (start != 0)
