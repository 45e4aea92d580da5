"""ACMF: matrix factorisation that pulls items towards items with similar (coupled) attributes.

Attributes coupling based matrix factorization for item recommendation. Applied Intelligence, doi
10.1007/s10489-016-0841-8. The similarity is the coupled object similarity over categorical attributes. An
item may have several labels of one attribute (genres), which that definition does not know: here every label
is an attribute of its own with two values, "has it" and "has it not". Vector attributes are left out.
"""

from __future__ import annotations

from functools import cached_property

import torch
from pydantic import Field
from torch import Tensor

from aanmf.contract import TrainingData
from aanmf.models.mf import MFConfig, MFModule
from aanmf.models.sparse import SparseMatrix


class ACMFConfig(MFConfig):
    """Settings of `ACMF`."""

    factors: int = Field(default=64, ge=1, le=4096)
    epochs: int = Field(default=20, ge=1)
    learning_rate: float = Field(default=1.4e-2, gt=0)
    l2: float = Field(default=6.0, ge=0)
    alpha: float = Field(default=0.07, ge=0)
    """Strength of the pull between coupled items, on the scale of `l2`."""
    neighbours: int = Field(default=5, ge=1)
    """How many items each item is pulled to, `|N(i)|`. The most similar ones are taken; of equal ones, the first."""


class ACMFModule(MFModule):
    """r_ui = mu + b_u + b_i + p_u . q_i, penalty alpha/2 sum_i sum_{f in N(i)} COS(i, f) ||q_i - q_f||^2.

    The penalty is written beside half the sum of squared errors; beside their mean it is alpha / n. Items
    with training ratings and at least one attribute take part, the others are not pulled.
    """

    config: ACMFConfig

    def __init__(self, config: ACMFConfig, training: TrainingData) -> None:
        super().__init__(config, training)
        self.config, self.data = config, training

    @cached_property
    def graph(self) -> SparseMatrix:
        """C, for the penalty; prediction does without."""
        return neighbour_graph(self.data, self.config.neighbours).to(self.q.device)

    def penalty(self, users: Tensor, items: Tensor) -> Tensor:
        """The pull: alpha / n sum_if C_if ||q_i - q_f||^2.

        It is computed as alpha / n [sum_i d_i ||q_i||^2 - 2 sum_i q_i . (C q)_i], where C_if is COS(i, f) for
        f in N(i) and 0 otherwise; d_i is the sum of row i and column i of C.
        """
        c = self.graph
        d = torch.zeros_like(self.b_i[:, 0])
        d = d.index_add(0, c.col, c.value).index_add(0, c.row, c.value)
        pull = (d @ self.q.square()).sum() - 2 * (self.q * c.product(self.q)).sum()
        return self.config.alpha / len(self.data.train) * pull


def neighbour_graph(training: TrainingData, k: int) -> SparseMatrix:
    """C (n_items + 1, n_items + 1): COS(i, f) of each item i with its k most similar items f."""
    sets = training.items
    label = sets.mask & (sets.value < training.items.n_values)
    has = torch.zeros(len(sets.value), training.items.n_values + 1, dtype=torch.int64)
    has.scatter_(1, torch.where(label, sets.value, training.items.n_values), 1)
    rated = torch.bincount(training.train.item, minlength=len(has)) > 0
    rows = torch.nonzero(rated & label.any(dim=1)).squeeze(1)
    z, delta = coupled_values(has[rows, :-1])
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    k = min(k, len(rows) - 1)
    for block in torch.arange(len(rows)).split(1024) if k > 0 else ():
        similar = z[block] @ delta @ z.T
        similar[torch.arange(len(block)), block] = -torch.inf
        order = torch.sort(similar, dim=1, descending=True, stable=True)
        near, cos = rows[order.indices[:, :k]], order.values[:, :k]
        found.append((rows[block].repeat_interleave(k), near.flatten(), cos.flatten()))
    none = (rows[:0], rows[:0], z.new_zeros(0))
    row, col, value = (torch.cat(parts) for parts in zip(*(found or [none]), strict=True))
    return SparseMatrix(row, col, value, (len(has), len(has)))


def coupled_values(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Objects one-hot over all values Z (n, V), and the similarity of values delta (V, V) = intra * inter.

    COS (n, n) of all pairs of objects, the sum over the attributes of the similarity of their values, is Z delta Z^T.
    For values x, y of one attribute j, met n_x and n_y times:

        intra(x, y) = n_x n_y / (n_x + n_y + n_x n_y)
        inter(x, y) = mean over the other attributes k of sum_{w a value of k} min(P(w | x), P(w | y))

    where P(w | x) is the share of the objects with x that have w. Values of different attributes have delta
    0; where there is no other attribute, inter is 1.
    """
    n, n_attributes = codes.shape
    sizes = (codes.max(dim=0).values + 1).clamp(min=0) if n else codes.new_zeros(n_attributes)
    owner = torch.repeat_interleave(torch.arange(n_attributes), sizes)  # (V,) the attribute of each value
    z = torch.zeros(n, len(owner) + 1)
    z.scatter_(1, torch.where(codes >= 0, codes + sizes.cumsum(0) - sizes, len(owner)), 1.0)
    z = z[:, :-1]
    count = z.sum(dim=0)
    given = z.T @ z / count.clamp(min=1)[:, None]  # P(w | x), (V, V)
    delta = torch.zeros(len(owner), len(owner))
    for x in torch.nonzero(count).flatten().tolist():
        same, other = owner == owner[x], owner != owner[x]
        n_x, n_y = count[x], count[same]
        intra = n_x * n_y / (n_x + n_y + n_x * n_y)
        shared = torch.minimum(given[x, other], given[same][:, other]).sum(dim=1)
        delta[x, same] = intra * (shared / (n_attributes - 1) if n_attributes > 1 else 1.0)
    return z, delta
