"""Would an index find the best of a million items sooner than the exact search does, and does it find them?

    pip install faiss-cpu && python docs/research/index.py [--items 1000000] [--users 100000] [--ratings 5000000]

Matrix factorisation of 32 factors is trained on synthetic ratings (`benchmarks/flagship.py`). Its predictions are inner
products of [p_u, 1] and [q_i, b_i], the kind of score that an index can search. One thread, one user at a time.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import faiss  # pyright: ignore[reportMissingImports]
import numpy as np
import torch

from aanmf import MF
from aanmf.models.kernels import best_of

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from flagship import heavy_tailed

BEST, QUERIES = 10, 300


def timed(search, queries) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of each query, and what it found (n, 10)."""
    took, found = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(search(query))
        took.append(1000 * (time.perf_counter() - start))
    return np.array(took), np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--ratings", type=int, default=5_000_000)
    args = parser.parse_args()
    model = MF(factors=32, epochs=5, validation=0.0).fit(heavy_tailed(args.ratings, args.users, args.items))
    (_, p), (b, q) = model.module_.sides()
    items = torch.cat([q, b[:, None]], dim=1)[:-1].detach().contiguous()
    users = torch.cat([p, torch.ones(len(p), 1)], dim=1).detach()
    rows = np.random.default_rng(0).choice(args.users, QUERIES, replace=False)
    queries = users[rows].contiguous()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    took, exact = timed(lambda x: best_of((items @ x)[None], BEST)[1][0].numpy(), queries)
    print(f"exact: {np.median(took):.2f} ms, 99 % in {np.percentile(took, 99):.2f} ms")
    print(f"{len(np.unique(exact))} different items in {QUERIES} lists of {BEST}")
    vectors, size = items.numpy(), items.shape[1]
    coarse = faiss.IndexFlatIP(size)
    lists = faiss.IndexIVFFlat(coarse, size, 1024, faiss.METRIC_INNER_PRODUCT)
    few, graph = (faiss.IndexHNSWFlat(size, n, faiss.METRIC_INNER_PRODUCT) for n in (16, 32))
    faiss.omp_set_num_threads(2)
    kinds = (("IVF", lists, (8, 32, 128)), ("HNSW 16", few, (64, 128, 256, 512)), ("HNSW 32", graph, (64, 128, 256, 512)))
    for name, index, breadths in kinds:
        start = time.perf_counter()
        if name == "IVF":
            index.train(vectors[:: max(1, len(vectors) // 100_000)])
        index.add(vectors)
        built = time.perf_counter() - start
        faiss.omp_set_num_threads(1)
        for breadth in breadths:
            if name == "IVF":
                index.nprobe = breadth
            else:
                index.hnsw.efSearch = breadth
            took, found = timed(lambda x, index=index: index.search(x[None].numpy(), BEST)[1][0], queries)
            recall = np.mean([len(set(a) & set(b)) / BEST for a, b in zip(exact, found, strict=True)])
            print(
                f"{name}, {breadth}: {np.median(took):.2f} ms, 99 % in {np.percentile(took, 99):.2f} ms, "
                f"recall {recall:.3f}, built in {built:.0f} s"
            )
        faiss.omp_set_num_threads(2)


if __name__ == "__main__":
    main()
