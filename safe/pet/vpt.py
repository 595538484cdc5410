"""Visual prompt tuning (VPT, arXiv 2203.12119): trained tokens that the image tokens attend to.

Deep (eq. 6): every block gets its own prompts, dropped after it. Shallow (eq. 4 and 5): one set enters before the first
block, runs through all of them, and is dropped before the final norm. As the authors of SAFE do (MIFA-Lab/SAFE),
prompts go to the *end* of the sequence, so class token, registers and positions keep their places, and start at zero.
"""

from __future__ import annotations

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from safe.pet.registry import register


@register("vpt_deep")
def wire_vpt_deep(vit: VisionTransformer, generator: torch.Generator | None, *, prompts: int) -> None:
    """Give every block its own prompt tokens; nothing is drawn from `generator`."""
    for i, block in enumerate(vit.blocks):
        vit.blocks[i] = Prompted(block, prompts, int(vit.embed_dim))


@register("vpt_shallow")
def wire_vpt_shallow(vit: VisionTransformer, generator: torch.Generator | None, *, prompts: int) -> None:
    """Give the whole stack of blocks one set of prompt tokens; nothing is drawn from `generator`."""
    if len(vit.blocks):
        vit.blocks = nn.Sequential(Prompted(vit.blocks, prompts, int(vit.embed_dim)))


class Prompted(nn.Module):
    """Append n trained tokens for `inner` only: (B, N, D) -> (B, N + n, D) -> inner -> (B, N, D)."""

    def __init__(self, inner: nn.Module, prompts: int, width: int) -> None:
        super().__init__()
        self.inner = inner
        self.prompts = nn.Parameter(torch.zeros(prompts, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return `inner` of the tokens with the prompts after them, without the prompts."""
        tokens: Tensor = self.inner(torch.cat([x, self.prompts.expand(len(x), -1, -1)], dim=1))
        return tokens[:, : x.shape[1]]
