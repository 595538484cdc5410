"""Gaussian classifiers with a shared covariance: linear discriminants by streaming sums.

    m_c = mean of class c,   S = sum over images of (h - m_c)(h - m_c)^T,   Sigma = (1 - rho) S / N + rho mu I
    logits z_c = m_c^T Sigma^-1 h - m_c^T Sigma^-1 m_c / 2

with mu = tr(S) / (N M), H the features or random features of them: streaming LDA (Hayes and Kanan 2020) on features as
they are, RanDumb (arXiv 2402.08823) and KLDA on random Fourier features. z_c is, up to a term that all classes share,
the logarithm of class c's density, and of its posterior for equal priors: its own scale before a softmax is 1.

Departures: all classes have one prior, as in streaming LDA; RanDumb shrinks each class's covariance, here the pooled
one is shrunk; KLDA adds a fixed ridge to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from safe.heads.base import FLOAT, ClosedFormHead, HeadBytes
from safe.heads.moments import Means
from safe.heads.projection import Projection
from safe.heads.ridge import readout, solving_flops, triangle_bytes
from safe.heads.symmetric import Symmetric

NEVER = -1e9  # score of a class without images
IMAGES_AT_ONCE = 1024  # of which there is a second copy, less their class means


def oas_shrinkage(trace: float, squares: float, images: float, width: int) -> float:
    """Return rho in (0, 1] of the oracle approximating shrinkage; Chen et al. 2010, eq. 23.

        rho = ((1 - 2/M) tr(A^2) + tr(A)^2) / ((N + 1 - 2/M) (tr(A^2) - tr(A)^2 / M)),   A = S / N

    Args:
        trace: tr(A).
        squares: tr(A^2).
        images: N.
        width: M.
    """
    spread = (images + 1 - 2 / width) * (squares - trace**2 / width)
    return 1.0 if spread <= 0 else min(1.0, ((1 - 2 / width) * squares + trace**2) / spread)


class GaussianHead(ClosedFormHead):
    """Class means, image counts and the scatter S about them, (M, M).

    Args:
        projection: what it makes of features.
        shrinkage: rho in (0, 1], or `oas`.
    """

    own_scale = 1.0

    def __init__(self, projection: Projection, shrinkage: float | str) -> None:
        self.projection, self.shrinkage = projection, shrinkage
        self.means = Means(projection.out_dim, projection.device)
        self.scatter: Symmetric | None = None  # set up once it is needed, since predicting does without
        self.weight = torch.zeros(projection.out_dim, 0, device=projection.device)
        self.bias = torch.zeros(0, device=projection.device)

    def add(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add one session: features (N, D), labels int64 (N,), `classes` seen so far; nothing is drawn."""
        hidden, scatter = self.projection(features), self._scatter()
        scatter.add_gram(self.means.add(hidden, labels, classes))
        for some, own in zip(hidden.split(IMAGES_AT_ONCE), labels.split(IMAGES_AT_ONCE), strict=True):
            scatter.add_gram(self.means.centred(some, own))

    def update(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add one session and solve."""
        self.add(features, labels, classes, generator)
        scatter, images, width = self._scatter(), float(self.means.counts.sum()), self.projection.out_dim
        trace = float(sum(c[: b - a].diagonal().double().sum() for a, b, c in scatter.blocks())) / images
        rho = self.shrinkage
        if isinstance(rho, str):
            rho = oas_shrinkage(trace, (scatter.norm() / images) ** 2, images, width)
        means, mu = self.means.means(), trace / width
        if rho == 1 or mu == 0:  # nothing but a multiple of the identity
            self.weight = means.T / (mu or 1.0)
        else:  # Sigma = (1 - rho) / N (S + rho mu N / (1 - rho) I)
            self.weight = readout(scatter, means.T, rho * mu * images / (1 - rho)) * (images / (1 - rho))
        self.bias = torch.where(self.means.counts > 0, -(means.T * self.weight).sum(dim=0) / 2, NEVER)

    def logits(self, features: Tensor) -> Tensor:
        """Return the log densities z (N, C) but for what all classes share; a class without images has -1e9."""
        return self.projection(features) @ self.weight + self.bias

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the statistics and the readout."""
        columns = [column.clone() for column in self._scatter().columns]
        return {**self.means.state_dict(), "scatter": columns, **{k: v.clone() for k, v in self.readout().items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over copies of what `state_dict` gave, on this head's device."""
        self.means.load_state_dict(state)
        self.scatter = Symmetric([column.clone().to(self.projection.device) for column in state["scatter"]])
        self.load_readout({name: state[name].clone() for name in ("weight", "bias")})

    def readout(self) -> dict[str, Tensor]:
        """Return weights (M, C) and offsets (C,)."""
        return {"weight": self.weight, "bias": self.bias}

    def load_readout(self, readout: Mapping[str, Any]) -> None:
        """Predict with weights and offsets."""
        self.weight, self.bias = (readout[name].to(self.projection.device) for name in ("weight", "bias"))

    def readout_bytes(self, classes: int) -> float:
        """Return what weights and offsets take."""
        return FLOAT * (self.projection.out_dim + 1) * classes

    def memory(self, classes: int, images: int, judged: int) -> HeadBytes:
        """Return what means, S and the readout take, and solving as for a ridge."""
        dim = self.projection.out_dim
        statistics = triangle_bytes(dim) + 2 * FLOAT * (dim + 1) * classes
        adding = FLOAT * dim * (images + 2 * min(images, IMAGES_AT_ONCE) + 3 * classes)
        solving = 2 * triangle_bytes(dim) + 8 * FLOAT * dim * classes
        shared = FLOAT * self.projection.width * self.projection.dim
        return HeadBytes(shared, statistics, max(adding, solving, FLOAT * judged * (dim + classes)))

    def flops(self, images: int, judged: int, classes: int) -> float:
        """Return those of projecting, adding to S, solving once and judging; leading terms alone."""
        dim = self.projection.out_dim
        projected = 2 * (images + judged) * self.projection.width * self.projection.dim
        return projected + (images + classes) * dim**2 + solving_flops(dim, classes) + 2 * judged * dim * classes

    def _scatter(self) -> Symmetric:
        if self.scatter is None:
            self.scatter = Symmetric.zeros(self.projection.out_dim, self.projection.device)
        return self.scatter
