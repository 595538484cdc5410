"""What a field of a specification says of itself besides its type, range, default and meaning.

Marks stand in the `Annotated` of the field; lists of fields that need the same treatment are read from there.
"""

from __future__ import annotations

import re
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
        group: its heading.
        help: one line, where the first clause of the field's own description does not serve.
        default: in words, where the default of the field does not say it.
        kind: what reads its words, where that is not the type of the field.
        extends: whether a larger number extends a sweep.
    """

    group: Group
    help: str = ""
    default: str = ""
    kind: Any = None
    extends: bool = False


def marked(spec: type[BaseModel], *marks: Mark) -> tuple[str, ...]:
    """Return the fields that have one of these marks."""
    return tuple(name for name, field in spec.model_fields.items() if any(mark in field.metadata for mark in marks))


def option_words(spec: type[BaseModel], name: str) -> str:
    """Return what a field's option stands for."""
    clause = re.split(r"[.;](?:\s|$)", spec.model_fields[name].description or "")[0].replace("`", "")
    return options(spec)[name].help or f"{clause[:1].lower()}{clause[1:]}".replace("\n", " ")


def option_help(spec: type[BaseModel], name: str) -> str:
    """Return the help of a field's option: its words and its default; a switch has none."""
    field, option, words = spec.model_fields[name], options(spec)[name], option_words(spec, name)
    told = not field.is_required() and field.default is not None and not isinstance(field.default, bool)
    default = option.default or (str(field.default) if told else "")
    return f"{words} (default: {default})" if default else words


def options(spec: type[BaseModel]) -> Mapping[str, Option]:
    """Return the fields that are options, those of the class itself before the ones that it has from another."""
    own = [name for name in spec.model_fields if name in spec.__annotations__]
    names = [*own, *(name for name in spec.model_fields if name not in own)]
    return {name: mark for name in names for mark in spec.model_fields[name].metadata if isinstance(mark, Option)}
