"""What a model has learned before new data come: where an update starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aanmf.contract import TrainingData


@dataclass(frozen=True)
class Learned:
    """A fitted model without its module.

    In the data of an update, users, items and ratings keep their positions; a rating may have changed, and new ones
    follow at the end.

    Attributes:
        training: what the model was fitted to.
        weights: the module's `state_dict`.
    """

    training: TrainingData
    weights: Mapping[str, Tensor]

    def users_with_news(self, training: TrainingData) -> Tensor:
        """(n_users + 1,) bool: who has ratings in `training` that are new or have changed."""
        before, train = self.training.train.rating, training.train
        new = torch.ones(len(train), dtype=torch.bool)
        new[: len(before)] = train.rating[: len(before)] != before
        users = torch.zeros(training.n_users + 1, dtype=torch.bool)
        return users.index_fill_(0, train.user[new], True)


def with_rows(table: Tensor, rows: int) -> Tensor:
    """A table of users or items with new rows of zeros, `rows` in all; the last row stays that of the unknown one."""
    return torch.cat([table[:-1], table.new_zeros(rows - len(table), *table.shape[1:]), table[-1:]])
