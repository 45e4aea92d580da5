"""Are differences between models more than chance? Paired tests, and the paper's ranks, Friedman and Nemenyi."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Compares errors a and b (n,) of two models on the same splits and seeds.

    Raises:
        DataError: different lengths, or fewer than two splits.
    """
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if left.shape != right.shape or left.ndim != 1 or len(left) < 2:
        raise DataError(
            f"a paired test needs two equally long lists of at least 2 figures, not {left.shape} and {right.shape}"
        )
    gap = left - right
    if np.allclose(gap, gap[0]):  # no spread: the tests are not defined
        p = 1.0 if np.allclose(gap, 0) else 0.0
        return Paired(float(gap.mean()), len(gap), p, 1.0 if p else _wilcoxon(gap))
    return Paired(float(gap.mean()), len(gap), float(stats.ttest_rel(left, right).pvalue), _wilcoxon(gap))


def _wilcoxon(gap: NDArray[np.float64]) -> float:
    return float(stats.wilcoxon(gap)[1])  # type: ignore[index]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p-values adjusted for testing them all (Holm 1979)."""
    order = np.argsort(p_values)
    n, adjusted, running = len(p_values), np.empty(len(p_values)), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (n - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted.tolist()


def average_ranks(errors: ArrayLike, tie: float = 0.0) -> NDArray[np.float64]:
    """Mean rank of each model, 1 for the smallest error.

    Args:
        errors: (rows, models).
        tie: neighbours, in order, that are nearer than this share their mean rank (the paper's rule: 0.01).
    """
    return np.mean([_ranks(row, tie) for row in np.asarray(errors, np.float64)], axis=0)


def _ranks(row: NDArray[np.float64], tie: float) -> NDArray[np.float64]:
    order = np.argsort(row, kind="stable")
    gaps = np.diff(row[order])
    group = np.concatenate([[0], np.cumsum((gaps >= tie) & (gaps > 0))])
    ranks = np.empty(len(row))
    for g in np.unique(group):
        places = np.flatnonzero(group == g)
        ranks[order[places]] = places.mean() + 1
    return ranks


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that all models are alike."""

    statistic: float
    p: float


def friedman(errors: ArrayLike) -> Friedman:
    """Friedman's test over (rows, models); at least 3 of each."""
    result = stats.friedmanchisquare(*np.asarray(errors, np.float64).T)
    return Friedman(float(result.statistic), float(result.pvalue))


def nemenyi_q(k: int, alpha: float = 0.05) -> float:
    """q_alpha of k models: the studentised range at infinite degrees of freedom, divided by sqrt(2) (Demsar 2006)."""
    return float(stats.studentized_range.ppf(1 - alpha, k, 1e6) / np.sqrt(2))


def nemenyi_critical_distance(k: int, n: int, alpha: float = 0.05) -> float:
    """CD = q_alpha sqrt(k (k + 1) / (6 N)) (Eq 9): average ranks of k models over N rows that differ by more differ."""
    return nemenyi_q(k, alpha) * float(np.sqrt(k * (k + 1) / (6 * n)))
