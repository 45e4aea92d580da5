"""A fitted model as a folder on disk: what stands in which file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import polars as pl

from aanmf.checks import check_positions, tensor_of
from aanmf.contract import RatingModule
from aanmf.errors import ModelFolderError
from aanmf.fitted import Fitted
from aanmf.legacy import of_format_1
from aanmf.locks import locked
from aanmf.models.catalog import ModelSpec
from aanmf.storage import StoredFolder, check_target, read_folder, write_folder
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


def read_model(path: str | Path, spec: ModelSpec, device: str) -> tuple[dict[str, Any], RatingModule, Fitted]:
    """The settings that were asked for, the trained module and what was learned besides; see `Recommender.load`.

    Raises:
        ModelFolderError: anything that is not as `write_model` leaves it: every shape, type, range and index is checked
            against the settings and against each other, and every number must be finite.
    """
    stored = read_folder(path)
    if stored.manifest.get("model") != spec.name:
        raise ModelFolderError(
            f"{path} holds a model of kind {stored.manifest.get('model')!r}, not {spec.name!r}; use load_model"
        )
    try:
        settings, module, fitted = _rebuilt(stored, spec)
    except (Exception, pl.exceptions.PanicException) as error:
        fault = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelFolderError(
            f"{path} cannot be loaded as {spec.name!r} of aanmf {versions()['aanmf']}: {fault}. It was written by "
            f"{stored.manifest.get('aanmf', 'an unknown version')}: train again, or use that version"
        ) from error
    return settings, module.to(pick_device(device)).eval(), fitted


def _rebuilt(stored: StoredFolder, spec: ModelSpec) -> tuple[dict[str, Any], RatingModule, Fitted]:
    """What `write_model` was given."""
    manifest, documents, tensors, files = stored
    named = {Path(name).stem for name in cast("dict[str, str]", manifest["sha256"])}
    if lacking := [part for part in PARTS if part not in named]:
        raise ModelFolderError(f"the manifest does not name {lacking[0]}")
    settings, fitted = documents["config"], Fitted.restored(documents, tensors["data"], files)
    weights = tensors["weights"]
    if manifest["format"] == 1:
        settings, weights = of_format_1(spec.name, settings, weights)
    config = spec.config_type.of(settings).with_chosen(fitted.training_log.chosen)
    module = spec.module_type(config, fitted.training)
    module.load_state_dict(weights)
    for name, own in module.state_dict().items():
        found = tensor_of(weights, name, own.dtype, own.shape)
        if found.dim() and not found.dtype.is_floating_point:  # the models keep positions of items in such tensors
            check_positions(name, found, fitted.training.n_items)
    return settings, module, fitted
