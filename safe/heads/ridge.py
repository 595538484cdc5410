"""The closed-form classifier of RanPAC (arXiv 2307.02251): ridge regression on accumulated statistics.

    G += H^T H,   Q += H^T onehot(Y),   W = (G + lambda I)^-1 Q,   logits z = H W

The statistics are sums over samples: order-free and mergeable, so a frozen feature extractor forgets nothing.
With lambda as small as 1e3 against a G whose largest eigenvalue grows with the number of images, a float32 solution
loses the small directions. Systems are therefore factored in float32, the expensive part, and the solution is corrected
by its float64 residual until it is right to float32's last digits; where that does not converge, float64 does it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from safe.heads.projection import Projection

REFINEMENTS = 4
SMALL_RESIDUAL = 1e-5  # relative, before the last correction, which makes it smaller by as much again
ROWS_AT_ONCE = 2048


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return float32 one-hot targets (N, classes) of int64 labels (N,)."""
    return torch.nn.functional.one_hot(labels, classes).to(torch.float32)


def readout(gram: Tensor, cross: Tensor, ridge: float) -> Tensor:
    """Return W = (G + lambda I)^-1 Q by a Cholesky solve, shape (M, C), in the dtype of `cross`.

    Right to the last digits of float32, or of float64 when `gram` is float64.

    Args:
        gram: G, (M, M), symmetric positive semi-definite.
        cross: Q, (M, C).
        ridge: lambda > 0.

    Raises:
        torch.linalg.LinAlgError: G + lambda I is not positive definite, as with NaN features.
    """
    right = cross.to(torch.float64)
    system = gram.clone()
    system.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(system)
    if gram.dtype == torch.float32 and not failed:
        solution = torch.cholesky_solve(cross.to(torch.float32), factor).to(torch.float64)
        for _ in range(REFINEMENTS):
            residual = right - _times(gram, solution) - ridge * solution
            solution += torch.cholesky_solve(residual.to(torch.float32), factor)
            if residual.norm() <= SMALL_RESIDUAL * right.norm():
                return solution.to(cross.dtype)
    system = gram.to(torch.float64, copy=True)
    system.diagonal().add_(ridge)
    return torch.cholesky_solve(right, torch.linalg.cholesky(system)).to(cross.dtype)


def _times(gram: Tensor, solution: Tensor) -> Tensor:
    """Return G W in float64 without a float64 copy of G."""
    return torch.cat([rows.to(torch.float64) @ solution for rows in gram.split(ROWS_AT_ONCE)])


def choose_ridge(h_fit: Tensor, y_fit: Tensor, h_judge: Tensor, y_judge: Tensor, grid: Sequence[float]) -> float:
    """Return the lambda of `grid` whose fit on one part has the lowest mean squared error on the other.

    The smaller of two equal forms is solved for every value: H^T H (M x M), or with fewer rows than columns
    (dual form) H H^T (n x n). The first of equal values wins; without any row the first value is returned.

    Args:
        h_fit, h_judge: (n, M) and (m, M) hidden features.
        y_fit, y_judge: (n, C) and (m, C) one-hot targets.
        grid: candidate values, each above 0.
    """
    if len(h_fit) == 0 or len(h_judge) == 0:
        return float(grid[0])
    if len(h_fit) < h_fit.shape[1]:
        system, right, probe = h_fit @ h_fit.T, y_fit, h_judge @ h_fit.T
    else:
        system, right, probe = h_fit.T @ h_fit, h_fit.T @ y_fit, h_judge
    predictions = (probe.to(torch.float64) @ readout(system, right, ridge).to(torch.float64) for ridge in grid)
    targets = y_judge.to(torch.float64)
    errors = [(p - targets).square().mean().item() for p in predictions]
    return float(grid[errors.index(min(errors))])


class RidgeHead:
    """The accumulated statistics of one learner and the readout they give."""

    def __init__(self, projection: Projection, grid: Sequence[float], split: float) -> None:
        self.projection, self.grid, self.split = projection, tuple(grid), split
        width = projection.out_dim
        self.gram = torch.zeros(width, width, device=projection.device)
        self.cross = torch.zeros(width, 0, device=projection.device)
        self.weight = torch.zeros(width, 0, device=projection.device)
        self.ridge = 0.0

    def update(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add one session and solve again.

        lambda is chosen on this session's rows alone: fitted on a random share `split` of them, judged on the rest.

        Args:
            features: (N, D) un-augmented features of the session's training images.
            labels: int64 (N,).
            classes: classes seen so far, at least max(labels) + 1.
            generator: CPU generator of the split.
        """
        hidden, targets = self.projection(features), one_hot(labels, classes)
        order = torch.randperm(len(hidden), generator=generator).to(hidden.device)
        fit, judge = order.split([cut := int(self.split * len(order)), len(order) - cut])
        self.ridge = choose_ridge(hidden[fit], targets[fit], hidden[judge], targets[judge], self.grid)
        self.accumulate(hidden, targets)
        self.weight = readout(self.gram, self.cross, self.ridge)

    def accumulate(self, hidden: Tensor, targets: Tensor) -> None:
        """Add H^T H and H^T Y of hidden features (N, M) and targets (N, C) in place; C may only grow."""
        self.cross = torch.nn.functional.pad(self.cross, (0, targets.shape[1] - self.cross.shape[1]))
        self.gram.addmm_(hidden.T, hidden)
        self.cross.addmm_(hidden.T, targets)

    def logits(self, features: Tensor) -> Tensor:
        """Return z = H W, shape (N, C), for features (N, D); C is 0 before the first session."""
        return self.projection(features) @ self.weight

    def copy(self) -> RidgeHead:
        """Return an independent head with the same statistics."""
        head = RidgeHead(self.projection, self.grid, self.split)
        head.load_state_dict(self.state_dict())
        return head

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the statistics, the readout and the present lambda."""
        return {
            "gram": self.gram.clone(),
            "cross": self.cross.clone(),
            "weight": self.weight.clone(),
            "ridge": self.ridge,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over copies of what `state_dict` gave, on this head's device."""
        device = self.gram.device
        self.gram, self.cross, self.weight = (state[k].clone().to(device) for k in ("gram", "cross", "weight"))
        self.ridge = state["ridge"]

    def inference_state(self) -> dict[str, Tensor]:
        """Return what predicting needs besides the projection's seed."""
        return {"weight": self.weight}
