"""Attribute-aware attentional neural matrix factorisation: rating prediction that knows its users and items.

Names are imported when first used, so that `import aanmf` takes milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aanmf.data.dataset import RatingDataset
    from aanmf.data.movielens import load_movielens
    from aanmf.data.schema import Attribute, Kind, Schema
    from aanmf.data.synthetic import make_synthetic
    from aanmf.errors import AanmfError, DataError, SchemaError, UnknownIdError
    from aanmf.evaluation.cross_validate import cross_validate
    from aanmf.recommender import Recommender
    from aanmf.registry import AANMF, ACMF, AESR, FM, MF, NFM, AANMFpp, AutoRec, SVDpp, load_model, make_model
    from aanmf.training.checkpoint import Checkpoints

_HOME = {
    "RatingDataset": "aanmf.data.dataset",
    "load_movielens": "aanmf.data.movielens",
    "make_synthetic": "aanmf.data.synthetic",
    "Attribute": "aanmf.data.schema",
    "Kind": "aanmf.data.schema",
    "Schema": "aanmf.data.schema",
    **dict.fromkeys(("AanmfError", "DataError", "SchemaError", "UnknownIdError"), "aanmf.errors"),
    "cross_validate": "aanmf.evaluation.cross_validate",
    "AANMF": "aanmf.registry",
    "AANMFpp": "aanmf.registry",
    "MF": "aanmf.registry",
    "ACMF": "aanmf.registry",
    "AESR": "aanmf.registry",
    "FM": "aanmf.registry",
    "AutoRec": "aanmf.registry",
    "NFM": "aanmf.registry",
    "SVDpp": "aanmf.registry",
    "Recommender": "aanmf.recommender",
    "Checkpoints": "aanmf.training.checkpoint",
    "load_model": "aanmf.registry",
    "make_model": "aanmf.registry",
}

__all__ = [
    "AANMF",
    "ACMF",
    "AESR",
    "FM",
    "MF",
    "NFM",
    "AANMFpp",
    "AanmfError",
    "Attribute",
    "AutoRec",
    "Checkpoints",
    "DataError",
    "Kind",
    "RatingDataset",
    "Recommender",
    "SVDpp",
    "Schema",
    "SchemaError",
    "UnknownIdError",
    "cross_validate",
    "load_model",
    "load_movielens",
    "make_model",
    "make_synthetic",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'aanmf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
