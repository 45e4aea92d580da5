"""AESR: graph, node embeddings and neighbours by brute force; the pull by a naive loop; trust links from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aanmf import AESR, MF, DataError, RatingDataset
from aanmf.contract import TrainingData
from aanmf.data.links import read_links
from aanmf.models.aesr import AESRConfig, AESRModule, co_rating_graph, nearest, node_embeddings, undirected


def training(data: RatingDataset) -> TrainingData:
    return MF(epochs=1, validation=0).fit(data).fitted_.training


def random_graph(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.uniform(0.1, 1, size=(n, n)) * (rng.random((n, n)) < 0.1), 1)
    upper[:, 7] = upper[7, :] = 0  # a user without links
    return upper + upper.T


def test_co_rating_graph_by_brute_force(small: RatingDataset) -> None:
    train, _ = small.split(test=0.3, seed=0)
    c = training(train)
    graph = co_rating_graph(c.train, 43, links=4).toarray()
    table = np.zeros((43, 22))
    table[train.user, train.item] = train.rating - train.rating.mean(dtype=float)
    expected = np.zeros((43, 43))
    for u in range(43):
        cosine = np.zeros(43)
        for v in range(43):
            norm = np.linalg.norm(table[u]) * np.linalg.norm(table[v])
            cosine[v] = table[u] @ table[v] / norm if u != v and norm > 0 else 0
        for v in np.argsort(-cosine)[:4]:
            if cosine[v] > 0:
                expected[u, v] = expected[v, u] = cosine[v]
    np.testing.assert_allclose(graph, expected, atol=1e-6)


def test_test_ratings_leave_no_trace_in_graph_and_input(small: RatingDataset) -> None:
    train, _ = small.split(test=0.5, seed=0)
    alone = RatingDataset(train.users, train.items, train.user, train.item, train.rating, scale=(1, 5))
    first, second = AESRModule(AESRConfig(), training(train)), AESRModule(AESRConfig(), training(alone))
    assert torch.equal(first.near.col, second.near.col)
    assert int(first.ratings.count.sum()) == len(train)


@pytest.mark.parametrize("walk", [1, 2, 3])
def test_node_embeddings_factorise_the_deepwalk_matrix(walk: int) -> None:
    a = random_graph(40)
    degree = a.sum(axis=1)
    linked = degree > 0
    step = np.divide(a, degree[:, None], where=linked[:, None], out=np.zeros_like(a))
    reached = np.sum([np.linalg.matrix_power(step, r) for r in range(1, walk + 1)], axis=0)
    m = np.zeros_like(a)
    for u in range(40):
        for v in range(40):
            if linked[u] and linked[v]:
                m[u, v] = np.log(max(1, a.sum() / walk * reached[u, v] / degree[v]))
    row, col = np.nonzero(a)
    graph = undirected(row, col, a[row, col], 40)
    found = node_embeddings(graph, walk, factors=40)
    u, s, _ = np.linalg.svd(m)
    np.testing.assert_allclose(found @ found.T, (u * s) @ u.T, atol=1e-6)
    few = node_embeddings(graph, walk, factors=5)  # by the sparse solver
    np.testing.assert_allclose(few @ few.T, (u[:, :5] * s[:5]) @ u[:, :5].T, atol=1e-6)
    assert not found[7].any()


@pytest.mark.parametrize("n", [1, 2, 60])
def test_neighbours_by_brute_force(n: int) -> None:
    e = np.random.default_rng(0).normal(size=(n, 6))
    e[0] = 0  # no embedding: no neighbour of anybody
    node, near = nearest(e, 5)
    for u in range(n):
        cosine = [e[u] @ e[v] / np.linalg.norm(e[u]) / np.linalg.norm(e[v]) if 0 not in (u, v) else 0 for v in range(n)]
        cosine[u] = 0
        best = {v for v in np.argsort(-np.array(cosine))[:5] if cosine[v] > 0}
        assert set(near[node == u]) == best


def test_penalty_by_naive_loop(small: RatingDataset) -> None:
    c = training(small)
    m = AESRModule(AESRConfig(factors=6, pull=0.7, neighbours=3, dropout=0.0), c)
    with torch.no_grad():
        h = m.codes(torch.arange(43)).numpy()
    near = m.near
    total = 0.0
    for u in range(43):
        mine = near.col[near.row == u]
        if len(mine):
            assert len(mine) <= 3
            total += ((h[u] - h[mine].mean(axis=0)) ** 2).sum()
    none = torch.zeros(0, dtype=torch.int64)
    assert m.penalty(none, none).item() == pytest.approx(0.7 * total / len(small), rel=1e-4)


def test_trust_links(small: RatingDataset, tmp_path: Path) -> None:
    file = tmp_path / "trust.txt"
    lines = [f"u{u} u{(u + 1) % 40} 1" for u in range(40)]
    file.write_text("\n".join([*lines, "u1 stranger 1", "u1 u3 0"]))
    links = read_links(file, small.users.ids)
    assert links.tolist() == [[u, (u + 1) % 40] for u in range(40)]
    plain, social = (AESR(epochs=2, factors=4).fit(small), AESR(epochs=2, factors=4, trust=str(file)).fit(small))
    assert not np.allclose(plain.predict_data(small), social.predict_data(small), atol=1e-7)
    file.unlink()
    social.save(tmp_path / "model")  # the file is needed in training only
    np.testing.assert_array_equal(AESR.load(tmp_path / "model").predict_data(small), social.predict_data(small))
    with pytest.raises(DataError, match="no such file"):
        AESR(epochs=1, trust=str(file)).fit(small)


@pytest.mark.parametrize(
    ("text", "fault"),
    [("u1\nu2\n", "two"), ("a b\nc d\n", "none of the"), ("u1 u2 1\nu2 u3 much\n", "strength 'much' of link 2")],
)
def test_faults_of_a_link_file_are_named(small: RatingDataset, tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "trust.txt"
    file.write_text(text)
    with pytest.raises(DataError, match=fault):
        read_links(file, small.users.ids)
