"""A Bayesian factorisation machine over ids, attributes and who rated what, by Gibbs sampling (`gibbs.py`).

    f_ui = x_u . z_i + b_u + b_i
    x_u  = p_u + s_u sum_{k in N(u)} y_k + sum_j weight_j a_j     history as in SVD++, and attributes of the user
    z_i  = q_i + s_i sum_{v in N(i)} w_v + sum_g weight_ig g_g    audience, and attributes of the item
    P(r > level k) = Phi((f_ui - theta_k) / sigma),   prediction = E[r]

with b_u and b_i in one more column of each table. These are the features of S. Rendle, L. Zhang, Y. Koren: On the
difficulty of evaluating baselines (2019); pairs of features within a side would add to b alone and are left to it.
Where ratings are continuous, f is the prediction. All tables are drawn from their posterior distribution; the model
holds the mean of f over the draws, in tables of `rank` columns, and sigma^2 = 1 + the mean variance of f.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from aanmf.contract import ModelConfig, Ratings, Side, TrainingData
from aanmf.data.attributes import AttributeSet
from aanmf.models.gibbs import KEPT, Entries, MeanProduct, Probit, SideSampler, gamma
from aanmf.models.inner_product import InnerProductModule
from aanmf.models.kernels import weighted_sum
from aanmf.models.layers import AttributeEmbedding
from aanmf.training.log import TrainingLog
from aanmf.training.predict import pick_device


class BayesFMConfig(ModelConfig):
    """Settings of `BayesFM`."""

    factors: int = Field(default=16, ge=1, le=256)
    """K, the number of latent factors of a draw."""
    sweeps: int = Field(default=150, ge=2)
    """Draws of all tables, one after another."""
    burn_in: int = Field(default=30, ge=0)
    """The first draws, which are left out of the mean; at most all but one."""
    rank: int = Field(default=32, ge=1, le=KEPT)
    """Columns of the tables that hold the mean of the draws."""
    user_attributes: bool = True
    """Whether the user's attributes are features."""
    item_attributes: bool = True
    """Whether the item's attributes are features."""
    history_cells: int = Field(default=50_000_000, ge=0)
    """Which items a user rated, and which users an item, are features if users times items are at most so many."""
    exponents: tuple[float, float] = (0.7, 0.6)
    """By which the sums over a user's history and an item's audience shrink with the number of ratings."""
    ordinal: bool = True
    """False: a normal output in place of the ordinal one."""
    ordinal_levels: int = Field(default=25, ge=2)
    """With more distinct ratings than this, the output is normal."""


class Rows(nn.Module):
    """One side after sampling: rows of each user (item) by id, and of each attribute value; the bias is last."""

    def __init__(self, n: int, columns: int, sets: AttributeSet) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.zeros(n, columns), requires_grad=False)
        self.attribute = AttributeEmbedding(sets, columns).requires_grad_(False)
        for table in self.attribute.parameters():
            table.zero_()

    def forward(self, rows: Tensor, sets: AttributeSet) -> Side:
        """Biases and vectors of users (items) with these attributes."""
        x = self.own[rows] + weighted_sum(self.attribute(sets.vectors), sets.value, sets.weight * sets.mask)
        return Side(x[:, -1], x[:, :-1])


class BayesFMModule(InnerProductModule):
    """The equations above, with tables that hold the mean of f over all draws."""

    levels: Tensor
    output: Tensor

    @torch.no_grad()
    def __init__(self, config: BayesFMConfig, training: TrainingData) -> None:
        super().__init__()
        self.config, self.sets, self.item_sets = config, training.users, training.items
        self.user = Rows(training.n_users + 1, config.rank + 1, training.users)
        self.item = Rows(training.n_items + 1, config.rank + 1, training.items)
        levels = torch.unique(training.train.rating)
        self.ordinal = config.ordinal and 2 <= len(levels) <= config.ordinal_levels
        self.register_buffer("levels", levels if self.ordinal else levels[:1], persistent=False)
        self.theta = nn.Parameter(torch.zeros(len(self.levels) - 1), requires_grad=False)
        self.sigma = nn.Parameter(torch.ones(()), requires_grad=False)
        rating = training.train.rating.double()
        centre = torch.stack([rating.mean(), rating.std(correction=0).clamp(min=1e-3)]).float()
        self.register_buffer("output", centre, persistent=False)  # mean and standard deviation of the ratings

    def user_side(self, users: Tensor, sets: AttributeSet | None = None) -> Side:
        """See `InnerProductModule.user_side`; in units of f."""
        return self.user(users, self.sets.rows(users) if sets is None else sets)

    def item_side(self, items: Tensor) -> Side:
        """See `InnerProductModule.item_side`; in units of f."""
        return self.item(items, self.item_sets.rows(items))

    def forward(self, users: Tensor, items: Tensor, sets: AttributeSet | None = None) -> Tensor:
        """See `RatingModule.forward`."""
        return self.expected(super().forward(users, items, sets))

    def catalogue(self, users: Tensor, sets: AttributeSet | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `RatingModule.catalogue`."""
        for part, f in super().catalogue(users, sets):
            yield part, self.expected(f)

    def expected(self, f: Tensor) -> Tensor:
        """E[r] of latent scores: r_0 + sum_k (r_k+1 - r_k) P(r > level k)."""
        if not self.ordinal:
            return self.output[0] + self.output[1] * f
        total = self.levels[0].expand_as(f).clone()
        for theta, step in zip(self.theta, self.levels.diff(), strict=True):
            total += step * torch.special.ndtr((f - theta) / self.sigma)
        return total

    def user_tables(self) -> list[Tensor]:
        """What belongs to users by id."""
        return [self.user.own]

    def item_tables(self) -> list[Tensor]:
        """What belongs to items by id."""
        return [self.item.own]


class Sampled:
    """The users (items) with ratings while they are sampled: their draws, and the features that explain them.

    Args:
        sets: attributes of all users, and of an unknown one.
        known: (n,) positions of those with ratings.
        entries: their ratings.
        history: (n, m) what they rated, times s_u; None: no feature.
        attributes: whether attributes are features.
        factors: K.
        generator: of all draws.
    """

    def __init__(
        self,
        sets: AttributeSet,
        known: Tensor,
        entries: Entries,
        history: Tensor | None,
        attributes: bool,
        factors: int,
        generator: torch.Generator,
    ) -> None:
        self.sets, self.known, self.explains_attributes = sets, known, attributes
        found = []
        if attributes:
            own = sets.rows(known)
            values = torch.block_diag(torch.eye(sets.n_values), *sets.vectors)  # (V, d)
            found.append(weighted_sum(values, own.value, own.weight * own.mask))
        if history is not None:
            found.append(history)
        self.sampler = SideSampler(entries, found, len(known), factors, generator)

    def draw(self) -> Tensor:
        """What belongs to each user by id, then to each attribute value, (n_users + 1 + d, K + 1)."""
        sampler, size = self.sampler, len(self.sets)
        own, parts = sampler.x, []
        if self.explains_attributes:
            of_attributes = sampler.features[0]
            own, parts = own - of_attributes.effect, [of_attributes.coefficients()]
        return torch.cat([sampler.mean.repeat(size, 1).index_copy_(0, self.known, own), *parts])

    def fill(self, rows: Rows, tables: Tensor) -> None:
        """Takes the mean of all draws apart."""
        tables_of_values = [rows.attribute.weight[: self.sets.n_values], *rows.attribute.projections]
        parts = [rows.own, *tables_of_values] if self.explains_attributes else [rows.own]
        for part, mean in zip(parts, tables.split([len(part) for part in parts]), strict=True):
            part.copy_(mean)


@torch.no_grad()
def fit_bayesfm(
    build: Callable[[BayesFMConfig, TrainingData], BayesFMModule],
    training: TrainingData,
    config: BayesFMConfig,
    *_: object,
) -> tuple[BayesFMModule, TrainingLog]:
    """Samples, on the CPU; the signature is that of `training.trainer.fit_module`."""
    generator, train = torch.Generator().manual_seed(config.seed), training.train
    with torch.random.fork_rng(devices=[]):  # all tables are overwritten
        module = build(config, training)
    (known_users, user), (known_items, item) = (
        torch.unique(each, return_inverse=True) for each in (train.user, train.item)
    )
    entries = Entries(user, item, len(known_users)), Entries(item, user, len(known_items))
    histories: tuple[Tensor | None, Tensor | None] = None, None
    if training.n_users * training.n_items <= config.history_cells:
        rated = torch.zeros(len(known_users), len(known_items)).index_put_((user, item), torch.ones(len(train)))
        of_user, of_item = (
            matrix.sum(1, keepdim=True) ** -e for matrix, e in zip((rated, rated.T), config.exponents, strict=True)
        )
        histories = rated * of_user, rated.T * of_item
    rest = config.factors, generator
    users = Sampled(training.users, known_users, entries[0], histories[0], config.user_attributes, *rest)
    items = Sampled(training.items, known_items, entries[1], histories[1], config.item_attributes, *rest)
    sample(module, Ratings(user, item, train.rating), users, items, generator)
    return module.to(pick_device(config.device)).eval(), TrainingLog()


def sample(module: BayesFMModule, train: Ratings, users: Sampled, items: Sampled, generator: torch.Generator) -> None:
    """Draws all tables again and again, and fills the module with the means.

    Args:
        module: to fill.
        train: the ratings, by positions among the users and items that have any.
        users, items: the two sides.
        generator: of all draws.
    """
    config, n = module.config, len(train)
    level = torch.searchsorted(module.levels, train.rating) if module.ordinal else None
    probit = None if level is None else Probit(level, len(module.levels))
    target, precision = (train.rating - module.output[0]) / module.output[1], 1.0
    size = len(users.draw()), len(items.draw())
    products, biases, theta = MeanProduct(*size), [torch.zeros(each) for each in size], torch.zeros_like(module.theta)
    total, squares = torch.zeros(2, n, dtype=torch.float64)
    f = torch.zeros(n)
    for sweep in range(config.sweeps):
        if probit is not None:
            target = probit.sample(f, generator)
        else:
            precision = gamma(1 + n / 2, generator) / (1 + float((target - f).square().sum()) / 2)
        for side, other in ((users, items), (items, users)):
            side.sampler.sample(other.sampler.x, target, precision)
        x, z = users.sampler.x[train.user], items.sampler.x[train.item]
        f = (x[:, :-1] * z[:, :-1]).sum(1) + x[:, -1] + z[:, -1]
        if sweep < min(config.burn_in, config.sweeps - 1):
            continue
        draws = users.draw(), items.draw()
        products.add(*(each[:, :-1] for each in draws))
        for bias, each in zip(biases, draws, strict=True):
            bias += each[:, -1]
        total, squares = total + f, squares + f.double().square()
        theta += module.theta if probit is None else probit.theta
    draws = products.draws
    for side, rows, vectors, bias in zip(
        (users, items), (module.user, module.item), products.tables(config.rank), biases, strict=True
    ):
        side.fill(rows, torch.cat([vectors, bias[:, None] / draws], dim=1))
    module.theta.copy_(theta / draws)
    module.sigma.copy_((1 + (squares / draws - (total / draws).square()).mean()).sqrt())
