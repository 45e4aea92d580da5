"""An index of items, to find a user's best of very many without a look at each of them.

It is for models whose scores are inner products, b_u + [x_u, 1] . [z_i, b_i]. Items are the nodes of a graph in which
neighbours have large products with each other; a search walks from item to item with higher scores (HNSW: Malkov and
Yashunin, 2018; by Faiss). It finds nearly all of the best items, and may miss some.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from aanmf.contract import InnerProducts, RatingModule
from aanmf.errors import ConfigError, MissingExtraError
from aanmf.fitted import Fitted
from aanmf.models.catalog import ModelSpec, with_capability

NEIGHBOURS = 32
"""Of an item in the graph."""
BREADTH = 256
"""Items that a search keeps in view, at least; and twice as many as it is to find."""
MOST = 1000
"""Items to find up to which a search is shorter than a look at all."""


class ItemIndex:
    """The items that have ratings, by their vectors.

    Args:
        kind: what the scores are.
        products: what they are made of.
        items: (n,) positions of the items to be found.

    Raises:
        MissingExtraError: Faiss is not installed.
    """

    def __init__(self, kind: Literal["rating", "match"], products: InnerProducts, items: NDArray[np.int64]) -> None:
        self.kind, self.products, self.items, self.faiss = kind, products, items, _faiss()
        bias, vector = products.items
        rows = torch.cat([vector, bias[:, None]], dim=1).index_select(0, torch.from_numpy(items).to(bias.device))
        self.graph = self.faiss.IndexHNSWFlat(rows.shape[1], NEIGHBOURS, self.faiss.METRIC_INNER_PRODUCT)
        self.graph.add(rows.float().cpu().numpy())

    @torch.no_grad()
    def best(self, user: int, n: int, barred: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and positions (m,) of items for a user at a position, best first, without those that are barred.

        Fewer than n where too many are barred to search for: then look at all.
        """
        wanted = min(n + len(barred), len(self.items))
        if wanted > MOST:
            return np.zeros(0, np.float32), np.zeros(0, np.int64)
        side = self.products.of_users(torch.tensor([user], device=self.products.items.bias.device))
        query = torch.cat([side.vector, torch.ones_like(side.bias)[:, None]], dim=1).float().cpu().numpy()
        breadth = self.faiss.SearchParametersHNSW(efSearch=max(BREADTH, 2 * wanted))
        (scores,), (places,) = self.graph.search(query, wanted, params=breadth)
        items = self.items[places[places >= 0]]
        kept = ~np.isin(items, barred)
        return (scores[places >= 0] + float(side.bias))[kept][:n], items[kept][:n]


def check_indexable(spec: ModelSpec) -> None:
    """Raises ConfigError where a model does not rank by inner products, MissingExtraError without Faiss."""
    if not spec.indexes:
        names = ", ".join(with_capability("indexes"))
        raise ConfigError(f"{spec.name} does not rank by inner products: no index. Available: {names}")
    _faiss()


@torch.no_grad()
def index_of(spec: ModelSpec, module: RatingModule, fitted: Fitted) -> ItemIndex:
    """The items of a fitted model that have ratings.

    Raises:
        ConfigError: the model does not rank by inner products.
        MissingExtraError: Faiss is not installed.
    """
    check_indexable(spec)
    kind, rated = "match" if module.matches else "rating", np.flatnonzero(fitted.items.n_ratings[:-1])
    return ItemIndex(kind, module.inner_products(), rated)


def _faiss() -> Any:
    try:
        import faiss  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise MissingExtraError("an index of items needs faiss: pip install 'aanmf[index]'") from None
    return faiss
