"""Training and test error after every epoch (Fig 4), without looking at the test part while training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aanmf.contract import ModelConfig, RatingModule, Ratings, TrainingData
from aanmf.data.dataset import RatingDataset
from aanmf.models.catalog import spec_of
from aanmf.recommender import Recommender, make_model
from aanmf.training.log import Epoch
from aanmf.training.predict import mean_squared_error


def error_curve(
    name: str, settings: Mapping[str, Any], train: RatingDataset, test: RatingDataset
) -> tuple[Recommender, list[dict[str, Any]]]:
    """Trains for all epochs on all training ratings, and then measures the weights that each epoch left.

    Nothing is chosen by these errors: the number of epochs stands before training, and the test part is first read
    after it.

    Args:
        name: of a model that is trained in mini-batches.
        settings: of the model; `validation` is set to 0.
        train: training part.
        test: test part.

    Returns:
        The fitted model, and per epoch `epoch`, `train_mse`, `test_mse` (of clipped predictions).
    """
    built: list[RatingModule] = []
    kind = type(make_model(name))

    class Watched(kind):  # type: ignore[misc, valid-type]
        """Keeps a hold of the module that training builds."""

        def _build(self, config: ModelConfig, training: TrainingData) -> RatingModule:
            built.append(super()._build(config, training))
            return built[-1]

    model = Watched(**{**spec_of(name).settings, **settings, "validation": 0})
    kept: list[dict[str, Tensor]] = []

    def keep(_: Epoch) -> None:
        kept.append({key: value.detach().clone() for key, value in built[-1].state_dict().items()})

    model.fit(train, keep)
    module, scale, device = built[-1], model.fitted_.training.scale, next(built[-1].parameters()).device
    parts = {
        part: Ratings.of(data.user, data.item, data.rating).to(device)
        for part, data in (("train_mse", train), ("test_mse", test))
    }
    rated_users, rated_items = _rated(train, len(model.fitted_.users), len(model.fitted_.items), device)
    curve = []
    for epoch, weights in enumerate(kept, start=1):
        module.load_state_dict(weights)
        module.settle(rated_users, rated_items)
        errors = {part: mean_squared_error(module, ratings, scale) for part, ratings in parts.items()}
        curve.append({"epoch": epoch, **errors})
    return model, curve


def _rated(train: RatingDataset, n_users: int, n_items: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which users and items have training ratings; the last row, of the unknown one, has none."""
    users, items = torch.zeros(n_users + 1, dtype=torch.bool), torch.zeros(n_items + 1, dtype=torch.bool)
    users[torch.as_tensor(train.user)] = True
    items[torch.as_tensor(train.item)] = True
    return users.to(device), items.to(device)
