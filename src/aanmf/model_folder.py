"""A fitted model as a folder on disk: what stands in which file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from aanmf.contract import RatingModule
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


def read_model(path: str | Path, spec: ModelSpec, device: str) -> tuple[dict[str, Any], RatingModule, Fitted]:
    """The settings that were asked for, the trained module and what was learned besides; see `Recommender.load`."""
    manifest, documents, tensors, files = read_folder(path)
    if manifest.get("model") != spec.name:
        raise ModelFolderError(
            f"{path} holds a model of kind {manifest.get('model')!r}, not {spec.name!r}; use load_model"
        )
    named = {Path(name).stem for name in cast("dict[str, str]", manifest["sha256"])}
    if lacking := [part for part in PARTS if part not in named]:
        raise ModelFolderError(f"{path}: the manifest does not name {lacking[0]}; save the model again")
    settings, fitted = documents["config"], Fitted.restored(documents, tensors["data"], files)
    weights = tensors["weights"]
    if manifest["format"] == 1:
        settings, weights = of_format_1(spec.name, settings, weights)
    config = spec.config_type.of(settings).with_chosen(fitted.training_log.chosen)
    module = spec.module_type(config, fitted.training)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        made = manifest.get("aanmf", "an unknown version")
        raise ModelFolderError(
            f"{path}: its weights do not fit {spec.name!r} of aanmf {versions()['aanmf']}; the folder was written by "
            f"{made}: train again, or use that version"
        ) from error
    return settings, module.to(pick_device(device)).eval(), fitted
