"""The project's own small pre-trained model: a timm VisionTransformer for 32x32 pictures.

It stands for the published ViT-B/16 in the tests, in the quick start and on the embedded data sets.
`safe.training.pretrain` makes its weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer

WEIGHTS = Path(__file__).parents[1] / "weights" / "small_vit.safetensors"
# 17 tokens of 8x8 pixels; pixels in [0, 1], no mean/std normalisation, as in the published settings.
SMALL_VIT: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 128,
    "depth": 6,
    "num_heads": 4,
    "mlp_ratio": 4.0,
    "global_pool": "token",
    "num_classes": 0,
}


def small_vit(pretrained: bool = True) -> VisionTransformer:
    """Return the small ViT in evaluation mode, float32, without a classifier: (B, 3, 32, 32) -> (B, 128)."""
    # timm initialises from the global random state; the fork leaves that as it was.
    with torch.random.fork_rng(devices=[]):
        model = VisionTransformer(**SMALL_VIT)
    if pretrained:
        state = {name: value.float() for name, value in load_file(WEIGHTS).items() if not name.startswith("head.")}
        model.load_state_dict(state)
    return model.eval()
