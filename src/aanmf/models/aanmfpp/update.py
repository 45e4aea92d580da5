"""AANMF++ after new ratings, users and items, in a fraction of a fit: see `docs/decisions/0009-updates.md`.

| part of the model | after an update |
|---|---|
| histories, audiences, damped means, similarity of items | computed from all ratings, exactly |
| kernel ridge | solved again for users with new ratings; that of other users stays |
| what users choose | solved again; its weights stay |
| tables of vectors, attention, head | stay; new users and items start at 0, which leaves their histories to speak |
| the same, where many ratings are new | trained for some more epochs on all ratings, from where they stood |
| l2, trust, prediction intervals | stay: they were learned on ratings held out of the last full fit |
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from aanmf.contract import RatingModule, TrainingData
from aanmf.models.aanmfpp.config import AANMFppConfig
from aanmf.models.aanmfpp.equations import Ridge
from aanmf.models.aanmfpp.module import AANMFppModule
from aanmf.models.aanmfpp.run import Plan
from aanmf.models.aanmfpp.trainer import Trainer
from aanmf.training.learned import Learned, with_rows
from aanmf.training.log import OnEpoch
from aanmf.training.predict import pick_device


def update_aanmfpp(
    build: Callable[[AANMFppConfig, TrainingData], RatingModule],
    learned: Learned,
    training: TrainingData,
    config: AANMFppConfig,
    part: float,
    on_epoch: OnEpoch | None = None,
) -> AANMFppModule | None:
    """The module with what is new in `training`.

    Args:
        build: makes an untrained module.
        learned: the model before.
        training: old and new data.
        config: the settings, with those that the last full fit chose.
        part: of the epochs of a full fit, and of its learning rate, to train the tables with; 0: they stay.
        on_epoch: called after every epoch.

    Returns:
        None where a full fit is needed: the ordinal head has other levels, or the weights are of another version.
    """
    with torch.random.fork_rng(devices=[]):
        module = build(config, training)
    assert isinstance(module, AANMFppModule)
    levels = [each.train.rating.unique() for each in (learned.training, training)]
    if (module.ordinal and not torch.equal(*levels)) or not _fit_together(module, learned):
        return None
    with torch.no_grad():
        _carry_over(module, learned)
        if module.ridge is not None:
            _carry_over_ridge(module.ridge, learned, training)
    module.to(pick_device(config.device))
    if module.choice is not None:
        module.choice.fit()
    if part > 0 and training.has_ratings:
        epochs, rate = math.ceil(part * config.epochs), part * config.learning_rate
        settings = config.model_copy(update={"epochs": epochs, "learning_rate": rate})
        trainer = Trainer(settings, module.scale.device, on_epoch)
        shares = [0.0] * config.members + [config.cold] * (config.cold > 0)
        plans = [Plan(member, settings.l2 or 0.0, cold) for member, cold in zip(module.members, shares, strict=True)]
        trainer.train("update", module.train(), training, plans)
    return module.eval()


def _learned_names(module: AANMFppModule) -> list[str]:
    """All that is learned by training or on held-out ratings, and not solved from the ratings themselves."""
    return [
        name for name in module.state_dict() if name == "choice.omega" or not name.startswith(("choice.", "ridge."))
    ]


def _fit_together(module: AANMFppModule, learned: Learned) -> bool:
    """Whether what was learned has the names and widths that this version has."""
    new, old = module.state_dict(), learned.weights
    return new.keys() == old.keys() and all(new[n].shape[1:] == old[n].shape[1:] for n in _learned_names(module))


def _carry_over(module: AANMFppModule, learned: Learned) -> None:
    """Copies what was learned; tables of users and items get rows for the new ones."""
    new = module.state_dict()
    for name in _learned_names(module):
        old = learned.weights[name].cpu()
        new[name].copy_(old if old.shape == new[name].shape else with_rows(old, len(new[name])))


def _carry_over_ridge(ridge: Ridge, learned: Learned, training: TrainingData) -> None:
    """The regressions of users without news; those of the others are solved."""
    news, user = learned.users_with_news(training), learned.training.train.user
    user = user[torch.argsort(user, stable=True)]  # as in `RatingHistory`
    ridge.alpha[:, ~news[ridge.history.user]] = learned.weights["ridge.alpha"].cpu()[:, ~news[user]]
    ridge.fit(news.nonzero()[:, 0])
