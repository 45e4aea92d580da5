"""Synthetic ratings with known attention weights: a data set that needs no download, to test models against.

The ratings come from the model family itself, with K = 8 latent factors:

    r_ui = 3.5 + q_i . (p_u + sum_j lambda_j(genre of i) a_j) + noise,     j = gender, age, occupation

where lambda(genre) is known: gender matters most to action, age to animation, and so on.

Ratings only show the products lambda_j a_j . q_i, so:

- attention and the length of an attribute's vectors trade off: a_j twice as long with half the attention predicts the
  same. The generator therefore gives the vectors of all values equal length, and the effects of every attribute equal
  variance over users; each attribute matters to some genre. A model that keeps its vectors short (l2) then has no
  reason to make one attribute's vectors longer than another's, and its weights can be compared with the known ones.
- an attribute whose effect on an item is nil shows nothing of its attention. All items therefore share a common
  direction, along which the values of an attribute differ.
- what an attribute contributes for all items alike can move into p_u. Attention can only be seen where it differs
  between genres, and only through many users per value.
- a model with many factors can give each attribute dimensions of its own and let q_i choose among them, without
  attention. l2 makes that more costly, but nothing forbids it: expect a high correlation of the maps, not equality.

On request the ratings have a context too, company and weather. Each matters for some genres more than for others:

    r_ui += strength * sum_l kappa_l(genre of i) c_l(value of l)      l = company, weather;  c of mean 0, variance 1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from aanmf.data.context import ContextTable
from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.data.schema import Attribute, Kind
from aanmf.errors import DataError

VALUES: dict[str, dict[str, float]] = {
    "gender": {"F": 0.3, "M": 0.7},
    "age": {
        **{"under 18": 0.04, "18-24": 0.18, "25-34": 0.35, "35-44": 0.2},
        **{"45-49": 0.09, "50-55": 0.08, "56+": 0.06},
    },
    "occupation": {
        **{"student": 0.15, "other": 0.12, "educator": 0.1, "engineer": 0.08, "programmer": 0.08, "writer": 0.05},
        **{"administrator": 0.08, "librarian": 0.05, "technician": 0.04, "executive": 0.04, "scientist": 0.04},
        **{"artist": 0.03, "healthcare": 0.02, "entertainment": 0.02, "marketing": 0.02, "lawyer": 0.02},
        **{"retired": 0.02},
        **{"salesman": 0.01, "doctor": 0.01, "homemaker": 0.01, "none": 0.01},
    },
}
"""Attribute values and how frequent they are."""
ATTENTION = {
    "action": (0.80, 0.15, 0.05),
    "animation": (0.10, 0.80, 0.10),
    "children": (0.25, 0.65, 0.10),
    "comedy": (0.34, 0.33, 0.33),
    "documentary": (0.10, 0.20, 0.70),
    "drama": (0.20, 0.45, 0.35),
    "romance": (0.65, 0.25, 0.10),
    "thriller": (0.45, 0.15, 0.40),
}
"""Planted attention of each genre on gender, age, occupation."""
CONTEXT: dict[str, dict[str, float]] = {
    "company": {"alone": 0.3, "family": 0.3, "friends": 0.4},
    "weather": {"rain": 0.25, "sun": 0.5, "snow": 0.25},
}
"""Context attributes: their values, and how frequent they are."""
CONTEXT_ATTENTION = {
    **{"action": (0.7, 0.3), "animation": (0.9, 0.1), "children": (0.9, 0.1), "comedy": (0.6, 0.4)},
    **{"documentary": (0.1, 0.9), "drama": (0.3, 0.7), "romance": (0.5, 0.5), "thriller": (0.2, 0.8)},
}
"""Planted attention of each genre on company and weather."""
FACTORS, MEAN, EFFECT, BIAS, ITEM_DEVIATION, NOISE = 8, 3.5, 1.0, 0.1, 0.1, 0.5


def planted() -> pl.DataFrame:
    """The planted attention: a row per genre, `genres` and a column per attribute."""
    columns = dict(zip(VALUES, zip(*ATTENTION.values(), strict=True), strict=True))
    return pl.DataFrame({"genres": list(ATTENTION), **columns})


@dataclass(frozen=True)
class SyntheticDataset:
    """Ratings and the truth they were drawn from.

    Attributes:
        data: the ratings, on a scale of 1 to 5.
        attention: a row per genre, `genres` and a column per attribute: the planted weights.
        truth: (n,) expected ratings, clipped to the scale.
        noise_rmse: RMSE of `truth`: no predictor can do better.
        effects: by attribute of the users, (n_values, n_items): what each value (in the order of `VALUES`) adds to the
            rating of each item, lambda_j(genre of i) a_j . q_i. An absent attribute adds 0.
        context_effects: the same by context attribute, in the order of the values of `CONTEXT`; empty without context.
    """

    data: RatingDataset
    attention: pl.DataFrame
    truth: NDArray[np.float32]
    noise_rmse: float
    effects: Mapping[str, NDArray[np.float64]]
    context_effects: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def make_synthetic(
    n_users: int = 1000,
    n_items: int = 400,
    n_ratings: int = 100_000,
    seed: int = 0,
    *,
    context_strength: float | None = None,
    context_missing: float = 0.0,
) -> SyntheticDataset:
    """Draws a data set.

    >>> made = make_synthetic(n_users=100, n_items=40, n_ratings=1000, seed=0)
    >>> made.data
    RatingDataset(synthetic: 1000 ratings, 100 users, 40 items)

    Args:
        n_users, n_items, n_ratings: its size; no pair is rated twice, and popular items are rated more often.
        seed: of everything.
        context_strength: how much the context of a rating moves it, in stars; None: ratings have no context.
        context_missing: share of the cells of the context that are empty; the context moves these ratings all the same.

    Raises:
        DataError: a size below 1, more than half of all pairs, or a share that is not between 0 and 1.
    """
    if min(n_users, n_items, n_ratings) < 1:
        raise DataError("synthetic data: users, items and ratings must be at least 1 each")
    if n_ratings > n_users * n_items // 2 and n_ratings > 1:
        raise DataError(f"synthetic data: {n_ratings} ratings are more than half of {n_users} users x {n_items} items")
    if not 0 <= context_missing <= 1:
        raise DataError(f"synthetic data: context_missing={context_missing:g} is not between 0 and 1")
    rng = np.random.default_rng(seed)
    common = _unit(rng.normal(size=FACTORS))
    genre = rng.integers(len(ATTENTION), size=n_items)
    q = common + ITEM_DEVIATION * _across(rng.normal(size=(n_items, FACTORS)), common)
    p = BIAS * rng.normal(size=(n_users, 1)) * common + BIAS * _across(rng.normal(size=(n_users, FACTORS)), common)
    values = {name: rng.choice(len(freq), size=n_users, p=_shares(freq)) for name, freq in VALUES.items()}
    vectors = _attribute_vectors(rng, common)
    user, item = _pairs(rng, n_users, n_items, n_ratings)
    attention = np.array(list(ATTENTION.values()))
    truth = MEAN + np.einsum("nk,nk->n", p[user], q[item])
    effects = {name: attention[genre, j] * (vectors[name] @ q.T) for j, name in enumerate(VALUES)}
    for name, effect in effects.items():
        truth += effect[values[name][user], item]
    context, context_effects = ContextTable(), {}
    if context_strength is not None:
        apart = np.random.default_rng([seed, 1])  # of its own: without context all else is drawn as ever
        given = {name: apart.choice(len(freq), size=n_ratings, p=_shares(freq)) for name, freq in CONTEXT.items()}
        context_effects = _context_effects(genre, context_strength)
        for name, effect in context_effects.items():
            truth += effect[given[name], item]
        context = _context(given, apart.random((len(CONTEXT), n_ratings)) < context_missing)
    rating = np.clip(truth + NOISE * rng.normal(size=n_ratings), 1, 5).astype(np.float32)
    truth = np.clip(truth, 1, 5).astype(np.float32)
    users, items = _users(values, n_users), _items(genre, n_items)
    data = RatingDataset(users, items, user, item, rating, scale=(1.0, 5.0), name="synthetic", context=context)
    noise_rmse = float(np.sqrt(np.mean((rating - truth) ** 2, dtype=np.float64)))
    return SyntheticDataset(data, planted(), truth, noise_rmse, effects, context_effects)


def _context_effects(genre: NDArray[np.int64], strength: float) -> dict[str, NDArray[np.float64]]:
    """(n values, n_items) of each context attribute: what its values add, from the first (least) to the last (most)."""
    attention, found = np.array(list(CONTEXT_ATTENTION.values())), {}
    for j, (name, freq) in enumerate(CONTEXT.items()):
        share, effect = _shares(freq), np.linspace(-1, 1, len(freq))
        effect = effect - share @ effect
        effect = effect / np.sqrt(share @ effect**2)
        found[name] = strength * effect[:, None] * attention[genre, j]
    return found


def _context(given: dict[str, NDArray[np.int64]], missing: NDArray[np.bool_]) -> ContextTable:
    columns = {
        name: pl.Series(np.array(list(CONTEXT[name]))[value]).set(pl.Series(empty), None)
        for (name, value), empty in zip(given.items(), missing, strict=True)
    }
    declared = tuple(Attribute(name=name, kind=Kind.CATEGORICAL) for name in CONTEXT)
    return ContextTable(pl.DataFrame(columns), declared)


def _attribute_vectors(rng: np.random.Generator, common: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """(n values, K) of each attribute: of equal length, effects along `common` of mean 0 and variance EFFECT^2."""
    effects = {}
    for name, freq in VALUES.items():
        share = _shares(freq)
        effect = rng.permutation(np.linspace(-1, 1, len(freq)))
        effect = effect - share @ effect
        effects[name] = EFFECT * effect / np.sqrt(share @ effect**2)
    length = 1.02 * max(np.abs(effect).max() for effect in effects.values())
    vectors = {}
    for name, effect in effects.items():
        aside = _across(rng.normal(size=(len(effect), FACTORS)), common)
        aside *= (np.sqrt(length**2 - effect**2) / np.linalg.norm(aside, axis=1))[:, None]
        vectors[name] = effect[:, None] * common + aside
    return vectors


def _pairs(rng: np.random.Generator, n_users: int, n_items: int, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct (user, item) pairs in random order: users alike, items long-tailed."""
    popularity = rng.permutation(1.0 / np.sqrt(np.arange(n_items) + 5.0))
    popularity /= popularity.sum()
    keys = np.empty(0, np.int64)
    while len(keys) < n:
        more = int((n - len(keys)) * 1.3) + 16
        drawn = rng.integers(n_users, size=more) * n_items + rng.choice(n_items, size=more, p=popularity)
        keys = np.unique(np.concatenate([keys, drawn]))
    keys = rng.permutation(keys)[:n]
    return keys // n_items, keys % n_items


def _users(values: dict[str, NDArray[np.int64]], n: int) -> EntityTable:
    columns = {name: np.array(list(VALUES[name]))[value] for name, value in values.items()}
    attributes = tuple(Attribute(name=name, kind=Kind.CATEGORICAL) for name in VALUES)
    return EntityTable(Vocabulary(str(u + 1) for u in range(n)), pl.DataFrame(columns), attributes)


def _items(genre: NDArray[np.int64], n: int) -> EntityTable:
    names = list(ATTENTION)
    column = pl.Series("genres", [[names[g]] for g in genre], dtype=pl.List(pl.String))
    labels = tuple(f"{names[g].capitalize()} no. {i + 1}" for i, g in enumerate(genre))
    attribute = Attribute(name="genres", kind=Kind.MULTIVALUED)
    return EntityTable(Vocabulary(str(i + 1) for i in range(n)), column.to_frame(), (attribute,), labels)


def _shares(frequencies: dict[str, float]) -> NDArray[np.float64]:
    share = np.array(list(frequencies.values()))
    return share / share.sum()


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


def _across(vectors: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of (n, K) vectors that is perpendicular to a unit vector."""
    return vectors - (vectors @ direction)[:, None] * direction
