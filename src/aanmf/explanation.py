"""Why a rating was predicted: a base, and what each part adds to it; attention on each attribute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from aanmf import html
from aanmf.account import Account, shapley
from aanmf.data.attributes import AttributeEncoder, AttributeSet
from aanmf.data.context import written
from aanmf.data.dataset import RatingDataset
from aanmf.data.kinds import KINDS
from aanmf.errors import ConfigError, DataError
from aanmf.models.catalog import load_object, with_capability
from aanmf.predictor import Predictor
from aanmf.profile import Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]
BLOCK = 65_536
"""Pairs whose attention is computed at once."""
Explained = Literal["rating", "match"]
"""What can be explained: a predicted rating, or the score that ranks items."""
EXPLAINED = get_args(Explained)
KINDS_OF_PARTS = {
    "rated item": "what one rating of the user adds",
    "new ratings": "what ratings given since training add together, where a model does not account for each",
    "user attribute": "what an attribute of the user adds, with the attention it gets",
    "user": "what the model knows of the user by id beyond these",
    "item": "the item by id, its mean rating included",
    "item attribute": "what an attribute of the item adds",
    "audience": "who rated the item, and how",
    "context": "what the context adds to what is usual, with the attention it gets",
    "clip": "what the scale of the ratings cuts off",
    "rest": "the parts that are not listed",
}
"""All kinds of parts of a prediction."""


@dataclass(frozen=True)
class Explanation:
    """One prediction as a base and what each part adds to it: base + the sum of contributions = prediction.

    Attributes:
        item, label: what is rated, by id and as a person reads it.
        of: what is explained: the predicted `rating`, or the `match` that ranks, on a scale of the model's own (of
            AANMF++ the logarithm of a probability).
        against: another item, by id, as a person reads it; all numbers are then differences from those of that item.
        prediction: the predicted rating, clipped to the scale, or the match.
        base: where the account begins: about the mean rating.
        parts: `kind` (see `KINDS_OF_PARTS`), `name`, `value`, `attention`, `contribution`; the largest first.
        fallback: null where both were trained, else what was replaced by an average one; see `Recommender.predict`.

    >>> from aanmf import MF, load_restaurants
    >>> why = MF(epochs=5).fit(load_restaurants()).explain("U1001", "135085")
    >>> abs(why.base + why.parts["contribution"].sum() - why.prediction) < 1e-4
    True
    """

    item: str
    label: str | None
    of: Explained
    against: tuple[str, str | None] | None
    prediction: float
    base: float
    parts: pl.DataFrame
    fallback: str | None

    @property
    def title(self) -> str:
        """What is explained, and its prediction."""
        what = {"rating": "predicted rating", "match": "match"}[self.of]
        if self.against is None:
            return f"{self.label or self.item}: {what} {self.prediction:.2f}"
        return f"{self.label or self.item} against {self.against[1] or self.against[0]}: {what} {self.prediction:+.2f}"

    def to_text(self) -> str:
        """The account in lines."""
        rows = [
            f"{each['contribution']:+6.2f}  {each['kind']}: {worded(each)}" for each in self.parts.iter_rows(named=True)
        ]
        return "\n".join([self.title, f"{self.base:6.2f}  base", *rows])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the account as a waterfall on `ax`; None: on new axes, which notebooks show."""
        from aanmf.plots import waterfall

        return waterfall(self, ax)

    def _repr_html_(self) -> str:
        rows = [
            (each["kind"], worded(each), f"{each['contribution']:+.2f}") for each in self.parts.iter_rows(named=True)
        ]
        return html.block(self.title, html.table((), [("base", "", f"{self.base:.2f}"), *rows]))


def worded(part: Mapping[str, Any]) -> str:
    """Name and value of a part."""
    return " ".join(str(part[name]) for name in ("name", "value") if part[name] is not None)


@torch.no_grad()
def explain_pair(
    predictor: Predictor,
    profile: Profile,
    item: str | int,
    top: int = 10,
    of: Explained | None = None,
    against: str | int | None = None,
) -> Explanation:
    """Accounts for the rating of an item by a user, or for its match, with the changed ratings of the profile in view.

    A model with an account of its own (AANMF++, and all that learn what users choose) gives it; ratings of others get
    Shapley values over the user and the item by id and each attribute of the user; an absent one counts as unknown.

    Args:
        predictor: of a fitted model.
        profile: the user.
        item: id of an item of the training data.
        top: parts that are listed; the others are one part of the kind `rest`.
        of: what to explain; None: the rating where the model predicts ratings, else the match.
        against: id of an item to compare with.

    Raises:
        UnknownIdError: no such item in the training data.
        ConfigError: the model predicts no ratings, or has not learned what users choose.
        NotFiniteError: the model is damaged.
    """
    of = of or ("rating" if predictor.rates else "match")
    if of not in EXPLAINED:
        raise ConfigError(f"of={of!r}: give one of {', '.join(EXPLAINED)}")
    (predictor.check_rates if of == "rating" else predictor.check_matches)()
    items = predictor.items
    at, other = items.position(item), None if against is None else items.position(against)
    base, rows = _account(predictor, profile, at, of)
    if other is not None:
        base_of_other, of_other = _account(predictor, profile, other, of)
        base, rows = base - base_of_other, _difference(rows, of_other, items.label(other) or items.ids[other])
    prediction = base + sum(row["contribution"] for row in rows)
    predictor.check_finite(torch.tensor([prediction]))
    rows.sort(key=lambda row: (row["kind"] == "clip", -abs(row["contribution"])))
    listed, rest = rows[:top], [row for row in rows[top:] if row["kind"] != "clip"]
    if rest:
        listed.append(_part("rest", f"{len(rest)} others", None, sum(row["contribution"] for row in rest)))
    listed += [row for row in rows[top:] if row["kind"] == "clip"]
    known = profile.position != predictor.users.unknown
    return Explanation(
        item=items.ids[at],
        label=items.label(at),
        of=of,
        against=None if other is None else (items.ids[other], items.label(other)),
        prediction=prediction,
        base=base,
        parts=pl.DataFrame(listed, schema=SCHEMA),
        fallback=predictor.fitted.fallback(profile.position, at) if known else None,
    )


SCHEMA = {"kind": pl.String, "name": pl.String, "value": pl.String, "attention": pl.Float64, "contribution": pl.Float64}


def _part(kind: str, name: str | None, value: str | None, contribution: float, attention: float | None = None) -> Row:
    return {"kind": kind, "name": name, "value": value, "attention": attention, "contribution": contribution}


def _account(predictor: Predictor, profile: Profile, at: int, of: Explained) -> tuple[float, list[Row]]:
    """Base and all parts, which sum to the prediction."""
    if of == "match":
        assert predictor.spec.match_account is not None, f"{predictor.spec.name} ranks by match without an account"
        return _of_account(predictor, profile, at, predictor.spec.match_account)
    own = predictor.spec.account
    base, rows = _of_game(predictor, profile, at) if own is None else _of_account(predictor, profile, at, own)
    low, high = predictor.scale
    total = base + sum(row["contribution"] for row in rows)
    if not low <= total <= high:
        rows.append(_part("clip", None, f"to {low:g} - {high:g}", min(max(total, low), high) - total))
    return base, rows


def _difference(rows: Sequence[Row], others: Sequence[Row], label: str) -> list[Row]:
    """What each part adds more than in the account of another item; what only that one has carries its label."""
    left = {(row["kind"], row["name"], row["value"]): row for row in others}
    found = []
    for row in rows:
        other = left.pop((row["kind"], row["name"], row["value"]), None)
        found.append({**row, "contribution": row["contribution"] - (other["contribution"] if other else 0)})
    for row in left.values():
        name = label if row["name"] in (None, label) else f"{row['name']} of {label}"
        found.append({**row, "name": name, "attention": None, "contribution": -row["contribution"]})
    return found


def _of_account(predictor: Predictor, profile: Profile, at: int, place: str) -> tuple[float, list[Row]]:
    """Base and parts of a model with an account of its own, the function at `place`."""
    found: Account = load_object(place)(predictor.module, at, profile.asked)
    items, given, rates = predictor.items, predictor.profiles.history(profile), predictor.fitted.training.has_ratings
    rows = [
        _part("rated item", items.label(i) or items.ids[i], f"rated {given[i]:.3g}" if rates else "chosen", added)
        for i, added in zip(found.items.tolist(), found.rated.tolist(), strict=True)
    ]
    rows += _of_slots(predictor, "user attribute", predictor.attributes(profile), found.user_attributes, at, profile)
    sets = items.attributes.rows(torch.tensor([at]))
    rows += _of_slots(predictor, "item attribute", sets, found.item_attributes, at, None)
    rows += _of_context(predictor, profile, at, found.context.tolist())
    user = None if profile.position == predictor.users.unknown else predictor.users.ids[profile.position]
    rows += [
        _part("user", user, None, float(found.user)),
        _part("item", items.label(at) or items.ids[at], None, float(found.item)),
        _part("audience", None, f"{items.n_ratings[at]} ratings", float(found.audience)),
    ]
    return float(found.base), [row for row in rows if row["contribution"] or row["kind"] == "user attribute"]


def _of_slots(
    predictor: Predictor, kind: str, sets: AttributeSet, contribution: Tensor, at: int, profile: Profile | None
) -> list[Row]:
    """A part per attribute, from contributions (J,) of slots; none where the model does not use attributes."""
    if not len(contribution):
        return []
    encoder = (predictor.items if profile is None else predictor.users).encoder
    owner, weights = encoder.slot_attributes(sets)[0], None
    if profile is not None and predictor.spec.attention:
        weights = attention(predictor, np.array([profile.position]), np.array([at]), sets.to(predictor.device))[0]
    values = contribution.cpu().numpy()
    return [
        _part(kind, name, value, float(values[owner == j].sum()), None if weights is None else float(weights[j]))
        for name, value in attributes_of(encoder, sets)
        for j in [encoder.names.index(name)]
    ]


def _of_context(predictor: Predictor, profile: Profile, at: int, contribution: Sequence[float]) -> list[Row]:
    """A part per context attribute that the request names, and one of its time; from their contributions (L + 1,)."""
    sets, encoder = profile.attributes, predictor.fitted.context
    if sets is None or sets.context is None:
        return []
    pair = torch.tensor([[profile.position], [at]], device=predictor.device)
    weights, described = predictor.module.context_attention(pair[0], pair[1], sets), encoder.describe(sets.context)
    attention = [None] * len(described) if weights is None else weights[0].tolist()
    found = zip(described, contribution, attention, strict=False)
    rows = [_part("context", name, value, added, weight) for (name, value), added, weight in found if value is not None]
    if sets.context.time is not None:
        rows.append(_part("context", encoder.time, written(int(sets.context.time[0])), contribution[-1]))
    return rows


def _of_game(predictor: Predictor, profile: Profile, at: int) -> tuple[float, list[Row]]:
    """Base and parts by Shapley values."""
    encoder, sets, device = predictor.users.encoder, predictor.attributes(profile), predictor.device
    owner = torch.as_tensor(encoder.slot_attributes(sets)[0], device=device)
    present = dict(attributes_of(encoder, sets))
    places = [encoder.names.index(name) for name in present]
    unknown_user, unknown_item = predictor.users.unknown, predictor.items.unknown

    context = sets.context
    given = [] if context is None else [k for k, each in enumerate(context.sets) if each.mask.any()]
    first = 2 + len(places)  # of the players that are context attributes

    def value(joined: NDArray[np.bool_]) -> NDArray[np.float64]:
        took = torch.as_tensor(joined, device=device)
        absent = torch.stack([(owner == j) for j in places]) if places else owner.new_zeros(0, len(owner)).bool()
        out = (~took[:, 2:first]).float() @ absent.float() > 0
        many = sets.rows(torch.zeros(len(took), dtype=torch.int64, device=device))
        if many.context is not None:
            joining = {k: took[:, first + place] for place, k in enumerate(given)}
            many = many.in_context(many.context.where(joining))
        users = torch.where(took[:, 0], profile.position, unknown_user)
        items = torch.where(took[:, 1], at, unknown_item)
        return predictor.module(users, items, replace(many, weight=many.weight * ~out)).cpu().double().numpy()

    players = first + len(given)
    shares = shapley(value, players)
    weights: NDArray[np.float64] | None = None
    if predictor.spec.attention and places:
        weights = attention(predictor, np.array([profile.position]), np.array([at]), sets)[0]
    items, known = predictor.items, profile.position != unknown_user
    rows = [_part("item", items.label(at) or items.ids[at], None, shares[1])]
    if known:
        rows.append(_part("user", predictor.users.ids[profile.position], None, shares[0]))
    rows += [
        _part("user attribute", name, text, share, None if weights is None else float(weights[j]))
        for (name, text), share, j in zip(present.items(), shares[2:first], places, strict=True)
    ]
    if context is not None:
        of_context = dict(zip(given, shares[first:], strict=True))
        rows += _of_context(predictor, profile, at, [of_context.get(k, 0.0) for k in range(len(context.sets) + 1)])
    base = float(value(np.zeros((1, players), bool))[0])
    if len(profile.item):
        folded = predictor.module.fold_in(profile.position, profile.attributes, profile.item, profile.rating)
        rows.append(_part("new ratings", None, str(len(profile.item)), float(folded[at]) - base - sum(shares)))
    return base, rows


def attributes_of(encoder: AttributeEncoder, sets: AttributeSet) -> Iterator[tuple[str, str]]:
    """The attributes that one user (1, J) has, with their values as text: `hobbies`, `chess|go`."""
    owner, labels = encoder.slot_attributes(sets)[0], encoder.value_labels
    values = sets.value[0].cpu().numpy()
    for j, name in enumerate(encoder.names):
        if (mine := values[owner == j]).size:
            yield name, "|".join(labels[v][1] if v < len(labels) else "vector" for v in mine)


@torch.no_grad()
def attention(
    predictor: Predictor, user: NDArray[np.int64], item: NDArray[np.int64], attributes: AttributeSet | None = None
) -> NDArray[np.float64]:
    """Attention (n, A) on each user attribute for n pairs of positions, summed over the values of an attribute.

    With `attributes` (n, J), these instead of the users' own. Asked only where `spec.attention` says that there is one.
    """
    encoder = predictor.users.encoder
    owner = encoder.slot_attributes(predictor.users.attributes if attributes is None else attributes)
    result = np.zeros((len(user), len(encoder.names)))
    for rows in np.array_split(np.arange(len(user)), len(user) // BLOCK + 1):
        users, items, place = (
            torch.as_tensor(each, device=predictor.device) for each in (user[rows], item[rows], rows)
        )
        lam = predictor.module.attention(users, items, None if attributes is None else attributes.rows(place))
        assert lam is not None
        weights, own = lam.double().cpu().numpy(), owner[user[rows] if attributes is None else rows]
        for j in range(len(encoder.names)):
            result[rows, j] = (weights * (own == j)).sum(axis=1)
    return result


def attention_map(predictor: Predictor, data: RatingDataset, by: str) -> pl.DataFrame:
    """See `Recommender.attention_map`."""
    if not predictor.spec.attention:
        capable = ", ".join(with_capability("attention"))
        raise ConfigError(f"{predictor.spec.name} has no attention to show. Available: {capable}")
    if not KINDS[kind := data.items.attribute(by).kind].has_labels:
        raise DataError(f"attention by {by!r}: a {kind} attribute has no values to group by")
    users, items = predictor.users, predictor.items
    user = users.table.ids.index(data.users.ids.ids, users.unknown)[data.user]
    item = items.table.ids.index(data.items.ids.ids, items.unknown)[data.item]
    mean = attention(predictor, user, item).T
    names = [f"{name} of users" if name in (by, "n") else name for name in users.encoder.names]
    table = pl.DataFrame({by: data.items.columns[by][data.item], **dict(zip(names, mean, strict=True))})
    table = table.explode(by) if table[by].dtype.is_nested() else table
    return table.drop_nulls(by).group_by(by).agg(*[pl.col(n).mean() for n in names], pl.len().alias("n")).sort(by)
