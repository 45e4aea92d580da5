"""Ranks, Friedman, Nemenyi, Wilcoxon with Holm: by hand, and against Demsar's (2006) tables and scikit-posthocs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from aanmf.errors import DataError
from aanmf.evaluation.significance import Ranking, contrasts, holm, nemenyi_q, paired_test, ranks_of, smallest_p
from aanmf.experiments import paper


def the_papers(tie: float = paper.TIE) -> Ranking:
    return Ranking.of_errors(paper.RANKED, paper.errors()[1], tie)


def test_the_papers_ranks_by_its_own_rule() -> None:
    ranking = the_papers()
    assert ranking.average.tolist() == [2.5, 2.5, 1.0]
    assert ranking.ranks.tolist() == [[2.5, 2.5, 1.0]] * 4


def test_the_papers_ranks_as_printed_differ_in_one_row() -> None:
    printed = Ranking.of_ranks(paper.RANKED, paper.TABLE_5)
    assert printed.average.tolist() == [2.625, 2.375, 1.0]
    wrong = np.flatnonzero((printed.ranks != the_papers().ranks).any(axis=1))
    assert [paper.errors()[0][row] for row in wrong] == ["ML-100K RMSE"]


def test_without_the_rule_the_ranks_are_3_2_1() -> None:
    assert the_papers(tie=0.0).average.tolist() == [3.0, 2.0, 1.0]


def test_q_and_critical_distance_equal_the_table() -> None:
    # Demsar 2006, Table 5: q for 3 classifiers 2.343 (.05), 2.052 (.10); newer tables print 2.344
    ranking = the_papers()
    assert nemenyi_q(3, 0.05) == pytest.approx(2.3437, abs=5e-4)
    assert nemenyi_q(3, 0.10) == pytest.approx(2.052, abs=5e-4)
    assert ranking.critical_distance(0.05) == pytest.approx(1.657, abs=5e-4)
    assert ranking.critical_distance(0.10) == pytest.approx(1.451, abs=5e-4)


def test_the_papers_claim_does_not_reach_05() -> None:
    assert the_papers().differ(0.05) == []
    printed = Ranking.of_ranks(paper.RANKED, paper.TABLE_5)
    assert printed.differ(0.05) == []
    assert printed.differ(0.10) == [("aanmf+p", "acmf")]
    assert the_papers().cliques(0.05) == [("aanmf+p", "acmf", "aesr")]


def test_friedman_with_ties_by_hand() -> None:
    # ranks 2.5, 2.5, 1 in all of 4 rows; chi2 = 12N/(k(k+1)) (sum R^2 - k(k+1)^2/4) = 4 (13.5 - 12) = 6,
    # divided by 1 - sum(t^3 - t)/(N k (k^2 - 1)) = 1 - 24/96 = .75: 8
    assert the_papers().friedman_statistic == pytest.approx(8.0)
    assert the_papers().friedman_p == pytest.approx(float(stats.chi2.sf(8.0, 2)))


def test_nemenyi_equals_scikit_posthocs() -> None:
    posthocs = pytest.importorskip("scikit_posthocs")
    errors = np.random.default_rng(1).random((9, 4)) + np.array([0.0, 0.1, 0.4, 0.5])
    ours = Ranking.of_errors("abcd", errors).nemenyi_p()
    theirs = posthocs.posthoc_nemenyi_friedman(errors).to_numpy()
    assert ours == pytest.approx(theirs, abs=1e-3)
    pairs = {frozenset(pair) for pair in Ranking.of_errors("abcd", errors).differ(0.05)}
    significant = {frozenset(("abcd"[i], "abcd"[j])) for i, j in zip(*np.nonzero(theirs < 0.05), strict=True) if i < j}
    assert pairs == significant


def test_equal_errors_share_a_rank() -> None:
    np.testing.assert_allclose(ranks_of([0.5, 0.5, 0.1]), [2.5, 2.5, 1])


def test_nemenyi_q_equals_the_published_table() -> None:
    assert nemenyi_q(3) == pytest.approx(2.343, abs=1e-3)
    assert nemenyi_q(10) == pytest.approx(3.164, abs=1e-3)


def test_friedman_by_hand() -> None:
    ranking = Ranking.of_errors("abc", [[1, 2, 3], [1, 2, 3], [1, 2, 3], [2, 1, 3]])
    ranks = np.array([1.25, 1.75, 3.0])
    expected = 12 * 4 / (3 * 4) * ((ranks**2).sum() - 3 * 4**2 / 4)
    assert ranking.friedman_statistic == pytest.approx(expected)
    assert ranking.friedman_p == pytest.approx(stats.chi2.sf(expected, 2))


def test_cliques_overlap_and_leave_out_models_that_stand_alone() -> None:
    # k = 4, N = 10: CD = 2.569 sqrt(20/60) = 1.483
    ranks = np.tile([1.0, 2.2, 3.0, 3.8], (10, 1))
    assert Ranking.of_ranks("abcd", ranks).cliques() == [("a", "b"), ("b", "c"), ("c", "d")]
    far = np.tile([1.0, 3.0, 3.2, 3.4], (10, 1))
    assert Ranking.of_ranks("abcd", far).cliques() == [("b", "c", "d")]


def test_models_that_are_alike_everywhere() -> None:
    ranking = Ranking.of_errors("abc", np.ones((3, 3)))
    assert (ranking.friedman_p, ranking.differ()) == (1.0, [])


def test_too_few_models_or_rows() -> None:
    with pytest.raises(DataError, match="3 models or more"):
        Ranking.of_errors("ab", [[1.0, 2.0], [1.0, 2.0]])
    with pytest.raises(DataError, match="2 rows or more"):
        Ranking.of_errors("abc", [[1.0, 2.0, 3.0]])


def test_contrasts_by_hand() -> None:
    # b is worse on all 6 splits: p = 2/2^6 = .03125; c is better on one, by the least: ranks 1 against 2..6: W = 1,
    # of the 64 signs 2 reach it on each side: p = 4/64 = .0625. Holm: 2 * .03125 = .0625, and .0625 stays
    a = [0.90, 0.91, 0.92, 0.93, 0.94, 0.95]
    b = [x + 0.01 * (i + 1) for i, x in enumerate(a)]
    c = [x + 0.01 * (i + 1) * (-1 if i == 0 else 1) for i, x in enumerate(a)]
    found = {each.other: each for each in contrasts({"a": a, "b": b, "c": c}, "a")}
    assert found["b"].p == pytest.approx(0.03125) == smallest_p(6)
    assert found["c"].p == pytest.approx(0.0625)
    assert found["b"].p_holm == pytest.approx(0.0625)
    assert found["c"].p_holm == pytest.approx(0.0625)
    assert found["b"].difference == pytest.approx(-0.035)
    assert found["b"].splits == 6


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
    constant = paired_test([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    assert (constant.difference, constant.t_p, constant.wilcoxon_p) == (1.0, 0.0, 2 / 2**3)
    with pytest.raises(DataError):
        paired_test([1], [1])
