"""Gaussian classifiers with a covariance of every class (FeCAM, arXiv 2309.14062).

    Sigma_c = (1 - rho) S_c / N_c + rho mu_c I,   R_c = Sigma_c over the roots of its variances
    logits z_c = |h|^2 / 2 - (h - m_c)^T R_c^-1 (h - m_c) / 2

with S_c the scatter of class c about its mean m_c and mu_c = tr(S_c) / (N_c M). The first term is the same for all
classes and changes no softmax; it keeps scores small. The score is minus half a squared distance, a log density but
for the determinant, which FeCAM leaves out: its own scale before a softmax is 1.

Departures: FeCAM adds multiples of the mean variance and the mean covariance instead of shrinking to the identity, and
transforms the positive features of a ResNet by Tukey's power; a ViT's may be negative and are taken as they are.

Memory: C M^2 numbers for the scatters and as many for the factors that predict: for narrow features only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from safe.heads.base import DOUBLE, FLOAT, ClosedFormHead, HeadBytes
from safe.heads.gaussian import NEVER, oas_shrinkage
from safe.heads.moments import Means
from safe.heads.projection import Projection


class ClassGaussianHead(ClosedFormHead):
    """Means, counts and scatter of every class; predicts by the inverse factors of the correlations.

    Args:
        projection: what it makes of features.
        shrinkage: rho in (0, 1], or `oas` for each class's own.
    """

    own_scale = 1.0

    def __init__(self, projection: Projection, shrinkage: float | str) -> None:
        self.projection, self.shrinkage = projection, shrinkage
        self.means = Means(projection.out_dim, projection.device)
        empty = torch.zeros(0, projection.out_dim, projection.out_dim, device=projection.device)
        self.scatter, self.whitening, self.centres = empty, empty, self.means.means()

    def add(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add one session: features (N, D), labels int64 (N,), `classes` seen so far; nothing is drawn."""
        hidden = self.projection(features)
        moved = self.means.add(hidden, labels, classes)
        centred = self.means.centred(hidden, labels)
        scatter = self.scatter.new_zeros(classes, *self.scatter.shape[1:])
        scatter[: len(self.scatter)] = self.scatter
        for c in labels.unique().tolist():
            rows = torch.cat([centred[labels == c], moved[c : c + 1]])
            scatter[c].addmm_(rows.T, rows)
        self.scatter = scatter

    def update(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add one session and factor."""
        self.add(features, labels, classes, generator)
        self.centres = self.means.means()
        self.whitening = torch.stack(
            [self._whitening(S, float(n)) for S, n in zip(self.scatter, self.means.counts, strict=True)]
        )

    def _whitening(self, scatter: Tensor, images: float) -> Tensor:
        """Return L^-1 of R = L L^T, which turns the distance into a Euclidean one; zeros without images."""
        width = len(scatter)
        covariance = scatter.double() / max(images, 1.0)
        mu = float(covariance.trace()) / width
        if images == 0 or mu == 0:
            return torch.eye(width, device=scatter.device) * bool(images)
        squares = float(covariance.square().sum())
        rho = self.shrinkage
        rho = oas_shrinkage(mu * width, squares, images, width) if isinstance(rho, str) else rho
        shrunk = (1 - rho) * covariance
        shrunk.diagonal().add_(rho * mu)
        deviations = shrunk.diagonal().sqrt()
        factor = torch.linalg.cholesky(shrunk / deviations / deviations.unsqueeze(1))
        return torch.linalg.solve_triangular(factor, torch.eye(width).to(factor), upper=False).to(scatter.dtype)

    def logits(self, features: Tensor) -> Tensor:
        """Return z (N, C) for features (N, D); a class without images has -1e9."""
        hidden = self.projection(features)
        half = hidden.square().sum(dim=1) / 2
        scores = [
            half - ((hidden - mean) @ whitening.T).square().sum(dim=1) / 2 if whitening.any() else half * 0 + NEVER
            for mean, whitening in zip(self.centres, self.whitening, strict=True)
        ]
        return torch.stack(scores, dim=1) if scores else hidden.new_zeros(len(hidden), 0)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the statistics and the readout."""
        readout = {name: value.clone() for name, value in self.readout().items()}
        return {**self.means.state_dict(), "scatter": self.scatter.clone(), **readout}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over copies of what `state_dict` gave, on this head's device."""
        self.means.load_state_dict(state)
        self.scatter = state["scatter"].clone().to(self.projection.device)
        self.load_readout({name: state[name].clone() for name in ("centres", "whitening")})

    def readout(self) -> dict[str, Tensor]:
        """Return means (C, M) and inverse factors (C, M, M)."""
        return {"centres": self.centres, "whitening": self.whitening}

    def load_readout(self, readout: Mapping[str, Any]) -> None:
        """Predict with means and inverse factors."""
        self.centres, self.whitening = (readout[name].to(self.projection.device) for name in ("centres", "whitening"))

    def readout_bytes(self, classes: int) -> float:
        """Return what means and inverse factors take."""
        dim = self.projection.out_dim
        return FLOAT * classes * dim * (dim + 1)

    def memory(self, classes: int, images: int, judged: int) -> HeadBytes:
        """Return what scatters and factors take."""
        dim = self.projection.out_dim
        shared = FLOAT * self.projection.width * self.projection.dim
        held = FLOAT * classes * dim * (2 * dim + 2)
        closing = max(FLOAT * classes * dim**2 + 5 * DOUBLE * dim**2, 3 * FLOAT * judged * (dim + classes))
        return HeadBytes(shared, held, max(closing, 3 * FLOAT * images * dim))
