"""The closed-form classifier of RanPAC (arXiv 2307.02251): ridge regression on accumulated statistics.

    G += H^T H,   Q += H^T onehot(Y),   W = (G + lambda I)^-1 Q,   logits z = H W

The statistics are sums over samples: order-free and mergeable, so a frozen feature extractor forgets nothing.
Systems are solved in float64: with lambda as small as 1e3 against a G whose largest eigenvalue grows with the
number of images, float32 loses the small directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from safe.heads.projection import Projection


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return float32 one-hot targets (N, classes) of int64 labels (N,)."""
    return torch.nn.functional.one_hot(labels, classes).to(torch.float32)


def readout(gram: Tensor, cross: Tensor, ridge: float) -> Tensor:
    """Return W = (G + lambda I)^-1 Q by a Cholesky solve, shape (M, C), in the dtype of `cross`.

    Args:
        gram: G, (M, M), symmetric positive semi-definite.
        cross: Q, (M, C).
        ridge: lambda > 0.

    Raises:
        torch.linalg.LinAlgError: G + lambda I is not positive definite, as with NaN features.
    """
    system = gram.to(torch.float64, copy=True)
    system.diagonal().add_(ridge)
    factor = torch.linalg.cholesky(system)
    return torch.cholesky_solve(cross.to(torch.float64), factor).to(cross.dtype)


def choose_ridge(h_fit: Tensor, y_fit: Tensor, h_judge: Tensor, y_judge: Tensor, grid: Sequence[float]) -> float:
    """Return the lambda of `grid` whose fit on one part has the lowest mean squared error on the other.

    With fewer rows than columns the whole grid costs one n x n eigendecomposition (dual form); otherwise one
    Cholesky factor per value. The first of equal values wins; without any row the first value is returned.

    Args:
        h_fit, h_judge: (n, M) and (m, M) hidden features.
        y_fit, y_judge: (n, C) and (m, C) one-hot targets.
        grid: candidate values, each above 0.
    """
    if len(h_fit) == 0 or len(h_judge) == 0:
        return float(grid[0])
    h, y = h_fit.to(torch.float64), y_fit.to(torch.float64)
    probe, targets = h_judge.to(torch.float64), y_judge.to(torch.float64)
    if len(h) <= h.shape[1]:
        values, vectors = torch.linalg.eigh(h @ h.T)
        left, right = probe @ h.T @ vectors, vectors.T @ y
        predictions = (left @ (right / (values.clamp_min(0) + ridge).unsqueeze(1)) for ridge in grid)
    else:
        gram, cross = h.T @ h, h.T @ y
        predictions = (probe @ readout(gram, cross, ridge) for ridge in grid)
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
