"""SIGTERM, as schedulers send it, and Ctrl-C in every phase of a sweep: said in words, and continued to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.ledger.ledger import read_ledger

from .conftest import Check
from .state import mlflow_runs
from .sweeping import Fault, Sweep

PHASES: dict[str, Fault] = {
    "opening of the books": {"at": "parent"},
    "first delivery": {"at": "flush-done"},
    "start of Ray": {"at": "ray"},
    "search": {"at": "session", "job": "trial-*"},
    "final runs": {"at": "session", "job": "final-*"},
    "summary": {"at": "summary"},
    "end": {"at": "end"},
}


@pytest.mark.parametrize("do", ["terminate", "interrupt"])
def test_a_signal_in_any_phase_ends_in_order_and_the_sweep_goes_on(
    tmp_path: Path, same_as_undisturbed: Check, do: str
) -> None:
    sweep = Sweep(tmp_path)
    ended = sweep.run({**PHASES["opening of the books"], "do": do})
    for phase in [*list(PHASES)[1:], None]:
        assert ended.code == 130, (phase, ended)
        assert "Traceback" not in ended.errors, ended.errors
        assert f"-m sweeps resume faulty --results {sweep.results}" in ended.errors
        assert not any(job.status == "RUNNING" for job in read_ledger(sweep.place).jobs.values())
        for key, (_, run) in mlflow_runs(sweep).items():  # which fails where one is RUNNING
            assert key or run["status"] in ("KILLED", "FINISHED"), run["status"]
        ended = sweep.resume(*([{**PHASES[phase], "do": do}] if phase else []))
    assert ended.code == 0, ended
    same_as_undisturbed(sweep)
