"""Model folders: complete, checked, replaced whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from aanmf import AANMF, MF, disk, load_model, storage
from aanmf.checks import all_finite
from aanmf.errors import BusyError, ModelFolderError, NotFittedError
from aanmf.locks import locked
from aanmf.manifest import files_of, read_manifest
from aanmf.storage import replace_file
from tests.conftest import small_dataset, stored


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model"
    MF(epochs=1, factors=2).fit(small_dataset()).save(path)
    return path


@pytest.mark.parametrize("name", ["weights.safetensors", "users.parquet", "data.safetensors"])
def test_a_missing_file_is_named(saved, name: str) -> None:
    stored(saved, name).unlink()
    with pytest.raises(ModelFolderError, match=f"{name} is missing"):
        load_model(saved)


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json"])
def test_a_changed_file_is_named(saved, name: str) -> None:
    content = bytearray(stored(saved, name).read_bytes())
    content[-2] ^= 1
    stored(saved, name).write_bytes(bytes(content))
    with pytest.raises(ModelFolderError, match=f"{name} was changed"):
        load_model(saved)


def edit_manifest(path, **changes: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_a_newer_version_says_so(saved) -> None:
    edit_manifest(saved, format=99)
    with pytest.raises(ModelFolderError, match=r"newer version .*format 99.*install a newer aanmf"):
        load_model(saved)


def test_weights_of_another_shape_say_so(tmp_path) -> None:
    model = MF(epochs=1, factors=2).fit(small_dataset())
    model.module_.register_parameter("new_in_another_version", torch.nn.Parameter(torch.zeros(1)))
    model.save(tmp_path / "m")
    with pytest.raises(
        ModelFolderError, match=r"as 'mf' of aanmf \S+: .*new_in_another_version.* written by .* train again"
    ):
        load_model(tmp_path / "m")


def test_other_kinds_of_model(saved) -> None:
    with pytest.raises(ModelFolderError, match="kind 'mf', not 'aanmf'"):
        AANMF.load(saved)
    edit_manifest(saved, model="oracle")
    with pytest.raises(ModelFolderError, match="'oracle'"):
        load_model(saved)


def test_a_manifest_cannot_point_outside(saved) -> None:
    edit_manifest(saved, sha256={"../secret.json": "0" * 64})
    with pytest.raises(ModelFolderError, match="outside of the folder"):
        load_model(saved)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 1}'])
def test_a_damaged_manifest(saved, content: str) -> None:
    (saved / "manifest.json").write_text(content)
    with pytest.raises(ModelFolderError, match="damaged"):
        load_model(saved)


def test_no_folder_and_no_manifest(tmp_path) -> None:
    with pytest.raises(ModelFolderError, match="no such folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ModelFolderError, match="not a model folder"):
        load_model(tmp_path)


def test_what_is_not_a_model_is_never_replaced(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("dear diary")
    with pytest.raises(ModelFolderError, match="is not a model folder"):
        MF(epochs=1, factors=2).fit(small_dataset()).save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "dear diary"


def test_an_older_model_is_replaced(saved) -> None:
    MF(epochs=1, factors=3).fit(small_dataset()).save(saved)
    assert load_model(saved).get_params()["factors"] == 3
    assert [each.name for each in saved.parent.iterdir()] == ["model"]


def test_nothing_to_save_before_fit(tmp_path) -> None:
    with pytest.raises(NotFittedError, match="call fit"):
        MF().save(tmp_path / "model")


def test_only_files_of_the_new_model_are_left_and_those_of_others(saved) -> None:
    for stray in ("weights-0123456789abcdef.safetensors", ".weights.safetensors-x1y2z3w4", ".manifest.json-x1y2z3w4"):
        (saved / stray).write_bytes(b"left by a killed process")
    (saved / "README.md").write_text("dear diary")
    MF(epochs=1, factors=3).fit(small_dataset()).save(saved)
    named = {path.name for path in files_of(saved, read_manifest(saved)).values()}
    assert {path.name for path in saved.iterdir()} == named | {"manifest.json", ".lock", "README.md"}


def test_a_reader_meets_the_old_model_or_the_new_one(saved, monkeypatch) -> None:
    """One that began before a save finds that its files have gone, and begins again."""
    other = MF(epochs=1, factors=3).fit(small_dataset())
    read, turns = storage._read_files, []

    def saved_meanwhile(*args):
        turns.append(1)
        if len(turns) == 1:
            other.save(saved)
        return read(*args)

    monkeypatch.setattr(storage, "_read_files", saved_meanwhile)
    assert load_model(saved).get_params()["factors"] == 3
    assert len(turns) == 2


def test_a_folder_of_an_earlier_format_is_replaced(saved) -> None:
    manifest = read_manifest(saved)
    for name, path in files_of(saved, manifest).items():
        path.rename(saved / name)
    edit_manifest(saved, format=2)
    model = load_model(saved)
    model.save(saved)
    assert read_manifest(saved) == manifest
    assert len(list(saved.iterdir())) == len(files_of(saved, manifest)) + 2


def test_a_pipe_is_no_file(saved) -> None:
    """Reading it would wait for ever."""
    path = stored(saved, "weights.safetensors")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ModelFolderError, match=r"weights.safetensors is not a plain file"):
        load_model(saved)


@pytest.mark.parametrize(
    "content", ['{"format": 3, "sha256": ' + "[" * 100_000, '{"format": NaN}', '{"format": ' + "9" * 9999]
)
def test_a_manifest_that_strains_the_parser(saved, content: str) -> None:
    (saved / "manifest.json").write_text(content)
    with pytest.raises(ModelFolderError, match="damaged"):
        load_model(saved)


def test_two_saves_at_once(saved) -> None:
    model = MF(epochs=1, factors=3).fit(small_dataset())
    with ThreadPoolExecutor(1) as pool, locked(saved):
        with pytest.raises(BusyError, match=rf"is being written by process {os.getpid()} on .* since .* UTC: wait"):
            pool.submit(model.save, saved).result()
        model.save(saved)  # the same thread may
    pool = ThreadPoolExecutor(1)
    pool.submit(model.save, saved).result()
    pool.shutdown()


def test_a_lock_goes_with_its_process(tmp_path) -> None:
    code = (
        "import time; from aanmf.locks import locked\n"
        f"with locked({str(tmp_path)!r}):\n print('in', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout and holder.stdout.readline() == b"in\n"
    with pytest.raises(BusyError, match=f"written by process {holder.pid} on"), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with locked(tmp_path):
        pass


def test_a_lock_leaves_no_folder_behind(tmp_path) -> None:
    with locked(tmp_path / "a"):
        assert (tmp_path / "a").is_dir()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["..", "", "/etc/hostname", "sub/users.json"])
def test_a_manifest_names_plain_files_only(saved, name: str) -> None:
    edit_manifest(saved, sha256={name: "0" * 64})
    with pytest.raises(ModelFolderError, match="outside of the folder"):
        load_model(saved)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "training.json"])
def test_a_manifest_that_lacks_a_file(saved, name: str) -> None:
    sums = json.loads((saved / "manifest.json").read_text())["sha256"]
    del sums[name]
    edit_manifest(saved, sha256=sums)
    with pytest.raises(ModelFolderError, match=f"does not name {name.split('.')[0]}"):
        load_model(saved)


def test_files_are_json_and_safetensors_only_and_readable_by_others(saved) -> None:
    assert {file.suffix for file in saved.glob("[!.]*")} == {".json", ".parquet", ".safetensors"}
    assert saved.stat().st_mode & 0o777 == 0o755
    for file in saved.glob("[!.]*"):
        assert file.stat().st_mode & 0o777 == 0o644
    for file in saved.glob("*.json"):
        json.loads(file.read_text(encoding="utf-8"))


def test_a_file_is_not_a_model_and_is_kept(tmp_path) -> None:
    (tmp_path / "model").write_text("dear diary")
    with pytest.raises(ModelFolderError, match="is not a model folder"):
        MF(epochs=1, factors=2).fit(small_dataset()).save(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "dear diary"


def test_an_empty_folder_and_missing_parents_are_filled(tmp_path) -> None:
    model = MF(epochs=1, factors=2).fit(small_dataset())
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "a" / "b" / "model"):
        model.save(path)
        assert load_model(path).get_params() == model.get_params()


def test_a_file_is_replaced_whole(tmp_path) -> None:
    target = tmp_path / "notes.txt"
    target.write_text("old")
    with replace_file(target, "w", encoding="utf-8") as file:
        file.write("née")
        file.flush()
        assert target.read_text() == "old"
        assert Path(file.name).read_text(encoding="utf-8") == "née"
    assert target.read_text(encoding="utf-8") == "née"
    assert target.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("broken", ["block", "fsync", "replace"])
def test_a_file_that_cannot_be_written_leaves_the_older_one(tmp_path, monkeypatch, broken: str) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "notes.txt"
    target.write_text("old")
    if broken != "block":
        monkeypatch.setattr(*((os, "fsync") if broken == "fsync" else (Path, "replace")), full)
    with pytest.raises(OSError, match="No space left"), replace_file(target) as file:
        file.write(b"half of it")
        if broken == "block":
            full()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_says_where_and_that_nothing_is_lost(tmp_path, monkeypatch) -> None:
    folder, known = tmp_path / "model", MF(epochs=1).fit(small_dataset())
    known.save(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "sync", full)
    with pytest.raises(OSError, match=r"No space left .*what was there stays.*Free some space, or .*model'") as told:
        MF(epochs=2).fit(small_dataset()).save(folder)
    assert told.value.errno == errno.ENOSPC
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"} == before


# -------------------- large models


@pytest.mark.parametrize("mapped", [False, True])
def test_weights_stay_in_their_file_and_what_a_model_does_to_them_does_not(saved, monkeypatch, mapped: bool) -> None:
    """Small ones are copied."""
    if mapped:
        monkeypatch.setattr(storage, "MAPPED", 1)
    (stored,) = saved.glob("weights-*.safetensors")
    content, random = stored.read_bytes(), torch.get_rng_state()
    model = load_model(saved)
    assert torch.equal(torch.get_rng_state(), random)  # no weight is drawn that is read in a moment
    if Path("/proc/self/maps").exists():
        assert (stored.name in Path("/proc/self/maps").read_text()) == mapped
    before = model.predict("u1", ["i1"])["rating"].item()
    with torch.no_grad():
        for each in model.module_.parameters():
            each.zero_()
    assert model.predict("u1", ["i1"])["rating"].item() != before
    assert stored.read_bytes() == content
    assert load_model(saved).predict("u1", ["i1"])["rating"].item() == before


@pytest.mark.parametrize("mapped", [False, True])
def test_a_model_outlives_its_files(saved, monkeypatch, mapped: bool) -> None:
    if mapped:
        monkeypatch.setattr(storage, "MAPPED", 1)
    model = load_model(saved)
    before = model.predict("u1", ["i1", "i2"])
    for path in saved.iterdir():
        path.unlink()
    assert model.predict("u1", ["i1", "i2"]).equals(before)


@pytest.mark.parametrize("numbers", [[1.0, torch.nan], [torch.inf, -torch.inf], [3e38, 3e38, torch.inf]])
def test_a_number_that_is_not_finite_is_found(numbers: list[float]) -> None:
    assert not all_finite(torch.tensor(numbers))


def test_finite_numbers_whose_sum_is_not_are_finite() -> None:
    assert all_finite(torch.full((10,), 3e38))
    assert all_finite(torch.zeros(0))
