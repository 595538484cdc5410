"""Features of every PET kind against values that this code did not make."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.pet import PetViT, attach
from safe.seeding import generator

TOLERANCE = 1e-5  # of the largest absolute expected value, in float32


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    error = (actual - expected).abs().max().item()
    bound = tolerance * expected.abs().max().item()
    assert error <= bound, f"largest difference {error:.3g}, allowed {bound:.3g}"


@torch.no_grad()
def features(pet: PetViT, images: Tensor) -> Tensor:
    return pet(images)


def test_plain_features_equal_the_released_code(reference: dict[str, Tensor], vit: VisionTransformer) -> None:
    assert_close(features(attach(vit, "none", generator=None), reference["x"]), reference["features_base"])


def test_adapter_equals_the_released_code(reference: dict[str, Tensor], vit: VisionTransformer) -> None:
    pet = attach(vit, "adapter", generator=generator(0), bottleneck=8)
    pet.load_pet_state({name: reference[f"adapter/{name.replace('adapter.', '')}"] for name in pet.pet_state()})
    assert_close(features(pet, reference["x"]), reference["features_adapter"])


def released_ssf_names() -> Iterator[tuple[str, str, int]]:
    """Yield (our module, the released code's module, its number there) for the three-block ViT."""
    yield "patch_embed.proj", "patch_embed.", 1
    yield "norm", "", 1
    for block in ("blocks.0.", "blocks.1.", "blocks.2."):
        yield f"{block}norm1", block, 1
        yield f"{block}norm2", block, 2
        yield f"{block}attn.qkv", f"{block}attn.", 1
        yield f"{block}attn.proj", f"{block}attn.", 2
        yield f"{block}mlp.fc1", f"{block}mlp.", 1
        yield f"{block}mlp.fc2", f"{block}mlp.", 2


def test_ssf_equals_the_released_code(reference: dict[str, Tensor], vit: VisionTransformer) -> None:
    pet = attach(vit, "ssf", generator=generator(0))
    state = {
        f"{ours}.{kind}": reference[f"ssf/{theirs}ssf_{kind}_{number}"]
        for ours, theirs, number in released_ssf_names()
        for kind in ("scale", "shift")
    }
    pet.load_pet_state(state)
    assert_close(features(pet, reference["x"]), reference["features_ssf"])


def test_vpt_deep_equals_the_released_code(reference: dict[str, Tensor], vit: VisionTransformer) -> None:
    pet = attach(vit, "vpt_deep", generator=None)
    pet.load_pet_state({f"blocks.{i}.prompts": prompts for i, prompts in enumerate(reference["vpt/prompts"])})
    assert_close(features(pet, reference["x"]), reference["features_vpt"])


def test_vpt_shallow_equals_a_plain_loop(vit: VisionTransformer, images: Tensor) -> None:
    vit, images = vit.double(), images.double()
    prompts = torch.randn(4, 32, generator=generator(1), dtype=torch.float64)
    pet = attach(vit, "vpt_shallow", generator=None, prompts=4)
    pet.load_pet_state({"blocks.0.prompts": prompts})
    with torch.no_grad():
        tokens = vit._pos_embed(vit.patch_embed(images))
        tokens = torch.cat([tokens, torch.stack([prompts] * len(images))], dim=1)
        for block in vit.blocks:
            tokens = block(tokens)
        expected = vit.norm(tokens)[:, 0]
    assert_close(features(pet, images), expected, 1e-12)


def test_lora_equals_merged_weights(vit: VisionTransformer, images: Tensor) -> None:
    vit, images = vit.double(), images.double()
    pet = attach(vit, "lora", generator=generator(2), rank=3, alpha=6.0)
    draw = generator(3)
    state = {name: torch.randn(p.shape, generator=draw, dtype=p.dtype) * 0.1 for name, p in pet.pet_state().items()}
    pet.load_pet_state(state)
    merged = copy.deepcopy(vit)
    with torch.no_grad():
        for i, block in enumerate(merged.blocks):
            name = f"blocks.{i}.attn.qkv"
            block.attn.qkv.weight += 6.0 / 3 * state[f"{name}.lora_b"] @ state[f"{name}.lora_a"]
        expected = merged(images)
    assert_close(features(pet, images), expected, 1e-12)


def test_ssf_starts_near_the_identity(vit: VisionTransformer) -> None:
    state = attach(vit, "ssf", generator=generator(4)).pet_state()
    scales = torch.cat([value for name, value in state.items() if name.endswith("scale")])
    shifts = torch.cat([value for name, value in state.items() if name.endswith("shift")])
    # 1216 draws each: the mean of N(m, 0.02) lies within 0.003 of m (5 standard errors), its deviation within 10 %.
    for values, mean in ((scales, 1.0), (shifts, 0.0)):
        assert values.mean().item() == pytest.approx(mean, abs=0.003)
        assert values.std().item() == pytest.approx(0.02, rel=0.1)
