"""What users choose: closed-form scores of histories and attributes, combined with the predicted rating.

A user has rated n items: h is 1 for these items, else 0; w is a number from .1 to 1 that grows with the rating, else 0.

    choice   h B,    B = -P / diag P off the diagonal, P = (G + diag G + lambda)^-1, G = X' D^-1/2 X, D = diag n   EDLAE
    taste    w C,    the same of P = (K + .1)^-1, K_ij = exp(3 cos(i, j) - 3) of the columns of w of two items
    alike    k(w) A, A = (K'K + .3 K_LL)^-1 K' W, K_uv = exp(4 cos - 4) - exp(-4) of the w of users u and L landmarks
    group    ridge regression of all users' w on the attributes of users
    content  ridge regression of all items' w on the attributes of items, with the item itself left out
    popular  sum of an item's w over all users
    like     P(rating above the mean), from the predicted rating

    match_ui = sum_k omega_k(n) log(score_k + (group + mean score) / 20),   omega(n) = (5 new + n known) / (5 + n)

`new` and `known` are learned on held-out ratings and users (`stack.py`); then all scores are fitted to all ratings.
match is a log probability, normalised over the items with ratings. An item without any is scored by its content; how
often such items are chosen is the Good-Turing estimate, the share of ratings whose item has no other.

EDLAE: Steck, "Autoencoders that don't overfit towards the identity", NeurIPS 2020. Landmarks: the Nystroem method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.contract import TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.data.scratch import picked, places_in_order
from aanmf.models.aanmfpp.attribute_matrix import attribute_matrix
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.ridge import in_blocks
from aanmf.models.histories import Histories, choice_weights
from aanmf.models.kernels import CACHE, columns_of, gram
from aanmf.models.solve import cholesky, ridge_inverse, without_self
from aanmf.models.sparse import SparseMatrix
from aanmf.training.distributed import ALONE, Ranks

WEIGHTS = {
    "choice": (0.2, 0.9),
    "taste": (0.1, 0.6),
    "alike": (0.3, 0.4),
    "group": (0.8, 0.0),
    "content": (0.4, 0.0),
    "popular": (0.0, -0.4),
    "like": (0.0, 0.8),
}
"""omega of a new and of a known user before anything is learned; those that are 0 stay 0."""
FEW = 5.0
"""With so many ratings a user is halfway between a new and a known one."""
FLOOR = 0.05
"""Share of the group's score that is added to all scores: where a history is silent, the group decides."""
CHOICE, GROUP, CONTENT = 3.0, 100.0, 50.0
"""Penalties of the regressions: lambda by the square root of the number of users, of users' and items' attributes."""
LEAST = 1e-9
"""Content score of an item that nothing is known of."""
SPARSE = 400
"""A product of two entries of a sparse matrix takes so many times as long as one of a dense matrix."""
TABLE = 128_000_000
"""Numbers of A; where landmarks and items are more, A is that of the most rated items, and 0 for the others."""
FITTED = 10
"""A is fitted to so many times as many users as there are landmarks."""
BLOCK = 4_000_000
"""Numbers, or ratings, in memory at a time where users are taken in blocks."""


@dataclass(frozen=True)
class Readers:
    """What b users bring to their scores, whatever the item.

    Attributes:
        attributes: (b, A) as `ChoiceHead.attributes` gives them.
        weight: (b, F) omega.
        choice, taste: (b, C) h B and w C, of the items that have a place.
        near: (b, L) k(w).
        content: (b, G) the attributes of the items that they rated, times w.
    """

    attributes: Tensor
    weight: Tensor
    choice: Tensor
    taste: Tensor
    near: Tensor
    content: Tensor


class ChoiceHead(nn.Module):
    """The scores and weights at the top of this file.

    Args:
        config: settings.
        training: users, items, and the ratings that the scores are fitted to.
        places: of these ratings, where they lie in a matrix already, which has one column more.
    """

    near: Tensor
    place: Tensor
    common: Tensor
    count: Tensor
    popular: Tensor
    active: Tensor
    users: Tensor
    items: Tensor
    choice: Tensor
    taste: Tensor
    alike: Tensor
    group: Tensor
    content: Tensor
    omega: Tensor

    def __init__(self, config: AANMFppConfig, training: TrainingData, places: SparseMatrix | None = None) -> None:
        super().__init__()
        train, self.n_items, self.scale = training.train, training.n_items, training.scale
        self.config = config
        self.middle, self.width = train.mean, max(1e-3, 0.5 * train.std)
        shape = (training.n_users + 1, training.n_items)
        weight = train.scratch.filled(train.rating, lambda block: self.weigh(train.rating[block]))
        if places is None:
            self.ratings = SparseMatrix(train.user, train.item, weight, shape, train.scratch)
        else:
            order = places_in_order(train.user, places.count, train.scratch)
            self.ratings = places.with_values(picked(weight, order, train.scratch), self.n_items)
        count = torch.bincount(train.item, minlength=self.n_items)
        frequent = int((count >= config.match_ratings).sum())
        near = count.topk(min(config.match_items, frequent)).indices.sort().values
        place = torch.full((self.n_items,), -1).index_put_((near,), torch.arange(len(near)))
        active = self.ratings.count.nonzero()[:, 0]
        active = active[torch.randperm(len(active), generator=torch.Generator().manual_seed(config.seed))]
        landmarks = active[: config.match_landmarks]
        users, items = self.attributes(training.users), attribute_matrix(training.items)[: self.n_items]
        items = items[:, : items.shape[1] * config.item_attributes]
        columns = min(self.n_items, max(1, TABLE // max(1, len(landmarks))))
        common = count.topk(columns).indices.sort().values
        built = {"near": near, "place": place, "common": common, "count": count, "active": active, "users": users}
        items = items - items[count > 0].mean(0)
        built["items"] = torch.cat([items, torch.ones(self.n_items, 1)], dim=1)
        tables = {"choice": (len(near),) * 2, "taste": (len(near),) * 2, "alike": (len(landmarks), columns)}
        # from NumPy, whose zeros take no memory before they are written
        learned = {name: torch.from_numpy(np.zeros(size, np.float16)) for name, size in tables.items()}
        learned |= {
            "group": torch.zeros(users.shape[1] + 1, self.n_items),
            "content": torch.zeros(built["items"].shape),
        }
        learned["omega"] = torch.tensor(list(WEIGHTS.values())).T.contiguous()
        for name, part in (built | learned).items():
            self.register_buffer(name, part, persistent=name in learned)
        popular = self.ratings.product_t(torch.ones(len(users), 1))[:, 0] / max(1, len(active))
        self.register_buffer("popular", popular, persistent=False)
        h = self.histories(landmarks)
        self.landmarks = SparseMatrix(h.row, h.item, self.direction(h), (len(landmarks), self.n_items))

    def weigh(self, rating: Tensor) -> Tensor:
        """w of ratings: .1 up to a quarter of the scale and a little more, then growing to 1; 1 if all are equal."""
        return choice_weights(rating, "liked", self.scale)

    def attributes(self, sets: AttributeSet) -> Tensor:
        """(n, A) attributes of users, as `forward` takes them."""
        matrix = attribute_matrix(sets)
        return matrix[:, : matrix.shape[1] * self.config.user_attributes]

    def histories(self, users: Tensor) -> Histories:
        """The ratings of some users that the scores were fitted to."""
        entry, _ = self.ratings.entries(users)
        return Histories.counted(self.ratings.col[entry].long(), self.ratings.value[entry], self.ratings.count[users])

    def history(self, items: Tensor, ratings: Tensor) -> Histories:
        """The history of one user who gave these ratings."""
        return Histories(items, self.weigh(ratings), torch.tensor([0, len(items)], device=items.device))

    # ------------------------------------------------------------ fitting

    @torch.no_grad()
    def fit(self, ranks: Ranks = ALONE) -> Self:
        """Solves all regressions; each of the large ones is solved by one of the ranks, and all get it."""
        large = (self.choice, self._fit_choice), (self.taste, self._fit_taste), (self.alike, self._fit_alike)
        for at, (table, solve) in enumerate(large):
            if at % ranks.count == ranks.rank:
                table.copy_(solve())
        for at, (table, _) in enumerate(large):
            table.copy_(ranks.share({"table": table}, at % ranks.count, table.device)["table"])
        a, popular = self.users[self.active], self.popular
        slope = ridge_inverse(a - a.mean(0), GROUP) @ self.ratings.product_t(self.users - a.mean(0)).T  # (A, I)
        self.group.copy_(torch.cat([(popular - a.mean(0) @ slope)[None], slope]))
        rated, g = self.count > 0, self.items[:, :-1]
        content = torch.cat([g @ ridge_inverse(g[rated], CONTENT), self.items[:, -1:] / rated.sum()], dim=1)
        own = (content * self.items).sum(1) * rated  # share of an item in its own fitted value
        self.content.copy_(content / (1 - own).clamp(min=0.01)[:, None])
        return self

    def _blocks(self, users: Tensor) -> Iterator[Histories]:
        for part in users.split(max(1, BLOCK // self.n_items)):
            yield self.histories(part)

    def _products(self, values: Callable[[Histories], Tensor]) -> Tensor:
        """X'X of some values of the ratings, X (n, I) of all users and the items that have a place."""
        size, count = len(self.near), self.ratings.count[self.active].double()
        total = self.choice.new_zeros(size, size, dtype=torch.float32)
        if SPARSE * float(count.square().sum()) < len(count) * size**2:
            for users in in_blocks(self.active, self.ratings.count[self.active], BLOCK):
                h = self.histories(users)
                replace(h, weight=values(h)).among(self.place).add_products(total)
            return total
        return gram((h.dense(self.n_items, values(h))[:, self.near] for h in self._blocks(self.active)), total)

    def _fit_choice(self) -> Tensor:
        products = self._products(lambda h: h.count[h.row] ** -0.25)
        diagonal = products.diagonal()
        strength = CHOICE * len(self.active) ** 0.5 * diagonal.sum() / self.count[self.near].sum()
        diagonal.mul_(2).add_(strength)
        return without_self(products)

    def _fit_taste(self) -> Tensor:
        products = self._products(lambda h: h.weight * h.count[h.row] ** -0.15)
        scale = products.diagonal().rsqrt()
        kernel = products.mul_(scale).mul_(scale[:, None]).sub_(1).mul_(3).exp_()
        kernel.diagonal().add_(0.1)
        return without_self(kernel)

    def _fit_alike(self) -> Tensor:
        """A by features k(w) R of unit covariance under the kernel, R R' = K_LL^-1: these keep the equations stable."""
        size = len(self.alike)
        kernel = torch.cat([self.near_users(h) for h in self._blocks(self.active[:size])])
        kernel.diagonal().add_(1e-3)
        root = cholesky(kernel)
        products, target = 0.3 * torch.eye(size, device=root.device), root.new_zeros(self.alike.shape)
        for h in self._blocks(self.active[: FITTED * size]):
            z = torch.linalg.solve_triangular(root, self.near_users(h).T, upper=False)  # (L, b)
            products.addmm_(z, z.T)
            target.addmm_(z, h.dense(self.n_items, h.weight)[:, self.common])
        solution = torch.cholesky_solve(target, cholesky(products))
        return torch.linalg.solve_triangular(root.T, solution, upper=True)

    def direction(self, h: Histories) -> Tensor:
        """(n,) w, less for items that many have rated, with norm 1 per user."""
        v = h.weight * self.count[h.item] ** -0.2
        norm = v.new_zeros(len(h.count)).index_add_(0, h.row, v.square())
        return v * norm[h.row].rsqrt()

    def near_users(self, h: Histories) -> Tensor:
        """k(w) (b, L)."""
        cos = self.landmarks.product(h.dense(self.n_items, self.direction(h)).T.contiguous()).T
        return cos.sub(1).mul_(4).exp_().sub_(math.exp(-4))

    # ------------------------------------------------------------ scoring

    def weights(self, count: Tensor) -> Tensor:
        """omega(n) (b, F) of users with n ratings."""
        new = (FEW / (FEW + count))[:, None]
        return new * self.omega[0] + (1 - new) * self.omega[1]

    def read(self, h: Histories, attributes: Tensor) -> Readers:
        """What users with these histories and attributes bring. Arguments as those of `forward`."""
        inner = h.among(self.place)
        tables = inner.times(self.choice, torch.ones_like(inner.weight)), inner.times(self.taste)
        return Readers(attributes, self.weights(h.count), *tables, self.near_users(h), h.times(self.items))

    def features(self, users: Readers, items: slice, rating: Tensor | None) -> Iterator[Tensor]:
        """Log scores (b, m) of the items from one position to another, in the order of `WEIGHTS`.

        `rating` (b, m): predicted ratings of these; None: without.
        """
        popular, mean = self.popular[items], self.popular.mean()
        group = (self.group[0, items] + users.attributes @ self.group[1:, items]).clamp_(min=0)
        floor = FLOOR * (group + mean)
        columns, place = _columns(self.near, items)
        for scores in (users.choice, users.taste):
            yield floor.index_add(1, place, scores[:, columns].clamp(min=0)).log_()
        columns, place = _columns(self.common, items)
        scores = _times(users.near, self.alike[:, columns]).clamp_(min=0)
        yield (scores.add_(floor) if len(place) == len(popular) else floor.index_add(1, place, scores)).log_()
        yield (group + FLOOR * mean).log_()
        yield self._content(users, self.content[items]).add_(FLOOR * mean).log_()
        yield (popular + FLOOR * mean).log_().expand_as(floor)
        yield torch.zeros_like(floor) if rating is None else F.logsigmoid((rating - self.middle) / self.width)

    def _content(self, users: Readers, of_items: Tensor) -> Tensor:
        """(b, m) what users' ratings say of items by their attributes, the items' rows of `content` (m, G)."""
        return (users.content @ of_items.T).clamp_(min=0)

    def weighed(self, h: Histories, attributes: Tensor, rating: Tensor | None) -> Tensor:
        """sum_k omega_k log score_k (b, I); arguments as those of `forward`."""
        return self._weighed(self.read(h, attributes), rating)

    def _weighed(self, users: Readers, rating: Tensor | None) -> Tensor:
        result = torch.zeros(len(users.weight), self.n_items, device=users.weight.device)
        for items in columns_of(result):
            own = None if rating is None else rating[:, items]
            for weight, score in zip(users.weight.T, self.features(users, items, own), strict=True):
                result[:, items].addcmul_(weight[:, None], score)
        return result

    @torch.no_grad()
    def forward(self, h: Histories, attributes: Tensor, rating: Tensor | None = None) -> Tensor:
        """match (b, I).

        Args:
            h: histories of b users.
            attributes: (b, A) their attributes, as `attributes` gives them.
            rating: (b, I) predicted ratings; None: without.
        """
        users = self.read(h, attributes)
        result, new = self._weighed(users, rating), (self.count == 0).nonzero()[:, 0]
        result.index_fill_(1, new, -torch.inf)
        result -= result.logsumexp(1, keepdim=True)
        if len(new):
            result[:, new] = self._of_new_items(users, new)
        return result

    def _of_new_items(self, users: Readers, items: Tensor) -> Tensor:
        """log probabilities (b, n) of items without ratings: their content scores, as against the mean of the others.

        All of them together have a share as large as that of the items with one rating.
        """
        rated, total = self.count > 0, torch.zeros(len(users.content), 1, device=users.content.device)
        for columns in columns_of(total.expand(-1, self.n_items)):
            total += self._content(users, self.content[columns]) @ rated[columns, None].float()
        share = ((self.count == 1).sum() + 0.5) / (self.count.sum() + 1) / len(items)
        mean = total / rated.sum() + LEAST
        return (share * (self._content(users, self.content[items]) + LEAST) / mean).log_()


def _columns(listed: Tensor, items: slice) -> tuple[slice, Tensor]:
    """Which columns of a table, one for each of the items `listed`, are of some items, and their places among these."""
    first, last = torch.searchsorted(listed, listed.new_tensor([items.start, items.stop])).tolist()
    return slice(first, last), listed[first:last] - items.start


def _times(near: Tensor, table: Tensor) -> Tensor:
    """near @ table (b, m), of a table (L, m) in half precision; as float32, some rows at a time stay in the cache."""
    rows = len(table) if near.is_cuda else max(1, 4 * CACHE // max(1, table.shape[1]))
    result = near.new_zeros(len(near), table.shape[1])
    for some, part in zip(near.split(rows, dim=1), table.split(rows), strict=True):
        result.addmm_(some, part.float())
    return result
