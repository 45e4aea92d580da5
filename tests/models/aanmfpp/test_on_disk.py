"""AANMF++ with its arrays in files: the same bits as in memory."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch

from aanmf import AANMFpp, load_model
from aanmf.cli import main
from aanmf.data import scratch
from aanmf.data.scratch import Scratch
from aanmf.data.stream import StreamedDataset, stream_dataset
from aanmf.errors import DataError
from aanmf.models.aanmfpp.module import AANMFppModule

QUICK: dict[str, object] = {"epochs": 2, "members": 2, "factors": 4, "simplify_up_to": 0}


@pytest.fixture
def files(tmp_path, monkeypatch) -> pl.DataFrame:
    """Ratings in three files; arrays of any size are in files, and taken 500 numbers at a time."""
    monkeypatch.setattr(scratch, "SMALL", 0)
    monkeypatch.setattr(scratch, "BLOCK", 500)
    rng = np.random.default_rng(0)
    pairs = rng.permutation(60 * 50)[:1700]
    taste = rng.normal(size=(2, 60, 3)), rng.normal(size=(2, 50, 3))
    score = (taste[0][0] @ taste[1][0].T).ravel()[pairs]
    frame = pl.DataFrame(
        {
            "user": [f"u{pair // 50}" for pair in pairs],
            "item": [f"i{pair % 50}" for pair in pairs],
            "rating": np.clip(np.rint(3 + score), 1, 5),
        }
    )
    (tmp_path / "shards").mkdir()
    for part in range(3):
        frame[part::3].write_parquet(tmp_path / "shards" / f"{part}.parquet")
    pl.DataFrame({"user": [f"u{u}" for u in range(60)], "sex": ["f", "m"] * 30}).write_csv(tmp_path / "users.csv")
    return frame


def prepared(folder) -> StreamedDataset:
    return stream_dataset(folder / "shards", folder / "work", users=folder / "users.csv")


@pytest.mark.parametrize(
    "settings", [{}, {"ridge_items": 10, "ridge_rank": 8}, {"sampled": (5, 5)}], ids=["whole", "low rank", "sampled"]
)
def test_the_same_bits_as_in_memory(files, tmp_path, settings: dict[str, object]) -> None:
    data = prepared(tmp_path)
    on_disk, in_memory = (AANMFpp(**QUICK, **settings).fit(each) for each in (data, data.in_memory()))
    assert on_disk.fitted_.training.train.scratch == Scratch(tmp_path / "work")
    module = on_disk.module_
    assert isinstance(module, AANMFppModule)
    assert module.ridge is not None
    expected = in_memory.module_.state_dict()
    assert module.state_dict().keys() == expected.keys()
    for name, value in module.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert on_disk.recommend("u3").equals(in_memory.recommend("u3"))
    on_disk.save(tmp_path / "model")
    assert load_model(tmp_path / "model").recommend("u3").equals(in_memory.recommend("u3"))


def test_a_model_outlives_the_folder(files, tmp_path) -> None:
    data = prepared(tmp_path)
    model, expected = AANMFpp(**QUICK).fit(data), AANMFpp(**QUICK).fit(data.in_memory()).recommend("u3")
    shutil.rmtree(tmp_path / "work")
    assert model.recommend("u3").equals(expected)


def test_a_pair_that_is_rated_twice_is_an_error(files, tmp_path) -> None:
    files[:1].write_parquet(tmp_path / "shards" / "again.parquet")
    user, item, _ = files.row(0)
    with pytest.raises(DataError, match=f"1 ratings repeat .* user '{user}', item '{item}'"):
        AANMFpp(**QUICK).fit(prepared(tmp_path))


def test_the_command_trains_on_disk(files, tmp_path, capsys) -> None:
    asked = [
        "train",
        str(tmp_path / "shards" / "*.parquet"),
        "--users",
        str(tmp_path / "users.csv"),
        "--test",
        "0",
        "--json",
    ]
    asked += [part for name, value in QUICK.items() for part in ("--set", f"{name}={value}")]
    for out, more in (("disk", ["--on-disk"]), ("memory", [])):
        assert main([*asked, "--out", str(tmp_path / out), *more]) == 0
        shown, notes = capsys.readouterr()
        assert ("--on-disk keeps them in files" in " ".join(notes.split())) == (out == "memory")
        assert json.loads(shown)["ratings"] == len(files)
    assert not (tmp_path / "disk.training").exists()
    pairs = files["user"].to_list(), files["item"].to_list()
    one, other = (load_model(tmp_path / out).predictor_.predict(*pairs)[0]["rating"] for out in ("disk", "memory"))
    np.testing.assert_allclose(one, other, atol=0.3)  # the order of users and items differs


def test_the_command_names_the_models_that_can(files, tmp_path, capsys) -> None:
    assert main(["train", str(tmp_path / "shards"), "--model", "bpr", "--on-disk"]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "bpr does not support --on-disk" in error
    assert "--model aanmf++" in error
