"""Refusals of `attach`, the registry, and dropout."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torch import Tensor, nn

from safe.errors import UserError
from safe.pet import attach, kinds, register, settings_of
from safe.pet.base import GeneratorDropout
from safe.seeding import generator


def test_unknown_kind_names_the_choices_and_the_nearest(vit: VisionTransformer) -> None:
    with pytest.raises(UserError, match=r"unknown PET kind 'adaptor'; choose one of: .*vpt_deep.*mean 'adapter'\?"):
        attach(vit, "adaptor", generator=None)


def test_unknown_setting_names_the_nearest(vit: VisionTransformer) -> None:
    with pytest.raises(UserError, match=r"unknown setting of the PET kind 'adapter' 'botleneck'.*mean 'bottleneck'"):
        attach(vit, "adapter", generator=generator(0), botleneck=8)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("adapter", {"bottleneck": 0}, "pet.bottleneck: Input should be greater than or equal to 1, got 0"),
        ("adapter", {"bottleneck": 1.5}, "pet.bottleneck: Input should be a valid integer, got 1.5"),
        ("adapter", {"scale": float("nan")}, "pet.scale: Input should be a finite number, got nan"),
        ("adapter", {"dropout": 1.0}, "pet.dropout: Input should be less than 1, got 1.0"),
        ("vpt_deep", {"prompts": 0}, "pet.prompts: Input should be greater than or equal to 1, got 0"),
        ("vpt_shallow", {"prompts": True}, "pet.prompts: Input should be a valid integer, got True"),
        ("lora", {"rank": -1}, "pet.rank: Input should be greater than or equal to 1, got -1"),
        ("lora", {"alpha": 0.0}, "pet.alpha: Input should be greater than 0, got 0.0"),
    ],
)
def test_bad_settings(vit: VisionTransformer, kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        attach(vit, kind, generator=generator(0), **settings)


def test_a_kind_has_the_settings_that_its_function_names_and_their_defaults_are_the_configurations(
    vit: VisionTransformer,
) -> None:
    assert settings_of("adapter") == ("bottleneck", "scale", "dropout")
    assert settings_of("lora") == ("rank", "alpha")
    assert settings_of("vpt_deep") == settings_of("vpt_shallow") == ("prompts",)
    assert settings_of("none") == settings_of("ssf") == settings_of("full") == ()
    shapes = {tuple(p.shape) for p in attach(vit, "adapter", generator=generator(0)).pet_parameters().values()}
    assert shapes == {(64, 32), (64,), (32, 64), (32,)}


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind != "none"])
def test_on_meta_a_kind_has_the_same_weights_and_takes_no_memory(
    vit: VisionTransformer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {name: p.shape for name, p in attach(vit, kind, generator=generator(0)).pet_parameters().items()}
    plain = copy.deepcopy(vit).to("meta")
    monkeypatch.setattr(VisionTransformer, "to", lambda tuned, **_: tuned)  # what is moved afterwards was somewhere
    nowhere = attach(plain, kind, generator=generator(0)).pet_parameters()
    assert {name: p.shape for name, p in nowhere.items()} == there
    assert all(p.is_meta for p in nowhere.values())


def test_registering_a_name_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'adapter' is already registered"):
        register("adapter")(lambda vit, generator: None)


@pytest.mark.parametrize("kind", ["adapter", "ssf", "lora"])
def test_kinds_that_draw_need_a_generator(vit: VisionTransformer, kind: str) -> None:
    with pytest.raises(ValueError, match=f"'{kind}' draws its initial values"):
        attach(vit, kind, generator=None)


@pytest.mark.parametrize("kind", ["adapter", "vpt_deep", "vpt_shallow", "lora"])
def test_attaching_to_nothing_is_an_error(vit: VisionTransformer, kind: str) -> None:
    vit.blocks = nn.Sequential()
    with pytest.raises(UserError, match="found nothing to attach to"):
        attach(vit, kind, generator=generator(0))


def test_only_a_pooling_vision_transformer_is_accepted(vit: VisionTransformer) -> None:
    with pytest.raises(UserError, match="timm VisionTransformer, got Linear"):
        attach(nn.Linear(2, 2), "none", generator=None)
    vit.global_pool = ""
    with pytest.raises(UserError, match="does not pool"):
        attach(vit, "none", generator=None)


@pytest.mark.parametrize("kind", ["adapter", "ssf"])
def test_differently_wired_blocks_are_refused(kind: str) -> None:
    with torch.random.fork_rng(devices=[]):
        vit = VisionTransformer(
            img_size=16, patch_size=8, embed_dim=8, depth=1, num_heads=2, num_classes=0, block_fn=ResPostBlock
        )
    with pytest.raises(UserError, match=r"pre-norm Block .* this model has ResPostBlock"):
        attach(vit, kind, generator=generator(0))


def test_training_with_dropout_needs_a_generator(vit: VisionTransformer, images: Tensor) -> None:
    pet = attach(vit, "adapter", generator=generator(0))
    pet.set_dropout_generator(generator(1))
    fast = pet.clone().train()
    with pytest.raises(RuntimeError, match=r"no generator in train mode: call set_dropout_generator"):
        fast(images)
    attach(vit, "adapter", generator=generator(0), dropout=0.0).train()(images)


def test_dropout_masks_come_from_the_generator() -> None:
    dropout = GeneratorDropout(0.25)
    x = torch.full((1000, 10), 3.0)
    assert dropout.eval()(x) is x
    dropout.train().generator = generator(5)
    y = dropout(x)
    expected = torch.empty_like(x).bernoulli_(0.75, generator=generator(5))
    assert torch.equal(y, expected * 4.0)
    assert (y != 0).float().mean().item() == pytest.approx(0.75, abs=0.022)  # 5 standard errors of 10 000 draws
    assert not torch.equal(dropout(x), y)


def test_train_leaves_the_frozen_network_in_eval_mode(vit: VisionTransformer) -> None:
    pet = attach(vit, "adapter", generator=generator(0)).train()
    training = [type(module) for module in pet.vit.modules() if module.training]
    assert pet.training
    assert training == [GeneratorDropout] * 3
    assert not any(module.training for module in pet.eval().modules())
