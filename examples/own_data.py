"""A data set of one's own: stripes of four directions, drawn when they are asked for.

python -m safe train --import examples.own_data --dataset stripes data.init_classes=2 data.increment=1
python -m sweeps run --import examples.own_data --dataset stripes data.init_classes=2 data.increment=1
"""

from __future__ import annotations

from pathlib import Path

import torch

from safe import register_dataset
from safe.data.sources import ArrayImages

NAMES = ("across", "down", "rising", "falling")
SIDE = 32


@register_dataset("stripes", classes=len(NAMES))
def stripes(root: Path) -> tuple[tuple[str, ...], ArrayImages, ArrayImages]:
    """Return names, training and test images; `root` is data.root, where files of a real data set would lie."""
    return NAMES, draw(12, seed=0), draw(6, seed=1)


def draw(images_per_class: int, seed: int) -> ArrayImages:
    """Return grey images with a random phase and noise, uint8 (N, 1, SIDE, SIDE)."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    labels = torch.arange(len(NAMES)).repeat_interleave(images_per_class)
    phase = torch.rand(len(labels), 1, 1, generator=generator) * 6.28
    waves = torch.stack([y, x, x + y, x - y])[labels] * 0.8
    noise = torch.randn(len(labels), SIDE, SIDE, generator=generator)
    pixels = (127 + 80 * torch.sin(waves + phase) + 15 * noise).clamp(0, 255)
    return ArrayImages(pixels.to(torch.uint8).unsqueeze(1), labels)
