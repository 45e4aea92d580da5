"""AANMF++: attention over attributes, histories both ways, item attributes and biases.

    x_u  = p_u + s_u sum_{k in N(u)} (y_k + e_uk c_k)                        history: which items, rated how
    z_i  = q_i + s_i sum_{v in N(i)} (w_v + e_vi d_v) + sum_g weight_ig g_g  audience, and attributes of the item
    lambda_j(i) = softmax_j W2 tanh(W1 [a_j ; z_i] + b1)                     Algorithm 1, without its ReLU
    f_ui = mu + b_u + b_i + x_u . z_i + sum_j lambda_j(i) (a_j . z_i + beta_j) + sum_l t_l k^l_ui + context
    context = sum_l kappa_l(u, i) (e_l . (x_u + z_i) + gamma_l)              `models/context.py`; 0 where not known
    P(r > level k) = Phi((f_ui - theta_k) / sigma),  prediction = E[r]       ordinal head

mu, b_u, b_i are damped means and e the residuals that they leave; k^l are kernel ridge predictions (`ridge.py`). Every
table of vectors has one of biases beside it: the first two equations with these give what b_u and b_i gain by learning.
All sums run over the training ratings in view (`history.py`): in training, the ratings that a step is fitted to are
held out of them. Where ratings are continuous, f itself is the prediction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.contract import RatingModule, Ratings, TrainingData, embedding
from aanmf.data.attributes import AttributeSet
from aanmf.data.scratch import blocks_of
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.history import RatingHistory, Seen, Side
from aanmf.models.aanmfpp.low_rank import LowRankRidge
from aanmf.models.aanmfpp.ridge import KernelRidge
from aanmf.models.aanmfpp.scores import Attributes, AttributeTable, Grid, Pairs
from aanmf.models.context import ContextAttention
from aanmf.models.kernels import weighted_sum
from aanmf.models.layers import AttentionCell, AttributeEmbedding

Ridge = KernelRidge | LowRankRidge
TABLE = 20_000_000
"""Pairs of item and attribute value up to which prediction holds attention in a table."""


class Tables(nn.Module):
    """p, w, d of users, q, y, c of items, a and g of attribute values: K columns of vectors, or one of biases."""

    def __init__(self, training: TrainingData, columns: int) -> None:
        super().__init__()
        users, items, std = training.n_users + 1, training.n_items + 1, 0.05
        self.p, self.w, self.d = (embedding(users, columns, std) for _ in range(3))
        self.q, self.y, self.c = (embedding(items, columns, std) for _ in range(3))
        self.a, self.g = (AttributeEmbedding(sets, columns, std) for sets in (training.users, training.items))


class Member(nn.Module):
    """The parameters of one model."""

    def __init__(self, config: AANMFppConfig, training: TrainingData, features: int, levels: Tensor) -> None:
        super().__init__()
        self.vectors, self.biases = Tables(training, config.factors), Tables(training, 1)
        self.cell = AttentionCell(config.factors, relu=False)
        self.t = nn.Parameter(torch.zeros(features))
        self.theta = nn.Parameter((levels[1:] + levels[:-1]) / 2)
        self.log_sigma = nn.Parameter(torch.tensor(-0.1))
        context = training.train.context if config.context else None
        self.context = None
        if context is not None and context.sets:
            self.context = ContextAttention(context, config.factors, config.factors + 1, 0.05)

    def l2_groups(self, l2: float, shares: tuple[float, float]) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """l2 of the tables; those that say which items (users) were rated take a share of it."""
        both = (self.vectors, self.biases)
        yield l2, [table for t in both for table in (t.p, t.q, t.c, t.d, *t.a.parameters(), *t.g.parameters())]
        if self.context is not None:
            yield l2, list(self.context.values.parameters())
        yield shares[0] * l2, [tables.y for tables in both]
        yield shares[1] * l2, [tables.w for tables in both]

    @torch.no_grad()
    def settle(self, rated_users: Tensor, rated_items: Tensor) -> None:
        """Users and items without training ratings have no vector of their own: their history is empty too."""
        for tables in (self.vectors, self.biases):
            for table in (tables.p, tables.w, tables.d):
                table[~rated_users] = 0
            for table in (tables.q, tables.y, tables.c):
                table[~rated_items] = 0


@dataclass(frozen=True)
class Encoded:
    """What a member makes of users and items, given the ratings in view.

    Attributes:
        x, z: (U, K), (I, K).
        b_u, b_i: (U,), (I,), with mu and what biases add; mu is in b_u.
        table: of all items and attribute values, where it was computed ahead.
    """

    x: Tensor
    z: Tensor
    b_u: Tensor
    b_i: Tensor
    table: AttributeTable | None = None


class Equations(RatingModule):
    """The training ratings and the equations at the top of this file, for members that are given.

    Ratings are scaled inside: to the standard deviation that the settings name. `context` is that of the training
    ratings, in the order of the history.
    """

    scale: Tensor
    levels: Tensor

    def __init__(self, config: AANMFppConfig, training: TrainingData) -> None:
        super().__init__()
        self.config, self.shape = config, (training.n_users + 1, training.n_items + 1)
        self.sets, self.item_sets = training.users, training.items
        self.attend = config.user_attributes and training.users.mask.shape[1] > 0
        train = training.train
        self.context = None if train.context is None else train.context.rows(torch.argsort(train.user, stable=True))
        scale = config.rating_std / torch.tensor(max(1e-3, train.std))
        self.register_buffer("scale", scale, persistent=False)
        scaled = torch.mul(train.rating, scale, out=train.scratch.like(train.rating))
        given = Ratings(train.user, train.item, scaled, scratch=train.scratch)
        self.history = RatingHistory(given, self.shape, config.exponents)
        levels = torch.unique(torch.cat([torch.unique(self.history.rating[block]) for block in blocks_of(len(train))]))
        self.ordinal = config.ordinal and 2 <= len(levels) <= config.ordinal_levels
        self.register_buffer("levels", levels if self.ordinal else levels[[0, -1]], persistent=False)
        self.ridge = self._new_ridge() if config.ridge else None

    def _new_ridge(self) -> Ridge:
        """Of the whole similarity of items, or of low rank where they are many."""
        config = self.config
        given = self.history, self._item_matrix(), config.ridge_strengths
        if self.n_items <= config.ridge_items:
            limit = config.ridge_ratings
            return KernelRidge(*given, damping=config.ridge_damping, share=config.ridge_share, limit=limit)
        return LowRankRidge(*given, damping=config.ridge_damping, share=config.ridge_share, rank=config.ridge_rank)

    def _item_matrix(self) -> Tensor:
        """(I, G) weights of the attribute values of items; vectors beside them, of length 1."""
        sets, n_items = self.item_sets, self.shape[1]
        labels = torch.zeros(n_items, max(1, sets.n_values))
        if not self.config.item_attributes:
            return labels
        small = sets.value < sets.n_values
        labels.scatter_add_(1, sets.value * small, sets.weight * (sets.mask & small))
        padded = [F.pad(vectors, (0, 0, 0, n_items - len(vectors))) for vectors in sets.vectors]
        return torch.cat([labels, *(F.normalize(vectors, dim=1) for vectors in padded)], dim=1)

    def new_member(self, training: TrainingData) -> Member:
        """An untrained one."""
        return Member(self.config, training, len(self.ridge.strengths) if self.ridge else 0, self.levels.cpu())

    def pairs(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Pairs:
        """Pairs that are not in the history, to predict; `sets` (B, J) in place of the users' own attributes."""
        features = self.ridge.features(users, items) if self.ridge else torch.zeros(0, len(users), device=users.device)
        return Pairs(users, items, self.sets.rows(users) if sets is None else sets, features)

    @property
    def n_items(self) -> int:
        """Items known by id."""
        return self.shape[1] - 1

    # ------------------------------------------------------------ x, z and biases of users and items

    def encode(self, member: Member, seen: Seen) -> Encoded:
        """x, z and biases from the tables and the ratings in view."""
        (x, b_u), (v, b), sets = self.encode_users(member, seen), (member.vectors, member.biases), self.item_sets
        z = self._sums(seen.items, side_by_side(v.q, b.q), side_by_side(v.w, b.w), side_by_side(v.d, b.d))
        if self.config.item_attributes:
            g = side_by_side(v.g(sets.vectors), b.g(sets.vectors))
            z = z + weighted_sum(g, sets.value, sets.weight * sets.mask)
        return Encoded(z=z[:, : self.config.factors], b_i=seen.items.offset + z[:, self.config.factors], x=x, b_u=b_u)

    def encode_users(self, member: Member, seen: Seen, user: int | None = None) -> tuple[Tensor, Tensor]:
        """x (U, K) and b_u (U,); with `user`, the only one whose history is in view: (1, K) and (1,)."""
        (v, b), own = (member.vectors, member.biases), slice(None) if user is None else slice(user, user + 1)
        p, y, c = side_by_side(v.p[own], b.p[own]), side_by_side(v.y, b.y), side_by_side(v.c, b.c)
        x = self._sums(seen.users, p, y, c)
        return x[:, : self.config.factors], seen.mean + seen.users.offset + x[:, self.config.factors]

    def _sums(self, side: Side, own: Tensor, rated: Tensor, liked: Tensor) -> Tensor:
        """p_u + s_u sum_k (y_k + e_uk c_k), or the same of items; without ratings in view nothing is known."""
        own = own * (side.count > 0)[:, None]
        return own + side.sum(rated, liked) if self.config.history else own

    def with_table(self, member: Member, encoded: Encoded) -> Encoded:
        """With attention of all items to all attribute values, if that is few enough to pay."""
        if not self.attend or self.sets.vectors or len(encoded.z) * self.sets.n_values > TABLE:
            return encoded
        return replace(encoded, table=self.attributes(member, encoded, ()).table())

    def attributes(self, member: Member, encoded: Encoded, vectors: tuple[Tensor, ...]) -> Attributes:
        """What attention and its sum are made of; `vectors` of the users' vector attributes."""
        cell, a, beta = member.cell, member.vectors.a(vectors), member.biases.a(vectors)[:, 0]
        return Attributes(
            cell if self.config.attention is True else None,
            encoded.z,
            a,
            beta,
            encoded.table,
            summed=self.config.attention is False,
        )

    # ------------------------------------------------------------ scores and their head

    def latent(self, member: Member, encoded: Encoded, at: Pairs | Grid) -> Tensor:
        """f of pairs (B,), or of a grid (b, m)."""
        b_u, b_i = at.both(encoded.b_u, encoded.b_i)
        f = b_u + b_i + at.inner(encoded.x, encoded.z)
        for t, feature in zip(member.t, at.features, strict=False):  # without the kernel ridge there is none
            f = f + t * feature
        if member.context is not None and at.sets.context is not None:
            f = f + at.in_context(member.context, encoded.x, encoded.z)
        return f + at.attributes(self.attributes(member, encoded, at.sets.vectors)) if self.attend else f

    def above(self, member: Member, f: Tensor) -> Tensor:
        """P(r > level k) (..., L - 1)."""
        return torch.special.ndtr((f[..., None] - member.theta) / member.log_sigma.exp())

    def expected(self, member: Member, f: Tensor) -> Tensor:
        """E[r] of latent scores: r_0 + sum_k (r_k+1 - r_k) P(r > level k), level by level in place."""
        if not self.ordinal:
            return f
        narrow = 1 / (member.log_sigma.exp() * 2**0.5)  # Phi(x) = (1 + erf(x / sqrt 2)) / 2
        total = ((self.levels[0] + self.levels[-1]) / 2).expand_as(f).clone()
        for theta, half in zip(member.theta, (self.levels.diff() / 2).tolist(), strict=True):
            total.add_(((f - theta) * narrow).erf_(), alpha=half)
        return total

    def moments(self, member: Member, f: Tensor) -> Tensor:
        """E[r] and Var[r] of latent scores (2, ...); without the ordinal head f and 0."""
        if not self.ordinal:
            return torch.stack([f, torch.zeros_like(f)])
        above = self.above(member, f)
        first, second = (r[0] + above @ r.diff() for r in (self.levels, self.levels.square()))
        return torch.stack([first, second - first.square()])

    def loss(self, member: Member, f: Tensor, rating: Tensor) -> Tensor:
        """Mean squared error, or the ordinal head's negative log-likelihood in about the same units."""
        if not self.ordinal:
            return (f - rating).square().mean()
        level = torch.bucketize(rating, self.levels - 1e-4, right=True) - 1
        above = F.pad(F.pad(self.above(member, f), (1, 0), value=1.0), (0, 1))
        within = above.gather(1, level[:, None]) - above.gather(1, level[:, None] + 1)
        return -1.7 * within.clamp(min=1e-6).log().mean()


def damped_means(seen: Seen, at: Pairs | Grid) -> Tensor:
    """mu + b_u + b_i of pairs (B,), or of a grid (b, m)."""
    b_u, b_i = at.both(seen.users.offset, seen.items.offset)
    return seen.mean + b_u + b_i


def side_by_side(vectors: Tensor, biases: Tensor) -> Tensor:
    """(n, K) and (n, 1) in one table, filled up with zeros to a multiple of 8 columns: those are faster to sum."""
    return torch.cat([vectors, biases, biases.new_zeros(len(biases), -(vectors.shape[1] + 1) % 8)], dim=1)
