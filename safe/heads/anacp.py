"""Features adapted in closed form to all classes so far, then a ridge classifier: AnaCP (arXiv 2511.13880).

    x = f / |f|,   m_c = mean of class c,   Sigma = scatter about the means / N + 1e-4 I          (statistics)
    X = (m - mean_c m_c) Sigma^-1/2 = U S V^T,   p_c = unit(rows of U (S + a) V^T Sigma^-1/2 + mean_c m_c)   (targets)
    u = mean_l unit(g(x W_l) (G_l + lambda I)^-1 Q_l P)                                   (contrastive projection)
    z = g(u W') (G' + lambda I)^-1 Q',   G' and Q' of u at m_c + Sigma^1/2 e_r for all c and r = 1..R       (scores)

G_l and Q_l of a layer l are a ridge head's sums over images, and its scores times the targets P the projection: images
of a class are drawn to one target, and targets moved apart by a in whitened space. u changes with every session, so the
classifier is fitted anew to R Gaussian draws a class, never to kept images. Its score is a ridge's, about 0 to 1.

Where the paper says otherwise, the released code is followed, which the published numbers are of: the paper undoes the
whitening of the targets, by Sigma^1/2, and chooses the sign of a in each direction. Departures from both: no a where
the means do not differ, where rounding would choose the direction; 1e-4 I in Sigma does not fade over sessions; the
same draws e_r for all classes, so that their order does not matter; lambda is chosen as any ridge's, by each layer, and
the first one's is the classifier's. Published: gelu, L = 3, M = 5000, lambda = R = 100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from safe.heads.base import DOUBLE, FLOAT, ClosedFormHead, HeadBytes
from safe.heads.moments import Means
from safe.heads.projection import Projection
from safe.heads.ridge import RidgeHead, readout, triangle_bytes
from safe.heads.symmetric import Symmetric
from safe.seeding import generator as generator_of

FLOOR = 1e-4  # of the variance in every direction, for features of length 1
FLAT = 1e-4  # of the largest singular value: directions with less are none
OWN = ("scatter", "targets", "weight")
CLASSES_AT_ONCE = 16  # whose draws are in memory together


def apart(means: Tensor, white: Tensor, spread: float) -> Tensor:
    """Return the targets (C, D) of class means (C, D), which `white` (D, D) whitens."""
    centre = means.mean(dim=0)
    u, s, v = torch.linalg.svd((means - centre) @ white, full_matrices=False)
    moved = s + spread * (s > FLAT * s.max())
    return F.normalize((u * moved) @ v @ white + centre, dim=1)


class AnaCPHead(ClosedFormHead):
    """Ridge heads of every layer, class means and scatter of the features, and the classifier on what is adapted.

    Args:
        layers: ridge heads on unit features, with projections of their own.
        classifier: the projection that the last ridge reads.
        draws, spread: R and a.
    """

    def __init__(self, layers: Sequence[RidgeHead], classifier: Projection, draws: int, spread: float) -> None:
        self.layers, self.classifier, self.spread = list(layers), classifier, spread
        width, device, self.draws, self.ridge = classifier.width, classifier.device, draws, 0.0
        self.means = Means(width, device)
        self.scatter, self.targets = (torch.zeros(rows, width, device=device) for rows in (width, 0))
        self.weight = torch.zeros(classifier.out_dim, 0, device=device)

    def add(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add one session to the statistics of all layers and of the features."""
        self._add(features, labels, classes, generator, solve=False)

    def update(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add one session and solve: layers, targets, classifier."""
        self._add(features, labels, classes, generator, solve=True)
        self.ridge, dim = self.layers[0].ridge, self.classifier.out_dim
        there, means = self.means.counts.nonzero().flatten(), self.means.means()
        values, vectors = torch.linalg.eigh(self.scatter.double() / self.means.counts.sum())
        deviations = (values.clamp_min(0) + FLOOR).sqrt()
        root = (vectors * deviations) @ vectors.T
        white, self.targets = (vectors / deviations) @ vectors.T, torch.zeros_like(means)
        self.targets[there] = apart(means[there].double(), white, self.spread).float()
        drawn = generator_of(self.classifier.seed, "draws", self.draws, len(root))
        noise = torch.randn(self.draws, len(root), generator=drawn).to(root.device) @ root.float()
        gram, cross = Symmetric.zeros(dim, root.device), self.weight.new_zeros(dim, classes)
        for some in there.split(CLASSES_AT_ONCE):
            hidden = self._hidden((means[some].unsqueeze(1) + noise).flatten(0, 1))
            gram.add_gram(hidden)
            cross[:, some] = hidden.unflatten(0, (len(some), -1)).sum(dim=1).T
        self.weight = readout(gram, cross, self.ridge)

    def _add(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator, *, solve: bool) -> None:
        unit = F.normalize(features, dim=1)
        for layer in self.layers:
            (layer.update if solve else layer.add)(unit, labels, classes, generator)
        moved = self.means.add(unit, labels, classes)
        rows = torch.cat([self.means.centred(unit, labels), moved])
        self.scatter = self.scatter.addmm(rows.T, rows)

    def _hidden(self, unit: Tensor) -> Tensor:
        """Return what the classifier reads (N, M) of unit features (N, D)."""
        each = [F.normalize(layer.logits(unit) @ self.targets, dim=1) for layer in self.layers]
        return self.classifier(torch.stack(each).mean(dim=0))

    def logits(self, features: Tensor) -> Tensor:
        """Return z (N, C) of features (N, D); a class without images scores 0."""
        return self._hidden(F.normalize(features, dim=1)) @ self.weight

    def state_dict(self) -> dict[str, Any]:
        """Return copies of all statistics and the readout."""
        layers = [{k: v for k, v in layer.state_dict().items() if k != "ridge"} for layer in self.layers]
        own = {name: getattr(self, name).clone() for name in OWN}
        return {"layers": layers, "ridge": self.ridge, **own, **self.means.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over copies of what `state_dict` gave, on this head's device."""
        self.ridge = state["ridge"]
        for layer, kept in zip(self.layers, state["layers"], strict=True):
            layer.load_state_dict({**kept, "ridge": self.ridge})
        self.means.load_state_dict(state)
        self.scatter, self.targets, self.weight = (state[name].clone().to(self.classifier.device) for name in OWN)

    def readout(self) -> dict[str, Tensor]:
        """Return the layers' weights (L, M, C), the targets (C, D) and the classifier's weights (M, C)."""
        layers = torch.stack([layer.weight for layer in self.layers])
        return {"layers": layers, "targets": self.targets, "weight": self.weight}

    def load_readout(self, readout: Mapping[str, Any]) -> None:
        """Predict with what `readout` gave."""
        for layer, weight in zip(self.layers, readout["layers"], strict=True):
            layer.load_readout({"weight": weight})
        self.targets, self.weight = (readout[name].to(self.classifier.device) for name in ("targets", "weight"))

    def readout_bytes(self, classes: int) -> float:
        """Return what the layers' and the classifier's weights and the targets take."""
        return FLOAT * classes * ((len(self.layers) + 1) * self.classifier.out_dim + self.classifier.width)

    def memory(self, classes: int, images: int, judged: int) -> HeadBytes:
        """Return what every layer takes as a ridge, the scatter as D^2 numbers, and solving one after the other."""
        width, dim = self.classifier.width, self.classifier.out_dim
        each = [layer.memory(classes, images, judged) for layer in self.layers]
        shared = sum(layer.shared for layer in each) + FLOAT * width * self.classifier.dim
        held = sum(layer.statistics for layer in each) + FLOAT * (width**2 + classes * (2 * width + dim))
        drawn = FLOAT * min(classes, CLASSES_AT_ONCE) * self.draws * (2 * dim + (len(each) + 1) * width)
        solving = drawn + 3 * triangle_bytes(dim) + 4 * DOUBLE * (dim * classes + width**2)
        return HeadBytes(shared, held, max(each[0].closing, solving, FLOAT * judged * (2 * dim + len(each) * width)))

    def flops(self, images: int, judged: int, classes: int) -> float:
        """Return those of the layers, of the draws through them and of the classifier; leading terms alone."""
        dim, drawn = self.classifier.out_dim, self.draws * classes
        projected = 2 * (judged + drawn) * self.classifier.width * self.classifier.dim
        layers = sum(layer.flops(images, judged + drawn, classes) for layer in self.layers)
        return projected + layers + drawn * dim**2 + dim**3 / 3 + 2 * judged * dim * classes
