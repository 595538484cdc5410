"""Which kinds of heads there are, and how one is made.

A kind is a function or class `make(width, device, *, setting, ...)`. Its keyword-only arguments name the settings of
`head` that it uses; those that several kinds have in common are the keys of a typed dictionary. Neither this module nor
a kind's function brings torch before a head is made, so that configurations are checked without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from safe.errors import UserError, choices

if TYPE_CHECKING:
    import torch

    from safe.heads.base import ClosedFormHead

Maker = TypeVar("Maker", bound=Callable[..., "ClosedFormHead | None"])


@dataclass(frozen=True)
class _Kind:
    make: Callable[..., ClosedFormHead | None]
    closed_form: bool
    settings: tuple[str, ...]


_KINDS: dict[str, _Kind] = {}


def register_head(
    kind: str, *, closed_form: bool = True, settings: type[Any] | None = None
) -> Callable[[Maker], Maker]:
    """Register `make(width, device, *, setting, ...)` as the kind of head called `kind`.

    Args:
        kind: a name for `head.kind`.
        closed_form: false where the rows that gradient steps trained classify; `make` then returns `None`.
        settings: a `TypedDict` of settings that `make` takes as `**given`, beside those that it spells out.

    Raises:
        ValueError: the name is taken.
    """

    def add(make: Maker) -> Maker:
        if kind in _KINDS:
            raise ValueError(f"the kind of head {kind!r} is already registered (by {_KINDS[kind].make.__module__})")
        shared = tuple(settings.__annotations__) if settings else ()
        parameters = inspect.signature(make).parameters.values()
        own = (one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY)
        _KINDS[kind] = _Kind(make, closed_form, (*shared, *own))
        return make

    return add


def head_kinds() -> tuple[str, ...]:
    """Return the names of all registered kinds of heads."""
    return tuple(_KINDS)


def is_closed_form(kind: str) -> bool:
    """Return whether a kind computes its classifier; otherwise the rows that gradient steps trained classify.

    Raises:
        UserError: there is no such kind.
    """
    return _kind(kind).closed_form


def head_settings(kind: str) -> tuple[str, ...]:
    """Return the settings of `head` that a kind uses.

    Raises:
        UserError: there is no such kind.
    """
    return _kind(kind).settings


def head_maker(kind: str) -> Callable[..., ClosedFormHead | None]:
    """Return what makes the heads of a kind, as it was registered.

    Raises:
        UserError: there is no such kind.
    """
    return _kind(kind).make


def make_head(kind: str, width: int, device: torch.device | str, settings: Mapping[str, Any]) -> ClosedFormHead | None:
    """Return a head without any session; `None` where the rows that gradient steps trained classify.

    Args:
        kind: one of `head_kinds()`.
        width: D, the width of the features.
        device: where the statistics lie.
        settings: by name; those that the kind does not use are passed over.

    Raises:
        UserError: there is no such kind.
    """
    own = {name: settings[name] for name in head_settings(kind) if name in settings}
    return _kind(kind).make(width, device, **own)


def _kind(kind: str) -> _Kind:
    if kind not in _KINDS:
        raise UserError(choices(kind, _KINDS, "kind of head"))
    return _KINDS[kind]
