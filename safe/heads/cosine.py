"""The cosine classifier that gradient training uses: sigma * cos(f, w_c) with one learned sigma."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cosine_logits(features: Tensor, rows: Tensor, scale: Tensor) -> Tensor:
    """Return sigma * cos(f_b, w_c), shape (B, C), for features (B, D) and rows (C, D); a zero vector has cosine 0."""
    return scale * F.normalize(features, dim=1) @ F.normalize(rows, dim=1).T


def cosines(features: Tensor, rows: Tensor) -> Tensor:
    """Return cos(f_b, w_c), (B, C) in [-1, 1], for features (B, D) and rows (C, D); a zero vector has cosine 0."""
    return F.normalize(features, dim=1) @ F.normalize(rows, dim=1).T


class CosineHead(nn.Module):
    """Rows (C, D) for the classes seen so far and a learned scale sigma."""

    def __init__(self, rows: Tensor, scale: float = 10.0) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows.detach().clone())
        self.scale = nn.Parameter(torch.tensor(scale, device=rows.device))

    def forward(self, features: Tensor) -> Tensor:
        return cosine_logits(features, self.rows, self.scale)

    def extended(self, new_rows: Tensor) -> CosineHead:
        """Return a head with the same rows and sigma plus `new_rows` (c, D) at the end."""
        rows = torch.cat([self.rows.detach(), new_rows.to(self.rows)])
        return CosineHead(rows, float(self.scale.detach()))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> CosineHead:
        """Return the head whose `state_dict` is given, whatever its number of classes."""
        return cls(state["rows"], float(state["scale"]))


def new_class_rows(
    kind: str, classes: range, features: Tensor, labels: Tensor, existing: Tensor, generator: torch.Generator
) -> Tensor:
    """Return starting rows for new classes, shape (len(classes), D).

    `imprint`: each class's mean feature, scaled to the mean length of the existing rows, so that the new rows move
    under SGD as the old ones do (only a row's direction enters the cosine). `uniform`: as a fresh head. `zeros`:
    the released code's start, where the cosine is singular.

    Args:
        kind: `imprint`, `uniform` or `zeros`.
        classes: the new class numbers.
        features: (N, D) of the images whose labels are `labels` (N,); every new class must occur for `imprint`.
        existing: (C, D) rows of the head so far.
        generator: CPU generator for `uniform`.
    """
    width = existing.shape[1]
    if kind == "zeros":
        return torch.zeros(len(classes), width, device=existing.device)
    if kind == "uniform":
        return uniform_rows(len(classes), width, generator).to(existing.device)
    if kind != "imprint":
        raise ValueError(f"new rows must be 'imprint', 'uniform' or 'zeros', got {kind!r}")
    means = torch.stack([features[labels == c].mean(dim=0) for c in classes])
    return F.normalize(means, dim=1) * existing.norm(dim=1).mean()


def uniform_rows(classes: int, width: int, generator: torch.Generator) -> Tensor:
    """Return rows (classes, D) uniform in [-1/sqrt(D), 1/sqrt(D)], a fresh head's start."""
    bound = 1 / math.sqrt(width)
    return torch.empty(classes, width).uniform_(-bound, bound, generator=generator)
