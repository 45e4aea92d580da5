"""Training from disk: every rating once per epoch in a new order, the same model as from memory."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from aanmf import AANMF, MF, AANMFpp, SVDpp, load_model
from aanmf.cli import main
from aanmf.data.rating_file import RECORD, RatingFile
from aanmf.data.stream import StreamedDataset, stream_dataset
from aanmf.errors import DataError, ModelFolderError
from aanmf.training import streamed
from aanmf.training.checkpoint import Checkpoints
from aanmf.training.streamed import StreamedRatings
from tests.conftest import stored
from tests.test_context import planted
from tests.training.test_checkpoint import SETTINGS, bits, die


def on_disk(data, path) -> StreamedDataset:
    rows = np.empty(len(data), RECORD)
    rows["user"], rows["item"], rows["rating"] = data.user, data.item, data.rating
    path.write_bytes(rows.tobytes())
    return StreamedDataset(data.users, data.items, RatingFile(path), data.scale, data.name)


@pytest.fixture
def disk(small, tmp_path, monkeypatch) -> StreamedDataset:
    """`small` on disk, with pieces and a window so small that it takes several."""
    monkeypatch.setattr(streamed, "PIECE", 8)
    monkeypatch.setattr(streamed, "WINDOW", 100)
    return on_disk(small, tmp_path / "small.bin")


@pytest.fixture
def numbered(tmp_path, monkeypatch) -> StreamedRatings:
    """1003 ratings whose user is their row."""
    monkeypatch.setattr(streamed, "PIECE", 8)
    monkeypatch.setattr(streamed, "WINDOW", 100)
    rows = np.zeros(1003, RECORD)
    rows["user"], rows["item"], rows["rating"] = np.arange(1003), np.arange(1003) % 7, np.arange(1003) % 5
    (tmp_path / "rows.bin").write_bytes(rows.tobytes())
    return StreamedRatings.over(RatingFile(tmp_path / "rows.bin"))


def epochs(ratings, size: int, n: int, done: int = 0) -> list[list[list[int]]]:
    generator = torch.Generator().manual_seed(3)
    return [[batch.user.tolist() for batch in ratings.batches(size, generator, done)] for _ in range(n)]


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("size", [1, 32, 100, 5000])
def test_every_rating_once_per_epoch_in_a_new_order(numbered, held_out: bool, size: int) -> None:
    ratings, expected = numbered, set(range(1003))
    if held_out:
        ratings, valid = numbered.hold_out(0.2, seed=0)
        expected -= set(valid.user.tolist())
        assert 150 < len(valid) <= 201
    assert len(ratings) == len(expected)
    one, other = epochs(ratings, size, 2)
    for batches in (one, other):
        assert [len(batch) for batch in batches[:-1]] == [size] * ((len(expected) - 1) // size)
        met = [user for batch in batches for user in batch]
        assert len(met) == len(expected)
        assert set(met) == expected
    assert one != other
    assert one == epochs(ratings, size, 1)[0]  # the generator fixes the order


@pytest.mark.parametrize("size", [1, 32, 100, 5000])
def test_an_epoch_can_be_taken_up_anywhere(numbered, size: int) -> None:
    ratings, _ = numbered.hold_out(0.2, seed=0)
    (whole,) = epochs(ratings, size, 1)
    for done in {0, 1, len(whole) // 2, len(whole) - 1, len(whole)}:
        assert epochs(ratings, size, 1, done) == [whole[done:]]


def test_a_window_is_taken_from_everywhere(numbered) -> None:
    ((first, *_),) = epochs(numbered, 96, 1)
    assert np.unique(np.array(first) // 100).size >= 7  # of ten tenths of the file
    assert first != sorted(first)


def test_what_is_held_out_is_fixed_by_the_seed_and_never_counted(numbered) -> None:
    kept, valid = numbered.hold_out(0.3, seed=1)
    assert torch.equal(numbered.hold_out(0.3, seed=1)[1].user, valid.user)
    assert not torch.equal(numbered.hold_out(0.3, seed=2)[1].user[:50], valid.user[:50])
    rows = np.setdiff1d(np.arange(1003), valid.user.numpy())
    assert kept.mean == pytest.approx(float(np.mean(rows % 5)))
    users, items = kept.rated(1003, 9)
    np.testing.assert_array_equal(np.flatnonzero(users.numpy()), rows)
    assert items.tolist() == [True] * 7 + [False] * 2


def test_the_validation_part_has_a_limit(numbered, monkeypatch) -> None:
    monkeypatch.setattr(streamed, "HELD_OUT", 50)
    assert 40 < len(numbered.hold_out(0.5, seed=0)[1]) <= 50


@pytest.mark.parametrize("model", [MF, AANMF])
def test_with_one_batch_the_model_is_that_of_memory(small, disk, model) -> None:
    """Where all ratings are one batch, their order does not matter."""
    settings = {"factors": 4, "epochs": 6, "validation": 0, "batch_size": 1000, "learning_rate": 0.02}
    if model is AANMF:
        settings["dropout"] = 0
    memory, streamed_ = model(**settings).fit(small), model(**settings).fit(disk)
    for name, each in memory.module_.state_dict().items():
        if name != "cell.out.bias":  # softmax ignores it: its gradient is rounding, which Adam blows up
            torch.testing.assert_close(streamed_.module_.state_dict()[name], each, atol=2e-5, rtol=1e-4)
    assert streamed_.fitted_.training.scale == memory.fitted_.training.scale


def test_in_small_batches_it_learns_as_well(small, disk) -> None:
    settings = {"factors": 4, "epochs": 30, "learning_rate": 0.02}
    memory, streamed_ = MF(**settings).fit(small), MF(**settings).fit(disk)
    rmse = [model.evaluate(small).rmse for model in (memory, streamed_)]
    assert rmse[1] == pytest.approx(rmse[0], rel=0.05)
    assert rmse[1] < 0.9 * float(small.rating.std())


def test_a_saved_model_brings_its_ratings(disk, tmp_path) -> None:
    model = MF(**SETTINGS).fit(disk)
    model.save(tmp_path / "m")
    disk.file.path.unlink()
    loaded = load_model(tmp_path / "m")
    assert loaded.recommend("u3", n=20).equals(model.recommend("u3", n=20))
    seen = {disk.items.ids.ids[i] for i in disk.file.read(0, 600)["item"][disk.file.read(0, 600)["user"] == 3]}
    assert seen
    assert not seen & set(loaded.recommend("u3", n=20)["item"])
    assert loaded.predict("u3", "i1").equals(model.predict("u3", "i1"))
    assert loaded.predict(["u41", "u3"], ["i1", "nix"])["fallback"].to_list() == [
        "user without ratings",
        "unknown item",
    ]
    loaded.save(tmp_path / "again")
    assert stored(tmp_path / "again", "ratings.bin").read_bytes() == stored(tmp_path / "m", "ratings.bin").read_bytes()
    stored(tmp_path / "m", "ratings.bin").write_bytes(bytes(7200))
    with pytest.raises(ModelFolderError, match=r"ratings\.bin was changed"):
        load_model(tmp_path / "m")


def test_killed_it_goes_on_with_the_same_bits(disk, tmp_path) -> None:
    whole = bits(AANMF(**SETTINGS).fit(disk))
    for lives in (1, 4, 7):
        die(AANMF(**SETTINGS), disk, tmp_path / str(lives), "5", lives)
        resumed = AANMF(**SETTINGS).fit(disk, checkpoints=Checkpoints(tmp_path / str(lives), resume=True))
        assert bits(resumed) == whole


@pytest.mark.parametrize("model", [SVDpp(factors=4, epochs=2), AANMFpp(factors=4, epochs=2, members=1)])
def test_a_model_that_needs_all_ratings_reads_them_into_memory(small, disk, tmp_path, model) -> None:
    expected = bits(type(model)(**model.get_params()).fit(small))
    assert bits(model.fit(disk)) == expected
    model.save(tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    assert loaded.fitted_.training_ratings() is not None
    assert loaded.predict("u1", ["i1", "i2"]).equals(model.predict("u1", ["i1", "i2"]))


def test_with_context_too(tmp_path) -> None:
    data = planted().take(np.arange(600)).with_context(["timestamp"])
    disk = replace(on_disk(data, tmp_path / "r.bin"), context=data.context, time=data.time)
    settings = {"factors": 3, "epochs": 1, "members": 1, "parts": 2}
    assert bits(AANMFpp(**settings).fit(disk)) == bits(AANMFpp(**settings).fit(data))


def test_a_pair_rated_twice_is_named(small, tmp_path) -> None:
    rows = np.r_[0:600, 7]
    disk = on_disk(small.take(rows), tmp_path / "twice.bin")
    user, item = small.users.ids.ids[small.user[7]], small.items.ids.ids[small.item[7]]
    with pytest.raises(DataError, match=f"1 ratings repeat .* user '{user}', item '{item}'"):
        SVDpp(epochs=1).fit(disk)


def test_command_line(small, tmp_path, capsys) -> None:
    ids = {"user": [small.users.ids.ids[u] for u in small.user], "item": [small.items.ids.ids[i] for i in small.item]}
    frame = pl.DataFrame({**ids, "rating": small.rating})
    (tmp_path / "r").mkdir()
    for n in range(3):
        frame[200 * n : 200 * n + 200].write_parquet(tmp_path / "r" / f"{n}.parquet")
    command = ["train", f"{tmp_path}/r/*.parquet", "--model", "aanmf", "--set", "epochs=2", "--json"]
    assert main([*command, "--model", "aanmf+p", "--out", str(tmp_path / "m")]) == 0
    assert json.loads(capsys.readouterr().out)["ratings"] == 600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "r"]
    assert main(["recommend", str(tmp_path / "m"), "--user", "u3", "--json"]) == 0
    capsys.readouterr()
    assert main([*command, "--model", "mf"]) == 0  # nothing is kept
    assert main([*command, "--model", "svd++"]) == 0
    assert "all are read into memory" in " ".join(capsys.readouterr().err.split())
    assert main([*command, "--repeated", "error"]) == 1
    assert "leave the option out to count every rating" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_context_from_disk(tmp_path, monkeypatch) -> None:
    """The company moves ratings: a streamed model learns it, keeps it in its folder, and does not look at test rows."""
    monkeypatch.setattr(streamed, "PIECE", 8)
    monkeypatch.setattr(streamed, "WINDOW", 256)
    rng, n = np.random.default_rng(0), 1200
    company = rng.integers(2, size=n)
    frame = pl.DataFrame(
        {
            "user": [f"u{k % 40}" for k in range(n)],
            "item": [f"i{k // 40}" for k in range(n)],
            "rating": 3 + 1.5 * (company - 0.5) + 0.1 * rng.normal(size=n),
            "company": [("alone", "family")[k] for k in company],
            "timestamp": 1_600_000_000 + rng.integers(10**8, size=n),
        }
    )
    (tmp_path / "shards").mkdir()
    for part in range(3):
        frame[400 * part : 400 * (part + 1)].write_csv(tmp_path / "shards" / f"{part}.csv")
    data = stream_dataset(tmp_path / "shards", tmp_path / "work", context=["company", "timestamp"])
    settings = {"factors": 8, "epochs": 12, "batch_size": 50, "l2": 1.0}
    model, without = (AANMF(context=context, **settings).fit(data) for context in (True, False))
    errors = [each.fitted_.training_log.epochs[-1].train_mse for each in (model, without)]
    assert errors[0] < 0.3 * errors[1]
    items = [f"i{k}" for k in range(30)]
    alone, family = (model.predict("u3", items, context={"company": each})["rating"] for each in ("alone", "family"))
    assert (family - alone).mean() > 1
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    for request in ({"company": "alone"}, {"timestamp": "2024-12-31 20:15"}, {}):
        here, there = (each.predict("u3", items, context=request)["rating"] for each in (model, loaded))
        np.testing.assert_allclose(there, here, atol=1e-6)
    assert "company" in model.explain("u3", "i3", context={"company": "family"}).to_text()
