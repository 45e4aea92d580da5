"""AESR: an auto-encoder over a user's ratings whose codes are pulled towards those of semantic neighbours.

A social recommender system using deep architecture and network embedding. Applied Intelligence, doi
10.1007/s10489-018-1359-z. This is a reconstruction: the full equations are not public. What is known is kept:
a ReLU auto-encoder over a user's rating vector, trained on observed entries, joined with a term that pulls a
user's code towards those of the top-k semantic neighbours, found by embedding the nodes of a social graph.
Where there are no trust links, the graph joins users whose training ratings are alike.

Node embeddings are DeepWalk's, in the closed form that its random walks converge to (J. Qiu et al.: Network
embedding as matrix factorization: unifying DeepWalk, LINE, PTE, and node2vec. WSDM 2018), factorised by
SciPy's sparse SVD: nothing random, nothing sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor

from aanmf.contract import Ratings, TrainingData
from aanmf.data.dataset import Vocabulary
from aanmf.data.links import read_links
from aanmf.models.autorec import AutoEncoder, AutoEncoderConfig
from aanmf.models.sparse import SparseMatrix


class AESRConfig(AutoEncoderConfig):
    """Settings of `AESR`."""

    learning_rate: float = Field(default=8e-3, gt=0)
    trust: str | None = None
    """File of trust links: two user ids a line, and a strength if there is one. None: the graph joins users
    whose training ratings are alike."""
    links: int = Field(default=20, ge=1)
    """Graph from ratings: how many users each user is joined with, those with the most similar ratings."""
    walk: int = Field(default=2, ge=1, le=10)
    """Steps along the graph within which users count as near (DeepWalk's window)."""
    node_factors: int = Field(default=64, ge=1, le=4096)
    """Dimension of the node embeddings."""
    neighbours: int = Field(default=10, ge=1)
    """k, the semantic neighbours of a user: those with the most similar node embeddings."""
    pull: float = Field(default=2.0, ge=0)
    """Strength of the pull of a user's code to the mean code of the user's neighbours, on the scale of `l2`."""

    def read_links(self, users: Vocabulary) -> NDArray[np.int64] | None:
        """See `ModelConfig.read_links`."""
        return None if self.trust is None else read_links(self.trust, users)


class AESRModule(AutoEncoder):
    """r_ui = mu + d_u + c_i + W_i . h_u, h_u = ReLU(|N(u)|^-1/2 sum_{k in N(u)} (r_uk - mu) V_k + b).

    N(u) are the items that u rated in training.
    Penalty: pull / n sum_u ||h_u - mean_{v in S(u)} h_v||^2 over the users with semantic neighbours S(u).

    Args:
        config: settings.
        training: ratings, and links of trust where `trust` names a file of them; attributes are not used.
    """

    def __init__(self, config: AESRConfig, training: TrainingData) -> None:
        super().__init__(config, training, of_users=True, activation="relu")
        self.config, self.data = config, training

    def penalty(self, users: Tensor, items: Tensor) -> Tensor:
        """The pull, of all users at once; their codes are those of their whole training ratings."""
        h = self.activation(self.ratings.product(self.v) + self.b)
        apart = (h - self.near.product(h))[self.near.count > 0]
        return self.config.pull / len(self.data.train) * apart.square().sum()

    @cached_property
    def near(self) -> SparseMatrix:
        """The mean over S(u), for the penalty; prediction does without."""
        n, config, trust = self.data.n_users + 1, self.config, self.data.links
        if trust is None:
            graph = co_rating_graph(self.data.train, n, config.links)
        else:
            graph = undirected(trust[:, 0], trust[:, 1], np.ones(len(trust)), n)
        user, near = nearest(node_embeddings(graph, config.walk, config.node_factors), config.neighbours)
        share = 1.0 / np.bincount(user, minlength=n)[user]
        row, col, value = (torch.as_tensor(each) for each in (user, near, share))
        return SparseMatrix(row, col, value, (n, n)).to(self.v.device)


def co_rating_graph(train: Ratings, n_users: int, links: int) -> sparse.csr_array:
    """Joins each user with those of the most similar training ratings; a link weighs as much as they are
    similar.

    Similar is the cosine of two users' ratings less the mean rating, 0 where there is none; only positive
    ones count.
    """
    rating = train.rating.double().numpy()
    shape = (n_users, int(train.item.max()) + 1)
    rows = sparse.csr_array((rating - rating.mean(), (train.user.numpy(), train.item.numpy())), shape=shape)
    norm = np.sqrt(rows.multiply(rows).sum(axis=1))
    rows = sparse.csr_array(sparse.diags_array(1 / np.where(norm > 0, norm, 1)) @ rows)
    user, near, similar = _best(lambda block: (rows[block] @ rows.T).toarray(), n_users, links)
    return undirected(user, near, similar, n_users)


def undirected(
    left: NDArray[np.int64], right: NDArray[np.int64], weight: NDArray[np.float64], n: int
) -> sparse.csr_array:
    """The (n, n) graph with these links both ways; a link stated twice keeps its larger weight."""
    once = left != right
    graph = sparse.coo_array((weight[once], (left[once], right[once])), shape=(n, n)).tocsr()
    return sparse.csr_array(graph.maximum(graph.T))


def node_embeddings(graph: sparse.csr_array, walk: int, factors: int) -> NDArray[np.float64]:
    """DeepWalk's embeddings (n, <= factors) of the nodes of an undirected graph; all 0 for a node without
    links.

    With P = D^-1 A, T = `walk` and one negative sample, they factorise M = log max(1, vol(A) / T * (P + P^2 +
    ... + P^T) D^-1); a zero stays a zero, so M is as sparse as T steps reach.
    """
    degree = np.asarray(graph.sum(axis=1))
    inverse = sparse.diags_array(1 / np.where(degree > 0, degree, 1))
    step = sparse.csr_array(inverse @ graph)
    reached = power = step
    for _ in range(walk - 1):
        power = power @ step
        reached = reached + power
    m = sparse.csr_array(degree.sum() / walk * (reached @ inverse))
    m.data = np.log(np.maximum(m.data, 1))
    m.eliminate_zeros()
    n = len(degree)
    if m.nnz == 0:
        return np.zeros((n, 1))
    if n <= 4 * factors:
        u, s, _ = np.linalg.svd(m.toarray())
        u, s = u[:, :factors], s[:factors]
    else:
        u, s, _ = svds(m, k=factors, v0=np.random.default_rng(0).normal(size=n))
    far = np.diff(m.indptr) == 0
    return np.where(far[:, None], 0, u * np.sqrt(np.maximum(s, 0)))


def nearest(embeddings: NDArray[np.float64], k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (node, neighbour): the k nodes of the largest positive cosine, for a node with an embedding."""
    norm = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(norm > 1e-6 * norm.max(), norm, np.inf)
    node, near, _ = _best(lambda block: unit[block] @ unit.T, len(unit), k)
    return node, near


def _best(
    similar: Callable[[NDArray[np.int64]], NDArray[np.float64]], n: int, k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(row, column, similarity) of the k most similar others of each of n rows, among those above 0.

    `similar` gives a block of the rows of the similarity matrix: positions (b,) -> (b, n).
    """
    k = min(k, n - 1)
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for block in np.array_split(np.arange(n), -(-n // 1024)):
        s = similar(block)
        s[np.arange(len(block)), block] = 0
        best = np.argpartition(-s, k - 1, axis=1)[:, :k] if k > 0 else np.zeros((len(block), 0), np.int64)
        value = np.take_along_axis(s, best, axis=1)
        parts.append((np.repeat(block, k), best.ravel(), value.ravel()))
    row, col, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    kept = value > 1e-9
    return row[kept], col[kept], value[kept]
