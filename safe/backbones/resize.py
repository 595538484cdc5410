"""How picture files are resized for the plain view; without torch, since data sets are listed without it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Resize:
    """How a picture file becomes the square that the plain view takes its centre from.

    Attributes:
        crop_pct: side of what the network sees as a share of the resized picture's shorter side, in (0, 1].
        interpolation: `bicubic` or `bilinear`.
    """

    crop_pct: float
    interpolation: str

    def side(self, size: int) -> int:
        """Return to how many pixels the shorter side is resized for a network that sees `size`, rounded as by timm."""
        return math.floor(size / self.crop_pct)


UNSTATED = Resize(0.86, "bicubic")  # of a network that says nothing of its own, as the small ViT: 37 pixels, it sees 32
