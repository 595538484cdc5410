"""What a sweep cost, summed from the records of its runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from safe.types import Work
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.results.accounting import work_account

Make = Callable[..., Any]
SECONDS = ("seconds", "seconds_saved", "cpu_hours", "gpu_hours")


def test_sessions_seconds_and_hours_are_those_of_the_records_by_hand(make_spec: Make, make_session: Make) -> None:
    log = SweepLog(make_spec(threads=2))
    trained, reused = Work("trained", 3600.0, 5.0, 1800.0), Work("reused", 1800.0, 7.0)
    trial = [make_session(1, [[0.5]], work=trained), make_session(2, [[0.5, 0.5]], work=reused)]
    trial[1] = replace(trial[1], metrics={**trial[1].metrics, "memory/total_mib": 80_000.0})
    final = [make_session(1, [], "test", work=Work("none", 900.0))]
    log.jobs = {
        "trial-00": JobLog("trial-00", Kind.TRIAL, "", {}, [{}, {}, {}], sessions=trial),
        "final-00-0": JobLog("final-00-0", Kind.FINAL, "", {}, [], sessions=final),
    }
    work = work_account(log)
    assert (work["sessions_naive"], work["sessions_unshared_trials"]) == (6, 2)
    assert (work["sessions_trained"], work["sessions_reused"]) == (1, 1)
    assert [work[name] for name in SECONDS] == [5400.0, 12.0, 4.0, 0.5]
    assert (work["final"]["sessions_trained"], work["final"]["sessions_reused"]) == (0, 0)
    assert [work["final"][name] for name in SECONDS] == [900.0, 0.0, 0.5, 0.0]
    assert [work["race"][name] for name in SECONDS] == [work["audit"][name] for name in SECONDS] == [0.0] * 4
    assert work["total"] == dict(zip(SECONDS, (6300.0, 12.0, 4.5, 0.5), strict=True))
