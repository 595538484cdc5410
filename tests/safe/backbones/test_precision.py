"""Passes in bf16: which attention they take where gradients may be wanted, which changes rounding alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.backbones.precision import FEW_PATCHES, LoweredNet, autocast, bf16_hint
from safe.pet import attach, class_token_alone
from safe.seeding import generator


def network(side: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vit = VisionTransformer(
            img_size=8 * side, patch_size=8, embed_dim=32, depth=3, num_heads=2, num_classes=0, mlp_ratio=2
        )
    return attach(class_token_alone(vit), "lora", generator=generator(0, "pet"), rank=2)


def operations(features: Tensor) -> set[str]:
    """Return the names of all operations behind a tensor."""
    seen, left = set(), [features.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [parent for parent, _ in node.next_functions]
    return {type(node).__name__ for node in seen}


@pytest.mark.parametrize(("side", "fused"), [(7, False), (8, False), (9, True)])
def test_attention_of_few_patches_is_plain_in_bf16_and_differs_by_rounding(side: int, fused: bool) -> None:
    assert FEW_PATCHES == 8 * 8
    net = network(side)
    images = torch.rand(2, 3, 8 * side, 8 * side, generator=generator(1))
    gradients = []
    for forward in (LoweredNet(net), net):
        with autocast(images.device, "bf16"):
            features = forward(images)
        if isinstance(forward, LoweredNet):
            assert ("ScaledDotProductFlashAttentionForCpuBackward0" in operations(features)) is fused
        parameters = list(net.pet_parameters().values())
        gradients.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(features.float().square().sum(), parameters)])
        )
    ours, theirs = gradients
    assert (ours - theirs).norm() <= 0.03 * theirs.norm() > 0


def test_the_frozen_network_in_bf16_gives_float32() -> None:
    net = network(2)
    images = torch.rand(2, 3, 16, 16, generator=generator(1))
    features = LoweredNet(net).base(images)
    assert features.dtype == torch.float32
    assert 0 < (features - net.base(images)).norm() <= 0.03 * features.norm()


@pytest.mark.parametrize(
    ("setting", "device", "width", "present", "told"),
    [
        ("auto", "cpu", 384, {"avx512_bf16": True}, "AVX512-BF16"),
        ("float32", "cpu", 768, {"avx512_bf16": True, "amx_bf16": True}, "AMX"),
        ("auto", "cpu", 383, {"avx512_bf16": True}, None),
        ("auto", "cpu", 384, {"avx512_f": True, "avx512_bf16": False}, None),
        ("bf16", "cpu", 384, {"avx512_bf16": True}, None),
        ("auto", "cuda", 384, {"avx512_bf16": True}, None),
    ],
)
def test_bf16_is_named_where_it_pays(
    monkeypatch: pytest.MonkeyPatch, setting: str, device: str, width: int, present: dict[str, bool], told: str | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: present, raising=False)
    line = "runtime.precision=bf16 is likely to be faster on this processor, which has "
    assert bf16_hint(setting, torch.device(device), width) == (f"{line}{told}" if told else "")


def test_a_torch_that_cannot_tell_gives_no_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert bf16_hint("auto", torch.device("cpu"), 768) == ""
