"""Streaming class means, and what the scatter about them gains when they move."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class Means:
    """Sums of features (C, M) and image counts (C,) of every class.

    A scatter about the means can be kept beside them without ever subtracting big numbers: of a session that adds n
    images of mean b to n' of mean a, it gains the scatter of the new images about b and, of the means,
    n n' / (n + n') (a - b)(a - b)^T (Chan, Golub and LeVeque 1979).
    """

    def __init__(self, width: int, device: torch.device | str) -> None:
        self.sums = torch.zeros(0, width, device=device)
        self.counts = torch.zeros(0, device=device)
        self._session = self.sums

    def add(self, hidden: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Add a session of features (N, M) and labels (N,); return rows (C, M) whose outer products the scatter gains.

        Args:
            hidden, labels: of the session's images.
            classes: classes seen so far.
        """
        grow = classes - len(self.sums)
        sums, counts = F.pad(self.sums, (0, 0, 0, grow)), F.pad(self.counts, (0, grow))
        new = torch.zeros_like(sums).index_add(0, labels, hidden)
        images = torch.zeros_like(counts).index_add(0, labels, torch.ones_like(hidden[:, 0]))
        self._session = _divided(new, images)
        between = (counts * images / (counts + images).clamp_min(1)).sqrt().unsqueeze(1)
        moved = between * (_divided(sums, counts) - self._session)
        self.sums, self.counts = sums + new, counts + images
        return moved

    def centred(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Return the features of the session that was added last, less its own class means, (N, M)."""
        return hidden - self._session[labels]

    def means(self) -> Tensor:
        """Return the class means (C, M); 0 for a class without images."""
        return _divided(self.sums, self.counts)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of sums and counts."""
        return {"sums": self.sums.clone(), "counts": self.counts.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over copies of what `state_dict` gave, on the device where they lie."""
        device = self.sums.device
        self.sums, self.counts = state["sums"].clone().to(device), state["counts"].clone().to(device)


def _divided(sums: Tensor, counts: Tensor) -> Tensor:
    return sums / counts.clamp_min(1).unsqueeze(1)
