"""Attention over the context of a rating; not in the paper, but built of its parts.

    e_l    = sum_v weight_v c_v - mean of this over the training ratings       c_v: vectors of the values of attribute l
    kappa  = softmax_l( cell(k_l, z_i) + cell'(k_l, x_u) )                     Algorithm 1 twice, without its ReLU

kappa_l says how much context attribute l counts for item i and user u. Its key k_l belongs to the attribute, not to a
value, so that it compares company with weather; the value speaks through e_l. Where an attribute is missing, e_l is 0,
its mean over the training ratings: a prediction without context is one for what is usual.

Sizes: B ratings, L context attributes, K latent factors, C columns of the vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aanmf.contract import embedding
from aanmf.data.attributes import AttributeSet, Context
from aanmf.models.kernels import lookup, weighted_sum
from aanmf.models.layers import AttentionCell, AttributeEmbedding


class ContextAttention(nn.Module):
    """The equations at the top of this file.

    Args:
        context: of the training ratings.
        factors: K.
        columns: C; None: K.
        std: standard deviation of the initial vectors.
    """

    def __init__(self, context: Context, factors: int, columns: int | None = None, std: float = 0.1) -> None:
        super().__init__()
        self.values = nn.ModuleList(AttributeEmbedding(each, columns or factors, std) for each in context.sets)
        self.keys = embedding(len(context.sets), factors, whole=True)
        self.by_item, self.by_user = AttentionCell(factors, relu=False), AttentionCell(factors, relu=False)
        for place, each in enumerate(context.sets):
            self.register_buffer(f"usual_{place}", usual(each), persistent=False)

    def vectors(self, context: Context) -> Tensor:
        """e (B, L, C)."""
        found = []
        for place, (values, sets) in enumerate(zip(self.values, context.sets, strict=True)):
            table, share = values(sets.vectors), self.get_buffer(f"usual_{place}")
            own = weighted_sum(table, sets.value, sets.weight * sets.mask)
            found.append(own - sets.mask.any(1, keepdim=True) * (share @ table[: len(share)]))
        return torch.stack(found, dim=1)

    def attention(self, x: Tensor, users: Tensor, z: Tensor, items: Tensor) -> Tensor:
        """kappa (B, L) of users (B,) and items (B,), positions in x (U, K) and z (I, K), pair by pair."""
        return torch.softmax(lookup(self.of_users, x, users) + lookup(self.of_items, z, items), dim=1)

    def of_users(self, x: Tensor) -> Tensor:
        """What users x (U, K) add to the scores of the attributes before the softmax (U, L)."""
        return self.by_user.table(self.keys, x)

    def of_items(self, z: Tensor) -> Tensor:
        """What items z (I, K) add to them (I, L)."""
        return self.by_item.table(self.keys, z)

    def parts(self, context: Context, x: Tensor, users: Tensor, z: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """kappa_l (B, L), and kappa_l (e_l . (x_u + z_i) + gamma_l) (B, L), the last column of e being gamma."""
        e, kappa = self.vectors(context), self.attention(x, users, z, items)
        both = x.index_select(0, users) + z.index_select(0, items)
        return kappa, kappa * ((e[..., :-1] * both[:, None]).sum(-1) + e[..., -1])


def usual(sets: AttributeSet) -> Tensor:
    """(V,) mean weight of each value over the ratings that have the attribute."""
    total = sets.weight.new_zeros(sets.n_values)
    rows, slots = (sets.mask & (sets.value < sets.n_values)).nonzero(as_tuple=True)
    total.index_add_(0, sets.value[rows, slots], sets.weight[rows, slots])
    return total / sets.mask.any(1).sum().clamp(min=1)
