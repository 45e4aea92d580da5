"""A fitted model as a folder on disk: what stands in which file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import polars as pl
from torch import Tensor

from aanmf.checks import check_finite, check_positions, tensor_of
from aanmf.contract import ModelConfig, RatingModule, drawing
from aanmf.errors import ModelFolderError
from aanmf.fitted import Fitted
from aanmf.legacy import of_format_1
from aanmf.locks import locked
from aanmf.models.catalog import ModelSpec
from aanmf.storage import check_target, read_folder, write_folder
from aanmf.training.predict import pick_device
from aanmf.versions import versions

PARTS = ("config", "data", "encoders", "items", "training", "users", "weights")
"""Files of every model folder, without their endings."""


def write_model(
    path: str | Path, spec: ModelSpec, settings: dict[str, Any], module: RatingModule, fitted: Fitted
) -> None:
    """Writes a model folder; see `Recommender.save`."""
    check_target(Path(path))
    with locked(path):
        write_folder(
            path,
            about={"model": spec.name, "aanmf": versions()["aanmf"]},
            documents={"config": settings, **fitted.documents()},
            tensors={"weights": module.state_dict(), "data": fitted.tensors()},
            files=fitted.files(),
        )


@dataclass(frozen=True)
class Saved:
    """What a model folder holds.

    Attributes:
        settings: those that were asked for.
        config: the same, with those that training chose.
        weights: the module's `state_dict`.
        fitted: what was learned besides.
        aanmf: the version that wrote the folder.
    """

    settings: dict[str, Any]
    config: ModelConfig
    weights: Mapping[str, Tensor]
    fitted: Fitted
    aanmf: str


def read_saved(path: str | Path, spec: ModelSpec) -> Saved:
    """All of a model folder but its module, which takes longest.

    Raises:
        ModelFolderError: anything that is not as `write_model` leaves it: shapes, types, ranges and positions are
            checked against each other, and every number must be finite.
    """
    stored = read_folder(path)
    if stored.manifest.get("model") != spec.name:
        raise ModelFolderError(
            f"{path} holds a model of kind {stored.manifest.get('model')!r}, not {spec.name!r}; use load_model"
        )
    made = str(stored.manifest.get("aanmf", "an unknown version"))
    with _faults(path, spec, made):
        named = {Path(name).stem for name in cast("dict[str, str]", stored.manifest["sha256"])}
        if lacking := [part for part in PARTS if part not in named]:
            raise ModelFolderError(f"the manifest does not name {lacking[0]}")
        documents, tensors = stored.documents, stored.tensors
        settings, weights = documents["config"], tensors["weights"]
        fitted = Fitted.restored(documents, tensors["data"], stored.files)
        if stored.manifest["format"] == 1:
            settings, weights = of_format_1(spec.name, settings, weights)
        config = spec.config_type.of(settings).with_chosen(fitted.training_log.chosen)
        for name, each in weights.items():
            check_finite(name, each)
        return Saved(settings, config, weights, fitted, made)


def read_model(path: str | Path, spec: ModelSpec, device: str) -> tuple[dict[str, Any], RatingModule, Fitted]:
    """The settings that were asked for, the trained module and what was learned besides; see `Recommender.load`.

    Raises:
        ModelFolderError: as `read_saved`; or the weights are not those of a module of these settings.
    """
    saved = read_saved(path, spec)
    with _faults(path, spec, saved.aanmf):
        with drawing(None):  # weights from a file take their place
            module = spec.module_type(saved.config, saved.fitted.training)
        for name, own in module.state_dict().items():
            found = tensor_of(saved.weights, name, own.dtype, own.shape)
            if found.dim() and not found.dtype.is_floating_point:  # the models keep positions of items in such tensors
                check_positions(name, found, saved.fitted.training.n_items)
        module.load_state_dict(saved.weights, assign=True)  # as they lie in the file, without a copy
    return saved.settings, module.to(pick_device(device)).eval(), saved.fitted


@contextmanager
def _faults(path: str | Path, spec: ModelSpec, made: str) -> Iterator[None]:
    """Whatever goes wrong in the block is a fault of the folder."""
    try:
        yield
    except (Exception, pl.exceptions.PanicException) as error:
        fault = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelFolderError(
            f"{path} cannot be loaded as {spec.name!r} of aanmf {versions()['aanmf']}: {fault}. It was written by "
            f"{made}: train again, or use that version"
        ) from error
