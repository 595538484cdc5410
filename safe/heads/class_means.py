"""The class-mean classifier (SimpleCIL, arXiv 2303.07338): cosine to each class's mean feature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from safe.heads.base import FLOAT, ClosedFormHead, HeadBytes
from safe.heads.cosine import cosines


class ClassMeansHead(ClosedFormHead):
    """Sums of features and image counts per class.

    Args:
        width: D, the width of the features.
        device: where the statistics lie.
    """

    small = True

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.sums = torch.zeros(0, width, device=device)
        self.counts = torch.zeros(0, device=device)

    def add(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add one session: features (N, D), labels int64 (N,), `classes` seen so far; nothing is drawn."""
        grow = classes - len(self.sums)
        self.sums = F.pad(self.sums, (0, 0, 0, grow)).index_add(0, labels, features)
        self.counts = F.pad(self.counts, (0, grow)).index_add(0, labels, torch.ones_like(features[:, 0]))

    def logits(self, features: Tensor) -> Tensor:
        """Return the cosine to each class mean, (N, C) in [-1, 1]; a class without images has cosine 0."""
        return cosines(features, self._means())

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the statistics."""
        return {"sums": self.sums.clone(), "counts": self.counts.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over copies of what `state_dict` gave, on this head's device."""
        device = self.sums.device
        self.sums, self.counts = state["sums"].clone().to(device), state["counts"].clone().to(device)

    def readout(self) -> dict[str, Tensor]:
        """Return the class means."""
        return {"weight": self._means()}

    def load_readout(self, readout: Mapping[str, Any]) -> None:
        """Predict with class means, as if each were of one image."""
        self.sums = readout["weight"].to(self.sums.device)
        self.counts = torch.ones_like(self.sums[:, 0])

    def memory(self, classes: int, images: int, judged: int) -> HeadBytes:
        """Return what the sums of both learners' heads take."""
        return HeadBytes(0, FLOAT * self.sums.shape[1] * classes, 0)

    def _means(self) -> Tensor:
        return self.sums / self.counts.clamp_min(1).unsqueeze(1)
