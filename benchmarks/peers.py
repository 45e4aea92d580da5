"""Other libraries on our data sets: each takes training and test ratings and returns predictions of the test pairs.

myFM gets what an expert would give it: ids, attributes of both sides, and histories both ways, every kind in a group of
its own. Nothing is learned from the test part; its pairs are needed because myFM predicts while it samples.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from aanmf import RatingDataset
from aanmf.data.attributes import AttributeEncoder, AttributeSet
from aanmf.data.context import ContextEncoder

if TYPE_CHECKING:
    from surprise import SVDpp

Predictions = NDArray[np.float64]
MYFM_RANK, MYFM_ITERATIONS, LEVELS, DAY = 32, 300, 25, 86_400


def damped_means(train: RatingDataset, test: RatingDataset, damping: float = 5.0) -> Predictions:
    """mu + b_i + b_u with pseudo-counts: hard to beat where ratings are few."""
    mu = train.rating.astype(np.float64).mean()
    left = train.rating - mu
    n_item, n_user = (
        np.bincount(train.item, minlength=len(train.items)),
        np.bincount(train.user, minlength=len(train.users)),
    )
    b_i = np.bincount(train.item, left, len(train.items)) / (n_item + damping)
    b_u = np.bincount(train.user, left - b_i[train.item], len(train.users)) / (n_user + damping)
    return mu + b_u[test.user] + b_i[test.item]


def surprise_fit(train: RatingDataset, seed: int, **settings: object) -> SVDpp:
    """Surprise's SVD++ (Cython), with its defaults (20 factors, 20 epochs) unless told otherwise."""
    import pandas as pd
    from surprise import Dataset, Reader, SVDpp

    low, high = train.scale or (float(train.rating.min()), float(train.rating.max()))
    frame = pd.DataFrame({"u": train.user, "i": train.item, "r": train.rating})
    ratings = Dataset.load_from_df(frame, Reader(rating_scale=(low, high))).build_full_trainset()
    return SVDpp(random_state=seed, cache_ratings=True, **settings).fit(ratings)


def surprise_svdpp(train: RatingDataset, test: RatingDataset, seed: int) -> Predictions:
    """Predictions of `surprise_fit`."""
    model = surprise_fit(train, seed)
    return np.array([model.predict(u, i).est for u, i in zip(test.user.tolist(), test.item.tolist(), strict=True)])


def myfm_regression(train: RatingDataset, test: RatingDataset, seed: int, attributes: bool = True) -> Predictions:
    """myFM's Gibbs sampler for squared error."""
    import myfm

    design = Design(train, attributes)
    model = myfm.MyFMRegressor(rank=MYFM_RANK, random_seed=seed)
    relations = design.relations(train)
    shapes = design.group_shapes
    model.fit(design.none(train), train.rating, relations, n_iter=MYFM_ITERATIONS, group_shapes=shapes)
    return np.asarray(model.predict(design.none(test), design.relations(test)))


def myfm_ordered(train: RatingDataset, test: RatingDataset, seed: int, attributes: bool = True) -> Predictions:
    """myFM's ordered probit: the expected rating over the levels that occur."""
    import myfm

    design = Design(train, attributes)
    levels, code = np.unique(train.rating, return_inverse=True)
    model = myfm.MyFMOrderedProbit(rank=MYFM_RANK, random_seed=seed)
    relations = design.relations(train)
    model.fit(design.none(train), code, relations, n_iter=MYFM_ITERATIONS, group_shapes=design.group_shapes)
    return model.predict_proba(design.none(test), design.relations(test)) @ levels


def myfm_in_context(train: RatingDataset, test: RatingDataset, seed: int) -> Predictions:
    """The same with the context of the ratings, a group per attribute, and one of the days where times are known.

    Ratings of too many levels for an ordered probit are predicted by the sampler for squared error.
    """
    import myfm

    design, encoder = Design(train, attributes=True), ContextEncoder.fit(train.context, train.time)
    levels, code = np.unique(train.rating, return_inverse=True)
    kind = myfm.MyFMOrderedProbit if len(levels) <= LEVELS else myfm.MyFMRegressor
    of_train, of_test = (_of_ratings(encoder, data, train) for data in (train, test))
    model = kind(rank=MYFM_RANK, random_seed=seed)
    shapes = [*(part.get_shape()[1] for part in of_train), *design.group_shapes]
    whole: list[Any] = [
        sp.hstack([design.none(data), *parts], format="csr") for data, parts in ((train, of_train), (test, of_test))
    ]
    truth = code if len(levels) <= LEVELS else train.rating
    model.fit(whole[0], truth, design.relations(train), n_iter=MYFM_ITERATIONS, group_shapes=shapes)
    if isinstance(model, myfm.MyFMRegressor):
        return np.asarray(model.predict(whole[1], design.relations(test)))
    return model.predict_proba(whole[1], design.relations(test)) @ levels


def _of_ratings(encoder: ContextEncoder, data: RatingDataset, train: RatingDataset) -> list[sp.csr_matrix]:
    """One block per context attribute, and one of the days that have training ratings."""
    context = encoder.transform(data.context, data.time)
    blocks = []
    for fitted, sets in zip(encoder.attributes.fitted, context.sets, strict=True):
        blocks += _attributes(AttributeEncoder(fitted=(fitted,)), sets)
    if context.time is not None and train.time is not None:
        days, of_data = np.unique(train.time // DAY), data.time // DAY
        known = np.isin(of_data, days).nonzero()[0]
        place = np.searchsorted(days, of_data[known])
        blocks.append(sp.csr_matrix((np.ones(len(known)), (known, place)), shape=(len(data), len(days))))
    return blocks


class Design:
    """Features of users and of items as relation blocks, from training ratings only."""

    def __init__(self, train: RatingDataset, attributes: bool) -> None:
        n_users, n_items = len(train.users), len(train.items)
        rated = sp.csr_matrix((np.ones(len(train)), (train.user, train.item)), shape=(n_users, n_items))
        self.user: list[sp.csr_matrix] = [sp.csr_matrix(sp.identity(n_users))]
        self.item: list[sp.csr_matrix] = [sp.csr_matrix(sp.identity(n_items))]
        if attributes:
            user_encoder = AttributeEncoder.fit(train.users, np.unique(train.user))
            item_encoder = AttributeEncoder.fit(train.items, np.unique(train.item))
            self.user += [_by_length(rated), *_attributes(user_encoder, user_encoder.transform(train.users))]
            self.item += [_by_length(rated.T.tocsr()), *_attributes(item_encoder, item_encoder.transform(train.items))]
        self.group_shapes = [part.get_shape()[1] for part in (*self.user, *self.item)]

    def relations(self, data: RatingDataset) -> list[Any]:
        """One block per side."""
        import myfm

        block: Any = myfm.RelationBlock  # its annotations are narrower than what it takes
        sides = ((data.user, self.user), (data.item, self.item))
        return [block(np.asarray(index), sp.hstack(parts, format="csr")) for index, parts in sides]

    def none(self, data: RatingDataset) -> sp.csr_matrix:
        """No features beside the blocks."""
        return sp.csr_matrix((len(data), 0), dtype=np.float64)


def _by_length(rated: sp.csr_matrix) -> sp.csr_matrix:
    """Rows divided by the square root of their length."""
    count = np.maximum(np.diff(rated.indptr), 1)
    return sp.diags(count**-0.5) @ rated


def _attributes(encoder: AttributeEncoder, slots: AttributeSet) -> list[sp.csr_matrix]:
    """One block per attribute, its values weighted as our models see them."""
    filled = (slots.mask & (slots.value < encoder.n_values)).numpy()
    value, weight = slots.value.numpy()[filled], slots.weight.numpy()[filled].astype(np.float64)
    every = sp.csr_matrix((weight, (filled.nonzero()[0], value)), shape=(len(slots), encoder.n_values))
    owner = encoder.attribute_of_value()
    return [every[:, owner == j] for j in range(len(encoder.names)) if (owner == j).any()]
