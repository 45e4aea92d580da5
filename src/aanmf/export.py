"""Models for use elsewhere: one ONNX file that predicts ratings, or Parquet tables of what was learned per id."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from aanmf.errors import AanmfError, ConfigError, MissingExtraError
from aanmf.models.plain import Plain, Side, plain
from aanmf.recommender import Recommender
from aanmf.training.predict import predict_pairs

if TYPE_CHECKING:
    from onnx import ModelProto

BATCHES = (1, 7, 1000)
"""Sizes of the batches on which a file is compared with the model it was made from."""
TOLERANCE = 1e-5
"""Largest difference of a prediction; in proportion where ratings go beyond 10 (they are 32-bit numbers)."""
LIMIT = 2_000_000_000
"""Bytes: an ONNX file in one piece holds no more."""


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that was written and checked.

    Attributes:
        path: where it is.
        size: in bytes.
        difference: the largest difference to the model's own predictions that was found.
    """

    path: Path
    size: int
    difference: float


def export_onnx(model: Recommender, path: str | Path) -> OnnxFile:
    """Writes a model as one self-contained ONNX file, checked with onnxruntime before it is put in place.

    Inputs `user` and `item`: int64 (B,) positions, any B. Output `rating`: float32 (B,), clipped to the scale.
    The file's metadata holds JSON: `users` and `items` (the id at each position; the position behind the last is that
    of an unknown one), `scale`, `model`, `settings` and `data`.

    Raises:
        MissingExtraError: onnx, onnxruntime or onnxscript is not installed.
        ConfigError: this model cannot be exported, or is too large for one file.
        AanmfError: the file's predictions differ from the model's; nothing was written.
    """
    if lacking := [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]:
        raise MissingExtraError(f"ONNX needs {lacking[0]}: pip install 'aanmf[export]'")
    path = Path(path)
    form = plain(copy.deepcopy(model.module_).cpu())
    size = sum(each.nbytes for each in (*form.buffers(), *form.parameters()))
    if size > LIMIT:
        raise ConfigError(
            f"the tables of this model take {size / 1e9:.1f} GB and an ONNX file holds {LIMIT / 1e9:.0f} GB: train "
            "with fewer factors, or (AANMF++) with ridge=false; Parquet tables (--tables) have no such limit"
        )
    graph = _graph(Clipped(form, *model.fitted_.training.scale))
    for key, value in _metadata(model).items():
        graph.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(graph.SerializeToString())
        part.chmod(0o644)
        difference = compare_onnx(model, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return OnnxFile(path, path.stat().st_size, difference)


class Clipped(nn.Module):
    """A plain form whose ratings stay on the scale."""

    def __init__(self, form: Plain, low: float, high: float) -> None:
        super().__init__()
        self.form, self.low, self.high = form, low, high

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """(B,), (B,) -> (B,)."""
        return self.form(user, item).clamp(self.low, self.high)


def _graph(module: nn.Module) -> ModelProto:
    two = torch.zeros(2, dtype=torch.int64)
    shape = {0: torch.export.Dim("batch")}
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            (two, two.clone()),
            input_names=["user", "item"],
            output_names=["rating"],
            dynamic_shapes=(shape, shape),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _metadata(model: Recommender) -> dict[str, object]:
    fitted = model.fitted_
    return {
        "model": model.spec.name,
        "settings": model.get_params(),
        "data": dict(fitted.data),
        "scale": fitted.training.scale,
        "users": fitted.users.ids,
        "items": fitted.items.ids,
    }


def compare_onnx(model: Recommender, path: Path) -> float:
    """The largest difference between a file's predictions and the model's, over batches of several sizes.

    Raises:
        AanmfError: it is larger than `TOLERANCE`.
    """
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    training, rng, found = model.fitted_.training, np.random.default_rng(0), 0.0
    device = next(model.module_.parameters()).device
    for size in BATCHES:
        user, item = rng.integers(training.n_users + 1, size=size), rng.integers(training.n_items + 1, size=size)
        (there,) = session.run(["rating"], {"user": user, "item": item})
        pairs = torch.as_tensor(user, device=device), torch.as_tensor(item, device=device)
        here = predict_pairs(model.module_, *pairs).clamp(*training.scale).cpu().numpy()
        found = max(found, float(np.abs(there - here).max()))
    allowed = TOLERANCE * max(1.0, max(map(abs, training.scale)) / 10)
    if not found <= allowed:
        raise AanmfError(
            f"the ONNX file predicts other ratings than the model (by {found:.2g}, allowed {allowed:.2g}): it was not "
            "written; please report it with the versions that `aanmf doctor` shows"
        )
    return found


def export_tables(model: Recommender, folder: str | Path) -> dict[str, Path]:
    """Writes `users.parquet` and `items.parquet`: `id`, `label` (items with titles), `bias`, `embedding`.

    A row per id, in the order of the model's positions. For `mf`, `acmf`, `svd++`, `fm`, `autorec` and `aesr` the
    rating is bias + bias + the inner product of the embeddings, clipped. `aanmf` has no biases (0) and layers above the
    embeddings p and q; so has `nfm`. Those of `aanmf++` are its members' vectors one after another.

    Raises:
        ConfigError: this model has no such tables.
    """
    fitted, folder = model.fitted_, Path(folder)
    users, items = plain(copy.deepcopy(model.module_).cpu()).sides()
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    for name, ids, labels, side in (
        ("users", fitted.users.ids, None, users),
        ("items", fitted.items.ids, fitted.item_labels, items),
    ):
        written[name] = folder / f"{name}.parquet"
        part = folder / f".{name}.parquet.part"
        _table(ids, labels, side).write_parquet(part)
        part.replace(written[name])
    return written


def _table(ids: tuple[str, ...], labels: tuple[str, ...] | None, side: Side) -> pl.DataFrame:
    """Without the row of the unknown one."""
    known = slice(0, len(ids))
    return pl.DataFrame(
        {
            "id": ids,
            **({"label": labels} if labels else {}),
            "bias": side.bias[known].numpy(),
            "embedding": side.vector[known].numpy(),
        }
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter tells of things that concern its developers: optional packages, deprecations of its own."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
