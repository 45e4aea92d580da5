"""Linear systems of the models; one that cannot be solved is an error of the library."""

from __future__ import annotations

import torch
from torch import Tensor

from aanmf.errors import NotFiniteError

FAULT = (
    "a linear system of the model cannot be solved in 32-bit numbers: a setting or a rating is far too large or too "
    "small, or the model is damaged; correct the setting, or train again"
)


def cholesky(matrix: Tensor) -> Tensor:
    """The lower triangular root of positive definite matrices (..., n, n).

    Example:
        >>> cholesky(torch.tensor([[4.0]])).item()
        2.0

    Raises:
        NotFiniteError: a matrix is not positive definite, or holds a number that is not finite.
    """
    try:
        return torch.linalg.cholesky(matrix)
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        raise NotFiniteError(FAULT) from None


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """x (..., n, m) of `matrix` (..., n, n) x = `right` (..., n, m).

    Example:
        >>> solve(torch.tensor([[4.0]]), torch.tensor([[2.0]])).item()
        0.5

    Raises:
        NotFiniteError: a matrix is singular.
    """
    try:
        return torch.linalg.solve(matrix, right)
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        raise NotFiniteError(FAULT) from None


def ridge_inverse(x: Tensor, strength: float) -> Tensor:
    """(X'X + strength)^-1."""
    return torch.cholesky_inverse(cholesky(x.T @ x + strength * torch.eye(x.shape[1], device=x.device)))


def without_self(products: Tensor) -> Tensor:
    """-P / diag P of P = products^-1, 0 on the diagonal: the regression of every item on the others; in place."""
    p = torch.cholesky_inverse(cholesky(products), out=products)
    return p.div_(-p.diagonal().clone()).fill_diagonal_(0)
