"""Fixed random features of features: what closed-form heads see.

    relu      H = relu(F W)                                   RanPAC, arXiv 2307.02251
    gelu      H = gelu(F W)                                   AnaCP, arXiv 2511.13880
    topk      H = F W, of each image's values only the largest kept, the others 0   Fly-CL, arXiv 2510.16877
    fourier   H = sqrt(2 / M) cos(F W sqrt(2 gamma / D) + b)  Rahimi and Recht 2007, as in RanDumb (2402.08823) and KLDA

with W in R^(D x M) standard normal and b uniform in [0, 2 pi). Inner products of Fourier features tend to the kernel
exp(-gamma |x - y|^2 / D): gamma = 1 is scikit-learn's `scale` for features of variance 1.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from safe.seeding import generator


class Projection:
    """W in R^(D x M), drawn once from its own seed and shared by both learners.

    It is identified by its arguments, which is all that checkpoints keep of it. M = 0 leaves features as they are.

    Args:
        width, dim: D and M.
        seed: of W and b.
        activation: `relu`, `gelu`, `topk` or `fourier`.
        kept: share of the M values that `topk` keeps, in (0, 1], at least one value.
        density: share of the D features that each column of W reads, in (0, 1], at least one: the others are 0 in it.
        gamma: of `fourier`, above 0.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        seed: int,
        device: torch.device | str = "cpu",
        activation: str = "relu",
        kept: float = 1.0,
        density: float = 1.0,
        gamma: float = 1.0,
    ) -> None:
        self.width, self.dim, self.seed = width, dim, seed
        self.activation, self.kept, self.density, self.gamma = activation, kept, density, gamma
        self.device = torch.device(device)

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself, which never changes: copies of a head have one W."""
        return self

    @cached_property
    def _weight(self) -> Tensor:
        """Drawn once it is needed."""
        drawn = generator(self.seed, "projection", self.width, self.dim)
        weight = torch.randn(self.width, self.dim, generator=drawn)
        if self.density < 1:
            read = max(1, round(self.density * self.width))
            order = torch.rand(self.width, self.dim, generator=drawn).argsort(dim=0)
            weight *= order < read  # of each column the places of its `read` smallest ranks
        return weight.to(self.device)

    @cached_property
    def _phase(self) -> Tensor:
        drawn = torch.rand(self.dim, generator=generator(self.seed, "phase", self.width, self.dim))
        return (2 * math.pi * drawn).to(self.device)

    @property
    def out_dim(self) -> int:
        """Width of the result: M, or D where there is no projection."""
        return self.dim or self.width

    def __call__(self, features: Tensor) -> Tensor:
        """Return the random features (N, M) of features (N, D)."""
        if not self.dim:
            return features
        if self.activation == "fourier":
            scale = math.sqrt(2 * self.gamma / self.width)
            return (features @ self._weight).mul_(scale).add_(self._phase).cos_().mul_(math.sqrt(2 / self.dim))
        hidden = features @ self._weight
        if self.activation == "relu":
            return hidden.relu_()
        if self.activation == "gelu":
            return torch.nn.functional.gelu(hidden)
        largest = hidden.topk(max(1, round(self.kept * self.dim)), dim=1)
        return torch.zeros_like(hidden).scatter_(1, largest.indices, largest.values)
