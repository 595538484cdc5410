"""What tells the gradient steps of jobs apart, without keeping every job's configuration."""

from __future__ import annotations

import pytest

from safe.config import load_config, validate
from safe.sharing.stages import sharing_key
from sweeps.engine import order
from sweeps.ledger.jobs import Job, Kind


def test_keys_are_those_of_the_stages_and_few_configurations_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MOST_CONFIGS", 2)
    base, keys = load_config("digits").flat(), order.JobKeys()
    jobs = [
        Job(str(index), Kind.TRIAL, "", {**base, "fast.cross_weight": float(index)}, [], states="")
        for index in range(4)
    ]
    for session in (1, 2):
        told = [keys(job, session) for job in jobs]
        assert told == [sharing_key(validate(job.config), session) for job in jobs]
        assert len(set(told)) == (1 if session == 1 else 4), "the weight acts from session 2 on"
    assert len(vars(keys)["_configs"]) == 2
    monkeypatch.setattr(order, "validate", None)
    assert [keys(job, 2) for job in jobs] == told
