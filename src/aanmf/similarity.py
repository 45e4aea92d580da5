"""How alike items (or users) are, for `similar`, `similar_users` and diverse lists.

    s_ij = n_ij / (n_ij + 5) cos(x_i, x_j) + 0.1 cos(a_i, a_j), at most 1

x_i are the ratings of item i as a vector over users, each user's entry divided by the square root of the number of
items that he rated, n_ij counts the users who rated both, and a_i is the vector of attribute values. Items without
ratings are compared by attributes alone. For users, users and items change roles.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

from aanmf.data.attributes import AttributeSet
from aanmf.fitted import EntitySide, Fitted

SHRINKAGE = 5.0
"""So many users in common make a cosine count half."""
ATTRIBUTES = 0.1
"""Weight of the cosine of attributes."""


class Similarity:
    """Similarity of the items, or of the users, of a fitted model."""

    def __init__(self, fitted: Fitted, side: EntitySide) -> None:
        self.side, train = side, fitted.training.train
        other = fitted.items if side is fitted.users else fitted.users
        user, item = np.asarray(train.user), np.asarray(train.item)
        row, col = (item, user) if side.name == "item" else (user, item)
        shape = len(side), len(other)
        self.rated = csr_array((np.ones(len(row), np.float32), (row, col)), shape)
        scaled = csr_array(((1 / np.sqrt(other.n_ratings[col])).astype(np.float32), (row, col)), shape)
        self.unit = _unit(scaled)
        self.attributes = _unit(_one_hot(side.attributes)[: len(side)])

    def among(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, n) of some rows."""
        together = (self.rated[rows] @ self.rated[rows].T).toarray()
        cosine = (self.unit[rows] @ self.unit[rows].T).toarray()
        return _blend(together, cosine, (self.attributes[rows] @ self.attributes[rows].T).toarray())

    def to_all(self, row: int) -> NDArray[np.float32]:
        """(n,) of one row to all."""
        together = (self.rated @ self.rated[[row]].T).toarray()[:, 0]
        cosine = (self.unit @ self.unit[[row]].T).toarray()[:, 0]
        return _blend(together, cosine, (self.attributes @ self.attributes[[row]].T).toarray()[:, 0])

    def to_new(self, attributes: AttributeSet) -> NDArray[np.float32]:
        """(n,) cosines of the attributes of a new item (user), a set of one row, to those of all."""
        return (self.attributes @ _unit(_one_hot(attributes)).T).toarray()[:, 0]


def diversified(
    score: NDArray[np.float32], similarity: NDArray[np.float32], n: int, diversity: float
) -> NDArray[np.int64]:
    """Places of n of m candidates by maximal marginal relevance (Carbonell and Goldstein 1998).

    Picks in turn the candidate with the greatest (1 - d) s_i - d max_j sim_ij over those j picked before, s the scores
    on a scale from 0 to 1. At d = 0 that is the order of the scores.

    Args:
        score: (m,) finite.
        similarity: (m, m).
        n: how many.
        diversity: d, from 0 to 1.
    """
    low, high = score.min(initial=np.inf), score.max(initial=-np.inf)
    gain = (1 - diversity) * ((score - low) / (high - low) if high > low else np.ones_like(score))
    nearest, left, picked = np.zeros_like(gain), np.ones(len(gain), bool), list[int]()
    while left.any() and len(picked) < n:
        best = int(np.argmax(np.where(left, gain - diversity * nearest, -np.inf)))
        picked.append(best)
        left[best] = False
        nearest = np.maximum(nearest, similarity[best])
    return np.array(picked, np.int64)


def _blend(
    together: NDArray[np.float32], cosine: NDArray[np.float32], attributes: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.minimum(together / (together + SHRINKAGE) * cosine + ATTRIBUTES * attributes, 1)


def _unit(rows: csr_array) -> csr_array:
    """Rows of length 1; empty rows stay empty."""
    norm = np.sqrt(rows.multiply(rows).sum(axis=1))
    scale = np.repeat(1 / np.where(norm > 0, norm, 1), np.diff(rows.indptr))
    return csr_array(((rows.data * scale).astype(np.float32), rows.indices, rows.indptr), rows.shape)


def _one_hot(sets: AttributeSet) -> csr_array:
    """(n, values) weights of attribute values; vectors are left out."""
    value, weight, mask = (part.cpu().numpy() for part in (sets.value, sets.weight, sets.mask))
    row, slot = np.nonzero(mask & (value < sets.n_values))
    return csr_array((weight[row, slot], (row, value[row, slot])), (len(value), sets.n_values))


def most_similar(similarity: Similarity, entity: str | int | Mapping[str, object], n: int) -> pl.DataFrame:
    """The n items (users) most similar to one, by id or new by attributes: id, label and `similarity`, best first.

    Raises:
        UnknownIdError: no such item (user).
        SchemaError: an attribute or a value that the model does not know.
    """
    side = similarity.side
    if isinstance(entity, Mapping):
        found = similarity.to_new(side.encoder.transform_one(entity))
    else:
        row = side.position(entity)
        found = similarity.to_all(row)
        found[row] = -1
    best = np.argsort(-found, kind="stable")[: max(n, 0)]
    best = best[found[best] > 0]
    return item_table(side, best, {"similarity": found[best]})


def item_table(side: EntitySide, rows: NDArray[np.int64], columns: Mapping[str, NDArray[np.float32]]) -> pl.DataFrame:
    """`item` (or `user`), `label` if there are labels, and columns of some items (users)."""
    labels = {} if side.labels is None else {"label": [side.labels[at] for at in rows]}
    names = {side.name: [side.ids[at] for at in rows], **labels}
    return pl.DataFrame({**names, **columns}, schema_overrides=dict.fromkeys(names, pl.String))
