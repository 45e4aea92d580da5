"""Attributes of users and items as a matrix, for regressions on them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from aanmf.data.attributes import AttributeSet


def attribute_columns(sets: AttributeSet, column: Tensor) -> Tensor:
    """(J,) what each slot of one user or item (1, J) adds to `attribute_matrix(sets) @ column`."""
    slots = torch.arange(sets.value.shape[1], device=sets.value.device)
    alone = sets.rows(torch.zeros_like(slots))
    return attribute_matrix(replace(alone, mask=alone.mask & (slots == slots[:, None]))) @ column


def attribute_matrix(sets: AttributeSet) -> Tensor:
    """(n, A) weights of the attribute values, and beside them the vector attributes."""
    matrix = torch.zeros(len(sets), sets.n_values + sum(sets.vector_sizes), device=sets.value.device)
    row, slot = (sets.mask & (sets.value < sets.n_values)).nonzero(as_tuple=True)
    matrix.index_put_((row, sets.value[row, slot]), sets.weight[row, slot], accumulate=True)
    first = column = sets.n_values
    for vectors in sets.vectors:
        row, slot = (sets.mask & (sets.value >= first) & (sets.value < first + len(vectors))).nonzero(as_tuple=True)
        matrix[row, column : column + vectors.shape[1]] = vectors[sets.value[row, slot] - first]
        first, column = first + len(vectors), column + vectors.shape[1]
    return matrix
