"""AANMF++: attention over attributes, histories both ways, item attributes and biases, averaged over members.

    x_u  = p_u + s_u sum_{k in N(u)} (y_k + e_uk c_k)                       history: which items, rated how
    z_i  = q_i + s_i sum_{v in N(i)} (w_v + e_vi d_v) + sum_g weight_ig g_g  audience, and attributes of the item
    lambda_j(i) = softmax_j W2 tanh(W1 [a_j ; z_i] + b1)                     Algorithm 1, without its ReLU
    f_ui = mu + b_u + b_i + x_u . z_i + sum_j lambda_j(i) (a_j . z_i + beta_j) + sum_l t_l k^l_ui
    P(r > level k) = Phi((f_ui - theta_k) / sigma),  prediction = E[r]       ordinal head

mu, b_u, b_i are damped means and e the residuals that they leave; k^l are kernel ridge predictions (`ridge.py`); every
table has a further column for a bias. All sums run over the training ratings in view (`history.py`): in training, the
ratings that a step is fitted to are held out of them. Where ratings are continuous, f itself is the prediction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import ModelConfig, RatingModule, Ratings, Side, TrainingData, embedding
from aanmf.data.attributes import AttributeSet
from aanmf.models.aanmfpp.export import AANMFppForm, EnsembleTables, MemberTables
from aanmf.models.aanmfpp.history import RatingHistory, Seen, shrinkage
from aanmf.models.aanmfpp.interval import Interval
from aanmf.models.aanmfpp.ridge import KernelRidge
from aanmf.models.kernels import weighted_sum
from aanmf.models.layers import AttentionCell, AttributeEmbedding, masked_softmax

SPREAD = 1.1
"""Inside the model ratings are scaled to this standard deviation, so that one setting suits all scales."""
MAX_LEVELS = 25
"""Up to so many distinct ratings the head is ordinal."""
PLAIN = (5.0, 5.0)
"""Pseudo-counts of the damped means that the model is held against."""
MAX_ITEMS = 12_000
"""The item kernel is a matrix of this many rows at most; larger catalogues do without it."""
TABLE = 20_000_000
"""Pairs of item and attribute value up to which prediction holds attention in a table."""
CATALOGUE = 4_000_000
"""Scores of a catalogue whose features are in memory at a time; a 32nd of them is finished at a time."""


class AANMFppConfig(ModelConfig):
    """Settings of `AANMFpp`."""

    epochs: int = Field(default=8, ge=1)
    """Passes over the training ratings."""
    learning_rate: float = Field(default=1e-2, gt=0)
    """Adam's step size at the start; it falls to 0 along half a cosine."""
    members: int = Field(default=4, ge=1)
    """Models that are averaged; they differ in seed and in the order of the parts."""
    parts: int | None = Field(default=None, ge=2)
    """Every epoch cuts the ratings into so many parts, each fitted with the others in view; None: n / 1000, 5 to 20."""
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps per part; None: 1 up to 160,000 ratings, then growing with the cube root of their number."""
    l2: float | None = Field(default=None, ge=0)
    """Penalty on all tables, (l2 / n ratings) * sum of squares; None: chosen on held-out training ratings."""
    attention: bool = True
    """False: attributes are added with weight 1."""
    history: bool = True
    """False: without the histories of users and the audiences of items."""
    user_attributes: bool = True
    """False: without the attributes of users."""
    item_attributes: bool = True
    """False: without the attributes of items."""
    cold: float = Field(default=0.15, ge=0, lt=1)
    """One more member, for users and items without ratings, learns with this share of them treated as new; 0: none."""
    ridge: bool = True
    """False: without the kernel ridge feature."""
    ordinal: bool = True
    """False: squared error in place of the ordinal head."""


class Member(nn.Module):
    """The parameters of one model; the last column of every table is a bias."""

    def __init__(self, config: AANMFppConfig, training: TrainingData, features: int, levels: Tensor) -> None:
        super().__init__()
        k, users, items = config.factors, training.n_users + 1, training.n_items + 1
        self.p, self.q = embedding(users, k + 1, 0.05), embedding(items, k + 1, 0.05)
        self.y, self.c = embedding(items, k + 1, 0.05), embedding(items, k + 1, 0.05)
        self.w, self.d = embedding(users, k + 1, 0.05), embedding(users, k + 1, 0.05)
        self.a = AttributeEmbedding(training.users, k + 1, 0.05)
        self.g = AttributeEmbedding(training.items, k + 1, 0.05)
        self.cell = AttentionCell(k, relu=False)
        self.t = nn.Parameter(torch.zeros(features))
        self.theta = nn.Parameter((levels[1:] + levels[:-1]) / 2)
        self.log_sigma = nn.Parameter(torch.tensor(-0.1))


@dataclass(frozen=True)
class Attended:
    """Of items and attribute values, (I, V) each: attention scores before the softmax, and a_v . z_i + beta_v."""

    score: Tensor
    value: Tensor

    @cached_property
    def power(self) -> Tensor:
        """(I, V) e^score, up to a factor per item: what is left of the softmax before its sum."""
        return (self.score - self.score.amax(dim=1, keepdim=True)).exp()


@dataclass(frozen=True)
class Encoded:
    """What a member knows of users and items, given the ratings in view.

    Attributes:
        x, z: (U, K), (I, K).
        b_u, b_i: (U,), (I,), mu in b_u.
        table: of all items and attribute values, where it was computed ahead.
    """

    x: Tensor
    z: Tensor
    b_u: Tensor
    b_i: Tensor
    table: Attended | None = None


@dataclass(frozen=True)
class View:
    """Sums over all training ratings: as the members see them, and as damped means do."""

    seen: Seen
    plain: Seen

    @classmethod
    def of(cls, history: RatingHistory) -> View:
        """All ratings in view."""
        ones = torch.ones_like(history.rating)
        return cls(history.see(ones), history.see(ones, PLAIN))


class AANMFppModule(RatingModule):
    """See the equations on top of the file."""

    scale: Tensor
    levels: Tensor
    trust: Tensor

    def __init__(self, config: AANMFppConfig, training: TrainingData) -> None:
        super().__init__()
        self.config, self.shape = config, (training.n_users + 1, training.n_items + 1)
        self.sets, self.item_sets = training.users, training.items
        self.attend = config.user_attributes and training.users.mask.shape[1] > 0
        train = training.train
        scale = SPREAD / train.rating.double().std(correction=0).clamp(min=1e-3).float()
        self.register_buffer("scale", scale, persistent=False)
        scaled = Ratings(train.user, train.item, train.rating * scale)
        self.history = RatingHistory(scaled, self.shape, damping=(100.0, 40.0), power=(0.7, 0.6))
        levels = torch.unique(scaled.rating)
        self.ordinal = config.ordinal and 2 <= len(levels) <= MAX_LEVELS
        self.register_buffer("levels", levels if self.ordinal else levels[[0, -1]], persistent=False)
        self.register_buffer("trust", torch.ones(()))  # weight of the model over damped means
        self.errors = Interval()
        self.ridge: KernelRidge | None = None
        if config.ridge and training.n_items <= MAX_ITEMS:
            self.ridge = KernelRidge(self.history, self._item_matrix(training), strengths=(1.2, 2.7, 8.0))
        features = len(self.ridge.strengths) if self.ridge else 0
        count = config.members + (config.cold > 0)
        members = [Member(config, training, features, self.levels) for _ in range(count)]
        self.members = nn.ModuleList(members)
        self._view: View | None = None
        self._ready: list[Encoded] = []

    def _item_matrix(self, training: TrainingData) -> Tensor:
        """(I, G) weights of the attribute values of items; vectors beside them, of length 1."""
        sets, n_items = self.item_sets, self.shape[1]
        labels = torch.zeros(n_items, max(1, training.items.n_values))
        if not self.config.item_attributes:
            return labels
        small = sets.value < training.items.n_values
        labels.scatter_add_(1, sets.value * small, sets.weight * (sets.mask & small))
        padded = [nn.functional.pad(v, (0, 0, 0, n_items - len(v))) for v in sets.vectors]
        vectors = [nn.functional.normalize(each, dim=1) for each in padded]
        return torch.cat([labels, *vectors], dim=1)

    def l2_groups(self) -> Iterable[tuple[float, list[nn.Parameter]]]:
        """The tables; those that say which items (users) were rated count less."""
        l2 = self.config.l2 or 0.0
        for member in self._members():
            yield from member_groups(member, l2)

    # ------------------------------------------------------------ one member, one view of the ratings

    def encode(self, member: Member, seen: Seen) -> Encoded:
        """x, z, biases and attention scores from the tables and the ratings in view."""
        k = self.config.factors
        x, z = member.p * (seen.n_user > 0)[:, None], member.q * (seen.n_item > 0)[:, None]
        if self.config.history:
            h = self.history
            x = x + seen.user_scale * (h.of_users(member.y, seen.weight) + h.of_users(member.c, seen.residual))
            z = z + seen.item_scale * (h.of_items(member.w, seen.weight) + h.of_items(member.d, seen.residual))
        if self.config.item_attributes:
            sets = self.item_sets
            z = z + weighted_sum(member.g(sets.vectors), sets.value, sets.weight * sets.mask)
        b_u, b_i = seen.mean + seen.user_offset + x[:, k], seen.item_offset + z[:, k]
        return Encoded(x[:, :k], z[:, :k], b_u, b_i)

    def attended(self, member: Member, z: Tensor, a: Tensor) -> Attended:
        """The tables of items z (I, K) and attribute values a (V, K + 1)."""
        k = self.config.factors
        return Attended(member.cell.table(a[:, :k], z), z @ a[:, :k].T + a[:, k])

    def tables(self, member: Member, encoded: Encoded) -> Encoded:
        """With the table of all items and attribute values, if it is small enough to pay."""
        size = len(encoded.z) * len(member.a.weight)
        if not self.attend or self.sets.vectors or size > TABLE:
            return encoded
        return replace(encoded, table=self.attended(member, encoded.z, member.a.weight))

    def weights(self, member: Member, encoded: Encoded, items: Tensor, sets: AttributeSet) -> Tensor:
        """lambda (B, J)."""
        if not self.config.attention:
            return sets.mask.to(encoded.z.dtype)
        if encoded.table is not None:
            return masked_softmax(_cells(encoded.table.score, items, sets.value), sets.mask)
        return member.cell(member.a(sets.vectors)[:, : self.config.factors], encoded.z, items, sets)

    def values(self, member: Member, encoded: Encoded, items: Tensor, sets: AttributeSet) -> Tensor:
        """a_j . z_i + beta_j (B, J)."""
        if encoded.table is not None:
            return _cells(encoded.table.value, items, sets.value)
        k, a = self.config.factors, member.a(sets.vectors)
        if sets.value.numel() * k > len(a) * len(encoded.z):
            return _cells(encoded.z @ a[:, :k].T + a[:, k], items, sets.value)
        own = a.index_select(0, sets.value.reshape(-1)).view(*sets.value.shape, k + 1)
        return (own[..., :k] @ encoded.z.index_select(0, items)[:, :, None])[..., 0] + own[..., k]

    def latent(
        self, member: Member, encoded: Encoded, users: Tensor, items: Tensor, sets: AttributeSet, features: Tensor
    ) -> Tensor:
        """f (B,), in the scaled ratings' units; `features` (B, F) of the ridge."""
        taste = (encoded.x.index_select(0, users) * encoded.z.index_select(0, items)).sum(-1)
        bias = encoded.b_u.index_select(0, users) + encoded.b_i.index_select(0, items)
        f = bias + taste + features @ member.t
        if not self.attend:
            return f
        value = self.values(member, encoded, items, sets)
        return f + (self.weights(member, encoded, items, sets) * sets.weight * value * sets.mask).sum(1)

    def above(self, member: Member, f: Tensor) -> Tensor:
        """P(r > level k) (..., L - 1)."""
        return torch.special.ndtr((f[..., None] - member.theta) / member.log_sigma.exp())

    def expected(self, member: Member, f: Tensor) -> Tensor:
        """E[r] of latent scores, in scaled units: r_0 + sum_k (r_k+1 - r_k) P(r > level k)."""
        if not self.ordinal:
            return f
        if torch.is_grad_enabled():
            return self.levels[0] + self.above(member, f) @ self.levels.diff()
        narrow = 1 / (member.log_sigma.exp() * 2**0.5)  # Phi(x) = (1 + erf(x / sqrt 2)) / 2, level by level in place
        total = ((self.levels[0] + self.levels[-1]) / 2).expand_as(f).clone()
        for theta, half in zip(member.theta, (self.levels.diff() / 2).tolist(), strict=True):
            total.add_(((f - theta) * narrow).erf_(), alpha=half)
        return total

    def variance(self, member: Member, f: Tensor) -> Tensor:
        """Var[r] of latent scores, in scaled units; 0 without the ordinal head."""
        if not self.ordinal:
            return torch.zeros_like(f)
        above = self.above(member, f)
        second = self.levels[0].square() + above @ self.levels.square().diff()
        return second - (self.levels[0] + above @ self.levels.diff()).square()

    def loss(self, member: Member, f: Tensor, rating: Tensor) -> Tensor:
        """Mean squared error, or the ordinal head's negative log-likelihood in about the same units."""
        if not self.ordinal:
            return (f - rating).square().mean()
        level = torch.bucketize(rating, self.levels - 1e-4, right=True) - 1
        above = nn.functional.pad(nn.functional.pad(self.above(member, f), (1, 0), value=1.0), (0, 1))
        within = above.gather(1, level[:, None]) - above.gather(1, level[:, None] + 1)
        return -1.7 * within.clamp(min=1e-6).log().mean()

    # ------------------------------------------------------------ prediction, all ratings in view

    def train(self, mode: bool = True) -> AANMFppModule:
        """Forgets what was computed for prediction when it goes back to training."""
        if mode:
            self._view, self._ready = None, []
        super().train(mode)
        return self

    def _prepare(self) -> tuple[View, list[Encoded]]:
        """All training ratings in view, and what the members make of them; computed once."""
        if self._view is None:
            with torch.no_grad():
                self._view = View.of(self.history)
                seen = self._view.seen
                self._ready = [self.tables(member, self.encode(member, seen)) for member in self._members()]
        return self._view, self._ready

    def _members(self) -> list[Member]:
        return list(self.members)  # type: ignore[arg-type]

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.forward`: the mean of the members, as far as it is trusted over damped means."""
        each = [self.expected(member, f) for member, f in self.each(users, items, sets)]
        return self.blend(self.mean_of(each, self.is_new(users, items)), self.means(users, items)) / self.scale

    def is_new(self, users: Tensor, items: Tensor) -> Tensor:
        """Whether the user or the item has no training rating."""
        n_user, n_item = self.counts(users, items)
        return (n_user == 0) | (n_item == 0)

    def mean_of(self, each: list[Tensor], new: Tensor) -> Tensor:
        """The mean of the members' figures; for new users and items that of the member who learned for them."""
        if self.config.cold == 0:
            return torch.stack(each).mean(0)
        *known, newcomer = each
        return torch.where(new, newcomer, torch.stack(known).mean(0))

    def each(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> list[tuple[Member, Tensor]]:
        """The members and their latent scores (B,), in scaled units."""
        _, ready = self._prepare()
        sets = self.sets.rows(users) if sets is None else sets
        features = self._features(users, items)
        return [
            (member, self.latent(member, encoded, users, items, sets, features))
            for member, encoded in zip(self._members(), ready, strict=True)
        ]

    def blend(self, model: Tensor, means: Tensor) -> Tensor:
        """Between damped means (trust 0) and the model (trust 1)."""
        return means + self.trust * (model - means)

    def means(self, users: Tensor, items: Tensor) -> Tensor:
        """Damped means (B,) in scaled units: the prediction that is hard to beat where ratings are few."""
        plain = self._prepare()[0].plain
        return plain.mean + plain.user_offset[users] + plain.item_offset[items]

    def interval(
        self, users: Tensor, items: Tensor, coverage: float, sets: AttributeSet | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `RatingModule.interval`."""
        each, new = self.each(users, items, sets), self.is_new(users, items)
        model = self.mean_of([self.expected(member, f) for member, f in each], new)
        variance = self.mean_of([self.variance(member, f) for member, f in each], new)
        rating = self.blend(model, self.means(users, items))
        width = self.errors.width(coverage) * self.errors.spread(variance, *self.counts(users, items))
        return rating / self.scale, (rating - width) / self.scale, (rating + width) / self.scale

    def counts(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Training ratings of users and of items, (B,) each."""
        seen = self._prepare()[0].seen
        return seen.n_user[users], seen.n_item[items]

    def fold_in(self, user: int, sets: AttributeSet | None, items: Tensor, ratings: Tensor) -> Tensor:
        """See `RatingModule.fold_in`: the equations on top of the file with a longer history, nothing retrained."""
        h, (view, ready) = self.history, self._prepare()
        old = h.rows_of(user)
        old = old[~torch.isin(h.item[old], items)]  # a new rating replaces the old one
        items, ratings = torch.cat([h.item[old], items]), torch.cat([h.rating[old], ratings * self.scale])
        at = torch.tensor([user], device=items.device)
        sets = self.sets.rows(at) if sets is None else sets
        offset, residual = h.offset_of(view.seen, items, ratings, h.damping)
        features = None
        if self.ridge:
            _, target = h.offset_of(self.ridge.seen, items, ratings, self.ridge.damping)
            features = self.ridge.of_history(user, items, target)[:-1]
        scale = shrinkage(torch.tensor([len(items)], device=items.device), h.power[0])[0]
        each, every = [], torch.arange(self.n_items, device=items.device)
        for member, encoded in zip(self._members(), ready, strict=True):
            x = member.p[user]
            if self.config.history:
                x = x + scale * (member.y[items].sum(0) + residual @ member.c[items])
            f = view.seen.mean + offset + x[-1] + encoded.b_i[:-1] + encoded.z[:-1] @ x[:-1]
            f = f + self._attribute_scores(member, encoded, sets, every)[0]
            each.append(self.expected(member, f if features is None else f + features @ member.t))
        new = (view.seen.n_item[:-1] == 0) | (len(items) == 0)
        plain_offset, _ = h.offset_of(view.plain, items, ratings, PLAIN)
        means = view.plain.mean + plain_offset + view.plain.item_offset[:-1]
        return self.blend(self.mean_of(each, new), means) / self.scale

    def _features(self, users: Tensor, items: Tensor) -> Tensor:
        return self.ridge.features(users, items) if self.ridge else torch.zeros(len(users), 0, device=users.device)

    def attention(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.attention`: the mean over the members."""
        _, ready = self._prepare()
        sets = self.sets.rows(users) if sets is None else sets
        pairs = zip(self._members(), ready, strict=True)
        each = [self.weights(member, encoded, items, sets) for member, encoded in pairs]
        return self.mean_of(each, self.is_new(users, items)[:, None])

    @torch.no_grad()
    def settle(self, rated_users: Tensor, rated_items: Tensor) -> None:
        """Users and items without training ratings have no vector of their own: their history is empty too."""
        for member in self._members():
            for table in (member.p, member.w, member.d):
                table[~rated_users] = 0
            for table in (member.q, member.y, member.c):
                table[~rated_items] = 0

    def sides(self) -> tuple[Side, Side]:
        """See `RatingModule.sides`: mean biases, and the vectors of the members one after another."""
        _, ready = self._prepare()
        x, z = torch.cat([each.x for each in ready], dim=1), torch.cat([each.z for each in ready], dim=1)
        b_u, b_i = (sum(side) / len(ready) / self.scale for side in zip(*((e.b_u, e.b_i) for e in ready), strict=True))
        return Side(b_u, x), Side(b_i, z)

    @torch.no_grad()
    def export_form(self) -> nn.Module:
        """See `RatingModule.export_form`."""
        view, ready = self._prepare()
        shared = EnsembleTables(
            self.levels,
            self.trust,
            self.scale,
            view.plain.mean + view.plain.user_offset,
            view.plain.item_offset,
            view.seen.n_user == 0,
            view.seen.n_item == 0,
        )
        members = [self._tables_of(*each) for each in zip(self._members(), ready, strict=True)]
        sets, attention = self.sets if self.attend else None, self.config.attention
        return AANMFppForm(members, shared, sets, self.ridge, attention, self.ordinal, self.config.cold > 0)

    def _tables_of(self, member: Member, encoded: Encoded) -> MemberTables:
        a, cell = member.a(self.sets.vectors), member.cell
        a, beta = a[:, :-1], a[:, -1]
        return MemberTables(
            encoded.b_u,
            encoded.x,
            encoded.b_i,
            encoded.z,
            a,
            beta,
            cell.value(a),
            cell.item(encoded.z),
            cell.out.weight[0],
            member.t,
            member.theta,
            member.log_sigma.exp()[None],
        )

    @property
    def n_items(self) -> int:
        """Items known by id."""
        return self.shape[1] - 1

    def catalogue(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Scores of all items; attention as two matrix products over all attribute values."""
        self._prepare()
        sets = self.sets.rows(users) if sets is None else sets
        many, few = (max(1, numbers // max(1, self.n_items)) for numbers in (CATALOGUE, CATALOGUE // 32))
        for part in torch.arange(len(users), device=users.device).split(many):
            features = self.ridge.of_catalogue(users[part])[..., :-1] if self.ridge else None
            for rows in torch.arange(len(part), device=users.device).split(few):
                own = None if features is None else features[:, rows[0] : rows[-1] + 1]
                yield part[rows], self._catalogue(users[part[rows]], sets.rows(part[rows]), own)

    def _catalogue(self, users: Tensor, sets: AttributeSet, features: Tensor | None) -> Tensor:
        """Scores (b, I) of all items, given the ridge's features (F, b, I)."""
        _, ready = self._prepare()
        members = list(zip(self._members(), ready, strict=True))
        items = torch.arange(self.n_items, device=users.device)
        pairs, size = (users[:, None], items[None]), self.config.members
        model = torch.stack([self._scores(*each, users, items, sets, features) for each in members[:size]]).mean(0)
        new = self.is_new(*pairs)
        if self.config.cold > 0 and len(late := new.any(0).nonzero()[:, 0]):  # items that the newcomers' member rates
            newcomer = self._scores(
                *members[-1], users, late, sets, features if features is None else features[..., late]
            )
            model[:, late] = torch.where(new[:, late], newcomer, model[:, late])
        return self.blend(model, self.means(*pairs)) / self.scale

    def _scores(
        self,
        member: Member,
        encoded: Encoded,
        users: Tensor,
        items: Tensor,
        sets: AttributeSet,
        features: Tensor | None,
    ) -> Tensor:
        """E[r] (b, m) of some users and items, given their features (F, b, m)."""
        f = torch.addmm(encoded.b_i[items], encoded.x[users], encoded.z[items].T)
        f = f + encoded.b_u[users][:, None] + self._attribute_scores(member, encoded, sets, items)
        return self.expected(member, f if features is None else f + torch.tensordot(member.t, features, 1))

    def _attribute_scores(self, member: Member, encoded: Encoded, sets: AttributeSet, items: Tensor) -> Tensor:
        """sum_j lambda_j(i) weight_j (a_j . z_i + beta_j) (b, m): numerator and denominator of the softmax apart."""
        if not self.attend:
            return torch.zeros(len(sets.mask), len(items), device=sets.mask.device)
        if encoded.table is not None:
            place, value, power = sets.value, encoded.table.value[items], encoded.table.power[items]
        else:  # of the values that these users have
            some, place = torch.unique(sets.value, return_inverse=True)
            table = self.attended(member, encoded.z[items], member.a(sets.vectors)[some])
            value, power = table.value, table.power
        empty = torch.zeros(len(sets.mask), value.shape[1], device=sets.mask.device)
        weight = empty.scatter_add(1, place, sets.weight * sets.mask)
        if not self.config.attention:
            return weight @ value.T
        there = empty.scatter_add(1, place, sets.mask.float())
        return (weight @ (power * value).T) / (there @ power.T).clamp(min=1e-30)


def _cells(table: Tensor, items: Tensor, value: Tensor) -> Tensor:
    """table[items, value] (B, J) of a table (I, V)."""
    cells = items[:, None] * table.shape[1] + value
    return table.reshape(-1).index_select(0, cells.reshape(-1)).view(value.shape)


def member_groups(member: Member, l2: float) -> Iterable[tuple[float, list[nn.Parameter]]]:
    """l2 of the tables of one member: which items were rated (y) and by whom (w) count less than how."""
    yield l2, [member.p, member.q, member.c, member.d, *member.a.parameters(), *member.g.parameters()]
    yield 0.4 * l2, [member.y]
    yield 0.2 * l2, [member.w]
