"""Grid search: every combination of listed values, in one round.

Settings of session 1 vary fastest, so that trials which run at the same time do not wait for one and the same first
session. A grid that has grown goes on with the combinations that no trial has had yet.
"""

from __future__ import annotations

from typing import Any

from sweeps.ledger.jobs import Kind
from sweeps.search.history import History
from sweeps.search.layout import Round
from sweeps.spec.combinations import combinations, key
from sweeps.spec.space import Space
from sweeps.spec.specs import SweepSpec


def layout(spec: SweepSpec, space: Space) -> list[Round]:
    """Return one round of all trials."""
    return [Round(Kind.TRIAL, range(spec.trials))]


def propose(spec: SweepSpec, space: Space, now: Round, history: History) -> dict[int, dict[str, Any]]:
    """Return what each trial that has not begun sets, by index."""
    begun = {key(space.settings(settings)) for settings in history.begun.values()}
    free = [settings for settings in combinations(space) if key(settings) not in begun]
    return dict(zip((index for index in now.indices if index not in history.begun), free, strict=False))
