"""Un-augmented features of whole image sets, computed once where the network is frozen."""

from __future__ import annotations

import torch
from torch import Tensor

from safe.data.stream import Subset
from safe.data.transforms import plain_view
from safe.evaluate import extract
from safe.learners.learner import Learner
from safe.precision import Precision, autocast


class FeatureExtractor:
    """Gives the features (n, D) of a session's images, float32.

    Always batched within one session's images, so that a resumed run adds up in the same order.

    Args:
        size: side in pixels of the network's images.
        batch_size: images in a forward pass.
        precision: of the forward pass, `float32` or `bf16`.
    """

    def __init__(self, device: torch.device, size: int, batch_size: int, precision: Precision) -> None:
        self.device, self.size, self.batch_size, self.precision = device, size, batch_size, precision
        self._kept: dict[tuple[str, int], Tensor] = {}

    def __call__(self, learner: Learner, subset: Subset) -> Tensor:
        """Return the features that the learner's network gives now."""
        batches = torch.arange(len(subset)).split(self.batch_size)
        views = (plain_view(subset.read(chosen).to(self.device), self.size) for chosen in batches)
        with autocast(self.device, self.precision):
            return extract(learner.net, views).float()

    def frozen(self, learner: Learner, subset: Subset, split: str, session: int) -> Tensor:
        """Return the features of a learner that no longer changes; computed at the first call for a set."""
        key = (split, session)
        if key not in self._kept:
            self._kept[key] = self(learner, subset)
        return self._kept[key]

    def forget(self, split: str | None = None) -> None:
        """Drop what is kept of a split, or of all."""
        self._kept = {key: value for key, value in self._kept.items() if split not in (None, key[0])}
