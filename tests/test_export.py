"""Export: an ONNX file predicts what the model predicts, and the tables hold what was learned of each id."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from aanmf import AANMF, MF, AANMFpp, RatingDataset, Recommender
from aanmf.cli import main
from aanmf.data.schema import Attribute, Kind, Schema
from aanmf.errors import AanmfError, ConfigError
from aanmf.export import TOLERANCE, export_onnx, export_tables
from aanmf.models.catalog import CATALOG, with_capability
from aanmf.recommender import make_model
from aanmf.training.predict import predict_pairs
from tests.conftest import small_dataset

DATA = replace(small_dataset(), rating=small_dataset().rating.round())
QUICK: dict[str, dict[str, Any]] = {"aanmf++": {"members": 2, "l2": 5.0}}
IN_ONNX = ["mf", "aanmf", "aanmf+p", "nfm", "aanmf++"]
"""One of each export form: writing a file takes seconds."""


def fitted(name: str, **settings: object) -> Recommender:
    quick = {"epochs": 2, "validation": 0, "factors": 4, **QUICK.get(name, {}), **settings}
    known = CATALOG[name].config_type.model_fields
    return make_model(name, **{setting: value for setting, value in quick.items() if setting in known}).fit(DATA)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in with_capability("exports")),
        ("aanmf++", {"attention": False}),
        ("aanmf++", {"attention": "uniform"}),
    ],
)
def test_the_export_form_predicts_what_the_model_predicts(name: str, settings: dict[str, object]) -> None:
    """Every pair, the unknown user and item among them."""
    module = fitted(name, **settings).module_
    n_users, n_items = len(DATA.users) + 1, len(DATA.items) + 1
    users = torch.arange(n_users).repeat_interleave(n_items)
    items = torch.arange(n_items).repeat(n_users)
    with torch.no_grad():
        found, expected = module.export_form()(users, items), predict_pairs(module, users, items)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", IN_ONNX)
def test_onnx_file(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'aanmf[export]'")
    model = fitted(name)
    written = export_onnx(model, tmp_path / "model.onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"], "one self-contained file"
    assert written.difference <= TOLERANCE
    session = onnxruntime.InferenceSession(written.path.read_bytes(), providers=["CPUExecutionProvider"])
    known = session.get_modelmeta().custom_metadata_map
    assert json.loads(known["items"]) == list(DATA.items.ids.ids)
    users, items = json.loads(known["users"]), json.loads(known["items"])
    rng = np.random.default_rng(1)
    for size in (1, 7, 1000):
        user, item = rng.integers(len(users), size=size), rng.integers(len(items), size=size)
        (there,) = session.run(["rating"], {"user": user, "item": item})
        here = model.predict([users[at] for at in user], [items[at] for at in item])["rating"].to_numpy()
        np.testing.assert_allclose(there, here, atol=1e-5)


def rated_in_context() -> RatingDataset:
    """Ratings that the company moves; a context of every kind, some cells of it empty."""
    rng, n = np.random.default_rng(0), 400
    company = rng.integers(3, size=n)
    empty = rng.random((6, n)) < 0.1

    def cells(row: int, values: Iterable[object]) -> list[object]:
        return [None if hidden else value for value, hidden in zip(values, empty[row], strict=True)]

    columns = {
        "user": [f"u{k % 20}" for k in range(n)],
        "item": [f"i{k // 20}" for k in range(n)],
        "rating": (3 + 1.5 * (company - 1) + 0.4 * rng.normal(size=n)).clip(1, 5).round(),
        "with.whom": cells(0, (("alone", "friends", "family")[k] for k in company)),
        "mood": cells(1, (("calm|glad", "glad", "cross")[k] for k in rng.integers(3, size=n))),
        "degrees": cells(2, rng.normal(20, 5, n)),
        "age": cells(3, rng.normal(40, 9, n)),
        "place": cells(4, rng.normal(size=(n, 3)).tolist()),
        "timestamp": 1_600_000_000 + 40_000 * rng.permutation(n),
    }
    context = [name for name in columns if name not in ("user", "item", "rating")]
    cuts = Attribute(name="age", kind=Kind.NUMERIC, cuts=(30.0, 45.0))
    plain = Attribute(name="degrees", kind=Kind.NUMERIC)
    return RatingDataset.from_frames(pl.DataFrame(columns), context=context, schema=Schema(ratings=(cuts, plain)))


@pytest.mark.parametrize(
    "model",
    [
        AANMF(context=True, epochs=3, factors=4, validation=0, l2=1.0),
        AANMFpp(members=2, epochs=3, factors=4, validation=0, l2=1.0, drift=False, match=False),
    ],
    ids=["aanmf", "aanmf++"],
)
def test_onnx_file_in_context(model: AANMF | AANMFpp, tmp_path: Path) -> None:
    """Every kind of context, as numbers, gives what the model predicts for the same context in words."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'aanmf[export]'")
    data = rated_in_context()
    model.fit(data)
    written = export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(written.path.read_bytes(), providers=["CPUExecutionProvider"])
    known = session.get_modelmeta().custom_metadata_map
    about = {name.removeprefix("context."): each for name, each in json.loads(known["context"]).items()}
    assert list(about) == data.context.names

    def number(name: str, value: Any) -> Any:
        """What the file takes for a value."""
        if about[name]["values"] is None:
            return np.float32(np.nan if value is None else value) if name != "timestamp" else np.int64(value)
        labels = about[name]["values"]
        if name == "mood":
            of = [] if value is None else [labels.index(each) for each in value.split("|")]
            return np.array([*of, -1, -1][:2])
        return np.int64(-1 if value is None else labels.index(value))

    requests: list[dict[str, Any]] = [
        {
            "with.whom": "family",
            "mood": "calm|glad",
            "degrees": 31.5,
            "age": 45.0,
            "place": [0.1, -2, 1],
            "timestamp": 0,
        },
        {
            "with.whom": None,
            "mood": "cross",
            "degrees": None,
            "age": 29.9,
            "place": [1, 1, 1],
            "timestamp": 1_600_390_000,
        },
        {"with.whom": "alone", "mood": None, "degrees": 20.0, "age": None, "place": None, "timestamp": 1_610_000_000},
    ]
    users, items = json.loads(known["users"]), json.loads(known["items"])
    found = []
    for request in requests:
        given = dict(request)
        if given["place"] is None:
            given["place"] = [np.nan] * 3
        inputs = {f"context.{name}": np.array([number(name, value)] * len(items)) for name, value in given.items()}
        pairs = {"user": np.full(len(items), users.index("u3")), "item": np.arange(len(items))}
        (there,) = session.run(["rating"], {**pairs, **inputs})
        found.append(there)
        here = model.predict("u3", items, context={k: v for k, v in request.items() if v is not None})["rating"]
        np.testing.assert_allclose(there, here.to_numpy(), atol=2e-5)
    assert np.abs(found[0] - found[2]).max() > 0.05, "the context does not change a prediction"


def test_a_file_of_a_model_that_left_the_context_out_does_not_ask_for_it(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'aanmf[export]'")
    model = AANMF(epochs=1, factors=2, validation=0).fit(rated_in_context())
    written = export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(written.path.read_bytes(), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["user", "item"]


def test_a_file_that_predicts_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'aanmf[export]'")
    target = tmp_path / "model.onnx"
    target.write_text("the one before")
    monkeypatch.setattr("aanmf.export.TOLERANCE", -1.0)
    with pytest.raises(AanmfError, match="not written"):
        export_onnx(fitted("mf"), target)
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
    assert target.read_text() == "the one before"


def test_a_model_that_cannot_be_exported_names_those_that_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted("mf")
    monkeypatch.setattr(type(model), "spec", replace(model.spec, exports=False))
    for export in (export_onnx, export_tables):
        with pytest.raises(ConfigError, match=r"mf cannot be exported\. Available: .*aanmf"):
            export(model, tmp_path / "x")


def test_too_large_for_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'aanmf[export]'")
    monkeypatch.setattr("aanmf.export.LIMIT", 10)
    with pytest.raises(ConfigError, match="fewer factors"):
        export_onnx(fitted("mf"), tmp_path / "model.onnx")


def test_tables_of_mf_give_its_ratings(tmp_path: Path) -> None:
    model = MF(factors=3, epochs=2, validation=0).fit(DATA)
    written = export_tables(model, tmp_path / "tables")
    users, items = (pl.read_parquet(written[side]) for side in ("users", "items"))
    assert users["id"].to_list() == list(DATA.users.ids.ids)
    assert items["id"].to_list() == list(DATA.items.ids.ids)
    x, z = users["embedding"].to_numpy(), items["embedding"].to_numpy()
    ratings = users["bias"].to_numpy()[:, None] + items["bias"].to_numpy() + x @ z.T
    expected = [model.predict(u, list(items["id"]))["rating"].to_numpy() for u in users["id"]]
    np.testing.assert_allclose(ratings.clip(1, 5), np.stack(expected), atol=1e-5)


def test_tables_hold_the_vectors_of_all_members(tmp_path: Path) -> None:
    model = AANMFpp(factors=3, epochs=1, members=2, l2=5.0, validation=0).fit(DATA)
    table = pl.read_parquet(export_tables(model, tmp_path)["items"])
    assert table["embedding"].to_numpy().shape == (len(DATA.items), 3 * (2 + 1))  # two, and the one for newcomers


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "m"
    MF(factors=3, epochs=1, validation=0).fit(DATA).save(folder)
    assert main(["export", str(folder), "--tables", str(tmp_path / "t"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["onnx"] is None
    assert pl.read_parquet(found["tables"]["users"]).height == len(DATA.users)
    assert main(["export", str(folder)]) != 0
    assert "--onnx" in capsys.readouterr().err
