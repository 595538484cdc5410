"""What every setting says of itself, by its dotted name."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.fields import FieldInfo

from safe.config.marks import Acts, Needs, Role
from safe.config.settings import Config, Section


@cache
def setting_names() -> tuple[str, ...]:
    """Return the dotted name of every setting."""
    return tuple(Config().flat())


def field_of(name: str) -> FieldInfo:
    """Return the declaration of a setting; KeyError for another name."""
    return _section(name).model_fields[name.rpartition(".")[2]]


@cache
def acts(name: str) -> Acts:
    """Return from where on a setting acts; LookupError of one that neither says so nor has a section that does."""
    own = [mark for mark in field_of(name).metadata if isinstance(mark, Acts)]
    acting = own[0] if own else _section(name).acts
    if acting is None:
        raise LookupError(f"{name} does not say from where on it acts (safe.config.marks.Acts)")
    return acting


@cache
def acting(*points: Acts) -> tuple[str, ...]:
    """Return the settings that act from one of these points on, in the order of declaration."""
    return tuple(name for name in setting_names() if acts(name) in points)


@cache
def of_role(role: Role) -> tuple[str, ...]:
    """Return the settings that have a role, in the order of declaration."""
    return tuple(name for name in setting_names() if role in field_of(name).metadata)


@cache
def needs(name: str) -> tuple[Needs, ...]:
    """Return what a setting needs to have an effect; the kinds of PET say themselves which settings they use."""
    own = tuple(mark for mark in field_of(name).metadata if isinstance(mark, Needs))
    section = _section(name).needs
    return own or tuple(mark for mark in section if name not in [other for other, _ in mark.alternatives])


def _section(name: str) -> type[Section]:
    section = name.rpartition(".")[0]
    model: Any = Config.model_fields[section].annotation if section else Config
    return model
