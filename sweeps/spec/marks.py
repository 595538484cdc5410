"""What a field of a specification says of itself besides its type, range, default and meaning.

Marks stand in the `Annotated` of the field; lists of fields that need the same treatment are read from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel


class Mark(StrEnum):
    """What holds of a field. One without GROWS, MORE, MANNER, SETTLED and WHERE must stay equal under one name."""

    GROWS = "may grow when the name is called again"
    MORE = "may change; no result depends on it, but there may be more to do"
    MANNER = "may change; says how and not what, so what is finished stays finished"
    SETTLED = "stays as it was when the sweep began, whatever a later call would settle"
    WHERE = "says where data lie too, which may change while they stay the same"
    PARAM = "is a param of the parent run"
    PROTOCOL = "must be equal for scores of two sweeps to be comparable"


class Group(StrEnum):
    """Under which heading the help of a command lists an option."""

    SEARCH = "what is searched"
    JUDGED = "how trials are judged"
    LIMITS = "how much"
    MACHINE = "how it runs"


@dataclass(frozen=True)
class Option:
    """A field is an option of the command line, called like it; a truth value is a switch away from its default.

    Attributes:
        help: one line.
        group: its heading.
        kind: what reads its words, where that is not the type of the field.
        extend: help where `extend` takes it too; a larger number extends the sweep.
    """

    help: str
    group: Group
    kind: Any = None
    extend: str = ""


def marked(spec: type[BaseModel], *marks: Mark) -> tuple[str, ...]:
    """Return the fields that have one of these marks."""
    return tuple(name for name, field in spec.model_fields.items() if any(mark in field.metadata for mark in marks))


def options(spec: type[BaseModel]) -> Mapping[str, Option]:
    """Return the fields that are options, those of the class itself before the ones that it has from another."""
    own = [name for name in spec.model_fields if name in spec.__annotations__]
    names = [*own, *(name for name in spec.model_fields if name not in own)]
    return {name: mark for name in names for mark in spec.model_fields[name].metadata if isinstance(mark, Option)}
