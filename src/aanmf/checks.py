"""Checks of tensors that come from a file, before anything is computed with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aanmf.errors import ModelFolderError


def tensor_of(tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype, shape: Sequence[int | None]) -> Tensor:
    """A tensor by name, of the expected type and shape, its numbers finite.

    Args:
        tensors: by name.
        name: which.
        dtype: the expected type.
        shape: the expected sizes; None: any.

    Raises:
        ModelFolderError: it is not there, or another one.
    """
    if name not in tensors:
        raise ModelFolderError(f"tensor {name!r} is missing")
    found = tensors[name]
    if found.dtype != dtype:
        raise ModelFolderError(f"tensor {name!r} is of type {found.dtype}, not {dtype}")
    fits = found.dim() == len(shape) and all(n in (None, m) for n, m in zip(shape, found.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ModelFolderError(f"tensor {name!r} has the shape {tuple(found.shape)}, not ({wanted})")
    check_finite(name, found)
    return found


def check_positions(name: str, found: Tensor, n: int) -> None:
    """Checks that a tensor holds positions from 0 to n - 1.

    Raises:
        ModelFolderError: it holds others.
    """
    if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < n:
        raise ModelFolderError(f"tensor {name!r} holds positions from {int(found.min())} to {int(found.max())} of {n}")


def check_finite(name: str, found: Tensor) -> None:
    """Checks that all numbers of a tensor are finite.

    Raises:
        ModelFolderError: one of them is infinite, or no number.
    """
    if found.dtype.is_floating_point and not all_finite(found):
        raise ModelFolderError(f"tensor {name!r} holds a number that is not finite")


def all_finite(numbers: Tensor) -> bool:
    """Whether no number is infinite or NaN.

    A sum shows it in one pass without an array in between. That of finite numbers can overflow: then each is looked at.

    Example:
        >>> all_finite(torch.tensor([3e38, 3e38])), all_finite(torch.tensor([torch.inf, -torch.inf]))
        (True, False)
    """
    return bool(numbers.sum().isfinite()) or bool(numbers.isfinite().all())
