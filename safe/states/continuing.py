"""Whether a training may go on from a state: the same settings, and the same data and weights by what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safe.config.described import of_role
from safe.config.marks import Role
from safe.errors import UserError, contrasted

_NAMES_SHOWN = 5
_DIGESTS = {"data_digest": "data", "weights_digest": "backbone weights"}


def require_same_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a state of another configuration; where its data lie and how it is computed may have changed.

    Args:
        before, now: every setting by its dotted name.

    Raises:
        UserError: they differ.
    """
    differing = [name for name in now if before.get(name) != now[name] and not name.startswith("runtime.")]
    if differing := [name for name in differing if name not in of_role(Role.PLACE)]:
        values = ((name, *contrasted(before.get(name), now[name])) for name in differing[:_NAMES_SHOWN])
        told = "; ".join(f"{name}={there}, now {here}" for name, there, here in values)
        raise UserError(
            f"the state belongs to another configuration ({told}); continue it with the settings it began with"
        )


def require_same_inputs(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse a state of other inputs than those loaded now; see `SafeTrainer.provenance`.

    Raises:
        UserError: names what differs, with both digests.
    """
    told = [
        f"{what} (digest {before[name][:12]}, now {now[name][:12]})"
        for name, what in _DIGESTS.items()
        if before[name] != now[name]
    ]
    if told:
        raise UserError(f"the state belongs to other {' and other '.join(told)}; bring back what it began with")
    if before != now:
        raise UserError("the state belongs to another order of the classes; continue it with the seeds it began with")
