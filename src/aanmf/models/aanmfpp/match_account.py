"""What each part of a match adds to it: an account of the weighted log scores of `choice.py`.

    sum_k omega_k log(score_k) - log sum_i exp(...)

Every score is a floor that all items have, and parts that add to it:

    choice, taste    B_ki, w_k C_ki                       the rated item k
    alike            sum_l k_l A_li                       the rated items: k_l goes to them as v_k L_lk does
    content          w_k (attributes of k . row of i)     the rated item k, whose attributes the item shares
    group            intercept + attributes . slope       the audience, and each attribute of the user
    popular          mean w of the item                   the audience
    like             the predicted rating                 all parts of the account of the rating

A part d of a sum s = floor + d + ... contributes d (log s - log floor) / (s - floor) to log s, its integrated gradient
along the straight line from the floor to s. So do parts of the other functions on the way: what is cut off at 0, the
kernel k_l of the cosine, and log P(rating above the mean). The constant of the user, by which matches are log
probabilities, belongs to the base.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from aanmf.account import Account, mean_of
from aanmf.contract import Told
from aanmf.data.attributes import AttributeSet
from aanmf.models.aanmfpp.account import account_for as account_for_rating
from aanmf.models.aanmfpp.attribute_matrix import attribute_columns
from aanmf.models.aanmfpp.choice import FLOOR, WEIGHTS, ChoiceHead
from aanmf.models.aanmfpp.module import AANMFppModule
from aanmf.models.histories import Histories

SMALL = 1e-9
"""Below this length of the line its slope stands for the mean slope."""


@torch.no_grad()
def account_for(module: AANMFppModule, item: int, told: Told) -> Account:
    """The account of the match of an item, by position."""
    choice, (user, sets, items, ratings, without) = module.choice_head(), told
    at = torch.tensor([user], device=items.device)
    own = module.sets.rows(at) if sets is None else sets
    liked = rating = None
    if module.has_ratings:
        liked = account_for_rating(module, item, told)
        as_trained = not len(items) and without is None
        rating = next(module.catalogue(at, sets))[1] if as_trained else module.fold_in(*told)[None]
    items, given = module.history.changed(user, items, ratings * module.scale, without)
    h = choice.history(items, given / module.scale)
    contexts = 0 if own.context is None else len(own.context.sets)
    empty = Account.empty(items, own.value.shape[1], module.item_sets.value.shape[1], contexts)
    attributes = choice.attributes(own)
    every = choice.weighed(h, attributes, rating)[0]
    rated = choice.count > 0
    if not rated[item]:
        fresh = choice(h, attributes, rating)[0]
        return _of_content(choice, h, item, replace(empty, base=fresh[item]))
    scores = _scores(choice, h, own, item, empty)
    if liked is not None:
        scores.append(_like(choice, liked))
    weights = choice.weights(h.count)[0][: len(scores)]
    found = mean_of(scores, list(weights))
    return replace(found, base=found.base - every[rated].logsumexp(0))


def _scores(choice: ChoiceHead, h: Histories, sets: AttributeSet, item: int, empty: Account) -> list[Account]:
    """Accounts of the log scores of one item in the order of `WEIGHTS`, `like` left out."""
    popular = choice.popular
    mean = popular.mean()
    slopes = choice.group[1:, item]
    user_attributes = attribute_columns(sets, slopes) if len(slopes) else empty.user_attributes
    group = _from_zero(replace(empty, audience=choice.group[0, item], user_attributes=user_attributes))
    floor = group.scaled(popular.new_tensor(FLOOR), FLOOR * mean)
    place = choice.place[item]
    near = choice.place[h.item]
    covered = (near >= 0) & (place >= 0)
    of_tables = [
        torch.where(covered, table[near.clamp(min=0), place.clamp(min=0)].float() * weight, 0)
        for table, weight in ((choice.choice, torch.ones_like(h.weight)), (choice.taste, h.weight))
    ]
    histories = [*of_tables, _alike(choice, h, item)]
    scores = [_log(floor.plus(_from_zero(replace(empty, rated=rated)))) for rated in histories]
    content = h.weight * (choice.items[h.item] @ choice.content[item])
    scores.append(_log(replace(group, base=FLOOR * mean)))
    scores.append(_log(replace(_from_zero(replace(empty, rated=content)), base=FLOOR * mean)))
    scores.append(_log(replace(empty, audience=popular[item], base=FLOOR * mean)))
    assert len(scores) == len(WEIGHTS) - 1
    return scores


def _alike(choice: ChoiceHead, h: Histories, item: int) -> Tensor:
    """(n,) what each rated item adds to k(w) A at an item."""
    direction, column = choice.direction(h), (choice.common == item).nonzero()[:, 0]
    if not len(column):
        return torch.zeros_like(direction)
    v = direction.new_zeros(choice.n_items).index_put_((h.item,), direction)
    cos = choice.landmarks.product(v[:, None])[:, 0]
    kernel = choice.near_users(h)[0]
    slope = torch.where(cos.abs() > SMALL, kernel / cos, 4 * math.exp(-4))
    return direction * choice.landmarks.product_t((slope * choice.alike[:, int(column)].float())[:, None])[h.item, 0]


def _like(choice: ChoiceHead, rating: Account) -> Account:
    """log P(rating above the mean)."""
    ends = torch.stack([rating.base, rating.total()])
    low, high = F.logsigmoid((ends - choice.middle) / choice.width)
    return _along(rating, low, high)


def _of_content(choice: ChoiceHead, h: Histories, item: int, empty: Account) -> Account:
    """The match of an item without ratings, `empty.base`: log of its content score and a constant."""
    own = h.weight * (choice.items[h.item] @ choice.content[item])
    found = replace(_from_zero(replace(empty, rated=own)), base=torch.full_like(empty.base, SMALL))
    return _along(found, empty.base - (found.total() / found.base).log(), empty.base)


def _from_zero(parts: Account) -> Account:
    """The parts of max(0, sum of parts)."""
    total = parts.total() - parts.base
    return parts.scaled((total > 0).to(total), parts.base)


def _log(score: Account) -> Account:
    """log of a positive score, from that of its base."""
    return _along(score, score.base.log(), score.total().log())


def _along(line: Account, low: Tensor, high: Tensor) -> Account:
    """The parts of a function that goes from `low` to `high` along the line from the base to the total."""
    length = line.total() - line.base
    return line.scaled(torch.where(length.abs() > SMALL, (high - low) / length, 0), low)
