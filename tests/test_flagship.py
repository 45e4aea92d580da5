"""The benchmark of AANMF++ on many ratings: what its synthetic ratings plant, and that it reports every stage."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from tests.scripts import script


def test_synthetic_ratings_are_heavy_tailed_and_histories_tell_the_favourite_genre(monkeypatch) -> None:
    data = script("benchmarks/flagship.py", monkeypatch).heavy_tailed(60_000, seed=1)
    n = len(data)
    assert 0.75 * 60_000 < n <= 60_000
    assert len(np.unique(data.user * len(data.items) + data.item)) == n
    of_item = np.sort(np.bincount(data.item, minlength=len(data.items)))[::-1]
    assert of_item[: len(of_item) // 10].sum() > 0.25 * n
    of_user = np.bincount(data.user, minlength=len(data.users))
    assert of_user.max() > 5 * np.median(of_user)
    genres = data.items.columns["genres"].explode().to_numpy()
    names = np.unique(genres)
    counts = np.stack([np.bincount(data.user, genres[data.item] == name, len(data.users)) for name in names])
    many = of_user > 50
    favourite = counts.argmax(0)
    assert (counts.max(0) / of_user)[many].mean() > 0.45  # of 8 genres
    own = names[favourite][data.user] == genres[data.item]
    assert data.rating[own].mean() > data.rating[~own].mean() + 0.1


def test_a_size_is_fitted_and_reported_by_stage(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    module, out = script("benchmarks/flagship.py", monkeypatch), tmp_path / "out.json"
    settings = ["epochs=1", "members=1", "factors=2", "cold=0.0"]
    monkeypatch.setattr(sys, "argv", ["flagship.py", "--millions", "0.004", "--out", str(out), "--set", *settings])
    module.main()
    (size,) = json.loads(out.read_text())["sizes"]
    assert size["users"] == 100
    assert size["ratings"] > 2000
    assert {"training", "choice: weights", "ridge: regressions"} <= set(size["stages_wall"])
    assert size["wall"] >= size["stages_wall"]["training"] > 0
    assert 0.3 < size["rmse"] < 2
    assert size["peak_gb"] > 0.1
