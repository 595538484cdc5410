"""The closed-form classifier of RanPAC (arXiv 2307.02251): ridge regression on accumulated statistics.

    G += H^T H,   Q += H^T onehot(Y),   W = (G + lambda I)^-1 Q,   logits z = H W

The statistics are sums over samples: order-free and mergeable, so a frozen feature extractor forgets nothing.
With lambda as small as 1e3 against a G whose largest eigenvalue grows with the number of images, a float32 solution
loses the small directions. Systems are therefore factored in float32, the expensive part, and the solution is corrected
by its float64 residual until it is right to float32's last digits; where that does not converge, float64 does it all.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from safe.errors import UserError
from safe.heads.base import DOUBLE, FLOAT, ClosedFormHead, HeadBytes
from safe.heads.gcv import gcv_errors
from safe.heads.projection import Projection
from safe.heads.symmetric import BLOCK, Cholesky, Symmetric

RidgeChoice = Literal["split", "pooled", "gcv"]
REFINEMENTS = 4
SMALL_RESIDUAL = 1e-5  # relative, before the last correction, which makes it smaller by as much again
CHOICE_TOLERANCE = 0.05  # bound on the relative error of solutions that are only compared; the error is 1 % of it or so
ROWS_AT_ONCE = 256  # of float64 copies: few enough for a processor's cache


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return float32 one-hot targets (N, classes) of int64 labels (N,)."""
    return torch.nn.functional.one_hot(labels, classes).to(torch.float32)


def readout(gram: Symmetric, cross: Tensor, ridge: float, tolerance: float = 0.0) -> Tensor:
    """Return W = (G + lambda I)^-1 Q by a Cholesky solve, shape (M, C), in the dtype of `cross`.

    Right to the last digits of float32, or of float64 when `gram` is float64.

    Args:
        gram: G, (M, M), positive semi-definite.
        cross: Q, (M, C).
        ridge: lambda > 0.
        tolerance: a float32 solution is not corrected where this bounds its relative error, eps |G| / lambda, and no
            more than once where its residual is below a hundredth of it.

    Raises:
        torch.linalg.LinAlgError: G + lambda I is not positive definite, as with NaN features.
    """
    if gram.dtype == torch.float32 and (weights := _float32_readout(gram, cross, ridge, tolerance)) is not None:
        return weights.to(cross.dtype)
    return Cholesky(gram.to(torch.float64), ridge).solve(cross.to(torch.float64)).to(cross.dtype)


def _float32_readout(gram: Symmetric, cross: Tensor, ridge: float, tolerance: float) -> Tensor | None:
    """Return W by float32 factors, or `None` where they are too far off for corrections to converge."""
    try:
        factor = Cholesky(gram.to(torch.float32), ridge)
    except torch.linalg.LinAlgError:
        return None
    solution = factor.solve(cross.to(torch.float32))
    if torch.finfo(torch.float32).eps * gram.norm() <= tolerance * ridge:
        return solution
    right, solution = cross.to(torch.float64), solution.to(torch.float64)
    small = max(SMALL_RESIDUAL, tolerance / 100) * right.norm()
    for _ in range(REFINEMENTS):
        residual = right - gram.times64(solution) - ridge * solution
        solution += factor.solve(residual.to(torch.float32))
        if residual.norm() <= small:
            return solution
    return None


def ridge_errors(
    h_fit: Tensor,
    y_fit: Tensor,
    h_judge: Tensor,
    y_judge: Tensor,
    grid: Sequence[float],
    gram: Symmetric | None = None,
) -> Tensor:
    """Return, for every lambda, the sum of squared errors on one part of a fit on the other: float64 (len(grid),).

    The smaller of two equal forms is solved for every value: H^T H (M x M), or with fewer rows than columns
    (dual form) H H^T (n x n). Without any row in either part all sums are 0.

    Args:
        h_fit, h_judge: (n, M) and (m, M) hidden features.
        y_fit, y_judge: (n, C) and (m, C) one-hot targets.
        grid: candidate values, each above 0.
        gram: H^T H of `h_fit` where it is at hand.
    """
    if len(h_fit) == 0 or len(h_judge) == 0:
        return torch.zeros(len(grid), dtype=torch.float64)
    if len(h_fit) < h_fit.shape[1]:
        system, right, probe = Symmetric.gram(h_fit.T), y_fit, h_judge @ h_fit.T
    else:
        system, right, probe = gram or Symmetric.gram(h_fit), h_fit.T @ y_fit, h_judge
    weights = torch.cat([readout(system, right, ridge, CHOICE_TOLERANCE) for ridge in grid], dim=1).to(torch.float64)
    scores = torch.cat([rows.to(torch.float64) @ weights for rows in probe.split(ROWS_AT_ONCE)])
    off = scores.unflatten(1, (len(grid), -1)) - y_judge.to(torch.float64).unsqueeze(1)
    return off.square().sum(dim=(0, 2)).cpu()


def choose_ridge(
    h_fit: Tensor,
    y_fit: Tensor,
    h_judge: Tensor,
    y_judge: Tensor,
    grid: Sequence[float],
    gram: Symmetric | None = None,
) -> float:
    """Return the lambda of `grid` with the lowest of `ridge_errors`, the first of equal ones."""
    return _least(grid, ridge_errors(h_fit, y_fit, h_judge, y_judge, grid, gram))


def _least(grid: Sequence[float], errors: Tensor) -> float:
    told = errors.tolist()
    return float(grid[told.index(min(told))])


class RidgeHead(ClosedFormHead):
    """The accumulated statistics of one learner and the readout they give.

    lambda is the value of `grid` with the lowest squared error on rows of a session that were held out of a fit on the
    others: a random share `split` of them is fitted on.

    Args:
        choice: `split` looks at the present session's errors (RanPAC), `gcv` at those that `safe.heads.gcv` expects of
            it, `pooled` at the sum of the first over all sessions so far:

            lambda_t = argmin over the grid of sum_{s <= t} |Y_s^judge - H_s^judge W_s(lambda)|^2,
            W_s(lambda) = (H_s^fit^T H_s^fit + lambda I)^-1 H_s^fit^T Y_s^fit

            One number for each value of the grid is kept. A small session judges by a few dozen images, whose best
            lambda jumps over decades; their sum does not.
    """

    ridge: float

    def __init__(
        self, projection: Projection, grid: Sequence[float], split: float, choice: RidgeChoice = "split"
    ) -> None:
        self.projection, self.grid, self.split, self.choice = projection, tuple(grid), split, choice
        self.errors = torch.zeros(len(self.grid), dtype=torch.float64)
        width = projection.out_dim
        self.cross = torch.zeros(width, 0, device=projection.device)
        self.weight = torch.zeros(width, 0, device=projection.device)
        self.ridge = 0.0

    @cached_property
    def gram(self) -> Symmetric:
        """G; set up once it is needed, since predicting does without."""
        return Symmetric.zeros(self.projection.out_dim, self.projection.device)

    def update(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add one session and solve again.

        Args:
            features: (N, D) un-augmented features of the session's training images.
            labels: int64 (N,).
            classes: classes seen so far, at least max(labels) + 1.
            generator: CPU generator of the split.

        Raises:
            UserError: a value of the grid is too small for finite features, or features are not finite.
        """
        errors = self._add(features, labels, classes, generator, judged=True)
        self.ridge = _least(self.grid, self.errors if self.choice == "pooled" else errors)
        with self._solvable():
            self.weight = readout(self.gram, self.cross, self.ridge)

    def add(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add one session to the statistics alone, bit for bit as `update` does."""
        self._add(features, labels, classes, generator, judged=self.choice == "pooled")

    def accumulate(self, hidden: Tensor, targets: Tensor, gram: Symmetric | None = None) -> None:
        """Add H^T H, `gram` where it is at hand, and H^T Y of hidden features (N, M) and targets (N, C); C may grow."""
        self.cross = torch.nn.functional.pad(self.cross, (0, targets.shape[1] - self.cross.shape[1]))
        self.cross.addmm_(hidden.T, targets)
        if gram is None:
            self.gram.add_gram(hidden)
        else:
            self.gram.add(gram)

    def _add(
        self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator, *, judged: bool
    ) -> Tensor:
        """Add a session to all statistics; return the errors of the grid's values on it, 0 unless they are `judged`."""
        order = torch.randperm(len(features), generator=generator).to(features.device)
        hidden, targets = self.projection(features[order]), one_hot(labels[order], classes)
        cut = int(self.split * len(order))
        fit, judge = (hidden[:cut], targets[:cut]), (hidden[cut:], targets[cut:])
        gram = Symmetric.gram(fit[0]) if cut >= hidden.shape[1] else None
        self.accumulate(*fit, gram)
        self.accumulate(*judge)
        if not judged:
            return torch.zeros_like(self.errors)
        if self.choice == "gcv":
            return gcv_errors(hidden, targets, self.grid)
        with self._solvable():
            errors = ridge_errors(*fit, *judge, self.grid, gram)
        if self.choice == "pooled":
            self.errors = self.errors + errors
        return errors

    @contextmanager
    def _solvable(self) -> Iterator[None]:
        try:
            yield
        except torch.linalg.LinAlgError:
            raise UserError(
                f"head.ridge_grid has {min(self.grid):g}, which is too small for these features: the ridge's system "
                "cannot be solved even in float64; leave the smallest values out"
            ) from None

    def logits(self, features: Tensor) -> Tensor:
        """Return z = H W, shape (N, C), for features (N, D); C is 0 before the first session."""
        return self.projection(features) @ self.weight

    def copy(self) -> RidgeHead:
        """Return an independent head with the same statistics."""
        head = copy.copy(self)
        if "gram" in vars(self):
            head.gram = self.gram.to(torch.float32)
        head.cross, head.weight = self.cross.clone(), self.weight.clone()
        return head

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the statistics, the readout and the present lambda; G is empty where nothing is in it."""
        return {
            "gram": self.gram.to(torch.float32).columns if "gram" in vars(self) else [],
            "cross": self.cross.clone(),
            "weight": self.weight.clone(),
            "ridge": self.ridge,
            "errors": self.errors.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over copies of what `state_dict` gave, on this head's device."""
        device = self.projection.device
        vars(self).pop("gram", None)
        if state["gram"]:
            self.gram = Symmetric([column.clone().to(device) for column in state["gram"]])
        self.cross, self.weight = (state[k].clone().to(device) for k in ("cross", "weight"))
        self.ridge = state["ridge"]
        self.errors = torch.tensor(state["errors"], dtype=torch.float64)

    def readout(self) -> dict[str, Tensor]:
        """Return W."""
        return {"weight": self.weight}

    def load_readout(self, readout: Mapping[str, Any]) -> None:
        """Predict with W."""
        self.weight = readout["weight"].to(self.projection.device)

    def readout_bytes(self, classes: int) -> float:
        """Return what W takes."""
        return FLOAT * self.projection.out_dim * classes

    def memory(self, classes: int, images: int, judged: int) -> HeadBytes:
        """Return what is held and taken for G, Q, W and for solving, float64 factors counted in where they may be."""
        dim = self.projection.out_dim
        shared = FLOAT * self.projection.width * self.projection.dim
        statistics = triangle_bytes(dim) + 2 * FLOAT * dim * classes
        fitted = int(self.split * images)
        judging = images - fitted
        size, values = min(dim, fitted), len(self.grid) * classes
        solutions = (FLOAT + DOUBLE) * size * values + 3 * DOUBLE * judging * values
        dual = FLOAT * judging * fitted if fitted < dim else 0
        choice = FLOAT * images * (dim + classes) + (1 + 2) * triangle_bytes(size) + solutions + dual
        if self.choice == "gcv":  # float64 H, a Gram matrix, its eigenvectors and what the solver works in
            choice = (FLOAT + DOUBLE) * images * (dim + classes) + 4 * DOUBLE * min(dim, images) ** 2
        solving = 2 * triangle_bytes(dim) + 4 * DOUBLE * dim * classes
        return HeadBytes(shared, statistics, max(choice, solving, FLOAT * judged * (dim + classes)))

    def flops(self, images: int, judged: int, classes: int) -> float:
        """Return those of projecting, adding to G and Q, choosing lambda, solving and judging; leading terms alone."""
        dim, fitted = self.projection.out_dim, int(self.split * images)
        projected = 2 * (images + judged) * self.projection.width * self.projection.dim
        statistics = images * dim**2 + 2 * images * dim * classes
        size, judging = min(dim, fitted), images - fitted
        dual = fitted**2 * dim + 2 * judging * fitted * dim if fitted < dim else 0
        choice = dual + len(self.grid) * (size**3 / 3 + 2 * size**2 * classes + 2 * judging * size * classes)
        return projected + statistics + choice + solving_flops(dim, classes) + 2 * judged * dim * classes


def solving_flops(dim: int, classes: int) -> float:
    """Return those of a `readout` (dim, classes): once solved in float32, its residual corrects it at least once."""
    return dim**3 / 3 + 3 * 2 * dim**2 * classes


def triangle_bytes(dim: int) -> float:
    """Return bytes of a float32 `Symmetric` (dim, dim)."""
    return FLOAT * dim * (dim + min(dim, BLOCK)) / 2
