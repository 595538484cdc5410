"""Generalised cross-validation of ridge regression (Golub, Heath and Wahba 1979), as Fly-CL (arXiv 2510.16877) chooses.

    GCV(lambda) = n |(I - A) Y|^2 / tr(I - A)^2,   A = H (H^T H + lambda I)^-1 H^T

It estimates the squared error on images that were not fitted, without leaving any out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gcv_errors(hidden: Tensor, targets: Tensor, grid: Sequence[float]) -> Tensor:
    """Return GCV(lambda) of every value of the grid, float64 (len(grid),); without any row all are 0.

    Of two equal forms the smaller is taken apart into eigenvalues, in float64: H H^T (n x n) or H^T H (M x M).

    Args:
        hidden: H, (n, M).
        targets: Y, (n, C).
        grid: values of lambda, each above 0.
    """
    rows = len(hidden)
    if rows == 0:
        return torch.zeros(len(grid), dtype=torch.float64)
    h, y = hidden.double(), targets.double()
    ridges = torch.tensor(grid, dtype=torch.float64, device=h.device).unsqueeze(1)
    if rows <= h.shape[1]:
        values, vectors = torch.linalg.eigh(h @ h.T)
        left_over = ridges / (values.clamp_min(0) + ridges)
        squares = (left_over.square() * (vectors.T @ y).square().sum(dim=1)).sum(dim=1)
        free = left_over.sum(dim=1)
    else:
        values, vectors = torch.linalg.eigh(h.T @ h)
        values = values.clamp_min(0)
        explained = (vectors.T @ (h.T @ y)).square().sum(dim=1) * (values + 2 * ridges) / (values + ridges).square()
        squares = y.square().sum() - explained.sum(dim=1)
        free = rows - (values / (values + ridges)).sum(dim=1)
    return (rows * squares / free.square()).cpu()
