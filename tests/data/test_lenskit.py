"""Data sets of LensKit, in and out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aanmf.data.lenskit import from_lenskit, to_lenskit
from aanmf.data.schema import Kind
from tests.conftest import small_dataset

lenskit = pytest.importorskip("lenskit", reason="make test-lenskit")

DATA = replace(small_dataset(), time=np.arange(600) + 1_000_000_000)


def test_there_and_back(tmp_path: Path) -> None:
    theirs = to_lenskit(DATA)
    assert theirs.interaction_count == 600
    assert theirs.user_count == 42
    theirs.save(tmp_path / "toy")
    again = from_lenskit(lenskit.data.Dataset.load(tmp_path / "toy"))
    assert set(again.users.ids.ids) == set(DATA.users.ids.ids)
    rows = [
        {
            (data.users.ids.ids[user], data.items.ids.ids[item]): (rating, time)
            for user, item, rating, time in zip(data.user, data.item, data.rating, data.time, strict=True)
        }
        for data in (DATA, again)
        if data.time is not None
    ]
    assert rows[0] == rows[1]
    mine, theirs = (dict(zip(data.users.ids.ids, data.users.columns.to_dicts(), strict=True)) for data in (DATA, again))
    assert mine == theirs
    assert [each.kind for each in again.users.attributes] == [each.kind for each in DATA.users.attributes]


def test_titles_are_labels() -> None:
    titles = tuple(f"Title of {each}" for each in DATA.items.ids.ids)
    again = from_lenskit(to_lenskit(replace(DATA, items=replace(DATA.items, labels=titles))))
    assert again.items.label(again.items.ids.index(["i7"])[0]) == "Title of i7"


def test_choices_stay_choices() -> None:
    clicks = replace(DATA, has_ratings=False, rating=np.ones(600, np.float32))
    theirs = to_lenskit(clicks)
    assert theirs.default_interaction_class() == "choice"
    assert not from_lenskit(theirs).has_ratings


def test_whole_ids_and_sparse_vectors() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    builder = lenskit.data.DatasetBuilder("toy")
    builder.add_entities("user", [1, 2])
    builder.add_entities("item", [10, 20])
    builder.add_vector_attribute("item", "genome", [10, 20], sparse.csr_array(np.eye(2)))
    builder.add_scalar_attribute("user", "age", [1, 2], [20.5, 30.5])
    ratings = {"user_id": [1, 2], "item_id": [20, 10], "rating": [1.0, 2.0]}
    pandas = pytest.importorskip("pandas")
    builder.add_interactions("rating", pandas.DataFrame(ratings), entities=["user", "item"], default=True)
    with pytest.warns(UserWarning, match="column 'genome' is not used: it holds sparse vectors"):
        data = from_lenskit(builder.build(), attributes={"age": "numeric"})
    assert data.users.ids.ids == ("1", "2")
    assert data.items.ids.ids[data.item[0]] == "20"
    assert data.users.attribute("age").kind is Kind.NUMERIC
