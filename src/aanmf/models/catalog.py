"""Every model of the library, once: its name, where it lives, what it can do and what tuning may choose.

A new model is a file in `models/` and an entry here. The command line, the report, the tuner, the export, the tests and
`aanmf.<Class>` read this table; nothing else lists models. Modules are imported when a model is first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aanmf.errors import ConfigError, unknown
from aanmf.models.space import Choice, Range, Space, edges

if TYPE_CHECKING:
    from aanmf.contract import ModelConfig, RatingModule


_FACTORS = Range(2, 160, whole=True)
_STEPS: Space = {
    "learning_rate": Range(1e-3, 5e-2),
    "epochs": Range(8, 60, whole=True),
    "batch_size": Choice((None, 1000, 4000)),
}
_BIASED: Space = {"factors": _FACTORS, "l2": Range(1, 100), "l2_bias": Range(0.02, 20), **_STEPS}
_DENSE: Space = {
    "factors": _FACTORS,
    "layers": Choice(((32,), (64,), (128,), (64, 32))),
    "dropout": Range(0.0, 0.7, log=False, natural=True),
    "l2_dense": Range(0.005, 5),
    **_STEPS,
}
_ENCODER: Space = {
    "factors": Range(16, 512, whole=True),
    "l2": Range(4, 200),
    "l2_bias": Range(0.02, 20),
    "dropout": Range(0.0, 0.9, log=False, natural=True),
    **_STEPS,
}
_AANMFPP: Space = {
    "factors": Range(8, 128, whole=True),
    "learning_rate": Range(2e-3, 5e-2),
    "epochs": Range(3, 24, whole=True),
}


@dataclass(frozen=True)
class ModelSpec:
    """What the rest of the library knows of a model without importing it.

    Attributes:
        name: on the command line, in files and reports: `aanmf+p`.
        label: in tables and figures: `AANMF+P`.
        class_name: of the estimator: `aanmf.AANMF`. Variants share it and differ in `settings`.
        module: `package.module:Class` of the torch module.
        config: `package.module:Class` of its settings.
        summary: one line for help texts and documents.
        settings: what the name implies: `{"pooling": "pairwise"}`.
        space: what tuning may choose; other settings keep their defaults.
        trainer: `package.module:function` with the signature of `training.trainer.fit_module`.
        updater: `package.module:function` that takes in new data in a fraction of a fit, with the signature of
            `models.aanmfpp.update.update_aanmfpp`; None: by a full fit.
        account, match_account: `package.module:function` that accounts for a predicted rating, and for a match (see
            `aanmf.explanation`); None: by Shapley values of the user by id, the attributes of the user and the item.
        rates: it predicts ratings.
        matches: it learns what users choose, so that it ranks by more than predicted ratings.
        retracts: it can leave out a user's training rating without being trained again.
        new_items: it scores items without ratings by their attributes when it ranks by match.
        attention: it weights user attributes item by item.
        intervals: it gives prediction intervals.
        context: it can learn from the context of ratings.
        streams: it needs no other ratings to predict one, so that training can read them from disk.
        on_disk: it needs all ratings at a time, but they, and what it computes of each, can be in files meanwhile.
        processes: several processes can train it together.
        shards: they can divide tables of users and items among them.
        checkpoints: its training can be stopped and resumed.
        exports: it can be written as tables and ONNX.
        indexes: it ranks by inner products, so that an index finds the best of many items (`aanmf.item_index`).
        in_report: it is compared in the paper's experiment (`aanmf reproduce`).
    """

    name: str
    label: str
    class_name: str
    module: str
    config: str
    summary: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    space: Space = field(default_factory=dict)
    trainer: str = "aanmf.training.trainer:fit_module"
    updater: str | None = None
    account: str | None = None
    match_account: str | None = None
    rates: bool = True
    matches: bool = False
    retracts: bool = False
    new_items: bool = False
    attention: bool = False
    intervals: bool = False
    context: bool = False
    streams: bool = False
    on_disk: bool = False
    processes: bool = False
    shards: bool = False
    checkpoints: bool = True
    exports: bool = True
    indexes: bool = False
    in_report: bool = False

    @property
    def module_type(self) -> type[RatingModule]:
        """The torch module's class."""
        return load_object(self.module)

    @property
    def config_type(self) -> type[ModelConfig]:
        """The class of its settings."""
        return load_object(self.config)

    def edges(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """The settings that lie at an edge of the search space: `{"l2": "high"}`."""
        return edges(self.space, settings)


def _spec(
    name: str, label: str, summary: str, class_name: str | None = None, file: str | None = None, **more: Any
) -> ModelSpec:
    """An entry by the naming of the library: `MF` is `MFModule` and `MFConfig` in `models/mf.py`."""
    class_name = class_name or label
    place = f"aanmf.models.{file or class_name.lower()}:{class_name}"
    return ModelSpec(name, label, class_name, f"{place}Module", f"{place}Config", summary, **more)


_ROW_BY_ROW: dict[str, Any] = {"streams": True, "processes": True, "shards": True}
_AANMF: dict[str, Any] = {
    "space": {**_DENSE, "l2": Range(2, 150), "init_std": Range(0.01, 1), "interaction": Choice(("concat", "product"))},
    "attention": True,
    "context": True,
    "in_report": True,
} | _ROW_BY_ROW
_LISTS: dict[str, Any] = {
    "trainer": "aanmf.models.closed_form:fit_closed_form",
    "rates": False,
    "match_account": "aanmf.models.closed_form:account_for",
    "matches": True,
    "retracts": True,
    "checkpoints": False,
    "exports": False,
}
_SPECS = (
    _spec(
        "aanmf++",
        "AANMF++",
        "attention, rating histories, item attributes, kernel ridge and ordinal head, averaged over members",
        class_name="AANMFpp",
        file="aanmfpp.module",
        space=_AANMFPP,
        trainer="aanmf.models.aanmfpp.fit:fit_aanmfpp",
        updater="aanmf.models.aanmfpp.update:update_aanmfpp",
        account="aanmf.models.aanmfpp.account:account_for",
        match_account="aanmf.models.aanmfpp.match_account:account_for",
        retracts=True,
        on_disk=True,
        processes=True,
        matches=True,
        new_items=True,
        attention=True,
        intervals=True,
        context=True,
        in_report=True,
    ),
    _spec("aanmf", "AANMF", "attribute-aware attentional neural matrix factorisation, the paper's model", **_AANMF),
    _spec(
        "aanmf+p",
        "AANMF+P",
        "AANMF with pairwise pooling",
        class_name="AANMF",
        settings={"pooling": "pairwise"},
        **_AANMF,
    ),
    _spec("mf", "MF", "biased matrix factorisation", space=_BIASED, in_report=True, indexes=True, **_ROW_BY_ROW),
    _spec(
        "svd++",
        "SVD++",
        "SVD++ (Koren 2008), on request with user attributes of weight 1",
        class_name="SVDpp",
        space={**_BIASED, "attributes": Choice((False, True))},
        in_report=True,
    ),
    _spec("fm", "FM", "factorisation machine of degree 2 (Rendle 2010)", space=_BIASED, indexes=True, **_ROW_BY_ROW),
    _spec(
        "bayesfm",
        "BayesFM",
        "Bayesian factorisation machine with histories and an ordinal output, by Gibbs sampling (Rendle et al. 2019)",
        space={"factors": Range(4, 64, whole=True)},
        trainer="aanmf.models.bayesfm:fit_bayesfm",
        checkpoints=False,
        exports=False,
    ),
    _spec(
        "nfm",
        "NFM",
        "neural factorisation machine (He and Chua 2017)",
        space={**_DENSE, "l2": Range(4, 400), "batch_norm": Choice((False, True))},
        streams=True,  # but in one process: several would each normalise over their own part of a batch
        in_report=True,
    ),
    _spec(
        "afm",
        "AFM",
        "factorisation machine with attention over pairs of features (Xiao et al. 2017)",
        space={
            **_BIASED,
            "l2": Range(4, 400),
            "attention_factors": Range(4, 128, whole=True),
            "dropout": Range(0.0, 0.7, log=False, natural=True),
        },
        **_ROW_BY_ROW,
    ),
    _spec(
        "acf",
        "ACF",
        "matrix factorisation with attention over the items that a user rated (Chen et al. 2017)",
        space={**_BIASED, "attention_factors": Range(4, 128, whole=True)},
    ),
    _spec(
        "autorec",
        "AutoRec",
        "auto-encoder over the ratings of an item or a user (Sedhain et al. 2015)",
        space={**_ENCODER, "encodes": Choice(("items", "users"))},
        in_report=True,
    ),
    _spec(
        "acmf",
        "ACMF",
        "matrix factorisation with coupled item attributes as regulariser",
        space={**_BIASED, "alpha": Range(0.005, 2)},
        in_report=True,
    ),
    _spec(
        "aesr",
        "AESR",
        "auto-encoder with semantic neighbours from a social graph",
        space={**_ENCODER, "pull": Range(0.1, 50)},
        in_report=True,
    ),
    _spec("popularity", "Popularity", "the items that most users rated", **_LISTS),
    _spec(
        "ease",
        "EASE",
        "item-item weights in closed form: EASE, and with dropout EDLAE (Steck 2019, 2020)",
        space={"l2": Range(10, 2000), "dropout": Range(0, 0.8, log=False, natural=True)},
        **_LISTS,
    ),
    _spec(
        "item-knn",
        "ItemKNN",
        "nearest neighbours of items by the users who rated them",
        file="item_knn",
        space={"neighbours": Range(10, 800, whole=True), "shrinkage": Range(0, 50, log=False, natural=True)},
        **_LISTS,
    ),
    _spec(
        "ials",
        "iALS",
        "matrix factorisation of choices by alternating least squares (Hu et al. 2008, Rendle et al. 2022)",
        class_name="IALS",
        space={"factors": Range(16, 256, whole=True), "l2": Range(1e-4, 0.3), "unobserved": Range(0.02, 2)},
        indexes=True,
        **_LISTS,
    ),
    _spec(
        "bpr",
        "BPR",
        "matrix factorisation that ranks chosen items above others (Rendle et al. 2009)",
        space={
            "factors": Range(16, 256, whole=True),
            "learning_rate": Range(5e-4, 5e-2),
            "l2": Range(1e-5, 1e-1),
            "epochs": Range(10, 100, whole=True),
        },
        indexes=True,
        **_LISTS,
    ),
    _spec(
        "damped-means",
        "Damped means",
        "mean rating plus damped deviations of user and item",
        class_name="DampedMeans",
        file="damped_means",
        space={"damping_items": Range(0.5, 50), "damping_users": Range(0.5, 50)},
        trainer="aanmf.models.damped_means:fit_damped_means",
        checkpoints=False,
    ),
)
CATALOG: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}
"""All models by name, the recommended one first."""
CLASSES: dict[str, ModelSpec] = {spec.class_name: spec for spec in reversed(_SPECS) if not spec.settings}
"""The estimators that users import, by class name."""


def spec_of(name: str) -> ModelSpec:
    """The entry of a model.

    Raises:
        ConfigError: no such model; the message names the nearest one, and all.
    """
    if name in CATALOG:
        return CATALOG[name]
    raise ConfigError(unknown("model", name, CATALOG))


def with_capability(capability: str) -> list[str]:
    """Names of the models that have one: `with_capability("streams")`."""
    return [spec.name for spec in _SPECS if getattr(spec, capability)]


def load_object(place: str) -> Any:
    """The object at `package.module:name`, which is imported now."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
