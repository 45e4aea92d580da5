"""Are differences between models more than chance? Paired tests, and the paper's ranks, Friedman and Nemenyi.

Several models are compared over rows of errors. A row is one thing that all of them were measured on: a data set and
metric (in the paper), or a split (here).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from aanmf.errors import DataError


@dataclass(frozen=True)
class Paired:
    """Comparison of two models on the same n splits: `difference` is the mean of a - b."""

    difference: float
    n: int
    t_p: float
    """p-value of the paired t-test."""
    wilcoxon_p: float
    """p-value of Wilcoxon's signed-rank test (exact for few splits)."""


def paired_test(a: ArrayLike, b: ArrayLike) -> Paired:
    """Compares scores a and b (n,) of two models on the same splits and seeds.

    Raises:
        DataError: different lengths, or fewer than two splits.
    """
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if left.shape != right.shape or left.ndim != 1 or len(left) < 2:
        raise DataError(f"a paired test needs two lists of equal length, 2 or more, not {left.shape} and {right.shape}")
    gap = left - right
    if np.allclose(gap, 0):  # no difference anywhere: neither test is defined
        return Paired(float(gap.mean()), len(gap), 1.0, 1.0)
    constant = np.allclose(gap, gap[0])  # a standard deviation of 0: t is infinite
    t_p = 0.0 if constant else float(stats.ttest_rel(left, right).pvalue)
    return Paired(float(gap.mean()), len(gap), t_p, float(np.asarray(stats.wilcoxon(gap))[1]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p-values adjusted for testing them all (Holm 1979)."""
    order, n = np.argsort(p_values), len(p_values)
    scaled = np.minimum(1.0, np.asarray(p_values)[order] * np.arange(n, 0, -1))
    adjusted = np.empty(n)
    adjusted[order] = np.maximum.accumulate(scaled)
    return adjusted.tolist()


def smallest_p(splits: int) -> float:
    """The smallest p-value that Wilcoxon's two-sided test can give with so many pairs."""
    return 2.0 / 2.0**splits


@dataclass(frozen=True)
class Contrast:
    """One model against another on the same splits.

    Attributes:
        difference: mean of error(model) - error(other); below 0, `model` is the better one.
        p: of Wilcoxon's signed-rank test.
        p_holm: adjusted for all the tests of its family.
        splits: how many pairs.
    """

    model: str
    other: str
    difference: float
    p: float
    p_holm: float
    splits: int


def contrasts(errors: Mapping[str, Sequence[float]], model: str) -> list[Contrast]:
    """One model against each of the others: Wilcoxon on paired splits, with Holm's correction over the family.

    Splits of one data set share training ratings, so p-values are a guide rather than a proof. With n splits no
    p-value can be smaller than 2 / 2^n (`smallest_p`).

    Args:
        errors: by model, in the order of the splits; at least two splits.
        model: one of them.
    """
    tests = {other: paired_test(errors[model], errors[other]) for other in errors if other != model}
    adjusted = holm([test.wilcoxon_p for test in tests.values()])
    return [
        Contrast(model, other, test.difference, test.wilcoxon_p, p, test.n)
        for (other, test), p in zip(tests.items(), adjusted, strict=True)
    ]


def ranks_of(row: ArrayLike, tie: float = 0.0) -> NDArray[np.float64]:
    """Ranks (k,) of errors (k,), 1 for the smallest.

    Args:
        row: errors of k models.
        tie: neighbours, in order, that are nearer than this share their mean rank (the paper's rule: 0.01); at 0
            only equal errors do.
    """
    errors = np.asarray(row, np.float64)
    order = np.argsort(errors, kind="stable")
    gaps = np.diff(errors[order])
    group = np.concatenate([[0], np.cumsum((gaps >= tie) & (gaps > 0))])
    means = np.bincount(group, np.arange(1, len(errors) + 1)) / np.bincount(group)
    ranks = np.empty(len(errors))
    ranks[order] = means[group]
    return ranks


def nemenyi_q(k: int, alpha: float = 0.05) -> float:
    """q_alpha of k models: the studentised range at infinite degrees of freedom, divided by sqrt(2) (Demsar 2006)."""
    return float(stats.studentized_range.ppf(1 - alpha, k, 1e6) / np.sqrt(2))


@dataclass(frozen=True)
class Ranking:
    """Models ranked on every row, 1 the best.

    Attributes:
        models: k names.
        ranks: (N, k).
        average: (k,).
        friedman_statistic, friedman_p: Friedman's test of the hypothesis that all models are alike.
    """

    models: tuple[str, ...]
    ranks: NDArray[np.float64]
    average: NDArray[np.float64]
    friedman_statistic: float
    friedman_p: float

    @classmethod
    def of_errors(cls, models: Sequence[str], errors: ArrayLike, tie: float = 0.0) -> Ranking:
        """From errors.

        Args:
            models: k >= 3 names.
            errors: (N, k), N >= 2.
            tie: see `ranks_of`.

        Raises:
            DataError: too few models or rows.
        """
        return cls.of_ranks(models, [ranks_of(row, tie) for row in np.atleast_2d(np.asarray(errors, np.float64))])

    @classmethod
    def of_ranks(cls, models: Sequence[str], ranks: ArrayLike) -> Ranking:
        """From ranks (N, k) that are given, such as the paper's."""
        rows = np.atleast_2d(np.asarray(ranks, np.float64))
        if rows.shape[1] != len(models) or len(models) < 3 or len(rows) < 2:
            raise DataError(
                f"ranks of {rows.shape[1]} models ({len(models)} names) over {len(rows)} rows: "
                "Friedman's test takes 3 models or more and 2 rows or more"
            )
        if (rows == rows[0, 0]).all():  # all tied everywhere: the test is not defined
            return cls(tuple(models), rows, rows.mean(axis=0), 0.0, 1.0)
        test = stats.friedmanchisquare(*rows.T)
        return cls(tuple(models), rows, rows.mean(axis=0), float(test.statistic), float(test.pvalue))

    def critical_distance(self, alpha: float = 0.05) -> float:
        """CD = q_alpha sqrt(k (k + 1) / (6 N)) (Eq 9): average ranks that differ by more than this differ at alpha."""
        return nemenyi_q(len(self.models), alpha) * self._unit

    def nemenyi_p(self) -> NDArray[np.float64]:
        """p-values (k, k) of all pairs, 1 on the diagonal."""
        k = len(self.models)
        q = np.abs(self.average[:, None] - self.average) / self._unit * np.sqrt(2)
        return np.where(np.eye(k) > 0, 1.0, stats.studentized_range.sf(q, k, 1e6))

    def differ(self, alpha: float = 0.05) -> list[tuple[str, str]]:
        """Pairs whose average ranks are further apart than the critical distance; the better model first."""
        rank, distance = dict(zip(self.models, self.average, strict=True)), self.critical_distance(alpha)
        pairs = [sorted(pair, key=lambda model: rank[model]) for pair in combinations(self.models, 2)]
        return [(better, worse) for better, worse in pairs if rank[worse] - rank[better] > distance]

    def cliques(self, alpha: float = 0.05) -> list[tuple[str, ...]]:
        """Groups of models, neighbours in rank, that cannot be told apart: the bars of a critical-distance diagram."""
        order = np.argsort(self.average, kind="stable")
        ranks, distance = self.average[order], self.critical_distance(alpha)
        spans: list[tuple[int, int]] = []
        for start in range(len(order)):
            end = int(np.flatnonzero(ranks - ranks[start] <= distance)[-1])
            if end > start and not any(end <= last for _, last in spans):
                spans.append((start, end))
        return [tuple(self.models[at] for at in order[first : last + 1]) for first, last in spans]

    @property
    def _unit(self) -> float:
        """The standard error of a difference of two average ranks."""
        k, n = self.ranks.shape[1], len(self.ranks)
        return float(np.sqrt(k * (k + 1) / (6 * n)))
