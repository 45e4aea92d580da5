"""Model folders that somebody has tampered with, whose checksums are right all the same."""

from __future__ import annotations

import hashlib
import io
import json
import math
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import load, save

from aanmf import load_model
from aanmf.errors import AanmfError, ModelFolderError
from aanmf.manifest import files_of, read_manifest, stored_name
from aanmf.recommender import make_model
from tests.conftest import small_dataset
from tests.fuzz import Target

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.5, 1e39, 1e308, -1e308, 1e-320),
    *("", "x", "1", "nan", "aanmf++", [], {}, [[]], [1], ["a"], {"a": 1}, [None] * 3, list(range(50)), "x" * 10_000),
)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.int32, torch.int64, torch.bool, torch.uint8)
MODELS: dict[str, dict[str, Any]] = {
    "mf": {},
    "aanmf": {},
    "aanmf++": {"members": 2, "parts": 2},
    "nfm": {},
    "item-knn": {},
    "svd++": {},
    "aesr": {},
}


def targets(place: Path) -> dict[str, Target]:
    """Model folders: each is refused with a `ModelFolderError`, or loads and answers with finite numbers."""
    bases = []
    for name, settings in MODELS.items():
        quick = {"epochs": 1, "factors": 3} | settings
        fields = make_model(name).get_params()
        make_model(name, **{key: value for key, value in quick.items() if key in fields}).fit(small_dataset()).save(
            place / name
        )
        manifest = read_manifest(place / name)
        bases.append((contents(place / name), {key: value for key, value in manifest.items() if key != "sha256"}))

    def outcome(draw: random.Random) -> str:
        files, manifest = draw.choice(bases)
        folder = place / "case"
        shutil.rmtree(folder, ignore_errors=True)
        write_tampered(folder, tampered(files, draw), draw, manifest)
        return became(folder)

    return {"model folders": Target(None, outcome)}


def tampered(files: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    """The files of a folder by name, some of them changed in a way that a parser may not survive."""
    changed = dict(files)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        name = draw.choice(sorted(changed) or ["config.json"])
        content, suffix = changed.get(name, b"{}"), name.rpartition(".")[2]
        kind = draw.random()
        if kind < 0.03:
            changed.pop(name, None)
        elif kind < 0.13:
            changed[name] = _bytes_changed(content, draw)
        elif suffix == "json":
            changed[name] = json_changed(content, draw)
        elif suffix == "safetensors":
            changed[name] = _tensors_changed(content, draw)
        elif suffix == "parquet":
            changed[name] = _table_changed(content, draw)
        else:
            changed[name] = _bytes_changed(content, draw)
    return changed


def _bytes_changed(content: bytes, draw: random.Random) -> bytes:
    data = bytearray(content)
    if draw.random() < 0.3:
        return bytes(data[: draw.randrange(len(data) + 1)])
    for _ in range(draw.choice((1, 1, 2, 10))):
        if data:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def json_changed(content: bytes, draw: random.Random) -> bytes:
    """A JSON document with one place changed."""
    if draw.random() < 0.03:
        return b'{"a": ' * 50_000
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return content
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            places.append((value, key))
            walk(value[key])

    walk(document)
    if not places or draw.random() < 0.02:
        return json.dumps(draw.choice(NASTY)).encode()
    holder, key = draw.choice(places)
    kind = draw.random()
    if kind < 0.15:
        del holder[key]
    elif kind < 0.25 and isinstance(holder, dict):
        holder[draw.choice(("x", "", "format", "labels", "fitted", "__class__"))] = draw.choice(NASTY)
    elif kind < 0.35 and isinstance(holder, list):
        holder.append(draw.choice((*NASTY, holder[key])))
    else:
        holder[key] = draw.choice(NASTY)
    return json.dumps(document).encode()


def _tensors_changed(content: bytes, draw: random.Random) -> bytes:
    try:
        tensors = load(content)
    except Exception:  # changed before
        return content
    if not tensors:
        return content
    name = draw.choice(sorted(tensors))
    found, kind = tensors[name].clone(), draw.random()
    if kind < 0.1:
        del tensors[name]
        return save(tensors)
    if kind < 0.2:
        found = found.to(draw.choice(DTYPES))
    elif kind < 0.4:
        found = draw.choice((lambda t: t[:-1], lambda t: t.flatten(), lambda t: t[None], lambda t: t.new_zeros(0)))(
            found if found.dim() else found[None]
        ).clone()
    elif kind < 0.5:
        tensors[draw.choice(("x", name + ".x", ""))] = found.clone()
    elif found.numel():
        flat, n = found.view(-1), draw.choice((1, 1, found.numel()))
        nasty = (math.nan, math.inf, -math.inf, 1e38, -1e38, 0, 1, 1e-40)
        values = nasty if found.dtype.is_floating_point else (-1, 0, 1, 127, 40, 41, 42, 43, 20, 21, 22)
        for at in draw.sample(range(found.numel()), n):
            flat[at] = draw.choice(values)
            if n > 1 and draw.random() < 0.001:
                break
    tensors[name] = found.contiguous()
    return save(tensors)


def _table_changed(content: bytes, draw: random.Random) -> bytes:
    try:
        frame = pl.read_parquet(io.BytesIO(content))
        about = pl.read_parquet_metadata(io.BytesIO(content))["aanmf"]
    except BaseException:  # changed before; Polars may panic
        return content
    if not frame.width:
        return content
    column, kind = draw.choice(frame.columns), draw.random()
    if kind < 0.15:
        frame = frame.drop(column)
    elif kind < 0.3:
        frame = frame.with_columns(pl.lit(draw.choice((None, 1, 1.5, "a"))).alias(column))
    elif kind < 0.45:
        frame = frame.head(draw.randrange(frame.height + 1))
    elif kind < 0.6:
        frame = pl.concat([frame, frame.head(draw.choice((1, frame.height)))])
    elif kind < 0.7:
        frame = frame.with_columns(pl.lit(1).alias(draw.choice(("x", "label", "attributes"))))
    else:
        about = json_changed(about.encode(), draw).decode()
    buffer = io.BytesIO()
    frame.write_parquet(buffer, metadata={"aanmf": about})
    return buffer.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a saved folder, by name."""
    return {name: path.read_bytes() for name, path in files_of(folder, read_manifest(folder)).items()}


def write_tampered(folder: Path, files: dict[str, bytes], draw: random.Random, manifest: dict[str, Any]) -> None:
    """Writes a folder with right checksums; now and then the manifest is tampered with too."""
    folder.mkdir()
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    for name, content in files.items():
        (folder / stored_name(name, sums[name])).write_bytes(content)
    text = json.dumps({**manifest, "sha256": sums}).encode()
    (folder / "manifest.json").write_bytes(json_changed(text, draw) if draw.random() < 0.1 else text)


def became(folder: Path) -> str:
    """What becomes of a folder: `refused`, or `answers`: it loads, and every answer is finite.

    An answer may also be an error of the library: numbers that are finite can still be too large to compute with.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = load_model(folder)
        except ModelFolderError:
            return "refused"
        users, items = model.fitted_.users.ids, model.fitted_.items.ids
        asked = (
            lambda: model.predict([*users[:3], "?"], [*items[:3], items[0]]),
            lambda: model.recommend(users[0], n=5),
            lambda: model.recommend_for({}, n=5, ratings={items[0]: model.fitted_.training.scale[0]}),
            lambda: model.similar(items[0], n=5),
            lambda: model.explain(users[0], items[0]).parts,
        )
        for ask in asked:
            try:
                frame = ask()
            except AanmfError:
                continue
            numbers = frame.select(pl.col(pl.Float32, pl.Float64).is_finite().all())
            assert all(value in (True, None) for value in (numbers.row(0) if numbers.width else ())), "not finite"
    return "answers"
