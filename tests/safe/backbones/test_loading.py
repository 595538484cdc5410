"""Loading the frozen network: names, local weights, and what a person reads when there are none."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from safe.backbones import loading as backbone
from safe.backbones.loading import load_backbone, weights_digest
from safe.errors import UserError
from safe.seeding import generator

TINY = "test_vit.r160_in1k"  # timm's own test architecture: width 64, six blocks, patches of 16
SIZE = 32


def tiny(**settings: Any) -> VisionTransformer:
    return load_backbone(TINY, image_size=SIZE, **settings)


def features(vit: VisionTransformer) -> Tensor:
    with torch.no_grad():
        return vit(torch.rand(2, 3, SIZE, SIZE, generator=generator(0)))


def save(vit: VisionTransformer, path: Path, changes: dict[str, Tensor | None] | None = None) -> str:
    """Write the network's tensors with some replaced, added or (None) left out."""
    state = {name: value for name, value in (vit.state_dict() | (changes or {})).items() if value is not None}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


def save_jax(vit: VisionTransformer, path: Path) -> str:
    """Write Google's JAX layout: kernels (in, out) or (H, W, in, out), attention split by heads."""
    state = {name: value.numpy() for name, value in vit.state_dict().items()}
    width, heads = vit.embed_dim, vit.blocks[0].attn.num_heads
    split = (width, heads, width // heads)
    arrays = {
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
    }
    for i in range(len(vit.blocks)):
        ours, theirs = f"blocks.{i}.", f"Transformer/encoderblock_{i}/"
        for norm, number in (("norm1", 0), ("norm2", 2)):
            arrays[f"{theirs}LayerNorm_{number}/scale"] = state[f"{ours}{norm}.weight"]
            arrays[f"{theirs}LayerNorm_{number}/bias"] = state[f"{ours}{norm}.bias"]
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        weights, biases = np.split(state[f"{ours}attn.qkv.weight"], 3), np.split(state[f"{ours}attn.qkv.bias"], 3)
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            arrays[f"{attention}{part}/kernel"] = weight.T.reshape(split)
            arrays[f"{attention}{part}/bias"] = bias.reshape(split[1:])
        arrays[f"{attention}out/kernel"] = state[f"{ours}attn.proj.weight"].T.reshape(*split[1:], width)
        arrays[f"{attention}out/bias"] = state[f"{ours}attn.proj.bias"]
        for number in (0, 1):
            arrays[f"{theirs}MlpBlock_3/Dense_{number}/kernel"] = state[f"{ours}mlp.fc{number + 1}.weight"].T
            arrays[f"{theirs}MlpBlock_3/Dense_{number}/bias"] = state[f"{ours}mlp.fc{number + 1}.bias"]
    np.savez(path, **arrays)
    return str(path)


def test_random_weights_are_frozen_and_follow_their_seed_only() -> None:
    state = torch.random.get_rng_state()
    first, other = tiny(weights="random", seed=1), tiny(weights="random", seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert weights_digest(first) == weights_digest(tiny(weights="random", seed=1)) != weights_digest(other)
    assert not first.training
    assert first.num_classes == 0
    assert all(not p.requires_grad and p.dtype == torch.float32 for p in first.parameters())
    assert features(first).shape == (2, 64)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
def test_a_local_copy_gives_the_same_network(tmp_path: Path, suffix: str) -> None:
    vit = tiny(weights="random", seed=3)
    path = tmp_path / f"weights{suffix}"
    loaded = tiny(weights=save_jax(vit, path) if suffix == ".npz" else save(vit, path))
    assert weights_digest(loaded) == weights_digest(vit)
    assert torch.equal(features(loaded), features(vit))


def test_weights_placed_under_the_data_root_come_before_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fetched(name: str) -> Path:
        raise UserError(f"asked the cache for {name}")

    monkeypatch.setattr(backbone, "_fetch", fetched)
    placed = backbone.weights_file(tmp_path, TINY)
    assert placed == tmp_path / "weights" / f"{TINY}.safetensors"
    with pytest.raises(UserError, match=f"asked the cache for {TINY}"):
        tiny(folder=tmp_path)
    placed.parent.mkdir()
    own = tiny(weights="random", seed=4)
    save(own, placed)
    assert weights_digest(tiny(folder=tmp_path)) == weights_digest(own)
    assert weights_digest(tiny(folder=tmp_path, weights="random", seed=5)) != weights_digest(own)


def test_a_local_copy_may_hold_a_classifier_and_another_image_size(tmp_path: Path) -> None:
    vit = load_backbone(TINY, "random", image_size=64)
    path = save(vit, tmp_path / "weights.safetensors", {"head.weight": torch.zeros(5, 64)})
    loaded = tiny(weights=path)
    assert loaded.pos_embed.shape == (1, 5, 64)
    assert vit.pos_embed.shape == (1, 17, 64)
    assert torch.equal(loaded.blocks[0].mlp.fc1.weight, vit.blocks[0].mlp.fc1.weight)


def test_a_local_copy_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    vit, path = tiny(weights="random"), tmp_path / "weights.safetensors"
    whole = len(vit.state_dict())
    with pytest.raises(
        UserError, match=rf"fits {whole - 1} of {whole} .*; missing: norm.bias; not known here: blocks.9.x$"
    ):
        tiny(weights=save(vit, path, {"norm.bias": None, "blocks.9.x": torch.zeros(1)}))
    with pytest.raises(
        UserError, match=rf"{whole - 1} of {whole} .*; of another shape: norm.bias \[3\] instead of \[64\]$"
    ):
        tiny(weights=save(vit, path, {"norm.bias": torch.zeros(3)}))
    path.write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="could not be loaded into this network"):
        tiny(weights=str(path))
    with pytest.raises(UserError, match="weights=/no/such/file is not a file"):
        tiny(weights="/no/such/file")
    other = tmp_path / "weights.h5"
    other.touch()
    with pytest.raises(UserError, match=r"expected .safetensors, .npz or .pth"):
        tiny(weights=str(other))


@pytest.mark.parametrize("prefix", ["encoder.", "model.", "module.encoder.", "net.vit."])
def test_a_prefix_that_hides_weights_is_named(tmp_path: Path, prefix: str) -> None:
    state = tiny(weights="random").state_dict()
    whole, path = len(state), tmp_path / "weights.safetensors"
    save_file({prefix + name: value for name, value in state.items()} | {"epoch": torch.zeros(1)}, path)
    with pytest.raises(UserError) as refused:
        tiny(weights=str(path))
    rest = prefix.removeprefix("module.")  # timm takes that one away
    known, foreign, hint = str(refused.value).split("; ")[1:]
    assert str(refused.value).startswith(f"backbone.weights={path} fits 0 of {whole} tensors of this network; ")
    assert known == f"missing: cls_token, pos_embed, patch_embed.proj.weight and {whole - 3} more"
    assert re.fullmatch(rf"not known here: [\w.]+, [\w.]+, [\w.]+ and {whole - 2} more", foreign)
    assert hint == (
        f"without the prefix {rest!r} of their names {whole} would fit: save the file again with "
        f"{{name.removeprefix({rest!r}): tensor}}"
    )


def test_weights_wrapped_by_data_parallel_training_fit(tmp_path: Path) -> None:
    vit = tiny(weights="random", seed=3)
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in vit.state_dict().items()}}, tmp_path / "w.pth"
    )
    assert weights_digest(tiny(weights=str(tmp_path / "w.pth"))) == weights_digest(vit)


def test_weights_of_a_larger_network_are_refused_in_a_line(tmp_path: Path) -> None:
    """Of every kind that may differ, three names; the file is given, and no network is left half filled."""
    other = load_backbone("vit_tiny_patch16_224.augreg_in21k", "random")
    for suffix in (".safetensors", ".pth"):
        with pytest.raises(UserError, match=r"fits \d+ of \d+ tensors") as refused:
            tiny(weights=save(other, tmp_path / f"weights{suffix}"))
        assert len(str(refused.value)) < 700
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, value: float) -> None:
    vit = tiny(weights="random")
    bias = vit.state_dict()["blocks.3.mlp.fc1.bias"].clone()
    bias[:2] = value
    path = save(vit, tmp_path / "weights.safetensors", {"blocks.3.mlp.fc1.bias": bias})
    words = rf"2 of {len(bias)} values of the tensor blocks.3.mlp.fc1.bias are NaN or infinite"
    with pytest.raises(UserError, match=words):
        tiny(weights=path)
    vit.load_state_dict({"blocks.3.mlp.fc1.bias": bias}, strict=False)
    with pytest.raises(
        UserError, match="values of the array Transformer/encoderblock_3/MlpBlock_3/Dense_0/bias are NaN"
    ):
        tiny(weights=save_jax(vit, tmp_path / "weights.npz"))


def test_jax_weights_must_fill_the_whole_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_jax(tiny(weights="random"), tmp_path / "weights.npz")
    with pytest.raises(UserError, match="could not be loaded into this network"):
        load_backbone("vit_tiny_patch16_224.augreg_in21k", path, image_size=SIZE)
    # Layer scale has no place in Google's layout: such a network would stay partly random.
    layer_scale: dict[str, Any] = {"model_name": TINY, "img_size": SIZE, "num_classes": 0, "init_values": 0.1}
    monkeypatch.setattr(backbone, "_build", lambda *_, **__: timm.create_model(**layer_scale))
    with pytest.raises(
        UserError, match=r"fits \d+ of \d+ .*missing: blocks.0.ls1.gamma, blocks.0.ls2.gamma, .* and 9 more$"
    ):
        tiny(weights=path)


class Malicious:
    """Unpickling this writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "executed")


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_code_in_a_pickle_is_not_executed(tmp_path: Path, write: Any) -> None:
    target, path = tmp_path / "target", tmp_path / "weights.pth"
    write({"norm.bias": Malicious(target)}, path)
    with pytest.raises(UserError, match=r"weights_only=True blocked loading|could not be loaded"):
        tiny(weights=str(path))
    assert not target.exists()


def test_missing_weights_say_what_where_and_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(backbone, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(backbone, "get_hf_file_metadata", unreachable)
    with pytest.raises(UserError) as caught:
        load_backbone("vit_base_patch16_224.augreg_in21k")
    message = str(caught.value)
    assert "(no route to host)" in message
    assert "model.safetensors or pytorch_model.bin of https://huggingface.co/timm/vit_base_patch16_224" in message
    assert str(tmp_path) in message
    assert "backbone.weights=/path/to/file" in message


def test_cached_weights_need_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    vit = tiny(weights="random", seed=4)
    path = save(vit, tmp_path / "model.safetensors")
    monkeypatch.setattr(backbone, "try_to_load_from_cache", lambda repository, file: path)
    assert weights_digest(tiny()) == weights_digest(vit)


def test_weights_without_a_public_copy_name_their_source() -> None:
    with pytest.raises(UserError, match=r"timm keeps no copy.*Source: https://dl.fbaipublicfiles.com/ijepa/.*weights="):
        load_backbone("vit_huge_patch14_gap_224.in1k_ijepa")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_base_patch16_224", "different weights over time.*vit_base_patch16_224.augreg_in21k"),
        ("vit_base_patch16_224.augreg", "no weights 'augreg' for vit_base_patch16_224; .*augreg_in21k"),
        ("vit_bse_patch16_224.augreg_in21k", "unknown backbone .*mean 'vit_base_patch16_224.augreg_in21k'"),
        ("safe_smal_vit", "unknown backbone .*mean 'safe_small_vit'"),
        ("resnet50.a1_in1k", "not built on timm's VisionTransformer"),
        ("swin_tiny_patch4_window7_224.ms_in1k", "not built on timm's VisionTransformer"),
    ],
)
def test_names_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_backbone(name, "random")


@pytest.mark.parametrize("size", [0, 8, 40])
def test_image_size_must_be_a_multiple_of_the_patch_size(size: int) -> None:
    with pytest.raises(UserError, match=f"multiple of the patch size 16 of {TINY}, got {size}"):
        load_backbone(TINY, "random", image_size=size)


def test_the_project_s_own_vit() -> None:
    vit = load_backbone("safe_small_vit", "random")
    assert weights_digest(vit) == weights_digest(load_backbone("safe_small_vit", "random"))
    assert load_backbone("safe_small_vit", "random", image_size=64).patch_embed.grid_size == (8, 8)
    with torch.no_grad():
        assert vit(torch.zeros(1, 3, 32, 32)).shape == (1, vit.num_features)


def test_the_digest_sees_every_value_and_name() -> None:
    vit = tiny(weights="random")
    before = weights_digest(vit)
    assert len(before) == 64
    vit.blocks[5].norm2.bias[3] += 1e-6
    assert weights_digest(vit) != before
