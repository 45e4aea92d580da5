"""AESR: an auto-encoder over a user's ratings whose codes are pulled towards those of semantic neighbours.

A social recommender system using deep architecture and network embedding. Applied Intelligence, doi
10.1007/s10489-018-1359-z. This is a reconstruction: the full equations are not public. What is known is kept: a ReLU
auto-encoder over a user's rating vector, trained on observed entries, joined with a term that pulls a user's code
towards those of his top-k semantic neighbours, found by embedding the nodes of a social graph. Where there are no trust
links, the graph joins users whose training ratings are alike.

Node embeddings are DeepWalk's, in the closed form that its random walks converge to (J. Qiu et al.: Network embedding as
matrix factorization: unifying DeepWalk, LINE, PTE, and node2vec. WSDM 2018), factorised by SciPy's sparse SVD: nothing
random, nothing sampled.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor

from aanmf.models.autorec import AutoRecConfig, AutoRecModule
from aanmf.models.base import Context, Ratings
from aanmf.models.sparse import SparseMatrix


class AESRConfig(AutoRecConfig):
    """Settings of `AESR`; `factors` is the width of the code."""

    encodes: Literal["users"] = "users"
    """Always the user's ratings."""
    activation: Literal["relu"] = "relu"
    """Always ReLU."""
    trust: str | None = None
    """File of trust links (user, user, [strength]) by user id; None: links from co-rating in the training ratings."""
    links: int = Field(default=20, ge=1)
    """Co-rating graph: how many users each user is linked to, those with the most similar ratings."""
    walk: int = Field(default=2, ge=1, le=10)
    """Steps along the graph that still count as the neighbourhood of a user (DeepWalk's window)."""
    node_factors: int = Field(default=64, ge=1)
    """Dimension of the node embeddings."""
    neighbours: int = Field(default=10, ge=1)
    """k, the semantic neighbours of a user: those with the most similar node embeddings."""
    pull: float = Field(default=1.0, ge=0)
    """Strength of the pull of a user's code to the mean code of his neighbours, on the scale of `l2`."""
