"""The tiny ViT of the reference values."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer


@pytest.fixture
def vit(reference: dict[str, torch.Tensor]) -> VisionTransformer:
    """Return a fresh copy of the reference ViT with its weights: (B, 3, 32, 32) -> (B, 32)."""
    with torch.random.fork_rng(devices=[]):
        model = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=4, num_classes=0)
    weights = {name.removeprefix("vit/"): value for name, value in reference.items() if name.startswith("vit/")}
    model.load_state_dict(weights)
    return model.eval()


@pytest.fixture
def images(reference: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the six reference images."""
    return reference["x"]
