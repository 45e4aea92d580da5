"""What each part of a prediction adds to it: an account that sums to the prediction exactly.

The latent score f of `equations.py` is a sum of terms; each belongs to one part:

    mu                                 base
    b_u                                the rated items: (r_k - mu - b_k) / (n_u + damping) each
    b_i                                the item
    p_u, s_u (y_k + e_uk c_k)          parts of x_u: the user, and each rated item k
    q_i, s_i sum_v (...), g_g          parts of z_i: the item, its audience, and each of its attributes
    x_u . z_i                          half to the parts of x_u, half to those of z_i
    lambda_j(i) (a_j . z_i + beta_j)   attribute j of the user
    t_l alpha_lk K_ik                  the rated item k
    kappa_l (e_l . (x_u + z_i) + ...)  context attribute l

The halves are the Shapley values of a product of two sums. Attention is held as it is. The head E(f) is not linear: a
part d of f - mu contributes d (E(f) - E(mu)) / (f - mu), which is its integrated gradient along the straight line from
mu to f (Sundararajan et al. 2017), so that the contributions sum to E(f) - E(mu). Members, and the blend with damped
means, are averages of such accounts. What the time of the rating says (`drift.py`) is added last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aanmf.account import Account, mean_of
from aanmf.contract import Told
from aanmf.data.attributes import AttributeSet
from aanmf.models.aanmfpp.equations import Encoded, Member
from aanmf.models.aanmfpp.history import Seen, Side
from aanmf.models.aanmfpp.module import AANMFppModule, State
from aanmf.models.aanmfpp.scores import Pairs

SMALL = 1e-6
"""Below this distance of f from mu the slope of the head there stands for the mean slope between them."""


@dataclass(frozen=True)
class Pair:
    """A user with a history, and an item.

    Attributes:
        user, item: positions.
        items, ratings: (n,) the history, scaled as in the model.
        at: the same pair as the equations take it.
        kernel: (F, n) what each rated item adds to the features of the kernel ridge.
        of_item: (1, G) attributes of the item.
    """

    user: int
    item: int
    items: Tensor
    ratings: Tensor
    at: Pairs
    kernel: Tensor
    of_item: AttributeSet


def account_for(module: AANMFppModule, item: int, told: Told) -> Account:
    """The account of the rating of an item, by position."""
    user, sets, items, ratings, without = told
    if not len(items) and without is None:
        return account(module, user, item, sets)
    gone = items if without is None else torch.cat([items, without])
    items, ratings = module.history.changed(user, items, ratings * module.scale, without)
    return account(module, user, item, sets, (items, ratings / module.scale), gone)


@torch.no_grad()
def account(
    module: AANMFppModule,
    user: int,
    item: int,
    sets: AttributeSet | None = None,
    history: tuple[Tensor, Tensor] | None = None,
    gone: Tensor | None = None,
) -> Account:
    """The account of one prediction, on the scale of the ratings.

    Args:
        module: the model.
        user, item: positions; those of the unknown user and item for new ones.
        sets: (1, J) in place of the user's own attributes, with the context of the rating.
        history: all items that the user has rated, and the ratings (n,); None: those of training.
        gone: (m,) items whose training ratings do not count.
    """
    state, rows = module.state(), module.history.rows_of(user)
    items, ratings = module.history.items_at(rows), module.history.rating[rows]
    if history is not None:
        items, ratings = history[0], history[1] * module.scale
    features = _features(module, state, user, item, sets, items, ratings, changed=history is not None)
    pair = Pair(user, item, items, ratings, *features, module.item_sets.rows(features[0].items))
    members = list(zip(module.members, state.encoded, strict=True))
    if module.config.cold:
        is_new = len(items) == 0 or int(state.seen.items.count[item]) == 0
        members = members[-1:] if is_new else members[:-1]
    of_members = [
        _of_head(module, member, _of_latent(module, member, encoded, state, pair)) for member, encoded in members
    ]
    share = module.trust / len(of_members)
    weights = [share] * len(of_members) + [1 - module.trust]
    blend = mean_of(
        [*of_members, _of_means(state.means, module.history.fold_in(state.means, items, ratings), pair)], weights
    )
    drift = None if module.drift is None else module.drift.of(pair.at.users, pair.at.sets.context, gone)
    if drift is not None:
        blend = replace(blend, context=torch.cat([blend.context[:-1], drift]))
    return blend.scaled(1 / module.scale, blend.base / module.scale)


def _of_latent(module: AANMFppModule, member: Member, encoded: Encoded, state: State, pair: Pair) -> Account:
    """f; its base is mu."""
    seen, config, i = state.seen, module.config, pair.item
    side = module.history.fold_in(seen, pair.items, pair.ratings)
    means = _of_means(seen, side, pair)
    v, b = member.vectors, member.biases

    def row(name: str, at: int) -> Tensor:
        return torch.cat([getattr(v, name)[at], getattr(b, name)[at]])

    p = row("p", pair.user) * (len(pair.items) > 0)
    rated = torch.zeros(len(pair.items), len(p), device=p.device)
    if config.history:
        y, c = (torch.cat([getattr(v, name)[pair.items], getattr(b, name)[pair.items]], dim=1) for name in ("y", "c"))
        rated = side.scale * (y + side.residual[0][:, None] * c)
    q = row("q", i) * (seen.items.count[i] > 0)
    z = torch.cat([encoded.z[i], (encoded.b_i[i] - seen.items.offset[i])[None]])
    attributes = torch.zeros(module.item_sets.value.shape[1], len(p), device=p.device)
    if config.item_attributes:
        of = module.item_sets
        value, weight = of.value[i], (of.weight[i] * of.mask[i])[:, None]
        attributes = weight * torch.cat([v.g(of.vectors)[value], b.g(of.vectors)[value]], dim=1)
    audience = z - q - attributes.sum(0)
    x = p + rated.sum(0)

    def half(own: Tensor, other: Tensor) -> Tensor:
        """What parts (..., K + 1) of one side add: their biases, and half their products with the other side."""
        return own[..., -1] + 0.5 * own[..., :-1] @ other[:-1]

    of_user = torch.zeros(pair.at.sets.value.shape[1], device=p.device)
    if module.attend:
        table = module.attributes(member, encoded, pair.at.sets.vectors)
        of_user = (pair.at.attention(table) * pair.at.sets.weight * table.products(pair.at.items, pair.at.sets.value))[
            0
        ]
    of_context = _no_context(pair)
    if member.context is not None and pair.at.sets.context is not None:
        first = torch.zeros_like(pair.at.users)
        _, added = member.context.parts(pair.at.sets.context, x[None, :-1], first, z[None, :-1], first)
        of_context = torch.cat([added[0], of_context[-1:]])
    return Account(
        base=seen.mean,
        rated=means.rated + half(rated, z) + member.t @ pair.kernel,
        user=half(p, z),
        user_attributes=of_user,
        item=means.item + half(q, x),
        audience=half(audience, x),
        item_attributes=half(attributes, x),
        context=of_context,
        items=pair.items,
    )


def _of_head(module: AANMFppModule, member: Member, latent: Account) -> Account:
    """E(f), along the straight line from mu to f."""
    f, base = latent.total(), latent.base
    low, high = module.expected(member, torch.stack([base, f]))
    if float((f - base).abs()) < SMALL:
        low, high = module.expected(member, torch.stack([base - SMALL, base + SMALL]))
        return latent.scaled((high - low) / (2 * SMALL), (high + low) / 2)
    return latent.scaled((high - low) / (f - base), low)


def _of_means(seen: Seen, side: Side, pair: Pair) -> Account:
    """mu + b_u + b_i."""
    left = pair.ratings - seen.mean - seen.items.offset[pair.items]
    none = left.new_zeros(())
    slots = [left.new_zeros(sets.mask.shape[1]) for sets in (pair.at.sets, pair.of_item)]
    return Account(
        base=seen.mean,
        rated=left / (len(left) + seen.damping[0]),
        user=none,
        user_attributes=slots[0],
        item=seen.items.offset[pair.item],
        audience=none,
        item_attributes=slots[1],
        context=_no_context(pair),
        items=pair.items,
    )


def _no_context(pair: Pair) -> Tensor:
    """(L + 1,) zeros."""
    context = pair.at.sets.context
    return torch.zeros((0 if context is None else len(context.sets)) + 1, device=pair.items.device)


def _features(
    module: AANMFppModule,
    state: State,
    user: int,
    item: int,
    sets: AttributeSet | None,
    items: Tensor,
    ratings: Tensor,
    *,
    changed: bool,
) -> tuple[Pairs, Tensor]:
    """The pair as the equations take it, and what each rated item adds to its features of the kernel ridge (F, n)."""
    at = torch.tensor([user], device=items.device), torch.tensor([item], device=items.device)
    own = module.sets.rows(at[0]) if sets is None else sets
    if module.ridge is None:
        return Pairs(*at, own, torch.zeros(0, 1, device=items.device)), torch.zeros(0, len(items), device=items.device)
    residual = module.history.fold_in(state.explained, items, ratings).residual[0]
    terms = module.ridge.terms(user, item, items, residual, changed=changed)
    return Pairs(*at, own, terms.sum(1, keepdim=True)), terms
