"""Which settings have an effect only beside others: `pet.rank` beside `pet.kind: lora`, a learning rate beside epochs.

A condition is a list of alternatives, of which one must hold; a setting is used when all its conditions are met.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from safe.heads import head_kinds, head_settings, is_closed_form

ABOVE_ZERO = "above 0"
Alternatives = tuple[tuple[str, Any], ...]  # of (setting, the value it must have, or ABOVE_ZERO)

PET_SETTINGS = {
    "adapter": ("bottleneck", "scale", "dropout"),
    "vpt_deep": ("prompts",),
    "vpt_shallow": ("prompts",),
    "lora": ("rank", "alpha"),
}
_OPTIMISER = ("schedule_epochs", "batch_size", "lr", "momentum", "weight_decay")


@cache
def conditions(kinds: tuple[str, ...]) -> dict[str, list[Alternatives]]:
    """Return the conditions of every setting that has some, given the kinds of heads that there are."""
    found: dict[str, list[Alternatives]] = {}
    for name in dict.fromkeys(name for names in PET_SETTINGS.values() for name in names):
        found[f"pet.{name}"] = [tuple(("pet.kind", kind) for kind, names in PET_SETTINGS.items() if name in names)]
    for learner, terms in (
        ("slow", ("diag_weight", "offdiag_weight", "correlation")),
        ("fast", ("feature_weight", "cross_weight", "new_rows", "slow_rows")),
    ):
        for name in (*_OPTIMISER, *terms):
            found[f"{learner}.{name}"] = [((f"{learner}.epochs", ABOVE_ZERO),)]
    found["slow.correlation"].append((("slow.diag_weight", ABOVE_ZERO), ("slow.offdiag_weight", ABOVE_ZERO)))
    # Where gradient-trained heads predict, their rows matter without epochs.
    predicts = tuple(("head.kind", kind) for kind in kinds if not is_closed_form(kind))
    found["fast.new_rows"] = [(("fast.epochs", ABOVE_ZERO), *predicts)]
    found["fast.slow_rows"] = [(("fast.epochs", ABOVE_ZERO), *predicts), (("fast.cross_weight", ABOVE_ZERO), *predicts)]
    for name in dict.fromkeys(name for kind in kinds for name in head_settings(kind)):
        found[f"head.{name}"] = [tuple(("head.kind", kind) for kind in kinds if name in head_settings(kind))]
    found["head.projection_seed"].append((("head.projection_dim", ABOVE_ZERO),))
    found["aggregation.temperature"] = [(("aggregation.kind", "entropy"),)]
    return found


def used(name: str, config: Mapping[str, Any]) -> bool:
    """Return whether a setting has an effect in a flat configuration."""
    return unmet(name, {other: (value,) for other, value in config.items()}) is None


def unmet(name: str, possible: Mapping[str, Sequence[Any]]) -> str | None:
    """Return in words why a setting can have no effect, or None if it can.

    Args:
        possible: for every setting the values it may take; of a range its bounds.
    """
    for alternatives in conditions(head_kinds()).get(name, ()):
        if not any(_holds(value, wanted) for other, wanted in alternatives for value in possible[other]):
            return "it needs " + " or ".join(f"{other} {wanted}" for other, wanted in alternatives)
    return None


def _holds(value: Any, wanted: Any) -> bool:
    return bool(value > 0) if wanted is ABOVE_ZERO else bool(value == wanted)
