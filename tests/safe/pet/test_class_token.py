"""The last block for the class token alone, against the whole network in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, ParallelScalingBlock, ResPostBlock, VisionTransformer
from torch import Tensor

from safe.config import Config
from safe.data.sources import Dataset
from safe.pet import attach, class_token_alone, kinds
from safe.pet.class_token import ClassTokenBlock
from safe.seeding import generator
from safe.training.trainer import SafeTrainer

SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clip": {"pre_norm": True, "reg_tokens": 4, "no_embed_class": True},
    "norms": {"qk_norm": True, "scale_attn_norm": True, "scale_mlp_norm": True, "init_values": 0.3},
    "one block": {"depth": 1},
}
WHOLE: dict[str, dict[str, Any]] = {  # networks that need all tokens, or whose last block computes something else
    "average": {"class_token": False, "global_pool": "avg"},
    "average of all": {"global_pool": "avg", "pool_include_prefix": True},
    "attention pooling": {"global_pool": "map"},
    "norm after": {"block_fn": ResPostBlock},
    "parallel": {"block_fn": ParallelScalingBlock},
    "no blocks": {"depth": 0},
}


def make(seed: int = 0, **settings: Any) -> VisionTransformer:
    """Return a small float64 ViT, every parameter drawn far enough from timm's zeros and ones to matter."""
    with torch.random.fork_rng(devices=[]):
        vit = VisionTransformer(num_classes=0, **{**SIZES, **settings}).double().eval()
    draw = generator(seed, "vit")
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    return vit


@pytest.fixture(params=VARIANTS)
def vit(request: pytest.FixtureRequest) -> VisionTransformer:
    return make(**VARIANTS[request.param])


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(5, 3, 32, 32, generator=generator(0, "pictures"), dtype=torch.float64)


def outcome(vit: VisionTransformer, kind: str, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return features and the gradients of PET parameters away from their initial values."""
    settings = {"dropout": 0.0} if kind == "adapter" else {}
    net = attach(vit, kind, generator=generator(0, "pet"), **settings)
    draw, parameters = generator(1, "pet"), net.pet_parameters()
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    features = net(pictures)
    weights = torch.randn(features.shape, generator=draw, dtype=torch.float64)
    gradients = torch.autograd.grad((weights * features).sum(), list(parameters.values())) if parameters else ()
    return features.detach(), dict(zip(parameters, gradients, strict=True))


@pytest.mark.parametrize("kind", kinds())
def test_features_and_gradients_are_those_of_the_whole_network(
    vit: VisionTransformer, pictures: Tensor, kind: str
) -> None:
    trimmed = class_token_alone(vit)
    assert trimmed.forward_features(pictures).shape == (5, 1, 24)
    expected, expected_gradients = outcome(vit, kind, pictures)
    features, gradients = outcome(trimmed, kind, pictures)
    torch.testing.assert_close(features, expected, rtol=1e-11, atol=1e-11)
    assert list(gradients) == list(expected_gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-10, atol=1e-10, msg=name)


def test_the_network_itself_stays_and_its_tensors_are_shared(vit: VisionTransformer, pictures: Tensor) -> None:
    before, state = vit(pictures), copy.deepcopy(vit.state_dict())
    trimmed = class_token_alone(vit)
    assert trimmed is not vit
    assert type(trimmed.blocks[-1]) is ClassTokenBlock
    assert not trimmed.training
    assert torch.equal(vit(pictures), before)
    assert list(trimmed.state_dict()) == list(state)
    assert [p.data_ptr() for p in trimmed.parameters()] == [p.data_ptr() for p in vit.parameters()]
    assert class_token_alone(trimmed) is trimmed


@pytest.mark.parametrize("variant", WHOLE)
def test_networks_that_read_other_tokens_stay_whole(variant: str) -> None:
    vit = make(**WHOLE[variant])
    assert class_token_alone(vit) is vit


def test_gated_attention_stays_whole() -> None:
    vit = make()
    vit.blocks[-1].attn.gate = torch.nn.Linear(24, 24)
    assert class_token_alone(vit) is vit


def test_two_class_tokens_stay_whole() -> None:
    with torch.random.fork_rng(devices=[]):
        vit = VisionTransformerDistilled(num_classes=0, **SIZES)
    assert class_token_alone(vit) is vit


def test_the_trainer_uses_it_for_all_its_networks(
    make_config: Callable[..., Config], tiny_dataset: Dataset, tiny_vit: VisionTransformer
) -> None:
    trainer = SafeTrainer(make_config({"pet.kind": "vpt_deep"}), tiny_dataset, tiny_vit)
    assert type(trainer.slow.net.base.blocks[-1]) is ClassTokenBlock
    assert type(trainer.slow.net.vit.blocks[-1].inner) is ClassTokenBlock
    assert type(tiny_vit.blocks[-1]) is Block
