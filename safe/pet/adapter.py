"""Parallel bottleneck adapters (AdaptFormer, arXiv 2205.13535, eq. 1 and 2), as SAFE uses them.

With h the residual stream after attention, a block's output becomes

    h + MLP(LN2(h)) + s * W_up dropout(relu(W_down h))

The adapter reads h itself, not LN2(h): this is where the authors of SAFE put it (MIFA-Lab/SAFE).
"""

from __future__ import annotations

import math

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from safe.pet.base import GeneratorDropout
from safe.pet.class_token import after_attention
from safe.pet.registry import register, require_generator, standard_blocks


@register("adapter")
def wire_adapter(
    vit: VisionTransformer,
    generator: torch.Generator | None,
    *,
    bottleneck: int,
    scale: float,
    dropout: float,
) -> None:
    """Put an adapter in parallel with the MLP of every block; the network is exactly the pre-trained one at first."""
    generator = require_generator(generator, "adapter")
    for i, block in standard_blocks(vit, "adapter"):
        adapter = Adapter(int(vit.embed_dim), bottleneck, scale, dropout, generator)
        vit.blocks[i] = AdaptedBlock(block, adapter)


class Adapter(nn.Module):
    """s * W_up dropout(relu(W_down x)): (..., D) -> (..., D); W_up starts at zero, so does the output."""

    def __init__(self, width: int, bottleneck: int, scale: float, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        # skip_init: the default initialisation of nn.Linear would draw from the global random state.
        device = torch.get_default_device()  # which it does not look at by itself
        self.down_proj = nn.utils.skip_init(nn.Linear, width, bottleneck, device=device)
        self.up_proj = nn.utils.skip_init(nn.Linear, bottleneck, width, device=device)
        self.dropout = GeneratorDropout(dropout)
        self.scale = scale
        nn.init.kaiming_uniform_(self.down_proj.weight, a=math.sqrt(5), generator=generator)
        for zero in (self.down_proj.bias, self.up_proj.weight, self.up_proj.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the adapter adds to the residual stream."""
        added: Tensor = self.up_proj(self.dropout(torch.relu(self.down_proj(x)))) * self.scale
        return added


class AdaptedBlock(nn.Module):
    """timm's pre-norm `Block` with an adapter in parallel with its MLP branch: of (B, N, D) what the block gives."""

    def __init__(self, block: Block, adapter: Adapter) -> None:
        super().__init__()
        self.block = block
        self.adapter = adapter

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output plus the adapter's, which reads the residual stream between the two branches."""
        block = self.block
        x = after_attention(block, x)
        return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x)))) + self.adapter(x)
