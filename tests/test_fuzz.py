"""A few cases of each target of `make fuzz`, and faults that longer runs found."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import strategies as st
from safetensors.torch import load, save

from aanmf import load_model
from aanmf.data.dataset import RatingDataset
from aanmf.data.schema import Schema
from aanmf.errors import ConfigError, ModelFolderError, NotFiniteError, SchemaError
from aanmf.manifest import read_manifest
from aanmf.recommender import make_model
from tests import scripts
from tests.conftest import small_dataset
from tests.fuzz import Found, Target, folders, tables

SEED = 20_261_126


@pytest.mark.parametrize("name", ["tables, as meant", "tables, damaged", "schemas"])
@pytest.mark.filterwarnings("ignore")
def test_tables_and_schemas(name: str, tmp_path: Path) -> None:
    explored(tables.targets(tmp_path)[name], 60)


@pytest.mark.filterwarnings("ignore")
def test_model_folders(tmp_path: Path) -> None:
    explored(folders.targets(tmp_path)["model folders"], 60)


@pytest.mark.parametrize("name", ["requests", "sockets"])
@pytest.mark.filterwarnings("ignore")
def test_requests_and_sockets(name: str, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs aanmf[serve]")
    from tests.fuzz import requests

    with requests.targets(tmp_path) as found:
        explored(found[name], 60)


def explored(target: Target, examples: int) -> None:
    found = Found()
    found.explore(target, examples, SEED)
    assert not found.faults
    assert sum(found.outcomes.values()) >= examples / 2  # Hypothesis leaves out cases that it has had
    assert len(found.outcomes) > 1, "all cases alike: nothing is tried"


def test_a_fault_is_found_and_shown_as_small_as_it_gets() -> None:
    def outcome(n: int) -> str:
        if n > 999:
            raise KeyError("too many")
        return "fine"

    found = Found()
    found.explore(Target(st.integers(0, 10**6), outcome), 50, 1)
    assert list(found.faults) == ["KeyError: 'too many'"]
    assert "case: 1000" in found.faults["KeyError: 'too many'"]


def test_what_hangs_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.HANG_SECONDS", 0.05)

    def outcome(_: object) -> str:
        while True:
            pass

    found = Found()
    found.explore(Target(st.just(1), outcome), 1, 1)
    assert "HangError" in next(iter(found.faults))


def test_a_case_changed_at_random_is_found_again_by_its_seed() -> None:
    def outcome(draw: random.Random) -> str:
        if (n := draw.randrange(50)) == 7:
            raise KeyError(n)
        return "fine"

    found = Found()
    found.explore(Target(None, outcome), 200, 3)
    assert found.outcomes["fault"] > 1
    assert found.outcomes.total() == 200
    seed = found.faults["KeyError: 7"].removeprefix("seed ").partition(":")[0]
    with pytest.raises(KeyError):
        outcome(random.Random(seed))


def test_the_long_run_counts_what_its_rounds_find(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, out = scripts.script("benchmarks/fuzz.py", monkeypatch), tmp_path / "fuzz.json"
    counted = []
    for cases in (200, 400):  # the second run goes on from the first
        asked = ["fuzz.py", "--only", "tables, damaged", "--minutes", "5", "--cases", str(cases), "--json", str(out)]
        monkeypatch.setattr("sys.argv", asked)
        with pytest.raises(SystemExit) as ended:
            made.main()
        assert not ended.value.code
        counted.append(json.loads(out.read_text())["targets"]["tables, damaged"])
    assert [each["cases"] for each in counted] == [200, 400]
    assert [each["next"] for each in counted] == [1, 2]
    assert set(counted[1]["outcomes"]) == {"read", "refused"}
    assert (counted[1]["faults"], counted[1]["died"]) == ({}, 0)


@pytest.fixture(scope="module")
def aanmfpp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of AANMF++."""
    folder = tmp_path_factory.mktemp("fuzzed") / "model"
    make_model("aanmf++", epochs=1, factors=3, members=2, parts=2).fit(small_dataset()).save(folder)
    return folder


def changed(folder: Path, to: Path, name: str, change: Callable[[Any], None]) -> Path:
    """A copy of a model folder in which a document or the tensors of a file are changed, with right checksums."""
    files, manifest = folders.contents(folder), read_manifest(folder)
    if name.endswith(".json"):
        document = json.loads(files[name])
        change(document)
        files[name] = json.dumps(document).encode()
    else:
        tensors = load(files[name])
        change(tensors)
        files[name] = save(tensors)
    folders.write_tampered(to, files, random.Random(0), {k: v for k, v in manifest.items() if k != "sha256"})
    return to


@pytest.mark.parametrize("scale", [[1.0, -1e308], [5.0, 1.0], [1.0, 1e39]])
def test_a_scale_that_is_none_is_refused(scale: list[float], aanmfpp: Path, tmp_path: Path) -> None:
    folder = changed(aanmfpp, tmp_path / "case", "encoders.json", lambda document: document.update(scale=scale))
    with pytest.raises(ModelFolderError, match="scale|less than or equal|greater than or equal"):
        load_model(folder)


@pytest.mark.parametrize("value", [1e39, -1e308, float("inf")])
def test_settings_are_32_bit_numbers(value: float, aanmfpp: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^setting l2: .* is beyond the range of 32-bit numbers|greater than"):
        make_model("mf", l2=value)
    folder = changed(aanmfpp, tmp_path / "case", "config.json", lambda config: config.update(ridge_share=1e39))
    with pytest.raises(ModelFolderError, match="ridge_share: 1e\\+39 is beyond the range of 32-bit numbers"):
        load_model(folder)


@pytest.mark.parametrize(("setting", "value"), [("ridge_share", 1e30), ("rating_std", 1e38)])
def test_systems_that_cannot_be_solved_are_errors_of_ours(
    setting: str, value: float, aanmfpp: Path, tmp_path: Path
) -> None:
    model = load_model(
        changed(aanmfpp, tmp_path / "case", "config.json", lambda config: config.update({setting: value}))
    )
    users, items = model.fitted_.users.ids, model.fitted_.items.ids
    with pytest.raises(NotFiniteError, match="linear system|not finite"):
        model.explain(users[0], items[0])


def test_an_account_that_is_not_finite_is_an_error(aanmfpp: Path, tmp_path: Path) -> None:
    folder = changed(aanmfpp, tmp_path / "case", "weights.safetensors", lambda weights: weights["trust"].fill_(1e38))
    model = load_model(folder)
    with pytest.raises(NotFiniteError, match="predicts a number that is not finite"):
        model.explain(model.fitted_.users.ids[0], model.fitted_.items.ids[0])


def test_lists_are_no_titles() -> None:
    ratings = pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "rating": [1.0, 2.0]})
    items = pl.DataFrame({"item": ["x", "y"], "genres": [[1.0], [2.0]]})
    with pytest.raises(SchemaError, match=r"column 'genres' holds List\(Float64\) values, which cannot be titles"):
        RatingDataset.from_frames(ratings, items=items, schema=Schema(label_items="genres"))
