"""The fixed random projection of RanPAC (arXiv 2307.02251): H = relu(F W_rand)."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from safe.seeding import generator


class Projection:
    """W_rand in R^(D x M), standard normal, drawn once from its own seed and shared by both learners.

    It is identified by (D, M, seed), which is all that checkpoints keep of it. M = 0 leaves features as they are.
    """

    def __init__(self, width: int, dim: int, seed: int, device: torch.device | str = "cpu") -> None:
        self.width, self.dim, self.seed = width, dim, seed
        self.device = torch.device(device)

    @cached_property
    def _weight(self) -> Tensor:
        """Drawn once it is needed."""
        drawn = generator(self.seed, "projection", self.width, self.dim)
        return torch.randn(self.width, self.dim, generator=drawn).to(self.device)

    @property
    def out_dim(self) -> int:
        """Width of the result: M, or D where there is no projection."""
        return self.dim or self.width

    def __call__(self, features: Tensor) -> Tensor:
        """Return relu(features W_rand), shape (N, M), for features (N, D)."""
        return (features @ self._weight).relu_() if self.dim else features
