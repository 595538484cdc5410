"""The frozen pre-trained network: a timm `VisionTransformer` by name, with known weights or none at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from timm.models import (
    PretrainedCfg,
    get_pretrained_cfg,
    is_model,
    is_model_in_modules,
    load_state_dict,
    split_model_name_tag,
)
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from safe.errors import UserError, nearest
from safe.seeding import derive_seed

SMALL_VIT = "safe_small_vit"

_MODULES = ("vision_transformer", "vision_transformer_hybrid", "deit")  # where timm builds a VisionTransformer
_TORCH_SUFFIXES = (".pth", ".pt", ".bin")
_UNUSED = ("head.", "head_dist.", "attn_pool.")  # what files may hold that a network without a classifier does not
_HUB_TIMEOUT_SECONDS = 5.0
_LONGEST_REASON, _LONGEST_NAME = 300, 80  # letters
_NAMES_SHOWN = 3

Shape = tuple[int, ...]


def load_backbone(
    name: str,
    weights: str | None = None,
    *,
    image_size: int | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
) -> VisionTransformer:
    """Return a frozen float32 ViT in eval mode and without a classifier.

    `name` is `safe_small_vit` or a full timm `architecture.tag`. `weights` is None (the network's own pre-trained
    weights: those placed under the data root `folder`, else from timm's cache, else downloaded), the path of a local
    copy (.safetensors, .pth/.pt/.bin read without running pickled code, or .npz in Google's JAX layout), or `random`,
    drawn from `seed`. With an `image_size` other than the network's own, position embeddings are resampled. No global
    random state is changed.

    Raises:
        UserError: for an unknown or ambiguous name, an architecture that is not a VisionTransformer, an image size
            that patches do not divide, weights that are missing, unreadable or do not fit.
    """
    if name != SMALL_VIT:
        _check_name(name)
    path = None if weights == "random" else _locate(name, weights, folder)
    # Building a network draws its first values from the global generator, needed or not: put that back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "backbone"))
        vit = _checked(name, image_size, pretrained=weights is None)
    if path is not None:
        _load_file(vit, path)
    return vit.float().requires_grad_(False).eval()


def skeleton(name: str, image_size: int | None = None) -> VisionTransformer:
    """Return a backbone without weights and without memory for them, for its sizes; `UserError` as `load_backbone`."""
    if name != SMALL_VIT:
        _check_name(name)
    with torch.device("meta"):
        return _checked(name, image_size, pretrained=False)


def weights_file(folder: str | Path, name: str) -> Path:
    """Return where `python -m safe.data weights` places a backbone's weights under the data root `folder`."""
    return Path(folder) / "weights" / f"{name}.safetensors"


def weights_digest(vit: VisionTransformer) -> str:
    """Return the SHA-256 over name, dtype, shape and bytes of every tensor of the network, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(vit.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _checked(name: str, image_size: int | None, *, pretrained: bool) -> VisionTransformer:
    """Return a new network for pictures of a size that its patches divide."""
    vit = _build(name, image_size, pretrained=pretrained)
    patch = int(vit.patch_embed.feat_ratio())
    if image_size is not None and (image_size < patch or image_size % patch):
        raise UserError(
            f"backbone.image_size must be a multiple of the patch size {patch} of {name}, got {image_size}; the "
            f"nearest is {max(patch, round(image_size / patch) * patch)}"
        )
    return vit


def _build(name: str, image_size: int | None, *, pretrained: bool) -> VisionTransformer:
    if name == SMALL_VIT:
        from safe.backbones.small_vit import (
            small_vit,  # here, as it carries its own weights and is rarely the one asked for
        )

        vit = small_vit(pretrained=pretrained)
        if image_size is not None:
            vit.set_input_size(img_size=(image_size, image_size))
        return vit
    size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    model = timm.create_model(name, pretrained=False, num_classes=0, **size)
    if not isinstance(model, VisionTransformer):
        raise UserError(f"{name} is a {type(model).__name__}; PET attaches to timm's VisionTransformer only")
    return model


def _check_name(name: str) -> None:
    known = timm.list_models(include_tags=True)
    architecture, tag = split_model_name_tag(name)
    if is_model(name) and not is_model_in_modules(name, _MODULES):
        raise UserError(f"{name} is not built on timm's VisionTransformer, the only network that PET attaches to")
    if name in known:
        return
    tags = [other for other in known if split_model_name_tag(other)[0] == architecture]
    if tags and not tag:
        raise UserError(
            f"{name} names an architecture without weights; timm resolves that to different weights over time. "
            f"Choose one of: {', '.join(tags)}"
        )
    if tags:
        raise UserError(f"timm has no weights {tag!r} for {architecture}; choose one of: {', '.join(tags)}")
    ours = [other for other in known if is_model_in_modules(other, _MODULES)]
    raise UserError(
        f"unknown backbone {name!r}: it is {SMALL_VIT} or the architecture.tag of one of timm's ViTs."
        f"{nearest(name, [SMALL_VIT, *ours])}"
    )


def _locate(name: str, weights: str | None, folder: str | Path | None) -> Path | None:
    """Return the weights file to load, or None where the network brings its own."""
    if weights is None:
        if name == SMALL_VIT:
            return None
        placed = None if folder is None else weights_file(folder, name)
        return placed if placed is not None and placed.is_file() else _fetch(name)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"backbone.weights={weights} is not a file; give a path, 'random', or leave it out")
    return path


def _fetch(name: str) -> Path:
    """Return the cached file of timm's weights, downloading it first if need be."""
    cfg = get_pretrained_cfg(name) or PretrainedCfg()
    repository = cfg.hf_hub_id
    if not isinstance(repository, str):
        raise UserError(_missing(name, "timm keeps no copy of them", str(cfg.url or "none is published"), "not used"))
    files = [cfg.hf_hub_filename] if cfg.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    for file in files:
        cached = try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            return Path(cached)
    reason: object = "no such file there"
    for file in files:
        try:
            # Asked once, as hf_hub_download by itself retries an unreachable hub for half a minute.
            get_hf_file_metadata(hf_hub_url(repository, file), timeout=_HUB_TIMEOUT_SECONDS)
            return Path(hf_hub_download(repository, file))
        except EntryNotFoundError:
            continue
        except Exception as error:  # whatever the HTTP library raises, the person needs the same three facts
            reason = error
            break
    source = f"{' or '.join(files)} of {constants.ENDPOINT}/{repository}"
    raise UserError(_missing(name, str(reason), source, f"{constants.HF_HUB_CACHE} (HF_HOME moves it)"))


def _missing(name: str, reason: str, source: str, cache: str) -> str:
    first_line = reason.strip().partition("\n")[0]
    return (
        f"the weights of {name} are not on this machine and could not be downloaded ({first_line}). "
        f"Source: {source}. Cache: {cache}. "
        "To use a local copy (.safetensors, .pth, .npz): backbone.weights=/path/to/file, or for all runs: "
        f"python -m safe.data weights {name} --from /path/to/file"
    )


def _load_file(vit: VisionTransformer, path: Path) -> None:
    """Load a local weights file into `vit`; every tensor of the network must come from it."""
    if path.suffix not in (".safetensors", ".npz", *_TORCH_SUFFIXES):
        raise UserError(f"backbone.weights={path}: expected .safetensors, .npz or {', '.join(_TORCH_SUFFIXES)}")
    try:
        state = _read_jax(vit, path) if path.suffix == ".npz" else _read_torch(vit, path)
    except Exception as error:  # a damaged or foreign file fails in many ways, and all mean the same to the person
        reason = str(error).strip().partition("\n")[0][:_LONGEST_REASON] or type(error).__name__
        raise UserError(f"backbone.weights={path} could not be loaded into this network: {reason}") from error
    expected = {name: tuple(value.shape) for name, value in vit.state_dict().items()}
    present = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, torch.Tensor)}
    foreign = [name for name in state if name not in expected and not name.startswith(_UNUSED)]
    if foreign or any(present.get(name) != shape for name, shape in expected.items()):
        raise UserError(f"backbone.weights={path} {_misfit(expected, present, foreign)}")
    for name in expected:
        if broken := int((~state[name].isfinite()).sum()):
            raise UserError(
                f"backbone.weights={path}: {broken} of {state[name].numel()} values of the tensor {name} are NaN or "
                "infinite; the file is of a training that diverged, or damaged: take another one"
            )
    vit.load_state_dict({name: state[name] for name in expected})


def _read_torch(vit: VisionTransformer, path: Path) -> dict[str, Any]:
    """Return the tensors of a state dictionary under timm's names, and whatever else it holds."""
    state = load_state_dict(str(path), weights_only=True)
    # timm's own conversion: older key names, and position embeddings resampled to this image size.
    converted: dict[str, Any] = checkpoint_filter_fn(state, vit, adapt_layer_scale=True)
    return converted


def _read_jax(vit: VisionTransformer, path: Path) -> dict[str, Any]:
    """Return the tensors of Google's JAX layout under timm's names; timm reads it into a network, without pickles."""
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            if not np.isfinite(arrays[name]).all():
                raise ValueError(f"values of the array {name} are NaN or infinite")
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.fill_(torch.nan)  # timm does not say what it left alone: what is still NaN afterwards
        vit.load_pretrained(str(path))
    left = {name for name, parameter in vit.named_parameters() if parameter.isnan().any()}
    return {name: value for name, value in vit.state_dict().items() if name not in left}


def _misfit(expected: Mapping[str, Shape], present: Mapping[str, Shape], foreign: Sequence[str]) -> str:
    """Return how many of the expected tensors there are, the first names that are wrong, and what might mend it."""
    shapes = [
        f"{name} {list(present[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in present and present[name] != shape
    ]
    missing = [name for name in expected if name not in present]
    fits = len(expected) - len(missing) - len(shapes)
    words = [f"fits {fits} of {len(expected)} tensors of this network"]
    parts = (("missing", missing), ("of another shape", shapes), ("not known here", foreign))
    words += [f"{what}: {_first(names)}" for what, names in parts if names]
    dots = {name[: i + 1] for name in foreign for i, letter in enumerate(name) if letter == "."}
    without = {
        prefix: sum(present.get(prefix + name) == shape for name, shape in expected.items()) for prefix in sorted(dots)
    }
    best = max(without, key=lambda prefix: without[prefix], default="")
    if without.get(best, 0) > fits:
        words.append(
            f"without the prefix {best!r} of their names {without[best]} would fit: save the file again with "
            f"{{name.removeprefix({best!r}): tensor}}"
        )
    return "; ".join(words)


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(name[:_LONGEST_NAME] for name in names[:_NAMES_SHOWN])
    return shown + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")
