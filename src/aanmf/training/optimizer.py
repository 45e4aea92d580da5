"""Adam with l2 by groups of parameters, and its learning rate over a training: what all trainers share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

L2Groups = Iterable[tuple[float, list[nn.Parameter]]]
"""(l2, parameters): adds (l2 / n ratings) * sum of their squares to the loss."""


def adam(
    module: nn.Module,
    groups: L2Groups,
    n_ratings: int,
    learning_rate: float,
    fast: Sequence[nn.Parameter] = (),
    pace: float = 1.0,
) -> torch.optim.Adam:
    """Adam over all parameters of a module; those that no group names have no l2, and `fast` ones learn at a `pace`."""
    groups = list(groups)
    named = {id(parameter) for _, parameters in [*groups, (0.0, fast)] for parameter in parameters}
    groups.append((0.0, [parameter for parameter in module.parameters() if id(parameter) not in named]))
    decayed = [{"params": parameters, "weight_decay": 2 * l2 / n_ratings} for l2, parameters in groups if parameters]
    if fast:
        decayed.append({"params": list(fast), "weight_decay": 0.0, "pace": pace})
    return torch.optim.Adam(decayed, lr=learning_rate, fused=True)


def half_cosine(optimizer: torch.optim.Optimizer, learning_rate: float, done: float) -> None:
    """Sets the learning rate of the next step; it falls along half a cosine as `done` goes from 0 to 1."""
    for group in optimizer.param_groups:
        group["lr"] = group.get("pace", 1.0) * learning_rate * 0.5 * (1 + math.cos(math.pi * done))
