"""What every registered PET kind must do, whatever it computes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.pet import PetViT, attach, kinds
from safe.seeding import generator

BLOCKS = range(3)
SSF_MODULES = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
SSF_PLACES = ["patch_embed.proj", *(f"blocks.{i}.{name}" for i in BLOCKS for name in SSF_MODULES), "norm"]
NAMES = {
    "none": [],
    "adapter": [f"blocks.{i}.adapter.{p}_proj.{w}" for i in BLOCKS for p in ("down", "up") for w in ("weight", "bias")],
    "ssf": [f"{place}.{name}" for place in SSF_PLACES for name in ("scale", "shift")],
    "vpt_deep": [f"blocks.{i}.prompts" for i in BLOCKS],
    "vpt_shallow": ["blocks.0.prompts"],
    "lora": [f"blocks.{i}.attn.qkv.{name}" for i in BLOCKS for name in ("lora_a", "lora_b")],
}
NAMES["full"] = [
    *("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"),
    *(f"blocks.{i}.{name}.{w}" for i in BLOCKS for name in SSF_MODULES for w in ("weight", "bias")),
]
TRAINED = [kind for kind in NAMES if kind != "none"]
SHARING = [kind for kind in NAMES if kind != "full"]  # full fine-tuning has weights of its own
EXACT_AT_START = ["none", "adapter", "lora", "full"]

# Unusual ViTs: averaging after registers, no class token; CLIP's norm before the blocks; layer scale.
VARIANTS: dict[str, dict[str, Any]] = {
    "average": {"class_token": False, "global_pool": "avg", "reg_tokens": 2, "init_values": 0.1},
    "clip": {"pre_norm": True, "reg_tokens": 4, "no_embed_class": True},
}


def build(vit: VisionTransformer, kind: str, seed: int = 0) -> PetViT:
    pet = attach(vit, kind, generator=generator(seed, "pet"))
    pet.set_dropout_generator(generator(seed, "dropout"))
    return pet


def train_step(pet: PetViT, images: Tensor) -> None:
    """Take one step, far enough to see, on every PET parameter; the kind `none` has none."""
    output = pet.train()(images)
    parameters = list(pet.pet_parameters().values())
    if parameters:
        gradients = torch.autograd.grad(output.square().sum(), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(1e-2 * gradient.clamp(-1, 1))
    pet.eval()


def features(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.no_grad():
        return network(images)


def storages(*networks: torch.nn.Module) -> dict[int, int]:
    """Return bytes by address over all parameters of the networks."""
    return {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for net in networks for p in net.parameters()}


def test_every_kind_has_an_expected_list_of_names() -> None:
    assert set(kinds()) == set(NAMES)


@pytest.mark.parametrize("kind", NAMES)
def test_exactly_the_named_parameters_are_new_and_train(vit: VisionTransformer, kind: str) -> None:
    frozen = {id(parameter) for parameter in vit.parameters()}
    pet = build(vit, kind)
    assert sorted(pet.pet_parameter_names()) == sorted(NAMES[kind])
    assert list(pet.pet_parameters()) == list(pet.pet_parameter_names())
    trained = {id(parameter) for parameter in pet.pet_parameters().values()}
    assert {id(p) for p in pet.parameters() if p.requires_grad} == trained
    assert {id(p) for p in pet.parameters() if not p.requires_grad} == (frozen if kind in SHARING else set())
    assert not trained & frozen


@pytest.mark.parametrize("kind", NAMES)
def test_the_base_stays_as_it_was_bit_for_bit(vit: VisionTransformer, images: Tensor, kind: str) -> None:
    state, modules = copy.deepcopy(vit.state_dict()), [name for name, _ in vit.named_modules()]
    before = features(vit, images)
    pet = build(vit, kind)
    train_step(pet, images)
    assert pet.base is vit
    assert not vit.training
    assert [name for name, _ in vit.named_modules()] == modules
    assert all(torch.equal(value, state[name]) for name, value in vit.state_dict().items())
    assert torch.equal(features(pet.base, images), before)


@pytest.mark.parametrize("kind", TRAINED)
def test_gradients_reach_all_pet_parameters_and_no_other(vit: VisionTransformer, images: Tensor, kind: str) -> None:
    pet = build(vit, kind).train()
    pet(images).square().sum().backward()
    with_gradient = [name for name, parameter in pet.vit.named_parameters() if parameter.grad is not None]
    assert with_gradient == list(pet.pet_parameter_names())


@pytest.mark.parametrize("kind", NAMES)
def test_saved_state_gives_identical_features(vit: VisionTransformer, images: Tensor, kind: str) -> None:
    pet, other = build(vit, kind), build(vit, kind, seed=1)
    train_step(pet, images)
    other.load_pet_state(pet.pet_state())
    assert torch.equal(features(other, images), features(pet, images))


@pytest.mark.parametrize("kind", TRAINED)
def test_a_state_that_does_not_fit_is_named_and_not_loaded(vit: VisionTransformer, kind: str) -> None:
    pet = build(vit, kind)
    before = pet.pet_state()
    first, *rest = before
    bad = {name: before[name] + 1 for name in rest} | {"blocks.7.other": torch.zeros(1)}
    with pytest.raises(ValueError, match=f"missing {first}.*unexpected blocks.7.other"):
        pet.load_pet_state(bad)
    with pytest.raises(ValueError, match=rf"{first} has shape \(1,\), expected"):
        pet.load_pet_state(before | {first: torch.zeros(1)})
    assert all(torch.equal(value, before[name]) for name, value in pet.pet_state().items())


@pytest.mark.parametrize("kind", NAMES)
def test_learners_share_the_memory_of_one_backbone(vit: VisionTransformer, kind: str) -> None:
    slow = build(vit, kind)
    fast, other = slow.clone(), build(vit, kind, seed=1)
    pet_bytes = sum(p.numel() * p.element_size() for p in slow.pet_parameters().values())
    assert sum(storages(vit, slow, fast, other).values()) == sum(storages(vit).values()) + 3 * pet_bytes
    assert (set(storages(vit)) <= set(storages(fast))) == (kind in SHARING)


@pytest.mark.parametrize("kind", EXACT_AT_START)
def test_the_start_is_exactly_the_pretrained_network(vit: VisionTransformer, images: Tensor, kind: str) -> None:
    assert torch.equal(features(build(vit, kind), images), features(vit, images))


@pytest.mark.parametrize("kind", TRAINED)
def test_a_clone_is_equal_and_independent(vit: VisionTransformer, images: Tensor, kind: str) -> None:
    slow = build(vit, kind)
    train_step(slow, images)
    fast, before = slow.clone(), features(slow, images)
    assert fast.base is vit
    assert fast.pet_parameter_names() == slow.pet_parameter_names()
    assert torch.equal(features(fast, images), before)
    fast.set_dropout_generator(generator(1))
    train_step(fast, images)
    assert not torch.equal(features(fast, images), before)
    assert torch.equal(features(slow, images), before)


@pytest.mark.parametrize("kind", NAMES)
def test_randomness_comes_from_the_given_generators_only(vit: VisionTransformer, images: Tensor, kind: str) -> None:
    state = torch.random.get_rng_state()
    first = build(vit, kind).train()
    first_features = first(images)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        second = build(vit, kind).train()
        second_features = second(images)
    assert all(torch.equal(value, second.pet_state()[name]) for name, value in first.pet_state().items())
    assert torch.equal(first_features, second_features)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", NAMES)
def test_unusual_vits(images: Tensor, kind: str, variant: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3}
        vit = VisionTransformer(num_classes=0, **sizes, **VARIANTS[variant]).eval()
    pet = build(vit, kind)
    assert pet.embed_dim == 24
    assert features(pet, images).shape == (6, 24)
    if kind in EXACT_AT_START:
        assert torch.equal(features(pet, images), features(vit, images))
    if kind != "none":
        train_step(pet, images)
        assert not torch.equal(features(pet, images), features(vit, images))


@pytest.mark.parametrize("kind", ["none", "full"])
def test_a_classifier_in_the_model_is_left_out(vit: VisionTransformer, images: Tensor, kind: str) -> None:
    expected = features(vit, images)
    vit.reset_classifier(7)
    pet = build(vit, kind)
    assert torch.equal(features(pet, images), expected)
    assert sorted(pet.pet_parameter_names()) == sorted(NAMES[kind])
