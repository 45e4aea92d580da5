"""The model card: what a model is, what it learned from, and how well it did."""

from __future__ import annotations

import math
from importlib.metadata import PackageNotFoundError, version

from aanmf.data.attribute_kind import SHOWN
from aanmf.data.attributes import AttributeEncoder
from aanmf.serving.served import ServedModel


def model_card(served: ServedModel) -> dict[str, object]:
    """Everything that can be said of a model, as plain values."""
    model, fitted = served.model, served.model.fitted_
    history, training = fitted.training_log, fitted.training
    valid = [epoch.valid_mse for epoch in history.epochs if epoch.valid_mse is not None]
    settings = model.get_params()
    return {
        "model": model.spec.name,
        "class": type(model).__name__,
        "version": served.version,
        "aanmf": _aanmf_version(),
        "data": dict(fitted.data),
        "users": len(served.users),
        "items": len(served.items),
        "ratings": len(training.train),
        "mean_rating": round(training.mean, 4),
        "scale": list(served.scale),
        "split": {
            "validation": settings.get("validation"),
            "meaning": "share of the training ratings that the number of epochs was chosen on; "
            "test figures come from `aanmf evaluate`, on ratings that this model has not seen",
        },
        "figures": {
            "epochs": history.best_epoch,
            "train_rmse": _root(history.epochs[-1].train_mse) if history.epochs else None,
            "validation_rmse": _root(min(valid)) if valid else None,
            "parameters": sum(each.numel() for each in model.module_.parameters()),
        },
        "has_interval": served.has_interval,
        "settings": settings,
        "attributes": {"users": _attributes(fitted.user_encoder), "items": _attributes(fitted.item_encoder)},
    }


def _attributes(encoder: AttributeEncoder) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for each in encoder.fitted:
        rows.append(
            {
                "name": each.attribute.name,
                "kind": each.attribute.kind.value,
                "values": list(each.known_labels[:SHOWN]),
                "n_values": len(each.known_labels),
                "size": each.size,
            }
        )
    return rows


def _root(mse: float) -> float:
    return round(math.sqrt(mse), 4)


def _aanmf_version() -> str:
    try:
        return version("aanmf")
    except PackageNotFoundError:
        return "unknown"
