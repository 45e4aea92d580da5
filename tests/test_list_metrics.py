"""Metrics of lists: by hand, against loops that follow the definitions, and against ranx."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aanmf.errors import ConfigError
from aanmf.metrics import LIST_METRICS, Lists, metric_of, per_user, score_lists


def random_lists(seed: int, users: int = 50, items: int = 40, k: int = 12) -> tuple[Lists, list[set[int]]]:
    """Lists of different lengths, some empty, and the relevant items of each user, some of which cannot be listed."""
    rng = np.random.default_rng(seed)
    item = np.full((users, k), -1)
    relevant: list[set[int]] = []
    for u in range(users):
        length = int(rng.integers(0, k + 1))
        item[u, :length] = rng.permutation(items)[:length]
        relevant.append({int(i) for i in rng.permutation(items + 5)[: rng.integers(1, 20)]})
    hit = np.array([[int(i) in relevant[u] for i in item[u]] for u in range(users)])
    n_relevant = np.array([len(each) for each in relevant])
    n_ratings = rng.integers(0, 30, size=items)
    return Lists(item, hit, n_relevant, np.arange(items), n_ratings, n_users=80), relevant


def naive(name: str, lists: Lists, relevant: list[set[int]], k: int) -> float:
    rows = [[int(i) for i in row[:k] if i >= 0] for row in lists.item]
    values = []
    for row, wanted in zip(rows, relevant, strict=True):
        hits = [i in wanted for i in row]
        if name == "ndcg":
            dcg = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits, 1) if hit)
            values.append(dcg / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1)))
        elif name == "recall":
            values.append(sum(hits) / len(wanted))
        elif name == "precision":
            values.append(sum(hits) / k)
        elif name == "mrr":
            values.append(next((1 / rank for rank, hit in enumerate(hits, 1) if hit), 0.0))
        elif name == "hit":
            values.append(float(any(hits)))
        elif name == "novelty":
            own = [-math.log2(max(int(lists.n_ratings[i]), 1) / lists.n_users) for i in row]
            values.append(sum(own) / len(own) if own else 0.0)
    if values:
        return sum(values) / len(values)
    places = [i for row in rows for i in row]
    if name == "coverage":
        return len(set(places)) / len(lists.candidates)
    if name == "popularity":
        return float(np.median([lists.n_ratings[i] for i in places]))
    counts = [places.count(int(i)) for i in lists.candidates]
    apart = sum(abs(a - b) for a in counts for b in counts)  # Gini: mean absolute difference over twice the mean
    return apart / (2 * len(counts) * sum(counts))


@pytest.mark.parametrize("name", LIST_METRICS)
@pytest.mark.parametrize("k", [1, 5, 12])
def test_against_loops(name: str, k: int) -> None:
    for seed in range(3):
        lists, relevant = random_lists(seed)
        found = score_lists(lists, [f"{name}@{k}"])
        assert found[f"{name}@{k}"] == pytest.approx(naive(name, lists, relevant, k), abs=1e-12)
        assert found.n_users == 50


@pytest.mark.filterwarnings("ignore:unsafe cast")  # of numba, when it compiles
@pytest.mark.slow  # for a minute
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("ndcg@10", "ndcg@10"), ("recall@10", "recall@10"), ("precision@10", "precision@10"), ("mrr@10", "mrr@10"),
     ("hit@10", "hit_rate@10"), ("ndcg@3", "ndcg@3"), ("recall@3", "recall@3")],
)  # fmt: skip
def test_against_ranx(ours: str, theirs: str) -> None:
    ranx = pytest.importorskip("ranx", reason="ranx is in the extra `test`")
    lists, relevant = random_lists(7)
    keep = np.flatnonzero(lists.item[:, 0] >= 0)  # ranx takes no empty list
    lists = lists.take(keep)
    judged = {str(u): {str(i): 1 for i in relevant[u]} for u in keep}
    ranked = {
        str(u): {str(i): 1.0 - place / 100 for place, i in enumerate(row) if i >= 0}
        for u, row in zip(keep, lists.item, strict=True)
    }
    values = ranx.evaluate(ranx.Qrels(judged), ranx.Run(ranked), theirs, return_mean=False)
    found = np.atleast_1d(per_user(lists, [ours])[ours])
    assert sorted(values) == pytest.approx(sorted(found), abs=1e-9)
    assert np.mean(values) == pytest.approx(np.mean(found), abs=1e-9)


def test_by_hand() -> None:
    """User 0 is listed 2, 0 and wants 0 and 3; user 1 is listed 2 alone and wants 2."""
    lists = Lists(
        np.array([[2, 0], [2, -1]]), np.array([[False, True], [True, False]]), np.array([2, 1]), np.arange(4),
        np.array([4, 1, 2, 0]), n_users=4,
    )  # fmt: skip
    found = score_lists(lists, [f"{name}@2" for name in LIST_METRICS])
    gain = 1 / math.log2(3)
    assert found == pytest.approx(
        {"ndcg@2": (gain / (1 + gain) + 1) / 2, "recall@2": 0.75, "precision@2": 0.5, "mrr@2": 0.75, "hit@2": 1,
         "coverage@2": 0.5, "novelty@2": (0.5 + 1) / 2, "popularity@2": 2, "gini@2": 7 / 12, "n_users": 2}
    )  # fmt: skip


def test_names_of_metrics() -> None:
    assert metric_of("ndcg@10").label == "NDCG@10"
    assert metric_of("recall@5").k == 5
    with pytest.raises(ConfigError, match="needs the length of the lists: ndcg@10"):
        metric_of("ndcg")
    with pytest.raises(ConfigError, match="needs the length"):
        metric_of("ndcg@0")
    with pytest.raises(ConfigError, match=r"Unknown metric 'ndgc@5'. Did you mean 'ndcg@5'\? Available: .*hit@10"):
        metric_of("ndgc@5")
