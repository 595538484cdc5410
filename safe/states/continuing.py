"""Whether a training may go on from a state: the same settings, and the same data and weights by what they hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safe.errors import UserError

_DIGESTS = {"data_digest": "data", "weights_digest": "backbone weights"}


def require_same_settings(before: str, now: str) -> None:
    """Refuse a state of another configuration; where its data lie may have changed.

    Args:
        before, now: configurations as JSON.

    Raises:
        UserError: they differ.
    """
    if _comparable(before) != _comparable(now):
        raise UserError("the state belongs to another configuration; continue it with the settings it began with")


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


def _comparable(config: str) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(config)
    return settings | {"dataset": "", "data": settings["data"] | {"root": ""}}
