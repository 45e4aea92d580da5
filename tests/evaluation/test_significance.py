"""Ranks, Friedman, Nemenyi and paired tests against tables and hand computations."""

from __future__ import annotations

import numpy as np
import pytest
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

PAPER = [[0.7282, 0.7216, 0.7012], [0.9186, 0.9176, 0.8979], [0.7045, 0.6980, 0.6473], [0.8875, 0.8792, 0.8322]]
"""Table 4 of the paper: ACMF, AESR, AANMF+P."""


def test_ranks_of_the_papers_table_by_its_own_rule() -> None:
    np.testing.assert_allclose(average_ranks(PAPER, tie=0.01), [2.5, 2.5, 1])
    np.testing.assert_allclose(average_ranks(PAPER), [3, 2, 1])


def test_equal_errors_share_a_rank() -> None:
    np.testing.assert_allclose(average_ranks([[0.5, 0.5, 0.1]]), [2.5, 2.5, 1])


def test_nemenyi_equals_the_published_table() -> None:
    assert nemenyi_q(3) == pytest.approx(2.343, abs=1e-3)
    assert nemenyi_q(10) == pytest.approx(3.164, abs=1e-3)
    assert nemenyi_critical_distance(3, 4) == pytest.approx(1.657, abs=1e-3)
    assert nemenyi_critical_distance(3, 4, alpha=0.10) == pytest.approx(1.451, abs=1e-3)


def test_friedman_by_hand() -> None:
    errors = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3], [2, 1, 3]], float)
    ranks = np.array([1.25, 1.75, 3.0])
    expected = 12 * 4 / (3 * 4) * ((ranks**2).sum() - 3 * 4**2 / 4)
    assert friedman(errors).statistic == pytest.approx(expected)
    assert friedman(errors).p == pytest.approx(stats.chi2.sf(expected, 2))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_paired() -> None:
    result = paired_test([1.0, 2.0, 3.0, 4.0, 5.5], [0.9, 1.8, 2.7, 3.6, 5.0])
    gap = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert result.difference == pytest.approx(0.3)
    assert result.wilcoxon_p == pytest.approx(2 / 2**5)  # all signs alike
    t = gap.mean() / (gap.std(ddof=1) / np.sqrt(5))
    assert result.t_p == pytest.approx(2 * stats.t.sf(t, 4))
    assert paired_test([1, 2], [1, 2]).t_p == 1
    with pytest.raises(DataError):
        paired_test([1], [1])
