"""Training and test error after every epoch (Fig 4), measured when training is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from aanmf.contract import BatchConfig, ModelConfig, RatingModule, Ratings, TrainingData
from aanmf.data.dataset import RatingDataset
from aanmf.errors import ConfigError
from aanmf.fitted import Fitted
from aanmf.recommender import Recommender
from aanmf.training.log import Epoch, TrainingLog
from aanmf.training.predict import mean_squared_error
from aanmf.training.trainer import fit_module


def error_curve(
    model: Recommender, train: RatingDataset, test: RatingDataset
) -> tuple[TrainingLog, list[dict[str, Any]]]:
    """Trains for all epochs on all training ratings, then measures the weights that each epoch left.

    Nothing is chosen by these errors: the number of epochs is set before training, and the test part is first read
    after it.

    Args:
        model: untrained, and it stays so; its `validation` counts as 0.
        train: training part; its context is not used.
        test: test part.

    Returns:
        The training log, and per epoch `epoch`, `train_mse` and `test_mse` (of clipped predictions).

    Raises:
        ConfigError: the model is not trained in mini-batches, or training diverged.
    """
    if not isinstance(model.config, BatchConfig):
        raise ConfigError(f"{model.spec.name} is not trained in mini-batches: it has no error after each epoch")
    training = replace(Fitted.of(train.with_context([])).training, links=model.config.read_links(train.users.ids))
    built: list[RatingModule] = []
    kept: list[dict[str, Tensor]] = []

    def build(config: ModelConfig, training: TrainingData) -> RatingModule:
        built.append(model.spec.module_type(config, training))
        return built[-1]

    def keep(_: Epoch) -> None:
        kept.append({name: value.detach().clone() for name, value in built[-1].state_dict().items()})

    module, log = fit_module(build, training, model.config.model_copy(update={"validation": 0}), keep)
    device = next(module.parameters()).device
    parts = {
        name: Ratings.of(part.user, part.item, part.rating).to(device)
        for name, part in (("train_mse", train), ("test_mse", test))
    }
    rated = parts["train_mse"].rated(training.n_users + 1, training.n_items + 1)
    curve = []
    for epoch, weights in enumerate(kept, start=1):
        module.load_state_dict(weights)
        module.settle(*rated)
        errors = {name: mean_squared_error(module, ratings, training.scale) for name, ratings in parts.items()}
        curve.append({"epoch": epoch, **errors})
    return log, curve
