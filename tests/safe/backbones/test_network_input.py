"""What the network is given: normalised pixels, resized pictures and resampled position embeddings, against timm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional

from safe.backbones.loading import load_backbone, skeleton
from safe.backbones.network_input import NetworkInput, described, network_input, pass_flops, token_count
from safe.backbones.resize import Resize
from safe.config import Config, completed, load_config
from safe.config.loading import preset
from safe.data.images import FileImages
from safe.data.sources import Dataset
from safe.data.transforms import network_view
from safe.errors import Notice, UserError
from safe.predictor import load_predictor
from safe.seeding import generator
from safe.states.checkpoint import load_state, save_state
from safe.training.build import build_learner, frozen_backbone
from safe.training.trainer import SafeTrainer

TINY = "vit_tiny_patch16_224.augreg_in21k"
DINOV2 = "vit_small_patch14_dinov2.lvd142m"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OWN = [[0.2, 0.3, 0.4], [0.5, 0.25, 0.125]]


@pytest.fixture(scope="module")
def timms() -> VisionTransformer:
    """timm's own network, random weights, blocks 3 to 12 left out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        vit = timm.create_model(TINY, pretrained=False, num_classes=0, depth=2)
    return vit.eval()


def pixels(*size: int) -> np.ndarray:
    return np.random.RandomState(sum(size)).randint(0, 256, (*size, 3)).astype(np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture as a camera takes it: no frequency that resizing could fold."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [127 + 120 * np.sin((i + 1) * x / 40 + i) * np.cos((3 - i) * y / 50) for i in range(3)]
    return np.stack(channels, axis=2).astype(np.uint8)


def ours(vit: VisionTransformer, files: list[str], seen: NetworkInput) -> tuple[Tensor, Tensor]:
    """What the network is given of image files, and the features that a learner without PET has of them."""
    images = FileImages(tuple(files), torch.zeros(len(files), dtype=torch.int64), seen.size, seen.resize)
    view = network_view(images.read(torch.arange(len(files))), seen)
    learner = build_learner(load_config(overrides={"pet.kind": "none"}), frozen_backbone(vit, CPU), 1, CPU)
    with torch.no_grad():
        return view, learner.net(view)


CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("sizes", "levels"),
    [
        ([(248, 248), (248, 301), (333, 248)], 0),  # already of the size that timm resizes to: the same bits
        ([(300, 300), (500, 375), (180, 260)], 2),  # Pillow and torch round resized pixels in their own ways
    ],
)
def test_views_and_features_are_those_of_timm(
    timms: VisionTransformer, tmp_path: Path, sizes: list[tuple[int, int]], levels: int
) -> None:
    transform = create_transform(**resolve_model_data_config(timms), is_training=False)
    pictures = [Image.fromarray(smooth(*size)) for size in sizes]
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    seen = network_input(timms)
    assert (seen.size, seen.mean, seen.std) == (224, (0.5,) * 3, (0.5,) * 3)
    assert seen.resize.side(224) == 248
    view, features = ours(timms, [str(tmp_path / f"{i}.png") for i in range(len(pictures))], seen)
    theirs = torch.stack([transform(picture) for picture in pictures])
    # A level of 255 is 2 / 255 after (x - 0.5) / 0.5.
    assert (view - theirs).abs().max() <= levels * 2 / 255 + 1e-6
    with torch.no_grad():
        expected = timms(theirs)
    scale = expected.abs().max()
    assert (features - expected).abs().max() <= (2e-6 if levels == 0 else 2e-2) * scale
    raw, _ = ours(timms, [str(tmp_path / "0.png")], network_input(timms, input_norm="none"))
    assert (raw[0] - (theirs[0] + 1) / 2).abs().max() <= (levels + 0.01) / 255


def test_normalised_pixels_equal_the_formula() -> None:
    image = pixels(32, 32)
    mean, std = (np.array(values) for values in IMAGENET)
    expected = (image.astype(np.float64) / 255 - mean) / std
    seen = NetworkInput(32, *IMAGENET)
    view = network_view(torch.from_numpy(image).permute(2, 0, 1)[None], seen)[0].permute(1, 2, 0)
    assert np.abs(view.numpy() - expected).max() < 1e-6
    unscaled = network_view(torch.from_numpy(image).permute(2, 0, 1)[None], NetworkInput(32))
    assert torch.equal(unscaled[0].permute(1, 2, 0), torch.from_numpy(image).float() / 255)


def test_training_views_are_normalised(make_config: Callable[..., Config], tiny_dataset: Dataset) -> None:
    vit = load_backbone("safe_small_vit", "random")
    plain, own = (
        SafeTrainer(make_config({"backbone.input_norm": norm, "backbone.weights": "random"}), tiny_dataset, vit)
        for norm in ("pretrained", OWN)
    )
    session = plain.stream.sessions[0]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in OWN)
    before, after = (list(trainer._steps.batches(session, 0, 7)) for trainer in (plain, own))
    assert len(before) == len(after) == -(-len(session.train) // 7)
    for (raw, _), (normalised, _) in zip(before, after, strict=True):
        assert 0 <= raw.min() < raw.max() <= 1
        assert torch.equal(normalised, (raw - mean) / std)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("safe_small_vit", NetworkInput(32, resize=Resize(0.86, "bicubic"))),
        (DINOV2, NetworkInput(518, *IMAGENET, resize=Resize(1.0, "bicubic"))),
        ("vit_base_patch16_224.augreg_in21k", NetworkInput(224, (0.5,) * 3, (0.5,) * 3, Resize(0.9, "bicubic"))),
        ("deit_base_patch16_224.fb_in1k", NetworkInput(224, *IMAGENET, resize=Resize(0.9, "bicubic"))),
    ],
)
def test_what_networks_were_trained_with(name: str, expected: NetworkInput) -> None:
    assert network_input(skeleton(name)) == expected
    side = {"safe_small_vit": 37, DINOV2: 518}.get(name, 248)
    assert expected.resize.side(expected.size) == side


@pytest.mark.parametrize(
    "dataset",
    ["cifar100", "cub200", "imagenet_r", "imagenet_a", "omnibenchmark", "vtab", "domainnet", "cars"],
)
def test_published_presets_see_what_they_saw(dataset: str) -> None:
    chosen = load_config(dataset).backbone
    seen = network_input(skeleton(chosen.name), chosen.image_size, chosen.input_norm, chosen.crop_pct)
    assert seen == NetworkInput(224, None, None, Resize(0.875, "bicubic"))
    assert seen.resize.side(224) == 256


def test_a_preset_s_word_about_its_network_is_not_one_about_another() -> None:
    other = load_config("cifar100", overrides={"backbone.name": DINOV2}).backbone
    assert (other.input_norm, other.crop_pct) == ("pretrained", "pretrained")
    same = load_config("cifar100", overrides={"backbone.name": "vit_base_patch16_224.augreg_in21k"}).backbone
    assert (same.input_norm, same.crop_pct) == ("none", 0.875)
    told = load_config("cifar100", overrides={"backbone.name": DINOV2, "backbone.input_norm": "none"}).backbone
    assert told.input_norm == "none"


def test_a_folder_without_a_backbone_is_told_what_is_trained(tmp_path: Path) -> None:
    with pytest.warns(Notice, match=rf"small ViT .* characters; .* backbone.name={DINOV2} backbone.image_size=224"):
        load_config(str(tmp_path))
    load_config(str(tmp_path), overrides={"backbone.name": "safe_small_vit"})  # a warning would be an error here
    load_config("glyphs")
    assert preset(str(tmp_path))["backbone.name"] == "safe_small_vit", "asked for to compare, which trains nothing"


# ---------------------------------------------------------------- size


@pytest.mark.parametrize(
    ("name", "size", "prefix"),
    [
        (TINY, 64, 1),
        (DINOV2, 56, 1),
        ("vit_small_patch14_reg4_dinov2.lvd142m", 98, 0),  # position embeddings of patches alone
    ],
)
def test_position_embeddings_are_resampled_as_by_timm(tmp_path: Path, name: str, size: int, prefix: int) -> None:
    from safetensors.torch import save_file
    from timm.layers import resample_abs_pos_embed

    whole = skeleton(name).state_dict()
    state = {key: torch.randn(value.shape, generator=generator(0, key)) for key, value in whole.items()}
    save_file(state, tmp_path / "weights.safetensors")
    vit = load_backbone(name, str(tmp_path / "weights.safetensors"), image_size=size)
    side = size // int(vit.patch_embed.feat_ratio())
    assert vit.patch_embed.grid_size == (side, side)
    expected = resample_abs_pos_embed(state["pos_embed"], [side, side], num_prefix_tokens=prefix)
    assert torch.equal(vit.pos_embed, expected)
    # The same by hand: the grid of the patches, bicubic with antialiasing.
    old = round((state["pos_embed"].shape[1] - prefix) ** 0.5)
    grid = state["pos_embed"][:, prefix:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=(side, side), mode="bicubic", antialias=True)
    assert torch.allclose(vit.pos_embed[:, prefix:], grid.permute(0, 2, 3, 1).reshape(1, side * side, -1), atol=1e-6)
    assert torch.equal(vit.pos_embed[:, :prefix], state["pos_embed"][:, :prefix])
    assert token_count(vit) == side * side + vit.num_prefix_tokens


def test_the_cost_of_a_pass_is_what_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    vit = load_backbone(TINY, "random", image_size=64)
    for block in vit.blocks:
        block.attn.fused_attn = False  # its matrix products are counted one by one
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        vit(torch.zeros(1, 3, 64, 64))
    assert pass_flops(vit) == counted.get_total_flops()
    line = described(TINY, vit, network_input(vit))
    assert line == (
        f"backbone {TINY}: 64x64 pixels, 17 tokens, pixels normalised by mean 0.5 0.5 0.5 and std 0.5 0.5 0.5, "
        f"5.5 M weights, {counted.get_total_flops() / 1e9:.3g} GFLOP a picture and pass"
    )


# ---------------------------------------------------------------- from training to predicting

CHANGED: dict[str, Any] = {
    "backbone.weights": "random",
    "backbone.image_size": 64,
    "backbone.input_norm": OWN,
    "slow.epochs": 1,
    "fast.epochs": 1,
}


@pytest.fixture(scope="module")
def trained(
    make_config: Callable[..., Config], tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SafeTrainer, Path]:
    """Return a run after its first session, and the file of its inference state."""
    trainer = SafeTrainer(make_config(CHANGED), tiny_dataset)
    trainer.run_session()
    path = tmp_path_factory.mktemp("trained") / "run.state"
    save_state(trainer.inference_state(), path)
    return trainer, path


def test_a_loaded_state_predicts_with_the_size_and_normalisation_of_its_training(
    trained: tuple[SafeTrainer, Path], tiny_dataset: Dataset
) -> None:
    trainer, path = trained
    predictor = load_predictor(path, device="cpu")
    assert predictor.seen == NetworkInput(64, *map(tuple, OWN), Resize(0.86, "bicubic"))
    logits = predictor.judge(tiny_dataset)
    assert torch.equal(logits.slow, trainer.session_logits.slow)
    assert torch.equal(logits.fast, trainer.session_logits.fast)
    other = load_state(path)
    other["config"] = other["config"].replace("[[0.2,0.3,0.4],[0.5,0.25,0.125]]", '"none"')
    save_state(other, path.with_name("other.state"))
    unscaled = load_predictor(path.with_name("other.state"), device="cpu").judge(tiny_dataset)
    assert not torch.allclose(unscaled.slow, logits.slow)


@pytest.mark.parametrize("change", [{"backbone.image_size": 32}, {"backbone.input_norm": "none"}])
def test_a_run_is_not_continued_with_another_input(
    trained: tuple[SafeTrainer, Path],
    make_config: Callable[..., Config],
    tiny_dataset: Dataset,
    change: dict[str, Any],
) -> None:
    state = trained[0].state_dict()
    (name,) = change
    with pytest.raises(UserError, match=rf"another configuration \({name}=.*, now .*\)"):
        SafeTrainer(make_config({**CHANGED, **change}), tiny_dataset).load_state_dict(state)


def test_settings_written_down_before_these_were_there_mean_what_was_done_then() -> None:
    new = ("backbone.image_size", "backbone.input_norm", "backbone.crop_pct")
    for dataset, share in (("glyphs", "pretrained"), ("cub200", 0.875)):
        config = load_config(dataset)
        old = {name: value for name, value in config.flat().items() if name not in new}
        assert [completed(old)[name] for name in new] == [None, "none", share]
        assert completed(config.flat()) == config.flat()


def test_a_given_network_of_another_size_is_refused(
    make_config: Callable[..., Config], tiny_dataset: Dataset, tiny_vit: VisionTransformer
) -> None:
    with pytest.raises(UserError, match=r"image_size=64, but the network that was given sees 32"):
        SafeTrainer(make_config({"backbone.image_size": 64}), tiny_dataset, tiny_vit)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("non", "unknown normalisation 'non'; choose one of: none, pretrained. Did you mean 'none'"),
        ([[1, 2], [3, 4]], r"mean and standard deviation .* got \[\[1, 2\], \[3, 4\]\]"),
        ([[0, 0, 0], [1, 1, 0]], "mean and standard deviation"),
        ([["a", 0, 0], [1, 1, 1]], "mean and standard deviation"),
        (3, "mean and standard deviation"),
    ],
)
def test_normalisations_that_are_none(value: object, message: str) -> None:
    with pytest.raises(UserError, match=f"backbone.input_norm: .*{message}"):
        load_config(overrides={"backbone.input_norm": value})
