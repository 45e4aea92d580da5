"""Trained models in plain form: what depends on a user or an item alone as tables, and the formula on top.

For export: a plain form is built of gathers, products and a few functions that every runtime has; no sparse product, no
branch on the size of the batch. It predicts for the users and items of the training data, and for the unknown one in
the last row of each table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aanmf.contract import RatingModule
from aanmf.data.attributes import AttributeSet
from aanmf.errors import ConfigError
from aanmf.models.aanmf import AANMFModule
from aanmf.models.aanmfpp.module import AANMFppModule
from aanmf.models.aanmfpp.ridge import KernelRidge
from aanmf.models.autorec import AutoEncoder
from aanmf.models.fm import FMModule
from aanmf.models.mf import MFModule
from aanmf.models.nfm import NFMModule
from aanmf.models.svdpp import SVDppModule


class Side(NamedTuple):
    """Users, or items, the unknown one last: bias (n,) and vector (n, K)."""

    bias: Tensor
    vector: Tensor


class Plain(nn.Module):
    """Tables of users and items; this base adds biases and inner product: b_u + b_i + x_u . z_i."""

    b_u: Tensor
    x: Tensor
    b_i: Tensor
    z: Tensor

    def __init__(self, users: Side, items: Side) -> None:
        super().__init__()
        self._keep(b_u=users.bias, x=users.vector, b_i=items.bias, z=items.vector)

    def _keep(self, **tables: Tensor) -> None:
        for name, table in tables.items():
            self.register_buffer(name, table.detach().clone().contiguous())

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Ratings (B,), not clipped, of positions (B,)."""
        return self.b_u[users] + self.b_i[items] + (self.x[users] * self.z[items]).sum(-1)

    def sides(self) -> tuple[Side, Side]:
        """Biases, in rating points, and vectors of users and items."""
        return Side(self.b_u, self.x), Side(self.b_i, self.z)


class PlainNFM(Plain):
    """Biases, and dense layers on x_u * z_i + o_u + o_i: the pooling, with o what features of one side add to it."""

    o_u: Tensor
    o_i: Tensor

    def __init__(self, module: NFMModule, users: Side, items: Side, o_u: Tensor, o_i: Tensor) -> None:
        super().__init__(users, items)
        self._keep(o_u=o_u, o_i=o_i)
        self.norms, self.dense, self.h = module.norms, module.dense, module.h

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """See `Plain.forward`."""
        z = self.norms[0](self.x[users] * self.z[items] + self.o_u[users] + self.o_i[items])
        for layer, norm in zip(self.dense, list(self.norms)[1:], strict=True):
            z = F.relu(norm(layer(z)))
        return self.b_u[users] + self.b_i[items] + self.h(z).squeeze(-1)


class PlainAANMF(Plain):
    """Attention cell, pooling and dense layers of `AANMFModule`, pair by pair."""

    value: Tensor
    weight: Tensor
    mask: Tensor
    a: Tensor
    a_score: Tensor
    z_score: Tensor
    out: Tensor
    out_bias: Tensor

    def __init__(self, module: AANMFModule) -> None:
        none = torch.zeros(len(module.p)), torch.zeros(len(module.q))
        super().__init__(Side(none[0], module.p), Side(none[1], module.q))
        sets, a = module.sets, module.a(module.sets.vectors)
        cell = module.cell
        self._keep(
            a=a, a_score=cell.value(a), z_score=cell.item(module.q), out=cell.out.weight[0], out_bias=cell.out.bias
        )
        self._keep(value=sets.value, weight=sets.weight, mask=sets.mask)
        self.pairwise = module.config.pooling == "pairwise"
        self.first, self.from_q, self.upper = module.first, module.from_q, module.upper

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """See `Plain.forward`."""
        p, q = self.x[users], self.z[items]
        x = self._pooled(p, users, items)
        z = self.first(x * q) if self.from_q is None else self.first(x) + self.from_q(q)
        for layer in self.upper:
            z = layer(F.relu(z))
        return z.squeeze(-1)

    def _pooled(self, p: Tensor, users: Tensor, items: Tensor) -> Tensor:
        """x_ui (B, K)."""
        if self.value.shape[1] == 0:  # no attributes
            return torch.zeros_like(p) if self.pairwise else p
        value, mask = self.value[users], self.mask[users]  # (B, J)
        h = torch.tanh(self.a_score[value] + self.z_score[items][:, None])
        weight = softmax(F.relu(h @ self.out + self.out_bias), mask) * self.weight[users]
        attended = weight[..., None] * self.a[value]  # a~, (B, J, K)
        total = attended.sum(1)
        return p * total + 0.5 * (total.square() - attended.square().sum(1)) if self.pairwise else p + total


class PlainAANMFpp(Plain):
    """All members of `AANMFppModule` side by side: tables (n, M, K), latent scores (B, M)."""

    a: Tensor
    a_bias: Tensor
    a_score: Tensor
    z_score: Tensor
    out: Tensor
    value: Tensor
    weight: Tensor
    mask: Tensor
    theta: Tensor
    t: Tensor
    sigma: Tensor
    levels: Tensor
    trust: Tensor
    scale: Tensor
    mean_u: Tensor
    mean_i: Tensor
    new_u: Tensor
    new_i: Tensor

    def __init__(self, module: AANMFppModule) -> None:
        state = module.state()
        members = list(zip(module.members, state.encoded, strict=True))
        users = Side(stack([e.b_u for _, e in members]), stack([e.x for _, e in members]))
        items = Side(stack([e.b_i for _, e in members]), stack([e.z for _, e in members]))
        super().__init__(users, items)
        sets = module.sets
        parts = [module.attributes(member, encoded, sets.vectors) for member, encoded in members]
        self.attend, self.attention = module.attend, module.config.attention
        self._keep(a=stack([part.a for part in parts]), a_bias=stack([part.beta for part in parts]))
        self._keep(
            a_score=stack([member.cell.value(part.a) for (member, _), part in zip(members, parts, strict=True)]),
            z_score=stack([member.cell.item(encoded.z) for member, encoded in members]),
            out=torch.stack([member.cell.out.weight[0] for member, _ in members]),
        )
        self._keep(value=sets.value, weight=sets.weight * sets.mask, mask=sets.mask)
        self._keep(theta=torch.stack([m.theta for m, _ in members]), t=stack([m.t for m, _ in members]))
        self._keep(sigma=torch.stack([m.log_sigma.exp() for m, _ in members]), levels=module.levels)
        means, seen = state.means, state.seen
        self._keep(trust=module.trust, scale=module.scale, mean_u=means.mean + means.users.offset)
        self._keep(mean_i=means.items.offset, new_u=seen.users.count == 0, new_i=seen.items.count == 0)
        self.ordinal, self.newcomer = module.ordinal, module.config.cold > 0
        self.ridge = PlainRidge(module.ridge) if module.ridge else None

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """See `Plain.forward`."""
        z = self.z[items]
        f = self.b_u[users] + self.b_i[items] + (self.x[users] * z).sum(-1)
        if self.ridge is not None:
            f = f + self.ridge(users, items) @ self.t
        if self.attend:
            f = f + self._attributes(users, items, z)
        each = self._expected(f)
        model = self._mean(each, self.new_u[users] | self.new_i[items])
        means = self.mean_u[users] + self.mean_i[items]
        return (means + self.trust * (model - means)) / self.scale

    def _attributes(self, users: Tensor, items: Tensor, z: Tensor) -> Tensor:
        """sum_j lambda_j(i) weight_j (a_j . z_i + beta_j), (B, M)."""
        value, mask = self.value[users], self.mask[users][..., None]  # (B, J), (B, J, 1)
        added = (self.a[value] * z[:, None]).sum(-1) + self.a_bias[value]  # (B, J, M)
        weight = self.weight[users][..., None]
        if self.attention:
            h = torch.tanh(self.a_score[value] + self.z_score[items][:, None])  # (B, J, M, K)
            weight = weight * softmax((h * self.out).sum(-1), mask)
        return (weight * added).sum(1)

    def _expected(self, f: Tensor) -> Tensor:
        """E[r] of latent scores, (B, M)."""
        if not self.ordinal:
            return f
        above = 0.5 * (1 + torch.erf((f[..., None] - self.theta) / (self.sigma[:, None] * math.sqrt(2))))
        return self.levels[0] + above @ self.levels.diff()

    def _mean(self, each: Tensor, new: Tensor) -> Tensor:
        if not self.newcomer:
            return each.mean(1)
        return torch.where(new, each[:, -1], each[:, :-1].mean(1))

    def sides(self) -> tuple[Side, Side]:
        """See `Plain.sides`; the vectors of the members stand one after another."""
        users, items = super().sides()
        return tuple(Side(side.bias.mean(1) / self.scale, side.vector.flatten(1)) for side in (users, items))  # type: ignore[return-value]


class PlainRidge(nn.Module):
    """Kernel ridge features: sum over the user's history of alpha times the similarity of the items.

    The histories lie behind one another; every user reads as many places as the longest has, those beyond his own
    with weight 0.
    """

    start: Tensor
    count: Tensor
    place: Tensor
    item: Tensor
    alpha: Tensor
    similarity: Tensor

    def __init__(self, ridge: KernelRidge) -> None:
        super().__init__()
        matrix = ridge.history.matrix
        count = torch.where(matrix.count > ridge.limit, 0, matrix.count)  # these have no alpha
        self.register_buffer("start", matrix.start.clone())
        self.register_buffer("count", count)
        self.register_buffer("place", torch.arange(max(1, int(count.max()))))
        self.register_buffer("item", ridge.history.item.clone())
        self.register_buffer("alpha", ridge.alpha.T.contiguous().clone())
        self.register_buffer("similarity", ridge.similarity.clone())

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(B, F) of positions (B,)."""
        own = self.place < self.count[users][:, None]  # (B, N)
        entry = torch.where(own, self.start[users][:, None] + self.place, 0)
        similar = self.similarity[items[:, None], self.item[entry]] * own
        return (similar[..., None] * self.alpha[entry]).sum(1)


def softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Over dimension 1, where `mask` is True; 0 elsewhere."""
    return torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=1) * mask


def stack(tables: list[Tensor]) -> Tensor:
    """(n, ...) of every member -> (n, M, ...)."""
    return torch.stack(tables, dim=1)


@torch.no_grad()
def plain(module: RatingModule) -> Plain:
    """The plain form of a trained module, on its device.

    Raises:
        ConfigError: there is none for this kind of model.
    """
    for kind, form in FORMS.items():
        if isinstance(module, kind):
            return form(module).eval()
    raise ConfigError(f"{type(module).__name__} has no plain form: it cannot be exported")


def _mf(module: MFModule) -> Plain:
    return Plain(Side(module.mu + module.b_u[:, 0], module.p), Side(module.b_i[:, 0], module.q))


def _svdpp(module: SVDppModule) -> Plain:
    users = torch.arange(len(module.p), device=module.p.device)
    return Plain(Side(module.mu + module.b_u[:, 0], module._x(users, None)), Side(module.b_i[:, 0], module.q))


def _autoencoder(module: AutoEncoder) -> Plain:
    rows = torch.arange(len(module.d), device=module.d.device)
    encoded, other = Side(module.mu + module.d[:, 0], module.codes(rows)), Side(module.c[:, 0], module.w)
    return Plain(encoded, other) if module.of_users else Plain(other, encoded)


def _fm(module: FMModule) -> Plain:
    """Of the pooling 1/2 [(X + Z)^2 - ...], X * Z is what both sides share; the rest belongs to one side."""
    sides: list[Side] = []
    within: list[Tensor] = []
    halves: tuple[tuple[nn.Module, AttributeSet], ...] = ((module.user, module.sets), (module.item, module.item_sets))
    for features, sets in halves:
        rows = torch.arange(len(sets.mask), device=sets.mask.device)
        linear, total, squares = features(rows, sets)
        sides.append(Side(linear, total))
        within.append(0.5 * (total.square() - squares))
    users, items = sides[0]._replace(bias=module.w_0 + sides[0].bias), sides[1]
    if isinstance(module, NFMModule):
        return PlainNFM(module, users, items, *within)
    added = [side._replace(bias=side.bias + own.sum(-1)) for side, own in zip((users, items), within, strict=True)]
    return Plain(*added)


FORMS: dict[type[RatingModule], Callable[..., Plain]] = {
    MFModule: _mf,
    SVDppModule: _svdpp,
    FMModule: _fm,
    AutoEncoder: _autoencoder,
    AANMFModule: PlainAANMF,
    AANMFppModule: PlainAANMFpp,
}
