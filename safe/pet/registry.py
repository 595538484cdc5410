"""Which kinds of parameter-efficient tuning (PET) there are, and how one is attached to a frozen ViT.

A PET kind is one function that rewires a structural copy of a timm `VisionTransformer`. Its keyword-only arguments name
the settings of `pet` that it uses; their ranges and defaults stand in `safe.config.settings.PetConfig` alone.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import torch
from timm.models.vision_transformer import Block, VisionTransformer

from safe.config.loading import validate
from safe.config.settings import PET_KINDS, PetConfig
from safe.errors import UserError, choices
from safe.pet.base import PetViT, shared_tensors
from safe.pet.class_token import ClassTokenBlock

Wiring = TypeVar("Wiring", bound=Callable[..., None])

_WIRINGS: dict[str, Callable[..., None]] = {}


def register(kind: str) -> Callable[[Wiring], Wiring]:
    """Register `wire(vit, generator, *, setting, ...)` as the PET kind called `kind`.

    `wire` inserts its modules into `vit` (already a copy), on torch's default device; its keyword-only arguments are
    the settings of the kind. Those that are settings of `pet` (`rank`, `scale`, ...) get their values from there,
    others keep their defaults.

    Raises:
        ValueError: if the name is taken.
    """

    def add(wire: Wiring) -> Wiring:
        module = PET_KINDS.setdefault(kind, wire.__module__)
        if kind in _WIRINGS or module != wire.__module__:
            raise ValueError(f"the PET kind {kind!r} is already registered (by {module})")
        _WIRINGS[kind] = wire
        return wire

    return add


def kinds() -> tuple[str, ...]:
    """Return the names of all PET kinds."""
    return tuple(PET_KINDS)


def settings_of(kind: str) -> tuple[str, ...]:
    """Return the names of the settings of one kind.

    Raises:
        UserError: if the kind is unknown.
    """
    parameters = inspect.signature(wiring(kind)).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def wiring(kind: str) -> Callable[..., None]:
    """Return what attaches the modules of a kind, as it was registered.

    Raises:
        UserError: if the kind is unknown.
    """
    if kind not in PET_KINDS:
        raise UserError(choices(kind, PET_KINDS, "PET kind"))
    if kind not in _WIRINGS:
        import_module(PET_KINDS[kind])
    return _WIRINGS[kind]


def attach(vit: VisionTransformer, kind: str, *, generator: torch.Generator | None, **settings: Any) -> PetViT:
    """Return `vit` with PET modules of `kind` in it, sharing the frozen tensors of `vit`.

    `vit` is frozen and put into eval mode; nothing else about it changes. Initial values are drawn from `generator`
    only (None is enough for kinds that draw nothing), and land on the device and in the dtype of `vit`. A setting of
    `pet` that is not given has its default. On the device `meta` nothing takes memory, however large it is.

    Raises:
        UserError: for an unknown kind or setting, a bad value, or a model that this kind cannot be attached to.
        ValueError: if the kind draws initial values and `generator` is None.
    """
    allowed = settings_of(kind)
    for name in settings:
        if name not in allowed:
            raise UserError(choices(name, allowed, f"setting of the PET kind {kind!r}"))
    checked = [name for name in allowed if name in PetConfig.model_fields]
    given = {f"pet.{name}": settings[name] for name in checked if name in settings}
    chosen = validate({**given, "pet.kind": kind}).pet
    settings |= {name: getattr(chosen, name) for name in checked}
    if not isinstance(vit, VisionTransformer):
        raise UserError(f"PET attaches to a timm VisionTransformer, got {type(vit).__name__}")
    if vit.global_pool == "":
        raise UserError("PET needs one embedding per image, but this VisionTransformer does not pool (global_pool='')")
    vit.requires_grad_(False).eval()
    tuned, like = copy.deepcopy(vit, shared_tensors(vit)), next(vit.parameters())
    with like.device if like.is_meta or generator is None else generator.device:  # where values are drawn
        wiring(kind)(tuned, generator, **settings)
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


def require_generator(generator: torch.Generator | None, kind: str) -> torch.Generator:
    """Return the generator, or raise a `ValueError` when there is none."""
    if generator is None:
        raise ValueError(f"the PET kind {kind!r} draws its initial values: give a generator")
    return generator
