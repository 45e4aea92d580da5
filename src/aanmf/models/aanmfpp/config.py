"""Settings of AANMF++."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aanmf.contract import FactorConfig

Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Limit = Annotated[int, Field(ge=1)]


class AANMFppConfig(FactorConfig):
    """Settings of `AANMFpp`."""

    epochs: int = Field(default=8, ge=1)
    """Passes over the training ratings; fewer where there are so many that an epoch has more than two steps a part."""
    learning_rate: float = Field(default=1e-2, gt=0)
    """Adam's step size at the start; it falls to 0 along half a cosine."""
    attention_rate: float | None = Field(default=None, gt=0)
    """Multiple of the learning rate with which the attention cell learns; None: 1, or 10 where histories are left out,
    and attention has few steps in which to become different from equal weights."""
    members: int = Field(default=4, ge=1, le=64)
    """Models that are averaged; they differ in seed and in the order of the parts. With more than `search_ratings`, as
    few of them as held-out ratings are predicted as well by."""
    cold: float = Field(default=0.15, ge=0, lt=1)
    """One more member, for users and items without ratings, learns with this share of them treated as new; 0: none."""
    parts: int | None = Field(default=None, ge=2, le=1000)
    """Every epoch cuts the ratings into so many parts, each fitted with the others in view; None: n / 1000, 5 to 20."""
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps per part; None: 1 up to 160,000 ratings, then growing with the cube root of their number."""

    sampled: tuple[Limit, Limit] = (200, 500)
    """Of longer histories, and of larger audiences, so many ratings are read in training, drawn for each part. Where
    that leaves half of all ratings or more, all are read."""

    attention: bool | Literal["uniform"] = True
    """`uniform`: attributes are averaged, each with weight 1 / J; False: they are added, each with weight 1."""
    history: bool = True
    """False: without the histories of users and the audiences of items."""
    user_attributes: bool = True
    """False: without the attributes of users."""
    item_attributes: bool = True
    """False: without the attributes of items."""
    ridge: bool = True
    """False: without the kernel ridge feature."""
    context: bool = True
    """False: without the context of ratings. It is also left out where held-out ratings are predicted better so."""
    drift: bool = True
    """False: without the time of ratings, where it is context."""
    future: bool = False
    """With times: whether ratings given later than the one to predict count. True only to compare with others that do,
    on a random split: at work, nothing is known of the future."""
    ordinal: bool = True
    """False: squared error in place of the ordinal head."""

    l2: float | None = Field(default=None, ge=0)
    """Penalty on all tables, (l2 / n ratings) * sum of squares; None: chosen on held-out training ratings."""
    l2_candidates: tuple[Amount, ...] = Field(default=(30.0, 70.0, 160.0, 400.0), min_length=1)
    """Values that `l2` is chosen from."""
    l2_shares: tuple[Amount, Amount] = (0.4, 0.2)
    """Shares of `l2` on the tables that say which items a user rated (y), and which users rated an item (w)."""

    damping: tuple[Positive, Positive] = (100.0, 40.0)
    """Ratings of value 0 added to each user's and each item's, to draw their offsets b_u and b_i towards 0."""
    exponents: tuple[float, float] = (0.7, 0.6)
    """Sums over the history of a user, and the audience of an item, shrink with n to the power of minus these."""
    means_damping: tuple[Positive, Positive] = (5.0, 5.0)
    """The same as `damping`, in the damped means that the model is blended with."""
    rating_std: float = Field(default=1.1, gt=0)
    """Inside the model ratings are scaled to this standard deviation, so that one setting suits all scales."""
    ordinal_levels: int = Field(default=25, ge=2, le=1000)
    """The head is ordinal where there are at most so many distinct ratings."""

    ridge_strengths: tuple[Positive, ...] = Field(default=(1.2, 2.7, 8.0), min_length=1)
    """Penalties of the kernel ridge regressions; each gives one feature."""
    ridge_share: float = Field(default=0.3, ge=0)
    """Weight of equal item attributes, and of a constant, in the similarity of items."""
    ridge_damping: tuple[Positive, Positive] = (15.0, 15.0)
    """The same as `damping`, in the residuals that the regressions explain."""
    ridge_ratings: int = Field(default=3000, ge=1)
    """Users with more ratings than this have no regression: it costs the third power of their number."""
    ridge_items: int = Field(default=12_000, ge=1)
    """With more items than this, their similarity, a matrix of items by items, is approximated with a low rank."""
    ridge_rank: int = Field(default=128, ge=1, le=4096)
    """That rank. Regressions then cost in proportion to ratings, and `ridge_ratings` does not apply."""

    validation_ratings: int = Field(default=5000, ge=1)
    """Held-out ratings that choices should rest on: small data sets are cut several times."""
    search_ratings: int = Field(default=2_000_000, ge=1)
    """Choices are made on half of the ratings, all those of some users drawn at random: on this many at most, and on
    500,000 at least."""
    validation_cuts: int = Field(default=5, ge=1)
    """Cuts into training and held-out ratings, at most."""
    simplify_up_to: int = Field(default=50_000, ge=0)
    """It is tried whether the model does better without histories and ridge; with at most so many ratings also without
    attributes, and without both. 0: everything stays."""

    match: bool = True
    """False: only ratings are learned, not what users choose; lists are then ranked by predicted rating."""
    match_items: int = Field(default=12_000, ge=1)
    """Items with a place in the item-item matrices of choice, the most rated first."""
    match_ratings: int = Field(default=3, ge=1)
    """Items with fewer ratings have no place in them."""
    match_landmarks: int = Field(default=1000, ge=1)
    """Users, drawn at random, whose histories others' are compared with."""

    @property
    def uses_context(self) -> bool:
        """See `ModelConfig.uses_context`."""
        return self.context or self.drift

    @property
    def l2_tried(self) -> tuple[float, ...]:
        """The values of l2 that are compared on held-out ratings."""
        return self.l2_candidates if self.l2 is None else (self.l2,)

    @property
    def l2_middle(self) -> float:
        """The value of l2 where it is not chosen."""
        return self.l2_tried[(len(self.l2_tried) - 1) // 2]
