"""Builders: a `Config` unpacked into the parts of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from safe.backbones.loading import load_backbone
from safe.backbones.network_input import described, network_input
from safe.backbones.precision import bf16_hint
from safe.config import Config
from safe.config.reading import beside
from safe.config.settings import PetConfig
from safe.data.loading import survey
from safe.data.sessions import refuse_sizes, require_sessions, sizes_of
from safe.data.sources import Dataset
from safe.data.split import class_order
from safe.data.stream import Stream, class_incremental, domain_incremental
from safe.errors import UserError
from safe.evaluation.logits import Prediction
from safe.heads import make_head
from safe.heads.base import ClosedFormHead
from safe.heads.cosine import CosineHead, uniform_rows
from safe.learners.learner import Learner
from safe.pet import PetViT, attach, class_token_alone, settings_of
from safe.seeding import derive_seed, generator


def build_stream(config: Config, dataset: Dataset) -> Stream:
    """Return the sessions that a configuration cuts a data set into: its domains if it has some, else classes."""
    data = config.data
    order = class_order(dataset.classes, data.class_order, config.class_order_seed)
    split: dict[str, Any] = {
        "evaluate_on": data.evaluate_on,
        "holdout_share": data.holdout_share,
        "holdout_seed": data.holdout_seed,
    }
    if dataset.domains is not None and data.scenario == "auto":
        refuse_sizes(config)
        return domain_incremental(dataset, order=order, **split)
    return class_incremental(dataset, sizes=sizes_of(data, len(dataset.classes)), order=order, **split)


def frozen_backbone(vit: VisionTransformer, device: torch.device) -> VisionTransformer:
    """Return a pre-trained network on `device` as learners take it: its last block computes the class token alone."""
    return class_token_alone(vit.to(device))


def tuned_network(pet: PetConfig, backbone: VisionTransformer, seed: int = 0) -> PetViT:
    """Return the network with its PET; initial values are those of `seed`."""
    settings = {name: getattr(pet, name) for name in settings_of(pet.kind) if name in PetConfig.model_fields}
    return attach(backbone, pet.kind, generator=generator(seed, "pet"), **settings)


def build_learner(config: Config, backbone: VisionTransformer, classes: int, device: torch.device) -> Learner:
    """Return an untrained learner whose gradient head knows `classes` classes; `backbone` lies on `device`."""
    net = tuned_network(config.pet, backbone, config.seed).to(device)
    width = net.embed_dim
    head = CosineHead(uniform_rows(classes, width, generator(config.seed, "head"))).to(device)
    return Learner(net, head, closed_form_head(config, width, device))


def first_fast(config: Config, slow: Learner) -> Learner:
    """Return the fast learner as it starts, a copy of the slow one; with a fresh head where that reads more."""
    fast = slow.copy()
    if beside(config, "fast") != beside(config, "slow"):
        rows = slow.head.rows
        fast.closed = closed_form_head(config, rows.shape[1], rows.device, "fast")
    return fast


def distinct_learners(config: Config, slow: Learner, fast: Learner | None) -> dict[str, Learner]:
    """Return the learners that a session's end tells apart, `slow` first; `fast` is `None` in session 1.

    There, and for good without epochs of its own, the fast learner is the slow one; save its head where that reads
    more.
    """
    if fast is None and beside(config, "fast") != beside(config, "slow"):
        fast = first_fast(config, slow)
    elif config.fast.epochs == 0:
        fast = None
    return {"slow": slow} if fast is None else {"slow": slow, "fast": fast}


def restored_learners(
    config: Config, vit: VisionTransformer, slow: Mapping[str, Any], fast: Mapping[str, Any], device: torch.device
) -> tuple[Learner, Learner]:
    """Return two learners that predict by what `Learner.inference_state` gave of each.

    They have one network where it is the same, as after session 1.
    """
    first = build_learner(config, frozen_backbone(vit, device), 1, device)
    first.net.load_pet_state(slow["pet"])
    second = first_fast(config, first)
    if all(torch.equal(slow["pet"][name], fast["pet"][name]) for name in slow["pet"]):
        second.net = first.net
    else:
        second.net.load_pet_state(fast["pet"])
    first.load_readout(slow["readout"])
    second.load_readout(fast["readout"])
    return first, second


def closed_form_head(config: Config, width: int, device: torch.device, learner: str = "slow") -> ClosedFormHead | None:
    """Return the closed-form head of a learner whose network has features (N, width), `None` for a kind without."""
    settings = {**dict(config.head), "projection_seed": projection_seed(config)}
    return make_head(config.head.kind, head_width(config, width, learner), device, settings)


def head_width(config: Config, width: int, learner: str) -> int:
    """Return how many features the head of a learner reads, where networks have `width`."""
    return width if beside(config, learner) is None else 2 * width


def preflight(config: Config) -> str:
    """Refuse what would stop a run at its start: a device, data, weights or session sizes that are not to be had.

    Returns:
        What `network_in_words` says.

    Raises:
        UserError: says what is missing and what to do.
    """
    device = resolve_device(config.runtime.device)
    survey(config.dataset, config.data.root)
    require_sessions(config)
    chosen = config.backbone
    vit = load_backbone(chosen.name, chosen.weights, image_size=chosen.image_size, folder=config.data.root)
    return network_in_words(config, vit, device)


def network_in_words(config: Config, vit: VisionTransformer, device: torch.device) -> str:
    """Return the backbone and what it is given, in one line for people; in another one where bf16 would be faster."""
    chosen = config.backbone
    seen = network_input(vit, chosen.image_size, chosen.input_norm, chosen.crop_pct)
    hint = bf16_hint(config.runtime.precision, device, int(vit.embed_dim))
    return "\n".join(filter(None, (described(chosen.name, vit, seen), hint)))


def prediction_of(config: Config) -> Prediction:
    """Return the settings that act at prediction only."""
    return Prediction(config.aggregation.kind, config.aggregation.temperature, config.head.logit_scale)


def projection_seed(config: Config) -> int:
    """Return the seed of W_rand: the configured one, or one derived from the run's seed."""
    chosen = config.head.projection_seed
    return derive_seed(config.seed, "projection") if chosen is None else chosen


def resolve_device(name: str) -> torch.device:
    """Return the torch device of `auto` (a GPU when there is one), `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: not a device name, or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"runtime.device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"runtime.device={name} is not there: {torch.cuda.device_count()} GPUs found; use auto or cpu")
    return device
