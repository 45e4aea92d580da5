"""Models for use elsewhere: one ONNX file that predicts ratings, or Parquet tables of what was learned per id."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
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

from aanmf.contract import RatingModule, Side
from aanmf.data.attributes import AttributeSet
from aanmf.errors import AanmfError, ConfigError, MissingExtraError
from aanmf.export_context import ContextInputs
from aanmf.models.catalog import with_capability
from aanmf.models.context import ContextAttention
from aanmf.recommender import Recommender
from aanmf.storage import replace_file
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
    """Writes a model as one self-contained ONNX file, which is checked with onnxruntime first.

    Inputs `user` and `item`: int64 (B,) positions, any B. Output `rating`: float32 (B,), clipped to the scale. A model
    that uses the context of ratings has further inputs, such as `context.companion`: see `aanmf.export_context`.
    The file's metadata holds JSON: `users` and `items`, the id at each position; use position N, one past the last id,
    for an unknown one. Further `context` (the values of each input), `scale`, `model`, `settings` (asked for), `chosen`
    (by `fit`) and `data`.

    Raises:
        MissingExtraError: onnx, onnxruntime or onnxscript is not installed.
        ConfigError: this model cannot be exported, or is too large for one file.
        AanmfError: the file's predictions differ from the model's; nothing was written.
    """
    if lacking := [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]:
        raise MissingExtraError(f"ONNX needs {lacking[0]}: pip install 'aanmf[export]'")
    path, module = Path(path), _module_of(model)
    form, inputs = module.export_form(), context_inputs(model)
    if inputs is not None:
        form = InContext(form, model.fitted_.training.users, inputs)
    graph = _graph(Clipped(form, *model.fitted_.training.scale), inputs)
    for key, value in _metadata(model, inputs).items():
        graph.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    with replace_file(path) as file:
        file.write(graph.SerializeToString())
        file.flush()
        difference = compare_onnx(model, Path(file.name))
    return OnnxFile(path, path.stat().st_size, difference)


def export_tables(model: Recommender, folder: str | Path) -> dict[str, Path]:
    """Writes `users.parquet` and `items.parquet`: `id`, `label` (items with titles), `bias`, `embedding`.

    A row per id, in the order of the model's positions. For `mf`, `acmf`, `svd++`, `fm`, `autorec` and `aesr` the
    rating is bias + bias + the inner product of the embeddings, clipped. `aanmf` has no biases (0) and layers above the
    embeddings p and q; so has `nfm`. Those of `aanmf++` are its members' vectors one after another.

    Raises:
        ConfigError: this model has no such tables.
    """
    fitted, folder = model.fitted_, Path(folder)
    with torch.no_grad():
        users, items = _module_of(model).sides()
    written: dict[str, Path] = {}
    for name, ids, labels, side in (
        ("users", fitted.users.ids, None, users),
        ("items", fitted.items.ids, fitted.items.labels, items),
    ):
        written[name] = folder / f"{name}.parquet"
        with replace_file(written[name]) as file:
            _table(ids, labels, side).write_parquet(file)
    return written


def compare_onnx(model: Recommender, path: Path) -> float:
    """The largest difference between a file's predictions and the model's, over batches of several sizes.

    Raises:
        AanmfError: it is larger than `TOLERANCE`.
    """
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    training, rng, found = model.fitted_.training, np.random.default_rng(0), 0.0
    device, inputs = next(model.module_.parameters()).device, context_inputs(model)
    for size in BATCHES:
        user, item = rng.integers(training.n_users + 1, size=size), rng.integers(training.n_items + 1, size=size)
        given = {} if inputs is None else dict(zip(inputs.names, inputs.examples(rng, size), strict=True))
        (there,) = session.run(["rating"], {"user": user, "item": item, **given})
        pairs, sets = (torch.as_tensor(user, device=device), torch.as_tensor(item, device=device)), None
        if inputs is not None:
            context = inputs([torch.as_tensor(each) for each in given.values()]).to(device)
            sets = training.users.to(device).rows(pairs[0]).in_context(context)
        here = predict_pairs(model.module_, *pairs, sets).clamp(*training.scale).cpu().numpy()
        found = max(found, float(np.abs(there - here).max()))
    allowed = TOLERANCE * max(1.0, max(map(abs, training.scale)) / 10)
    if not found <= allowed:
        raise AanmfError(
            f"the predictions of the ONNX file differ from the model's by {found:.2g} (allowed: {allowed:.2g}); it was "
            "not written. Please report this with the versions that `aanmf doctor` shows"
        )
    return found


class Clipped(nn.Module):
    """An export form whose ratings stay on the scale."""

    def __init__(self, form: nn.Module, low: float, high: float) -> None:
        super().__init__()
        self.form, self.low, self.high = form, low, high

    def forward(self, user: Tensor, item: Tensor, *context: Tensor) -> Tensor:
        """(B,), (B,), inputs of the context -> (B,)."""
        return self.form(user, item, *context).clamp(self.low, self.high)


class InContext(nn.Module):
    """An export form, asked in the context that is given as inputs; `sets`: attributes of the users."""

    def __init__(self, form: nn.Module, sets: AttributeSet, inputs: ContextInputs) -> None:
        super().__init__()
        self.form, self.sets, self.inputs = form, sets, inputs

    def forward(self, user: Tensor, item: Tensor, *context: Tensor) -> Tensor:
        """(B,), (B,), inputs of the context -> (B,)."""
        return self.form(user, item, self.sets.rows(user).in_context(self.inputs(context)))


def context_inputs(model: Recommender) -> ContextInputs | None:
    """What a file of this model takes besides user and item; None: it does not use the context of ratings."""
    context = model.fitted_.training.train.context
    if context is None or not any(isinstance(each, ContextAttention) for each in model.module_.modules()):
        return None
    return ContextInputs(model.fitted_.context, context)


def _module_of(model: Recommender) -> RatingModule:
    """A copy on the CPU.

    Raises:
        ConfigError: the model cannot be exported.
    """
    if not model.spec.exports:
        raise ConfigError(f"{model.spec.name} cannot be exported. Available: {', '.join(with_capability('exports'))}")
    return copy.deepcopy(model.module_).cpu()


def _graph(module: nn.Module, inputs: ContextInputs | None) -> ModelProto:
    two, shape = torch.zeros(2, dtype=torch.int64), {0: torch.export.Dim("batch")}
    asked, shapes, names = (two, two.clone()), (shape, shape), ["user", "item"]
    if inputs is not None:
        given = tuple(map(torch.as_tensor, inputs.examples(np.random.default_rng(0), 2)))
        asked, shapes, names = (*asked, *given), (*shapes, (shape,) * len(given)), [*names, *inputs.names]
    with _quiet():
        program = torch.export.export(module.eval(), asked, dynamic_shapes=shapes, strict=False)
        tables = [*program.state_dict.values(), *program.constants.values()]
        if (size := sum(each.nbytes for each in tables if isinstance(each, Tensor))) > LIMIT:
            raise ConfigError(
                f"the tables of this model take {size / 1e9:.1f} GB, but an ONNX file holds at most {LIMIT / 1e9:.0f} "
                "GB. Train with fewer factors or, for AANMF++, with ridge=false; or write Parquet tables (--tables)"
            )
        exported = torch.onnx.export(
            program, input_names=names, output_names=["rating"], external_data=False, verbose=False
        )
    assert exported is not None
    return exported.model_proto


def _metadata(model: Recommender, inputs: ContextInputs | None) -> dict[str, object]:
    fitted = model.fitted_
    return {
        "model": model.spec.name,
        "settings": model.get_params(),
        "chosen": model.chosen_,
        "data": dict(fitted.data),
        "scale": fitted.training.scale,
        "users": fitted.users.ids,
        "items": fitted.items.ids,
        "context": {} if inputs is None else inputs.about(),
    }


def _table(ids: tuple[str, ...], labels: tuple[str, ...] | None, side: Side) -> pl.DataFrame:
    """Without the row of the unknown user (item)."""
    known = slice(0, len(ids))
    columns = [
        pl.Series("id", ids),
        *([pl.Series("label", labels)] if labels else []),
        pl.Series("bias", side.bias[known].detach().numpy()),
        pl.Series("embedding", side.vector[known].detach().numpy()),
    ]
    return pl.DataFrame(columns)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter reports what concerns its developers: optional packages, deprecations of its own."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
