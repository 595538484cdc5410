"""What a network is given: how large its pictures are, how their pixels are scaled, and how test pictures are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.backbones.resize import UNSTATED, Resize
from safe.errors import UserError

PRETRAINED = "pretrained"


@dataclass(frozen=True)
class NetworkInput:
    """What a network is given: pictures of `size` pixels a side, each channel (x - mean) / std of x in [0, 1].

    Without `mean` and `std` the pixels stay in [0, 1].
    """

    size: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: Resize = UNSTATED

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return pixels in [0, 1], float32 (B, 3, H, W), as the network takes them; they are changed in place."""
        if self.mean is None or self.std is None:
            return pixels
        mean, std = (
            torch.tensor(values, dtype=pixels.dtype, device=pixels.device).view(-1, 1, 1)
            for values in (self.mean, self.std)
        )
        return pixels.sub_(mean).div_(std)

    @property
    def normalisation(self) -> str:
        """What is done to the pixels, in words."""
        if self.mean is None or self.std is None:
            return "pixels in [0, 1]"
        mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"pixels normalised by mean {mean} and std {std}"


def network_input(
    vit: VisionTransformer,
    image_size: int | None = None,
    input_norm: str | Sequence[Sequence[float]] = PRETRAINED,
    crop_pct: str | float = PRETRAINED,
) -> NetworkInput:
    """Return what a network is given under these settings of `backbone`.

    What it was pre-trained with is what timm states for its tag; pixels in [0, 1] and `UNSTATED` where there is none.

    Raises:
        UserError: the network sees another size than `image_size`, as one that is handed over instead of loaded may.
    """
    size = int(vit.patch_embed.img_size[0])
    if image_size not in (None, size):
        raise UserError(f"backbone.image_size={image_size}, but the network that was given sees {size} pixels")
    stated: dict[str, Any] = getattr(vit, "pretrained_cfg", None) or {}
    share = stated.get("crop_pct", UNSTATED.crop_pct) if crop_pct == PRETRAINED else crop_pct
    resize = Resize(float(share), stated.get("interpolation", UNSTATED.interpolation))
    if input_norm == PRETRAINED:
        mean, std = stated.get("mean"), stated.get("std")
    else:
        mean, std = (None, None) if isinstance(input_norm, str) else input_norm
    if mean is None or std is None:
        return NetworkInput(size, resize=resize)
    return NetworkInput(size, tuple(mean), tuple(std), resize)


def token_count(vit: VisionTransformer) -> int:
    """Return how many tokens a picture becomes, class and register tokens among them."""
    return int(vit.patch_embed.num_patches) + int(vit.num_prefix_tokens)


def pass_flops(vit: VisionTransformer) -> float:
    """Return the floating-point operations of one forward pass of one picture, two for each multiply-add.

    Every weight of a linear map works once a token, those of the patch embedding once a patch; attention adds
    4 N^2 D a block for N tokens of D channels. Norms, activations and biases are left out: about 1 %.
    """
    tokens, width = token_count(vit), int(vit.embed_dim)
    linear = sum(p.numel() for p in vit.blocks.parameters() if p.ndim == 2)
    patch = sum(p.numel() for p in vit.patch_embed.parameters() if p.ndim > 1)
    attention = 4.0 * len(vit.blocks) * tokens**2 * width
    return 2.0 * (linear * tokens + patch * int(vit.patch_embed.num_patches)) + attention


def described(name: str, vit: VisionTransformer, seen: NetworkInput) -> str:
    """Return in one line which network looks at how many pixels, as how many tokens, and what a pass costs."""
    weights = sum(parameter.numel() for parameter in vit.parameters())
    return (
        f"backbone {name}: {seen.size}x{seen.size} pixels, {token_count(vit)} tokens, {seen.normalisation}, "
        f"{weights / 1e6:.1f} M weights, {pass_flops(vit) / 1e9:.3g} GFLOP a picture and pass"
    )
