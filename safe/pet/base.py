"""The tuned network: a frozen timm ViT with trainable PET modules in it.

The network is a structural copy of the original: its own module objects over the *same* frozen tensors, so many
learners cost the memory of one backbone, and the original stays as it was: detaching is going back to `PetViT.base`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class PetViT(nn.Module):
    """A frozen ViT with trainable PET modules: images (B, C, H, W) in, un-normalised embeddings (B, D) out.

    Only PET parameters require gradients, and only PET dropout follows `train()`: the frozen network stays in eval
    mode, so that its own dropout never draws from the global random state.
    """

    base: VisionTransformer

    def __init__(self, base: VisionTransformer, vit: VisionTransformer) -> None:
        super().__init__()
        # Past nn.Module's registration: the base belongs to every learner, and its tensors are already in `vit`.
        object.__setattr__(self, "base", base)
        self.vit = vit
        frozen = {id(parameter) for parameter in base.parameters()}
        self._names = tuple(name for name, parameter in vit.named_parameters() if id(parameter) not in frozen)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return what timm's `vit(x)` gives without a classifier: (B, C, H, W) -> (B, D)."""
        features: Tensor = self.vit.forward_head(self.vit.forward_features(x), pre_logits=True)
        return features

    @property
    def embed_dim(self) -> int:
        """Return D, the width of the embedding."""
        return int(self.base.num_features)

    def pet_parameter_names(self) -> tuple[str, ...]:
        """Return the names of the trained parameters, in the order of the network."""
        return self._names

    def pet_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by name, in the order of the network."""
        return {name: self.vit.get_parameter(name) for name in self._names}

    def pet_state(self) -> dict[str, Tensor]:
        """Return detached CPU copies of the PET parameters: with the backbone, all that describes this network."""
        return {name: parameter.detach().cpu().clone() for name, parameter in self.pet_parameters().items()}

    def load_pet_state(self, state: Mapping[str, Tensor]) -> None:
        """Set the PET parameters in place.

        Raises:
            ValueError: naming every missing, unexpected and differently shaped tensor; nothing is loaded then.
        """
        own = self.pet_parameters()
        problems = [f"missing {name}" for name in own if name not in state]
        problems += [f"unexpected {name}" for name in state if name not in own]
        problems += [
            f"{name} has shape {tuple(state[name].shape)}, expected {tuple(parameter.shape)}"
            for name, parameter in own.items()
            if name in state and state[name].shape != parameter.shape
        ]
        if problems:
            raise ValueError(f"this PET state does not fit: {'; '.join(problems)}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def clone(self) -> PetViT:
        """Return an independent copy of the PET parameters over the same backbone memory, without a generator."""
        return copy.deepcopy(self, shared_tensors(self.base) | {id(self.base): self.base})

    def set_dropout_generator(self, generator: torch.Generator | None) -> None:
        """Draw every later dropout mask from `generator` (on the device of the images)."""
        for module in self._dropouts():
            module.generator = generator

    def train(self, mode: bool = True) -> PetViT:
        """Turn PET dropout on or off; the frozen network stays in eval mode."""
        super().train(False)
        self.training = mode
        for module in self._dropouts():
            module.training = mode
        return self

    def _dropouts(self) -> list[GeneratorDropout]:
        return [module for module in self.modules() if isinstance(module, GeneratorDropout)]


class GeneratorDropout(nn.Module):
    """Dropout whose masks come from an explicit generator: y = x * mask / (1 - p), mask ~ Bernoulli(1 - p)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` with a share `p` of its elements dropped, or `x` itself in eval mode or with p = 0."""
        if not self.training or self.p == 0:
            return x
        if self.generator is None:
            raise RuntimeError("PET dropout has no generator in train mode: call set_dropout_generator() first")
        mask = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * mask / (1 - self.p)

    def __deepcopy__(self, memo: dict[int, Any]) -> GeneratorDropout:
        """Return a copy without a generator: two learners on one stream would change each other's masks."""
        return GeneratorDropout(self.p).train(self.training)


def shared_tensors(vit: VisionTransformer) -> dict[int, Any]:
    """Return the `copy.deepcopy` memo with which a copy keeps the tensors of `vit` instead of copying them."""
    return {id(tensor): tensor for tensor in [*vit.parameters(), *vit.buffers()]}
