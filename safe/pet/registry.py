"""Which kinds of parameter-efficient tuning (PET) there are, and how one is attached to a frozen ViT.

A PET kind is one function that rewires a structural copy of a timm `VisionTransformer`; its keyword-only arguments
are the settings of the kind.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from timm.models.vision_transformer import Block, VisionTransformer

from safe.config.settings import PET_KINDS
from safe.errors import UserError, choices
from safe.pet.base import PetViT, shared_tensors
from safe.pet.class_token import ClassTokenBlock

Wiring = TypeVar("Wiring", bound=Callable[..., None])

_WIRINGS: dict[str, Callable[..., None]] = {}


def register(kind: str) -> Callable[[Wiring], Wiring]:
    """Register `wire(vit, generator, *, setting=default, ...)` as the PET kind called `kind`.

    `wire` inserts its modules into `vit` (already a copy); its keyword-only arguments are the settings of the kind.
    In a run, those that are settings of `pet` (`rank`, `scale`, ...) get their values from there, others keep their
    defaults.

    Raises:
        ValueError: if the name is taken.
    """

    def add(wire: Wiring) -> Wiring:
        if kind in _WIRINGS:
            raise ValueError(f"the PET kind {kind!r} is already registered (by {_WIRINGS[kind].__module__})")
        _WIRINGS[kind] = wire
        if kind not in PET_KINDS:
            PET_KINDS.append(kind)
        return wire

    return add


def kinds() -> tuple[str, ...]:
    """Return the names of all registered PET kinds."""
    return tuple(_WIRINGS)


def default_settings(kind: str) -> dict[str, Any]:
    """Return the settings of one kind with their defaults.

    Raises:
        UserError: if the kind is unknown.
    """
    parameters = inspect.signature(wiring(kind)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def wiring(kind: str) -> Callable[..., None]:
    """Return what attaches the modules of a kind, as it was registered.

    Raises:
        UserError: if the kind is unknown.
    """
    if kind not in _WIRINGS:
        raise UserError(choices(kind, _WIRINGS, "PET kind"))
    return _WIRINGS[kind]


def attach(vit: VisionTransformer, kind: str, *, generator: torch.Generator | None, **settings: Any) -> PetViT:
    """Return `vit` with PET modules of `kind` in it, sharing the frozen tensors of `vit`.

    `vit` is frozen and put into eval mode; nothing else about it changes. Initial values are drawn from `generator`
    only (None is enough for kinds that draw nothing), and land on the device and in the dtype of `vit`.

    Raises:
        UserError: for an unknown kind or setting, a bad value, or a model that this kind cannot be attached to.
        ValueError: if the kind draws initial values and `generator` is None.
    """
    allowed = default_settings(kind)
    for name in settings:
        if name not in allowed:
            raise UserError(choices(name, allowed, f"setting of the PET kind {kind!r}"))
    if not isinstance(vit, VisionTransformer):
        raise UserError(f"PET attaches to a timm VisionTransformer, got {type(vit).__name__}")
    if vit.global_pool == "":
        raise UserError("PET needs one embedding per image, but this VisionTransformer does not pool (global_pool='')")
    vit.requires_grad_(False).eval()
    tuned = copy.deepcopy(vit, shared_tensors(vit))
    _WIRINGS[kind](tuned, generator, **settings)
    like = next(vit.parameters())
    pet = PetViT(vit, tuned.to(device=like.device, dtype=like.dtype))
    if kind != "none" and not pet.pet_parameter_names():
        raise UserError(f"the PET kind {kind!r} found nothing to attach to in this {type(vit).__name__}")
    return pet


@register("none")
def wire_nothing(vit: VisionTransformer, generator: torch.Generator | None) -> None:
    """Leave the frozen network as it is."""


def standard_blocks(vit: VisionTransformer, kind: str) -> list[tuple[int, Block]]:
    """Return the numbered blocks of `vit`, refusing those that do not compute what timm's `Block` does.

    Raises:
        UserError: naming the class of the first block that is wired differently.
    """
    blocks: list[tuple[int, Block]] = []
    for i, block in enumerate(vit.blocks):
        if not isinstance(block, Block) or type(block).forward not in (Block.forward, ClassTokenBlock.forward):
            raise UserError(
                f"the PET kind {kind!r} is defined for timm's pre-norm Block "
                f"(x + attn(norm1(x)), then x + mlp(norm2(x))), this model has {type(block).__name__}"
            )
        blocks.append((i, block))
    return blocks


def require(holds: bool, rule: str, received: object) -> None:
    """Raise a `UserError` that states the rule and the received value, unless the rule holds."""
    if not holds:
        raise UserError(f"{rule}, got {received!r}")


def require_positive_int(name: str, value: object) -> None:
    """Raise a `UserError` unless `value` is a whole number of at least 1."""
    require(type(value) is int and value >= 1, f"{name} must be an integer >= 1", value)


def is_finite(value: object) -> bool:
    """Return whether `value` is a number, and neither infinite nor NaN."""
    return isinstance(value, int | float) and math.isfinite(value)


def require_generator(generator: torch.Generator | None, kind: str) -> torch.Generator:
    """Return the generator, or raise a `ValueError` when there is none."""
    if generator is None:
        raise ValueError(f"the PET kind {kind!r} draws its initial values: give a generator")
    return generator
