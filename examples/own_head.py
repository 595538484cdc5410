"""A closed-form head of one's own: the nearest class mean, by squared distance.

python -m safe train --import examples.own_head head.kind=nearest
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from safe import register_head
from safe.heads.base import FLOAT, ClosedFormHead, HeadBytes


@register_head("nearest")
class NearestMean(ClosedFormHead):
    """Scores are minus the squared distances to the means, which are sums over images: no order of them matters."""

    def __init__(self, width: int, device: torch.device | str) -> None:
        self.sums, self.counts = torch.zeros(0, width, device=device), torch.zeros(0, 1, device=device)

    def add(self, features: Tensor, labels: Tensor, classes: int, generator: torch.Generator) -> None:
        """Add the sums and counts of a session; `classes` never falls."""
        hot = functional.one_hot(labels, classes).to(features)
        sums, counts = hot.T @ features, hot.sum(dim=0).unsqueeze(1)
        sums[: len(self.sums)] += self.sums
        counts[: len(self.counts)] += self.counts
        self.sums, self.counts = sums, counts

    def logits(self, features: Tensor) -> Tensor:
        """Return the scores (N, C) of features (N, D)."""
        return -torch.cdist(features, self.sums / self.counts.clamp(min=1)).square()

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the sums and counts."""
        return {"sums": self.sums.clone(), "counts": self.counts.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.sums, self.counts = (state[name].to(self.sums.device).clone() for name in ("sums", "counts"))

    readout, load_readout = state_dict, load_state_dict

    def memory(self, classes: int, images: int, judged: int) -> HeadBytes:
        """Return the bytes of the sums, and of the scores while they are judged."""
        return HeadBytes(0, FLOAT * classes * (self.sums.shape[1] + 1), FLOAT * classes * (images + judged))
