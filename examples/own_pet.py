"""A PET of one's own: every block's MLP is followed by a trained factor per channel, and the rest stays frozen.

python -m safe train --import examples.own_pet pet.kind=gain
"""

from __future__ import annotations

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from safe import register_pet


class Gain(nn.Module):
    """A frozen module whose output is scaled channel by channel: exactly itself at first."""

    def __init__(self, inner: nn.Module, width: int, strength: float) -> None:
        super().__init__()
        self.inner = inner
        self.strength = strength
        self.gain = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the frozen module times 1 + strength * gain."""
        y: Tensor = self.inner(x)
        return y * (1 + self.strength * self.gain)


@register_pet("gain")
def wire_gain(vit: VisionTransformer, generator: torch.Generator | None, *, scale: float = 1.0) -> None:
    """Insert the factors; `scale` is a setting of `pet`, so that pet.scale=0.5 reaches it."""
    for block in vit.blocks:
        block.mlp = Gain(block.mlp, vit.embed_dim, scale)
