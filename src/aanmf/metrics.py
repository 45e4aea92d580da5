"""Every metric of the library, once. A new one is a function here and an entry in `METRICS` or `LIST_METRICS`:
evaluation, cross-validation, tuning, the report and the tables of the command line then show it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aanmf import html
from aanmf.errors import ConfigError, DataError

Floats = NDArray[np.float64]


def rmse(predicted: Floats, actual: Floats) -> float:
    """Root mean squared error, sqrt(mean((y^ - y)^2)): Eq 8, with the outer root that the paper leaves out."""
    return float(np.sqrt(np.mean((predicted - actual) ** 2)))


def mae(predicted: Floats, actual: Floats) -> float:
    """Mean absolute error, mean(abs(y^ - y))."""
    return float(np.mean(np.abs(predicted - actual)))


@dataclass(frozen=True)
class Lists:
    """Ranked lists of U users and what is relevant to these users.

    Attributes:
        item: (U, K) positions of items, best first; -1 in the places of a list that is shorter than K.
        hit: (U, K) bool, whether the item there is relevant to the user.
        n_relevant: (U,) items that are relevant to the user, at least 1.
        candidates: (M,) positions of the items that lists are made of.
        n_ratings: training ratings of every item of the catalogue.
        n_users: users in training.
    """

    item: NDArray[np.int64]
    hit: NDArray[np.bool_]
    n_relevant: NDArray[np.int64]
    candidates: NDArray[np.int64]
    n_ratings: NDArray[np.int64]
    n_users: int

    def first(self, k: int) -> Lists:
        """The first k places of every list."""
        return replace(self, item=self.item[:, :k], hit=self.hit[:, :k])

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Lists:
        """The lists of some users."""
        return replace(self, item=self.item[rows], hit=self.hit[rows], n_relevant=self.n_relevant[rows])

    @property
    def listed(self) -> NDArray[np.int64]:
        """(M,) in how many lists each candidate stands."""
        return np.bincount(self.item[self.item >= 0], minlength=len(self.n_ratings))[self.candidates]


def ndcg(lists: Lists) -> Floats:
    """sum_r hit_r / log2(r + 1) over ranks r, divided by that of a list that begins with all relevant items (U,)."""
    discount = 1 / np.log2(np.arange(2, lists.hit.shape[1] + 2))
    ideal = discount.cumsum()[np.minimum(lists.n_relevant, len(discount)) - 1]
    return lists.hit @ discount / ideal


def recall(lists: Lists) -> Floats:
    """Share of a user's relevant items that are listed (U,)."""
    return lists.hit.sum(axis=1) / lists.n_relevant


def precision(lists: Lists) -> Floats:
    """Relevant items listed, divided by K (U,)."""
    return lists.hit.mean(axis=1)


def reciprocal_rank(lists: Lists) -> Floats:
    """1 / rank of the first relevant item, 0 where none is listed (U,)."""
    return (lists.hit / np.arange(1, lists.hit.shape[1] + 1)).max(axis=1)


def hit_rate(lists: Lists) -> Floats:
    """Whether a relevant item is listed (U,)."""
    return (lists.hit.sum(axis=1) > 0).astype(np.float64)


def novelty(lists: Lists) -> Floats:
    """Mean of -log2(share of users who rated the item) over a list (U,); an item without ratings counts as having 1."""
    own = -np.log2(np.maximum(lists.n_ratings, 1) / lists.n_users)
    filled = lists.item >= 0
    return np.where(filled, own[lists.item], 0).sum(axis=1) / np.maximum(filled.sum(axis=1), 1)


def coverage(lists: Lists) -> float:
    """Distinct items in all lists, divided by the number of candidates."""
    return float((lists.listed > 0).mean())


def gini(lists: Lists) -> float:
    """Gini coefficient of how often candidates are listed: 0 if all equally often, near 1 if few take all places."""
    listed = np.sort(lists.listed)
    n, total = len(listed), listed.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ listed / (n * total)) if total else 0.0


def popularity(lists: Lists) -> float:
    """Median number of training ratings over all places of all lists."""
    listed = lists.n_ratings[lists.item[lists.item >= 0]]
    return float(np.median(listed)) if len(listed) else 0.0


@dataclass(frozen=True)
class Metric:
    """A measure of quality.

    Attributes:
        label: its name in tables.
        of: what it is computed from: `ratings`, the predictions (n,) and ratings (n,) of a test part; or `lists`.
        function: of these arrays, or of `Lists`: one value, or a value per user (U,) to take the mean of.
        higher_is_better: how two values compare.
        k: length of the lists; 0 for metrics of ratings.
    """

    label: str
    of: Literal["ratings", "lists"]
    function: Callable[..., float | Floats]
    higher_is_better: bool = False
    k: int = 0


METRICS: dict[str, Metric] = {"rmse": Metric("RMSE", "ratings", rmse), "mae": Metric("MAE", "ratings", mae)}
"""Metrics of predicted ratings by name, the one that models are trained for first."""
LIST_METRICS: dict[str, Metric] = {
    "ndcg": Metric("NDCG", "lists", ndcg, True),
    "recall": Metric("recall", "lists", recall, True),
    "precision": Metric("precision", "lists", precision, True),
    "mrr": Metric("MRR", "lists", reciprocal_rank, True),
    "hit": Metric("hit rate", "lists", hit_rate, True),
    "coverage": Metric("coverage", "lists", coverage, True),
    "novelty": Metric("novelty", "lists", novelty, True),
    "popularity": Metric("popularity", "lists", popularity),
    "gini": Metric("Gini", "lists", gini),
}
"""Metrics of lists by name; the name of one is followed by the length of the lists: `ndcg@10`."""
OF_LISTS = ("ndcg@10", "recall@10", "coverage@10")
"""What models are measured by that do not predict ratings, where no metric is named."""


COUNTS = {"n": "ratings", "n_users": "users", "n_users_left_out": "users left out"}
"""What scores hold besides metrics, and its name in tables."""


class Scores(dict[str, Any]):
    """Values of metrics by name, and `n`, the number of ratings they rest on: `scores["rmse"]` or `scores.rmse`.

    A metric that a model cannot have (the RMSE of one that predicts no ratings) is None. Metrics of lists come with
    `n_users`, whose lists count, and `n_users_left_out`, users without a relevant test item.

    Attributes:
        groups: the scores of groups of users, where they were asked for, by value of an attribute.

    >>> score([3.5, 4.0], [4, 4])
    Scores(rmse=0.3535533905932738, mae=0.25, n=2)
    """

    groups: dict[str, Scores]

    def __init__(self, *args: Any, **scores: Any) -> None:
        super().__init__(*args, **scores)
        self.groups = {}

    def __getattr__(self, name: str) -> float:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no score {name!r}; available: {', '.join(self)}") from None

    def __repr__(self) -> str:
        return f"Scores({', '.join(f'{name}={value!r}' for name, value in self.items())})"

    def _repr_html_(self) -> str:
        shown = html.table((), [(label_of(name), value) for name, value in self.items()], decimals=4)
        if not self.groups:
            return html.block("Scores", shown)
        names = list(next(iter(self.groups.values())))
        rows = [(group, *(found.get(name) for name in names)) for group, found in self.groups.items()]
        return html.block("Scores", shown, html.table(["group", *map(label_of, names)], rows, decimals=4))


def label_of(name: str) -> str:
    """How tables name a score: `NDCG@10`, `users left out`; a name that is no metric stays as it is."""
    try:
        return metric_of(name).label
    except ConfigError:
        return COUNTS.get(name, name)


def metric_of(name: str) -> Metric:
    """A metric by name.

    Raises:
        ConfigError: there is none of this name, or the length of its lists is missing.
    """
    if name in METRICS:
        return METRICS[name]
    family, at, length = name.partition("@")
    if family in LIST_METRICS:
        if not (length.isdecimal() and int(length) > 0):
            raise ConfigError(f"metric {name!r} needs the length of the lists: {family}@10")
        metric = LIST_METRICS[family]
        return replace(metric, label=f"{metric.label}@{length}", k=int(length))
    near = difflib.get_close_matches(family, [*METRICS, *LIST_METRICS], n=1)
    hint = f" Did you mean {near[0] + at + length!r}?" if near else ""
    available = [*METRICS, *(f"{each}@10" for each in LIST_METRICS)]
    raise ConfigError(f"Unknown metric {name!r}.{hint} Available: {', '.join(available)}")


def score(predicted: ArrayLike, actual: ArrayLike, metrics: Sequence[str] | None = None) -> Scores:
    """Scores of n predictions.

    Args:
        predicted: (n,), on the scale of the ratings.
        actual: ratings (n,).
        metrics: names of metrics of ratings; None: all.

    Raises:
        ConfigError: an unknown metric.
        DataError: no ratings, different lengths, or a prediction that is NaN or infinite.
    """
    chosen = {name: metric_of(name) for name in (METRICS if metrics is None else metrics)}
    guess, truth = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if guess.shape != truth.shape or guess.ndim != 1:
        raise DataError(f"{guess.shape} predictions for {truth.shape} ratings: one of each is needed")
    if len(guess) == 0:
        raise DataError("no ratings to score")
    if len(bad := np.flatnonzero(~(np.isfinite(guess) & np.isfinite(truth)))):
        at = bad[0]
        raise DataError(
            f"rating {at}: prediction {guess[at]}, actual {truth[at]}; neither may be missing, NaN or infinite"
        )
    return Scores({name: metric.function(guess, truth) for name, metric in chosen.items()}, n=len(guess))


def score_lists(lists: Lists, metrics: Sequence[str]) -> Scores:
    """Scores of ranked lists: means over users, or one value for all lists.

    Args:
        lists: at least as long as the metrics need.
        metrics: names such as `ndcg@10`.
    """
    means = {name: float(np.mean(value)) for name, value in per_user(lists, metrics).items()}
    return Scores(means, n_users=len(lists.item))


def per_user(lists: Lists, metrics: Sequence[str]) -> dict[str, float | Floats]:
    """Metrics before the mean over users is taken: (U,), or one value for all lists."""
    chosen = {name: metric_of(name) for name in metrics}
    return {name: metric.function(lists.first(metric.k)) for name, metric in chosen.items()}
