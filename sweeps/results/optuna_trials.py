"""Trials of a search as Optuna takes them: every setting a position in [0, 1], a listed one a choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.spec.conditions import used
from sweeps.spec.domains import Domain
from sweeps.spec.space import Space


def distributions(space: Space) -> dict[str, Any]:
    """Return Optuna's distribution of every varied setting."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        name: CategoricalDistribution(range(len(domain.values))) if domain.listed else FloatDistribution(0.0, 1.0)
        for name, domain in space.domains.items()
    }


def places(space: Space, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a trial's settings lie, without those that it did not use and values that the space has not."""
    config = {**space.base, **space.fixed, **settings}
    return {
        name: place(domain, settings[name])
        for name, domain in space.domains.items()
        if name in settings and settings[name] in domain and used(name, config)
    }


def place(domain: Domain, value: Any) -> Any:
    """Return where a value of a domain lies: its index in a list, or its position in [0, 1]."""
    return domain.values.index(value) if domain.listed else min(max(domain.position(value), 0.0), 1.0)


def trial(known: Mapping[str, Any], where: Mapping[str, Any], values: Sequence[float] | None, **more: Any) -> Any:
    """Return a trial at the places `where`, `known` being the `distributions`; one that was stopped has no values."""
    from optuna.trial import TrialState, create_trial

    return create_trial(
        params=dict(where),
        distributions={name: known[name] for name in where},
        state=TrialState.PRUNED if values is None else TrialState.COMPLETE,
        values=values,
        **more,
    )
