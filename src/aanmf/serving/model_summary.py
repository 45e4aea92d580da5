"""The model card: what a model is, what it learned from, and how well it did."""

from __future__ import annotations

from aanmf.data.attribute_kind import SHOWN
from aanmf.data.attributes import AttributeEncoder
from aanmf.data.context import ContextEncoder
from aanmf.ranking import ways_to_rank
from aanmf.serving.model_cache import ModelCache
from aanmf.versions import versions


def model_summary(cache: ModelCache) -> dict[str, object]:
    """Everything that can be said of a model, as JSON values."""
    model, fitted = cache.model, cache.fitted
    log, settings = fitted.training_log, model.get_params()
    return {
        "model": model.spec.name,
        "class": type(model).__name__,
        "version": cache.version,
        "aanmf": versions()["aanmf"],
        "data": dict(fitted.data),
        "users": len(fitted.users),
        "items": len(fitted.items),
        "ratings": len(fitted.training.train),
        "has_ratings": fitted.training.has_ratings,
        "mean_rating": round(fitted.training.mean, 4) if fitted.training.has_ratings else None,
        "scale": list(fitted.training.scale) if fitted.training.has_ratings else None,
        "split": {
            "validation": settings.get("validation"),
            "meaning": "share of the training ratings that the number of epochs was chosen on; "
            "test figures come from `aanmf evaluate`, on ratings that this model has not seen",
        },
        "figures": {
            "epochs": log.best_epoch,
            "train_rmse": _rounded(log.train_rmse),
            "validation_rmse": _rounded(log.validation_rmse),
            "parameters": sum(each.numel() for each in model.module_.parameters()),
        },
        "has_interval": model.spec.intervals,
        "rank_by": ways_to_rank(cache.predictor),
        "settings": settings,
        "chosen": model.chosen_,
        "attributes": {"users": _attributes(fitted.users.encoder), "items": _attributes(fitted.items.encoder)},
        "context": _context(fitted.context),
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


def _context(encoder: ContextEncoder) -> list[dict[str, object]]:
    """Of the attributes that a request may give; the time of a rating has no values."""
    rows = [row for row in _attributes(encoder.attributes) if row["name"] in encoder.columns]
    time = {"name": encoder.time, "kind": "time", "values": [], "n_values": 0, "size": None}
    return rows if encoder.time is None else [*rows, time]


def _rounded(rmse: float | None) -> float | None:
    return None if rmse is None else round(rmse, 4)
