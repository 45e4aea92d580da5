"""AANMF++ for use elsewhere: tables of users, items and attribute values, and the equations of `module.py` on top.

Built of gathers, products and functions that every runtime has: no sparse product, no branch on the size of the batch.
Sizes: B ratings, J attribute slots of a user, E ensemble members, K latent factors, F ridge features, L rating levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aanmf.data.attributes import AttributeSet, Context
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.low_rank import FOLDS, LowRankRidge
from aanmf.models.aanmfpp.ridge import KernelRidge
from aanmf.models.context import ContextAttention
from aanmf.models.layers import masked_softmax


class MemberTables(NamedTuple):
    """One ensemble member, all training ratings in view; named as the equations are.

    Attributes:
        b_u, x: (U,) with the mean, (U, K).
        b_i, z: (I,), (I, K).
        a, beta: (V, K), (V,) of the attribute values.
        w1_a, w1_z, w2: W1a a_v (V, K), W1q z_i + b1 (I, K) and W2 (K,) of the attention cell.
        t, theta, sigma: (F,), (L - 1,), (1,).
    """

    b_u: Tensor
    x: Tensor
    b_i: Tensor
    z: Tensor
    a: Tensor
    beta: Tensor
    w1_a: Tensor
    w1_z: Tensor
    w2: Tensor
    t: Tensor
    theta: Tensor
    sigma: Tensor


class EnsembleTables(NamedTuple):
    """What the members share.

    Attributes:
        levels: (L,) the distinct ratings, scaled.
        trust, scale: weight of the model over damped means; scaled ratings over ratings.
        mean_u, mean_i: (U,), (I,) damped means, scaled.
        new_u, new_i: (U,), (I,) bool: without training ratings.
    """

    levels: Tensor
    trust: Tensor
    scale: Tensor
    mean_u: Tensor
    mean_i: Tensor
    new_u: Tensor
    new_i: Tensor


class AANMFppForm(nn.Module):
    """All members side by side: their tables are stacked along dimension 1, so that latent scores are (B, E).

    Args:
        members: all of them; if the settings name one for newcomers, the last one rates new users and items.
        contexts: attention of each member over the context; None: not used.
        shared: what they have in common.
        sets: attributes of the users; None: not used.
        ridge: None: without.
        config: how attributes are weighted, and whether there is a member for newcomers.
        ordinal: whether the head is ordinal.
    """

    def __init__(
        self,
        members: Sequence[MemberTables],
        contexts: Sequence[ContextAttention | None],
        shared: EnsembleTables,
        sets: AttributeSet | None,
        ridge: KernelRidge | LowRankRidge | None,
        config: AANMFppConfig,
        ordinal: bool,
    ) -> None:
        super().__init__()
        self.members = MemberTables(*(torch.stack(tables, dim=1) for tables in zip(*members, strict=True)))
        self.shared, self.sets = shared, sets
        self.attention, self.ordinal, self.newcomer = config.attention, ordinal, config.cold > 0
        self.contexts = nn.ModuleList(each for each in contexts if each is not None)
        self.ridge = (
            None if ridge is None else RidgeForm(ridge) if isinstance(ridge, KernelRidge) else LowRankForm(ridge)
        )

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """(B,), (B,) -> (B,); of `sets` only the context counts."""
        of, shared = self.members, self.shared
        f = of.b_u[users] + of.b_i[items] + (of.x[users] * of.z[items]).sum(-1)  # (B, E)
        if self.ridge is not None:
            f = f + self.ridge(users, items) @ of.t
        if self.sets is not None:
            f = f + self._attributes(self.sets.rows(users), items)
        if self.contexts and sets is not None and sets.context is not None:
            f = f + self._in_context(sets.context, users, items)
        each = self._expected(f)
        model = each.mean(1)
        if self.newcomer:
            model = torch.where(shared.new_u[users] | shared.new_i[items], each[:, -1], each[:, :-1].mean(1))
        means = shared.mean_u[users] + shared.mean_i[items]
        return (means + shared.trust * (model - means)) / shared.scale

    def _attributes(self, sets: AttributeSet, items: Tensor) -> Tensor:
        """sum_j lambda_j(i) weight_j (a_j . z_i + beta_j), (B, E)."""
        of = self.members
        added = (of.a[sets.value] * of.z[items][:, None]).sum(-1) + of.beta[sets.value]  # (B, J, E)
        weight = (sets.weight * sets.mask)[..., None]  # (B, J, 1)
        if self.attention == "uniform":
            weight = weight / sets.mask.sum(1).clamp(min=1)[:, None, None]
        elif self.attention:
            v = torch.tanh(of.w1_a[sets.value] + of.w1_z[items][:, None])  # (B, J, E, K)
            s = (v * of.w2.T).sum(-1)  # (B, J, E); the softmax does not depend on b2
            weight = weight * masked_softmax(s.mT, sets.mask[:, None]).mT
        return (weight * added).sum(1)

    def _in_context(self, context: Context, users: Tensor, items: Tensor) -> Tensor:
        """What the context adds (B, E)."""
        x, z = self.members.x.unbind(1), self.members.z.unbind(1)
        added = [
            of.parts(context, x[member], users, z[member], items)[1].sum(1)
            for member, of in enumerate(self.contexts)
            if isinstance(of, ContextAttention)
        ]
        return torch.stack(added, dim=1)

    def _expected(self, f: Tensor) -> Tensor:
        """E[r] of latent scores, (B, E)."""
        if not self.ordinal:
            return f
        of, levels = self.members, self.shared.levels
        above = 0.5 * (1 + torch.erf((f[..., None] - of.theta.T) / (of.sigma.T * math.sqrt(2))))  # (B, E, L - 1)
        return levels[0] + above @ levels.diff()


class RidgeForm(nn.Module):
    """Kernel ridge features: the sum over the user's history of alpha times the similarity of the items.

    The histories lie one after another; every user reads as many places as the longest history has, and those beyond
    the user's own count 0.
    """

    def __init__(self, ridge: KernelRidge) -> None:
        super().__init__()
        matrix = ridge.history.matrix
        self.start, self.item = matrix.start.long(), ridge.history.item.long()
        self.count = torch.where(matrix.count > ridge.limit, 0, matrix.count)  # longer histories have no alpha
        self.place = torch.arange(max(1, int(self.count.max())))
        self.alpha, self.similarity = ridge.alpha.T.contiguous(), ridge.similarity

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,), (B,) -> (B, F)."""
        own = self.place < self.count[users][:, None]  # (B, N)
        entry = torch.where(own, self.start[users][:, None] + self.place, 0)
        similar = self.similarity[items[:, None], self.item[entry]] * own
        return (similar[..., None] * self.alpha[entry]).sum(1)


class LowRankForm(nn.Module):
    """The same of low rank: a product of two vectors."""

    def __init__(self, ridge: LowRankRidge) -> None:
        super().__init__()
        self.z, users = ridge.z, torch.arange(ridge.history.shape[0], device=ridge.z.device)
        self.theta = ridge.vectors(users).transpose(0, 1).contiguous()  # (U, F, R)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,), (B,) -> (B, F)."""
        return (self.theta[users] @ self.z[users % FOLDS, items][..., None])[..., 0]
