"""Every model by name: the estimators that users import, and the names that the command line and reports use."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from aanmf.data.dataset import RatingDataset
from aanmf.data.links import read_links
from aanmf.data.stream import StreamedDataset
from aanmf.errors import ConfigError, ModelFolderError
from aanmf.models.aanmf import AANMFConfig, AANMFModule
from aanmf.models.aanmfpp import AANMFppConfig, AANMFppModule
from aanmf.models.acmf import ACMFConfig, ACMFModule
from aanmf.models.aesr import AESRConfig, AESRModule
from aanmf.models.autorec import AutoRecConfig, AutoRecModule
from aanmf.models.base import Context, ModelConfig, RatingModule
from aanmf.models.fm import FMConfig, FMModule
from aanmf.models.mf import MFConfig, MFModule
from aanmf.models.nfm import NFMConfig, NFMModule
from aanmf.models.svdpp import SVDppConfig, SVDppModule
from aanmf.recommender import Recommender
from aanmf.storage import read_manifest
from aanmf.training.checkpoint import Checkpoints
from aanmf.training.distributed import Ranks
from aanmf.training.held_out import fit_held_out
from aanmf.training.trainer import History, OnEpoch


class MF(Recommender):
    """Biased matrix factorisation, the plain baseline; settings: `MFConfig`."""

    name = "mf"
    config_type = MFConfig
    module_type = MFModule
    per_rating = True


class AANMF(Recommender):
    """Attribute-aware attentional neural matrix factorisation, the paper's model; settings: `AANMFConfig`."""

    name = "aanmf"
    config_type = AANMFConfig
    module_type = AANMFModule
    per_rating = True


class AANMFpp(Recommender):
    """AANMF++: attention, histories, item attributes, ridge and ordinal head, averaged; settings: `AANMFppConfig`."""

    name = "aanmf++"
    config_type = AANMFppConfig
    module_type = AANMFppModule

    def _train(
        self,
        context: Context,
        on_epoch: OnEpoch | None,
        checkpoints: Checkpoints | None,
        spread_rows: int | None,
    ) -> tuple[RatingModule, History]:
        if checkpoints is not None or not Ranks.current().alone:
            raise ConfigError(f"{self.name} is trained in one process and without checkpoints: leave them out")
        config = AANMFppConfig.model_validate(self.get_params())
        return fit_held_out(AANMFppModule, context, config, on_epoch)


class SVDpp(Recommender):
    """SVD++ (Koren 2008), on request with user attributes of weight 1; settings: `SVDppConfig`."""

    name = "svd++"
    config_type = SVDppConfig
    module_type = SVDppModule


class FM(Recommender):
    """Factorisation machine of degree 2 (Rendle 2010); settings: `FMConfig`."""

    name = "fm"
    config_type = FMConfig
    module_type = FMModule
    per_rating = True


class NFM(Recommender):
    """Neural factorisation machine (He and Chua 2017); settings: `NFMConfig`."""

    name = "nfm"
    config_type = NFMConfig
    module_type = NFMModule


class AutoRec(Recommender):
    """Auto-encoder over the ratings of an item or a user (Sedhain et al. 2015); settings: `AutoRecConfig`."""

    name = "autorec"
    config_type = AutoRecConfig
    module_type = AutoRecModule


class ACMF(Recommender):
    """Matrix factorisation with coupled item attributes as regulariser; settings: `ACMFConfig`."""

    name = "acmf"
    config_type = ACMFConfig
    module_type = ACMFModule


class AESR(Recommender):
    """Auto-encoder with semantic neighbours from a social graph; settings: `AESRConfig`."""

    name = "aesr"
    config_type = AESRConfig
    module_type = AESRModule
    _trust: NDArray[np.int64] | None = None

    def fit(self, data: RatingDataset | StreamedDataset, on_epoch: OnEpoch | None = None, **options: Any) -> Self:
        """See `Recommender.fit`; reads the trust links, which matter in training only."""
        trust = AESRConfig.model_validate(self.get_params()).trust
        self._trust = None if trust is None else read_links(trust, data.users.ids)
        return super().fit(data, on_epoch, **options)

    def _build(self, config: ModelConfig, context: Context) -> RatingModule:
        return AESRModule(AESRConfig.model_validate(config.model_dump()), context, self._trust)


MODELS: dict[str, tuple[type[Recommender], dict[str, Any]]] = {
    "mf": (MF, {}),
    "aanmf": (AANMF, {}),
    "aanmf+p": (AANMF, {"pooling": "pairwise"}),
    "aanmf++": (AANMFpp, {}),
    "svd++": (SVDpp, {}),
    "fm": (FM, {}),
    "nfm": (NFM, {}),
    "autorec": (AutoRec, {}),
    "acmf": (ACMF, {}),
    "aesr": (AESR, {}),
}
"""Models by the name that the command line and reports use, with the settings that the name implies."""


def make_model(name: str, **settings: Any) -> Recommender:
    """A model by name: `make_model("aanmf+p", factors=16)`.

    Raises:
        ConfigError: no such model.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}; there are: {', '.join(MODELS)}")
    kind, implied = MODELS[name]
    return kind(**{**implied, **settings})


def load_model(path: str | Path, device: str = "auto") -> Recommender:
    """Reads a model folder of any kind; see `Recommender.load`."""
    name = read_manifest(path).get("model")
    for kind, _ in MODELS.values():
        if kind.name == name:
            return kind.load(path, device)
    raise ModelFolderError(f"{path} holds a model of kind {name!r}, which this version of aanmf does not have")
