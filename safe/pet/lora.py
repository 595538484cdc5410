"""Low-rank adaptation (LoRA, arXiv 2106.09685, eq. 3) of the attention's fused query, key and value projection."""

from __future__ import annotations

import math

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from safe.errors import UserError
from safe.pet.registry import register, require_generator


@register("lora")
def wire_lora(vit: VisionTransformer, generator: torch.Generator | None, *, rank: int, alpha: float) -> None:
    """Add a low-rank update to every block's qkv; the network is exactly the pre-trained one at first."""
    generator = require_generator(generator, "lora")
    for i, block in enumerate(vit.blocks):
        attention = getattr(block, "attn", None)
        qkv = getattr(attention, "qkv", None)
        if attention is None or not isinstance(qkv, nn.Linear):
            raise UserError(
                f"the PET kind 'lora' needs a linear layer at blocks.{i}.attn.qkv, got {type(qkv).__name__}"
            )
        attention.qkv = LoraLinear(qkv, rank, alpha / rank, generator)


class LoraLinear(nn.Module):
    """W x + b + (alpha / rank) * B A x: (..., in) -> (..., out), with A (rank, in) and B (out, rank) trained, B = 0."""

    def __init__(self, inner: nn.Linear, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.inner = inner
        self.scale = scale
        self.lora_a = nn.Parameter(torch.empty(rank, inner.in_features))
        self.lora_b = nn.Parameter(torch.zeros(inner.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5), generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the frozen projection plus its low-rank update."""
        y: Tensor = self.inner(x)
        return y + self.scale * functional.linear(functional.linear(x, self.lora_a), self.lora_b)
