"""Model folders that the last version of format 1 wrote (`fixtures/make_format1.py`) predict what they did then."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from aanmf import load_model, storage
from aanmf.models.catalog import CATALOG

FORMAT_1 = Path(__file__).parent / "fixtures" / "format1"
MAPS = Path("/proc/self/maps")
NAMES = sorted(path.stem for path in FORMAT_1.glob("*.zip"))


def test_there_is_one_of_every_model() -> None:
    assert {"aanmf++", "aanmf", "aanmf+p", "mf", "svd++", "fm", "nfm", "autorec", "acmf", "aesr"} == set(NAMES)
    assert set(NAMES) <= set(CATALOG)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_those_of_then(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(FORMAT_1 / f"{name}.zip") as pack:
        pack.extractall(tmp_path / "old")
    assert json.loads((tmp_path / "old" / "manifest.json").read_text())["format"] == 1
    expected = json.loads((tmp_path / "old" / "expected.json").read_text())
    model = load_model(tmp_path / "old")
    for _ in range(2):  # as read, and once more saved in the format of today
        pairs = model.predict(expected["users"], expected["items"])["rating"]
        np.testing.assert_allclose(pairs, expected["ratings"], atol=1e-6)
        new_user = model.predict_for({}, expected["items"], ratings=expected["told"])["rating"]
        np.testing.assert_allclose(new_user, expected["new_user"], atol=1e-6)
        model.save(tmp_path / "new")
        assert json.loads((tmp_path / "new" / "manifest.json").read_text())["format"] == 3
        model = load_model(tmp_path / "new")
    assert np.std(expected["ratings"]) > 0.01


@pytest.mark.skipif(not MAPS.exists(), reason="needs /proc")
def test_files_of_then_are_not_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version of then would write into them: their names do not change."""
    monkeypatch.setattr(storage, "MAPPED", 1)
    with zipfile.ZipFile(FORMAT_1 / "mf.zip") as pack:
        pack.extractall(tmp_path / "old")
    old = load_model(tmp_path / "old")
    old.save(tmp_path / "new")
    new = load_model(tmp_path / "new")
    mapped = MAPS.read_text()
    assert str(tmp_path / "old") not in mapped
    assert str(tmp_path / "new") in mapped
    assert new.is_fitted


def test_newcomers_keep_the_intervals_of_then(tmp_path: Path) -> None:
    with zipfile.ZipFile(FORMAT_1 / "aanmf++.zip") as pack:
        pack.extractall(tmp_path / "old")
    state = load_model(tmp_path / "old").module_.state_dict()
    for name in ("weight", "quantile"):
        np.testing.assert_array_equal(state[f"newcomer_errors.{name}"], state[f"errors.{name}"])
