"""Recommendations, rating predictions and explanations, from ratings or clicks and attributes of users and items.

Names are imported when first used, so that `import aanmf` takes milliseconds. Estimators (`AANMFpp`, `AANMF`,
`MF`, ...) come from the catalogue of models.
"""

from importlib import import_module
from typing import Any

from aanmf.models.catalog import CLASSES

_HOME = {
    "RatingDataset": "aanmf.data.dataset",
    "load_movielens": "aanmf.data.movielens",
    "load_restaurants": "aanmf.data.restaurants",
    "make_synthetic": "aanmf.data.synthetic",
    **dict.fromkeys(("Attribute", "Kind", "Schema"), "aanmf.data.schema"),
    **dict.fromkeys(("AanmfError", "DataError", "SchemaError", "UnknownIdError"), "aanmf.errors"),
    "cross_validate": "aanmf.evaluation.cross_validate",
    **dict.fromkeys(("Recommender", "load_model", "make_model"), "aanmf.recommender"),
    "Checkpoints": "aanmf.training.checkpoint",
}

__all__ = sorted((*_HOME, *CLASSES))  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in CLASSES:
        from aanmf.recommender import estimator

        return estimator(name)
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'aanmf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
