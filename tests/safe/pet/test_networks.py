"""Every kind of PET on every family of pre-trained ViTs: what it trains and leaves alone, and how files are loaded.

Networks have the wiring of their tags and random weights; depth and width are cut, so that they take milliseconds. With
`DINOV2_WEIGHTS=<file>` the real DINOv2 S/14 runs too, at its whole depth.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.backbones.loading import load_backbone, weights_digest
from safe.config import Config
from safe.data.sources import Dataset
from safe.pet.registry import kinds
from safe.seeding import generator
from safe.training.trainer import SafeTrainer

DINOV2 = "vit_small_patch14_dinov2.lvd142m"
REAL = os.environ.get("DINOV2_WEIGHTS", "")
CUT = {"depth": 2, "embed_dim": 48, "num_heads": 3}


@dataclass(frozen=True)
class Network:
    """A tag, the size at which it runs here, and what sets it apart: pooling, tokens before the patches, modules."""

    tag: str
    size: int
    pool: str = "token"
    prefix: int = 1
    modules: tuple[str, ...] = ()


NETWORKS = {
    "registers": Network("vit_base_patch14_reg4_dinov2.lvd142m", 56, prefix=5, modules=("LayerScale",)),
    "CLIP": Network("vit_base_patch16_clip_quickgelu_224.openai", 64, modules=("QuickGELU",)),
    "SigLIP": Network("vit_base_patch16_siglip_224.webli", 64, "map", 0, ("AttentionPoolLatent",)),
    "MAE": Network("vit_base_patch16_224.mae", 64),
    "augreg at 224": Network("vit_base_patch16_224.augreg_in21k", 224),
    "augreg at 384": Network("vit_base_patch16_384.augreg_in21k_ft_in1k", 384),
    "DINOv2": Network(DINOV2, 98, modules=("LayerScale",)),
}


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timm build networks of two narrow blocks."""
    whole = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *names, **settings: whole(*names, **CUT, **settings))


def strong(vit: VisionTransformer) -> VisionTransformer:
    """Return a network whose every weight has a say, as after training: a fresh LayerScale is 1e-5."""
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            if "norm" not in name:
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
                parameter.normal_(0, fan_in**-0.5, generator=generator(0, name))
    return vit


def views(size: int) -> Tensor:
    return torch.rand(4, 3, size, size, generator=generator(1))


# How many parameters each kind trains: per block, beside the blocks, in all of these networks.
TRAINED: dict[str, Callable[[VisionTransformer], int]] = {
    "none": lambda vit: 0,
    "adapter": lambda vit: 4 * len(vit.blocks),  # two weights, two biases
    "ssf": lambda vit: 2 * (6 * len(vit.blocks) + 2),  # six modules of a block, patch projection and final norm
    "vpt_deep": lambda vit: len(vit.blocks),
    "vpt_shallow": lambda vit: 1,
    "lora": lambda vit: 2 * len(vit.blocks),
    "full": lambda vit: len(list(vit.parameters())),
}


def step_changes_pet_and_head_alone(
    config: Config, dataset: Dataset, vit: VisionTransformer, changed_at_once: bool
) -> None:
    """One gradient step of session 1: the output moves, and of all parameters only the head's and those PET names."""
    before = weights_digest(vit)
    trainer = SafeTrainer(config, dataset, vit)
    net, x = trainer.slow.net, views(trainer.inputs.seen.size)
    names = net.pet_parameter_names()
    assert len(names) == TRAINED[config.pet.kind](vit)
    with torch.no_grad():
        first, plain = net(x), vit(x)
    assert first.shape == (len(x), vit.num_features)
    # Kinds that begin as the pre-trained network are it, up to the rounding of the last block; the others are not.
    distance = (first - plain).abs().max() / plain.abs().max()
    assert (distance > 1e-5) if changed_at_once else (distance < 1e-5)
    kept = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    rows = trainer.slow.head.rows.detach().clone()

    trainer.advance()

    changed = {name for name, parameter in net.named_parameters() if not torch.equal(parameter, kept[name])}
    assert changed <= {f"vit.{name}" for name in names}
    assert bool(changed) == bool(names)
    assert not torch.equal(trainer.slow.head.rows, rows)
    with torch.no_grad():
        moved = (net(x) - first).abs().max() / first.abs().max()
    assert (moved > 1e-6) if names else (moved == 0)
    assert weights_digest(vit) == before


ONE_STEP = {"slow.epochs": 1, "slow.batch_size": 16, "slow.lr": 0.1}
CHANGED_AT_ONCE = ("ssf", "vpt_deep", "vpt_shallow")  # they draw factors, or add tokens that take attention


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("family", NETWORKS)
def test_one_step_changes_pet_and_head_alone(
    make_config: Callable[..., Config], make_dataset: Callable[..., Dataset], family: str, kind: str
) -> None:
    network = NETWORKS[family]
    vit = strong(load_backbone(network.tag, "random", image_size=network.size))
    config = make_config({**ONE_STEP, "pet.kind": kind, "backbone.input_norm": "pretrained"})
    step_changes_pet_and_head_alone(config, make_dataset(2, 4, 1), vit, kind in CHANGED_AT_ONCE)


def test_all_kinds_are_tried() -> None:
    assert set(TRAINED) == set(kinds())


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("family", NETWORKS)
def test_a_file_of_timm_is_loaded_at_another_size(tmp_path: Path, family: str) -> None:
    """Files as timm publishes them, with a classifier that is not used, at the size of the tag."""
    network = NETWORKS[family]
    published = strong(timm.create_model(network.tag, pretrained=False, num_classes=3)).eval()
    save_file(published.state_dict(), tmp_path / "weights.safetensors")
    vit = load_backbone(network.tag, str(tmp_path / "weights.safetensors"), image_size=network.size)
    assert (vit.global_pool, vit.num_prefix_tokens) == (network.pool, network.prefix)
    assert {type(module).__name__ for module in vit.modules()} >= set(network.modules)
    expected = dict(published.state_dict())
    prefix = 0 if getattr(vit, "no_embed_class", False) else network.prefix
    grid = list(vit.patch_embed.grid_size)
    expected["pos_embed"] = resample_abs_pos_embed(expected["pos_embed"], grid, num_prefix_tokens=prefix)
    for name, value in vit.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert (grid == list(published.patch_embed.grid_size)) == (network.size == published.patch_embed.img_size[0])


@pytest.mark.skipif(not REAL, reason="DINOV2_WEIGHTS names no file with the weights of DINOv2 S/14 in timm's names")
@pytest.mark.parametrize("size", [56, 98, 224])
def test_every_kind_on_the_real_dinov2(
    make_config: Callable[..., Config], make_dataset: Callable[..., Dataset], size: int
) -> None:
    vit = load_backbone(DINOV2, REAL, image_size=size)
    dataset = make_dataset(2, 4, 1)
    for kind in TRAINED:
        settings: dict[str, Any] = {**ONE_STEP, "pet.kind": kind, "pet.scale": 0.1, "pet.bottleneck": 64}
        step_changes_pet_and_head_alone(make_config(settings), dataset, vit, kind in CHANGED_AT_ONCE)
