"""Embeddings as attributes, from Parquet columns to explanations: a vector is looked at as a label is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from aanmf import AANMFpp, RatingDataset, SchemaError
from aanmf.cli import main

N_USERS, N_ITEMS = 60, 40
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ratings that follow from the embeddings alone; gender says nothing."""
    folder = tmp_path_factory.mktemp("vectors")
    rng = np.random.default_rng(0)
    sound, voice = rng.normal(size=(N_ITEMS, 6)), rng.normal(size=(N_USERS, 3))
    liking = voice @ sound[:, :3].T
    pairs = [(u, i) for u in range(N_USERS) for i in rng.choice(N_ITEMS - 1, 15, replace=False)]  # the last: unrated
    users, items = [f"u{u}" for u in range(N_USERS)], [f"s{i}" for i in range(N_ITEMS)]
    rating = [float(np.clip(round(3 + liking[u, i]), 1, 5)) for u, i in pairs]
    ratings = {"user": [users[u] for u, _ in pairs], "item": [items[i] for _, i in pairs], "rating": rating}
    pl.DataFrame(ratings).write_csv(folder / "plays.csv")
    pl.DataFrame({"item": items, "sound": sound.tolist()}).write_parquet(folder / "songs.parquet")
    people = {"user": users, "gender": rng.choice(["F", "M"], N_USERS), "voice": voice.tolist()}
    pl.DataFrame(people).write_parquet(folder / "users.parquet")
    return folder


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    def run(*args: object) -> Any:
        capsys.readouterr()
        assert main([*map(str, args), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def own_attributes(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts that are attributes of the user."""
    return [part for part in parts if part["kind"] == "user attribute"]


def test_from_the_command_line(tables: Path, tmp_path: Path, ask: Ask) -> None:
    source = [tables / "plays.csv", "--users", tables / "users.parquet", "--items", tables / "songs.parquet"]
    told = ask("data", *source)
    kinds = {each["name"]: each["kind"] for side in ("users", "items") for each in told["attributes"][side]}
    assert kinds == {"gender": "categorical", "voice": "vector", "sound": "vector"}

    model = tmp_path / "model"
    ask("train", *source, "--model", "aanmf", "--set", "epochs=2", "--set", "factors=4", "--out", model)
    rows = own_attributes(ask("explain", model, "--user", "u3", "--item", "s5")["parts"])
    assert {row["name"] for row in rows} == {"gender", "voice"}
    assert sum(row["attention"] for row in rows) == pytest.approx(1, abs=1e-5)
    assert all(row["attention"] > 0 for row in rows)

    def new(voice: str) -> list[float]:
        found = ask("explain", model, "--attributes", f'gender=F,voice="{voice}"', "--item", "s5")
        return [row["contribution"] for row in own_attributes(found["parts"])]

    assert new("0.5, -1, 2") == new("0.5 -1 2")
    assert new("0.5, -1, 2") != new("-2, 1, 0")
    assert main(["recommend", str(model), "--attributes", 'voice="1,2"']) == 1  # three are needed
    assert main(["recommend", str(model), "--attributes", "voice=loud"]) == 1


def test_what_the_vectors_say_is_learned(tables: Path) -> None:
    data = RatingDataset.read(tables / "plays.csv", users=tables / "users.parquet", items=tables / "songs.parquet")
    train, test = data.split(test=0.2, seed=0)
    quick = {"members": 1, "factors": 8, "l2": 10.0, "epochs": 12}
    known = AANMFpp(**quick).fit(train)
    blind = AANMFpp(**quick).fit(train.with_attributes(users=["gender"], items=[]))
    assert known.evaluate(test).rmse < 0.9 * blind.evaluate(test).rmse

    rows = own_attributes(known.explain("u3", "s5", top=100).parts.to_dicts())
    assert {row["name"] for row in rows} == {"gender", "voice"}
    assert sum(row["attention"] for row in rows) == pytest.approx(1, abs=1e-5)
    with pytest.raises(SchemaError, match="length 2, the model has 3"):
        known.recommend_for({"voice": [1.0, 2.0]})
