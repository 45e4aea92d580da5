"""Coupled similarity by an example computed by hand; the regulariser by a naive loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aanmf import ACMF, MF, RatingDataset
from aanmf.contract import TrainingData
from aanmf.models.acmf import ACMFConfig, ACMFModule, coupled_values, neighbour_graph


def coupled_similarity(codes: torch.Tensor) -> torch.Tensor:
    """COS of all pairs of objects."""
    z, delta = coupled_values(codes)
    return z @ delta @ z.T


def training(data: RatingDataset) -> TrainingData:
    return MF(epochs=1, validation=0).fit(data).fitted_.training


def test_similarity_of_an_example_computed_by_hand() -> None:
    """Four films: director (A, A, B, B), actor (x, x, y, x), genre (g, h, h, h).

    Director A and B, twice each: intra = 4 / (2 + 2 + 4) = 1/2. Actors: P(x|A) = 1, P(x|B) = P(y|B) = 1/2, so they
    share 1/2; genres: P(g|A) = P(h|A) = 1/2, P(h|B) = 1, they share 1/2; inter = 1/2. Together 1/4. A with itself: 1/2.
    Actor x and y (3 and 1 times): intra = 3 / (3 + 1 + 3) = 3/7. Directors: P(B|x) = 1/3, P(B|y) = 1: 1/3. Genres:
    P(h|x) = 2/3, P(h|y) = 1: 2/3. inter = 1/2, together 3/14. x with itself: 9 / 15 = 3/5; y: 1 / 3.
    Genre g and h (1 and 3 times): intra 3/7. Directors: P(A|g) = 1, P(A|h) = 1/3: 1/3. Actors: P(x|g) = 1,
    P(x|h) = 2/3: 2/3. inter = 1/2, together 3/14. g with itself 1/3, h 3/5.
    """
    similar = coupled_similarity(torch.tensor([[0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 0, 1]]))
    expected = {
        (0, 0): 1 / 2 + 3 / 5 + 1 / 3,
        (0, 1): 1 / 2 + 3 / 5 + 3 / 14,
        (0, 2): 1 / 4 + 3 / 14 + 3 / 14,
        (0, 3): 1 / 4 + 3 / 5 + 3 / 14,
        (1, 2): 1 / 4 + 3 / 14 + 3 / 5,
        (1, 3): 1 / 4 + 3 / 5 + 3 / 5,
        (2, 3): 1 / 2 + 3 / 14 + 3 / 5,
        (2, 2): 1 / 2 + 1 / 3 + 3 / 5,
    }
    for (a, b), value in expected.items():
        assert float(similar[a, b]) == pytest.approx(value, abs=1e-6)
        assert float(similar[b, a]) == pytest.approx(value, abs=1e-6)


def test_a_missing_value_adds_nothing() -> None:
    similar = coupled_similarity(torch.tensor([[0, -1], [0, 0], [1, 0]]))
    # first attribute: 0 twice, intra(0, 0) = 4/8; P(w|0) = 1/2 over the one value of the other attribute
    assert float(similar[0, 1]) == pytest.approx(0.5 * 0.5)


def test_a_single_attribute_has_nothing_to_couple_with() -> None:
    similar = coupled_similarity(torch.tensor([[0], [0], [1]]))
    assert float(similar[0, 1]) == pytest.approx(0.5)  # intra alone: 4 / 8
    assert float(similar[0, 2]) == pytest.approx(2 / 5)


def test_neighbours_are_the_most_similar_rated_items(small: RatingDataset) -> None:
    c = training(small)
    graph = neighbour_graph(c, 3)
    has = np.zeros((20, c.items.n_values), np.int64)  # item 20 has no rating
    for i in range(20):
        has[i, c.items.value[i][c.items.mask[i]]] = 1
    similar = coupled_similarity(torch.as_tensor(has)).numpy()
    np.fill_diagonal(similar, -np.inf)
    assert graph.count.tolist() == [3] * 20 + [0, 0]
    for i in range(20):
        mine = graph.row == i
        assert i not in graph.col[mine]
        np.testing.assert_allclose(np.sort(graph.value[mine]), np.sort(similar[i])[-3:], rtol=1e-5)
        np.testing.assert_allclose(graph.value[mine], similar[i][graph.col[mine]], rtol=1e-5)


def test_penalty_by_naive_loop(small: RatingDataset) -> None:
    c = training(small)
    m = ACMFModule(ACMFConfig(factors=4, alpha=0.7, neighbours=5), c)
    torch.nn.init.normal_(m.q)
    graph, q = neighbour_graph(c, 5), m.q.detach().numpy().astype(float)
    loop = sum(
        float(cos) * ((q[i] - q[f]) ** 2).sum() for i, f, cos in zip(graph.row, graph.col, graph.value, strict=True)
    )
    none = torch.zeros(0, dtype=torch.int64)
    assert m.penalty(none, none).item() == pytest.approx(0.7 * loop / len(small), rel=1e-4)


def test_items_without_attributes_are_not_pulled(small: RatingDataset) -> None:
    c = training(small.with_attributes(items=[]))
    assert len(neighbour_graph(c, 5).col) == 0
    bare = small.with_attributes(items=[])
    acmf = ACMF(epochs=2, factors=4).fit(bare).predict_data(bare)
    config = ACMFConfig()
    mf = MF(epochs=2, factors=4, l2=config.l2, l2_bias=config.l2_bias, learning_rate=config.learning_rate)
    np.testing.assert_array_equal(acmf, mf.fit(bare).predict_data(bare))


def test_the_pull_brings_neighbours_together(small: RatingDataset) -> None:
    def spread(alpha: float) -> float:
        q = ACMF(epochs=5, factors=4, alpha=alpha).fit(small).module_.get_parameter("q").detach()
        return float(q[:20:2].var(dim=0).sum())  # items of one genre set

    assert spread(10.0) < 0.5 * spread(0.0)
