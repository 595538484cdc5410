"""Which settings have an effect only beside others: `pet.rank` beside `pet.kind: lora`, a learning rate beside epochs.

Settings say themselves what they need (`safe.config.marks.Needs`), and kinds of PET and heads which settings they use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from safe.config import setting_names
from safe.config.described import needs
from safe.config.marks import ABOVE_ZERO, CLOSED_FORM, GRADIENT_TRAINED, Needs
from safe.heads import head_kinds, head_settings, is_closed_form


def used(name: str, config: Mapping[str, Any]) -> bool:
    """Return whether a setting has an effect in a flat configuration."""
    return unmet(name, {other: (value,) for other, value in config.items()}) is None


def unmet(name: str, possible: Mapping[str, Sequence[Any]]) -> str | None:
    """Return in words why a setting can have no effect, or None if it can.

    Args:
        possible: for every setting the values it may take; of a range its bounds.
    """
    for condition in conditions(name):
        if not any(_holds(value, wanted) for other, wanted in condition.alternatives for value in possible[other]):
            wanted_words = (
                f"{other} {'empty' if wanted is None else wanted}" for other, wanted in condition.alternatives
            )
            return f"it needs {' or '.join(wanted_words)}"
    return None


def conditions(name: str) -> tuple[Needs, ...]:
    """Return what a setting needs, all of which has to hold; a search's choice that is no setting of a run: nothing."""
    if name not in setting_names():
        return ()
    section, _, leaf = name.rpartition(".")
    own = tuple(Needs(*_spelt_out(condition)) for condition in needs(name))
    if section == "head" and (heads := [kind for kind in head_kinds() if leaf in head_settings(kind)]):
        return (Needs(*(("head.kind", kind) for kind in heads)), *own)
    if section == "pet" and leaf != "kind":
        from safe.pet import kinds, settings_of  # brings torch, which spaces without such settings do without

        return (Needs(*(("pet.kind", kind) for kind in kinds() if leaf in settings_of(kind))), *own)
    return own


def _spelt_out(condition: Needs) -> Iterable[tuple[str, Any]]:
    """Return the alternatives with the kinds of heads that there are by now."""
    for other, wanted in condition.alternatives:
        if wanted in (GRADIENT_TRAINED, CLOSED_FORM):
            yield from ((other, kind) for kind in head_kinds() if is_closed_form(kind) is (wanted is CLOSED_FORM))
        else:
            yield other, wanted


def _holds(value: Any, wanted: Any) -> bool:
    return bool(value > 0) if wanted is ABOVE_ZERO else bool(value == wanted)
