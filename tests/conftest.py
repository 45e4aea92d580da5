"""What tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from aanmf.data.dataset import EntityTable, RatingDataset, Vocabulary
from aanmf.data.schema import Attribute, Kind
from aanmf.manifest import files_of, read_manifest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; without it a test says what it lacked."""
    folder = os.environ.get("AANMF_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real data: set AANMF_DATA to the folder that holds ml-100k/, ml-1m/, restaurant/ and filmtrust/")
    return Path(folder)


@pytest.fixture(scope="session")
def small() -> RatingDataset:
    """600 ratings of 20 items by 40 users with attributes of every kind, some missing, some users and items unrated."""
    return small_dataset()


def stored(folder: Path, name: str) -> Path:
    """Where a saved folder keeps one of its files."""
    return files_of(folder, read_manifest(folder))[name]


def small_dataset(seed: int = 0) -> RatingDataset:
    rng = np.random.default_rng(seed)
    n_users, n_items, n = 42, 21, 600
    gender = [None if u % 11 == 5 else "FM"[u % 2] for u in range(n_users)]
    hobbies = [None if u % 7 == 3 else ["chess", "go", "tennis"][: 1 + u % 3] for u in range(n_users)]
    users = pl.DataFrame(
        {
            "gender": gender,
            "hobbies": pl.Series(hobbies, dtype=pl.List(pl.String)),
            "age": [None if u % 13 == 1 else 20.0 + u for u in range(n_users)],
            "voice": pl.Series([[float(u % 3), 1.0, u / 10] for u in range(n_users)], dtype=pl.List(pl.Float64)),
        }
    )
    items = pl.DataFrame(
        {"genres": pl.Series([["drama", "war"][: 1 + i % 2] for i in range(n_items)], dtype=pl.List(pl.String))}
    )
    pairs = rng.permutation((n_users - 2) * (n_items - 1))[:n]  # the last two users and the last item have no rating
    user, item = pairs // (n_items - 1), pairs % (n_items - 1)
    taste = rng.normal(size=(n_users, 3)) @ rng.normal(size=(3, n_items))
    liking = 3 + 0.4 * rng.normal(size=n_items)[item] + 0.5 * (user % 2) * (item % 2) + 0.3 * taste[user, item]
    return RatingDataset(
        users=EntityTable(
            Vocabulary(f"u{u}" for u in range(n_users)),
            users,
            (
                Attribute(name="gender", kind=Kind.CATEGORICAL),
                Attribute(name="hobbies", kind=Kind.MULTIVALUED),
                Attribute(name="age", kind=Kind.NUMERIC, groups=4),
                Attribute(name="voice", kind=Kind.VECTOR),
            ),
        ),
        items=EntityTable(
            Vocabulary(f"i{i}" for i in range(n_items)), items, (Attribute(name="genres", kind=Kind.MULTIVALUED),)
        ),
        user=user,
        item=item,
        rating=np.clip(liking + 0.2 * rng.normal(size=n), 1, 5).astype(np.float32),
        time=rng.integers(0, 10_000, size=n),
        scale=(1.0, 5.0),
        name="small",
    )


@contextmanager
def threads(n: int) -> Iterator[None]:
    """PyTorch works with so many."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
