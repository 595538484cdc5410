"""What a setting says of itself besides its type, range and default: from where on it acts, beside what, its role.

A mark stands in the `Annotated` of a setting's field; `acts` and `needs` of a section hold for all its fields that have
no such mark of their own. `safe.config.described` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Acts(StrEnum):
    """The point of a run from which on a setting acts. Runs share the work up to the first point where they differ."""

    FACTS = "facts"
    """On what is compared by its outcome, not by its value: data and weights by digests, sessions by their images."""
    SESSION_1 = "session 1"
    """On the gradient steps of session 1, and on the views that a frozen network sees: their order and their crops."""
    TUNING = "tuning of session 1"
    """On the gradient steps of session 1, and not on what a frozen network sees."""
    EXTRACTION = "extraction"
    """On features without gradients."""
    SESSION_2 = "session 2"
    """On the gradient steps of every later session."""
    HEADS = "heads"
    """On the closed-form heads, which no gradient step looks at."""
    EVALUATION = "evaluation"
    """On which images judge."""
    PREDICTION = "prediction"
    """On nothing but predictions from logits that are there; never a reason to train."""

    @property
    def in_session_1(self) -> bool:
        """Whether it changes what session 1 trains."""
        return self in (Acts.FACTS, Acts.SESSION_1, Acts.TUNING)


class Role(StrEnum):
    """What a setting is to those who compare, move and size runs."""

    FRAME = "frame"
    """All that are compared have it in common or are averaged over it: a study sets it, and no search varies it."""
    PLACE = "place"
    """It says where data lie, which may change while they stay the same: what they hold is compared instead."""
    SIZE = "size"
    """A whole number that a run's memory grows with."""


class Wanted(StrEnum):
    """What stands for several values."""

    ABOVE_ZERO = "above 0"
    GRADIENT_TRAINED = "one that gradient steps train"
    """A kind of head that has no closed form."""
    CLOSED_FORM = "one with a closed form"


ABOVE_ZERO, GRADIENT_TRAINED, CLOSED_FORM = Wanted.ABOVE_ZERO, Wanted.GRADIENT_TRAINED, Wanted.CLOSED_FORM


@dataclass(frozen=True, init=False)
class Needs:
    """A setting has an effect only beside another: one of some alternatives holds, each a setting and its value.

    `Needs(("fast.epochs", ABOVE_ZERO), ("head.kind", "cosine"))`: with epochs, or with that head. Of several `Needs`
    all hold. A section's needs count for all its settings that have none of their own, save the needed one itself.
    """

    alternatives: tuple[tuple[str, Any], ...]

    def __init__(self, *alternatives: tuple[str, Any]) -> None:
        object.__setattr__(self, "alternatives", alternatives)
