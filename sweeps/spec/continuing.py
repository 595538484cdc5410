"""Whether a sweep goes on when its name is called again with other words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safe.errors import UserError, contrasted
from sweeps.spec.marks import Mark, marked
from sweeps.spec.space import parse_domain
from sweeps.spec.specs import AblationSpec, Spec, SweepSpec


def continued(old: Spec, new: Spec) -> Spec:
    """Return the specification under which the sweep `old` goes on when `new` is asked for under its name.

    The thread count stays that of `old` unless it was given, so that another concurrency changes no result, and so does
    the space. One that is asked for may be wider: every entry holds the old entry's values, and a new one those that
    all trials had before. Data may lie elsewhere; whether they are the same is for `sweeps.ledger.data` to say.

    Raises:
        UserError: names every setting that differs, with both values.
    """
    stays = {name: getattr(old, name) for name in marked(type(old), Mark.SETTLED) if hasattr(new, name)}
    if isinstance(old, SweepSpec) and isinstance(new, SweepSpec) and not new.space_asked:
        stays["space"] = old.space
    if isinstance(old, AblationSpec) and isinstance(new, AblationSpec):
        stays["variants"] = [*old.variants, *(variant for variant in new.variants if variant not in old.variants)]
    new = new.model_copy(update=stays if new.base["runtime.threads"] else {**stays, "threads": old.threads})
    before, now = old.comparable(), new.comparable()
    differing = [
        f"{key}: {' -> '.join(_told(before, now, key))}{' (can only grow wider)' if key.startswith('space ') else ''}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key) and not _wider(key, old, new)
    ]
    differing += [
        f"{key}: {getattr(old, key)} -> {getattr(new, key)} (can only grow)"
        for key in marked(type(old), Mark.GROWS)
        if getattr(new, key) < getattr(old, key)
    ]
    if differing:
        places = zip(old.places().items(), new.places().values(), strict=True)
        differing = [f"{name}: {there} -> {here}" for (name, there), here in places if there != here] + differing
        raise UserError(
            "\n".join(
                [
                    f"the name {old.name!r} belongs to a sweep with other settings:",
                    *(f"  - {line}" for line in differing),
                    "Choose another name, or repeat the old settings to continue that sweep.",
                ]
            )
        )
    return new


def _told(before: Mapping[str, Any], now: Mapping[str, Any], key: str) -> tuple[str, str]:
    pair = before.get(key, "(absent)"), now.get(key, "(absent)")
    return contrasted(*pair) if all(isinstance(one, list) for one in pair) else (str(pair[0]), str(pair[1]))


def _wider(key: str, old: Spec, new: Spec) -> bool:
    """Whether a difference under `key` is a wider entry of the search space."""
    name = key.removeprefix("space ")
    if name == key or not isinstance(old, SweepSpec) or not isinstance(new, SweepSpec) or name not in new.space:
        return False
    before = parse_domain(name, old.space.get(name, old.base[name]))
    return parse_domain(name, new.space[name]).covers(before)
