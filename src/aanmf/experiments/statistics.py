"""Comparisons of several models over several rows of errors: ranks, Friedman, Nemenyi; paired tests with Holm.

A row is one thing that all models were measured on: a data set and metric (the paper), or a split (here).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from aanmf.errors import DataError
from aanmf.evaluation.significance import (
    average_ranks,
    friedman,
    holm,
    nemenyi_critical_distance,
    nemenyi_q,
    paired_test,
)


@dataclass(frozen=True)
class Ranking:
    """Models ranked on every row, 1 the best.

    Attributes:
        models: k names.
        ranks: (N, k).
        average: (k,).
        friedman_statistic, friedman_p: of the hypothesis that all models are alike.
    """

    models: tuple[str, ...]
    ranks: NDArray[np.float64]
    average: NDArray[np.float64]
    friedman_statistic: float
    friedman_p: float

    @classmethod
    def of_errors(cls, models: Sequence[str], errors: ArrayLike, tie: float = 0.0) -> Ranking:
        """From errors (N, k).

        Args:
            models: k >= 3 names.
            errors: (N, k), N >= 2.
            tie: neighbours, in order, that are nearer than this share their mean rank (the paper: 0.01). At 0
                only equal errors do.

        Raises:
            DataError: too few models or rows.
        """
        rows = np.atleast_2d(np.asarray(errors, np.float64))
        ranks = np.array([average_ranks(row[None], tie) for row in rows])
        return cls.of_ranks(models, ranks)

    @classmethod
    def of_ranks(cls, models: Sequence[str], ranks: ArrayLike) -> Ranking:
        """From ranks (N, k) that are given, such as the paper's."""
        rows = np.atleast_2d(np.asarray(ranks, np.float64))
        if rows.shape[1] != len(models) or len(models) < 3 or len(rows) < 2:
            raise DataError(
                f"ranks of {rows.shape[1]} models ({len(models)} names) over {len(rows)} rows: "
                "Friedman's test takes 3 models or more and 2 rows or more"
            )
        same = bool((rows == rows[0, 0]).all())  # all tied everywhere: the test is not defined
        test = None if same else friedman(rows)
        statistic, p = (test.statistic, test.p) if test else (0.0, 1.0)
        return cls(tuple(models), rows, rows.mean(axis=0), statistic, p)

    def q(self, alpha: float = 0.05) -> float:
        """q_alpha for k models."""
        return nemenyi_q(len(self.models), alpha)

    def critical_distance(self, alpha: float = 0.05) -> float:
        """Average ranks that differ by more than this differ at alpha (Eq 9)."""
        return nemenyi_critical_distance(len(self.models), len(self.ranks), alpha)

    def nemenyi_p(self) -> NDArray[np.float64]:
        """p-values (k, k) of all pairs, 1 on the diagonal."""
        k, n = len(self.models), len(self.ranks)
        gap = np.abs(self.average[:, None] - self.average)
        q = gap / np.sqrt(k * (k + 1) / (6 * n)) * np.sqrt(2)
        return np.where(np.eye(k) > 0, 1.0, stats.studentized_range.sf(q, k, 1e6))

    def differ(self, alpha: float = 0.05) -> list[tuple[str, str]]:
        """Pairs whose average ranks are further apart than the critical distance; the better model first."""
        distance = self.critical_distance(alpha)
        pairs = []
        for i, j in combinations(range(len(self.models)), 2):
            if abs(self.average[i] - self.average[j]) > distance:
                better, worse = (i, j) if self.average[i] < self.average[j] else (j, i)
                pairs.append((self.models[better], self.models[worse]))
        return pairs

    def cliques(self, alpha: float = 0.05) -> list[tuple[str, ...]]:
        """Groups of models, neighbours in rank, that cannot be told apart: the bars of a critical-distance diagram."""
        distance = self.critical_distance(alpha)
        order = np.argsort(self.average, kind="stable")
        spans: list[tuple[int, int]] = []
        for start in range(len(order)):
            near = [at for at in range(start, len(order)) if self._gap(order[start], order[at]) <= distance]
            if near[-1] > start and not any(low <= start and near[-1] <= high for low, high in spans):
                spans.append((start, near[-1]))
        return [tuple(self.models[order[at]] for at in range(low, high + 1)) for low, high in spans]

    def _gap(self, one: int, other: int) -> float:
        return abs(float(self.average[one] - self.average[other]))


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


def smallest_p(splits: int) -> float:
    """The smallest p-value that Wilcoxon's two-sided test can give with so many pairs."""
    return 2.0 / 2.0**splits
