"""Full fine-tuning as the PET kind that tunes everything: what the parameter-efficient kinds are measured against."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from safe.pet.registry import register


@register("full")
def wire_full(vit: VisionTransformer, generator: torch.Generator | None) -> None:
    """Give the network trainable copies of all its weights but an unused classifier's; nothing is drawn.

    Nothing of the backbone is shared then: every learner holds all weights once more (86 M of them, 330 MiB in float32,
    for ViT-B/16), and so do its momentum, its gradients and every state that is saved.
    """
    classifier = {id(parameter) for parameter in vit.head.parameters()}
    for module in vit.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in classifier:
                setattr(module, name, nn.Parameter(parameter.detach().clone()))
