"""Scale and shift of deep features (SSF, arXiv 2210.08823, eq. 3): y = x * scale + shift, per channel."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from safe.errors import UserError
from safe.pet.registry import register, require_generator, standard_blocks

_STD = 0.02
_IN_BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


@register("ssf")
def wire_ssf(vit: VisionTransformer, generator: torch.Generator | None) -> None:
    """Scale and shift after the patch projection, after six modules of every block, and after the final norm."""
    generator = require_generator(generator, "ssf")
    # Networks that pool by averaging normalise after the pooling: their final norm is `fc_norm`.
    final = "norm" if isinstance(vit.fc_norm, nn.Identity) else "fc_norm"
    names = ["patch_embed.proj"]
    names += [f"blocks.{i}.{name}" for i, _ in standard_blocks(vit, "ssf") for name in _IN_BLOCK]
    for name in [*names, final]:
        parent_name, _, child = name.rpartition(".")
        parent = vit.get_submodule(parent_name)
        inner = getattr(parent, child, None)
        if isinstance(inner, nn.Conv2d):
            scaled = ScaleShift(inner, inner.out_channels, -3, generator)
        elif isinstance(inner, nn.Linear):
            scaled = ScaleShift(inner, inner.out_features, -1, generator)
        elif isinstance(inner, nn.Module) and "norm" in child:
            scaled = ScaleShift(inner, int(vit.embed_dim), -1, generator)
        else:
            raise UserError(
                f"the PET kind 'ssf' needs a convolution or linear layer at {name}, got {type(inner).__name__}"
            )
        setattr(parent, child, scaled)


class ScaleShift(nn.Module):
    """inner(x) * scale + shift along the channel axis; scale ~ N(1, 0.02), shift ~ N(0, 0.02)."""

    def __init__(self, inner: nn.Module, channels: int, axis: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inner = inner
        self.scale = nn.Parameter(torch.empty(channels))
        self.shift = nn.Parameter(torch.empty(channels))
        self.view = (-1, *[1] * (-1 - axis))  # how (C,) broadcasts over what follows the channel axis
        nn.init.normal_(self.scale, 1.0, _STD, generator=generator)
        nn.init.normal_(self.shift, 0.0, _STD, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled and shifted output of the wrapped module, in its own shape."""
        y: Tensor = self.inner(x)
        return y * self.scale.view(self.view) + self.shift.view(self.view)
