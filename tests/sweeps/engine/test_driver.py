"""What the driver does with Tune's events, without any Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sweeps.engine.driver
from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.budget import Budget
from sweeps.engine.compat import RayLost
from sweeps.engine.display import LiveDisplay
from sweeps.engine.driver import ASK_S, Driver
from sweeps.engine.heartbeat import Heartbeat
from sweeps.engine.job_queue import JobQueue
from sweeps.engine.packing import Packing
from sweeps.engine.spent import Spent
from sweeps.ledger.jobs import Job, Kind
from sweeps.ledger.ledger import Ledger
from tracking.memory import MemoryRecorder

NOTICES = {
    "check_processes": [
        lambda driver, trial: driver.on_step_begin(),
        lambda driver, trial: driver.on_trial_error(trial=trial),
    ],
    "check_answer": [lambda driver, trial: driver.on_step_begin()],
}


@pytest.mark.parametrize(("check", "notices"), [(check, notices) for check in NOTICES for notices in NOTICES[check]])
def test_without_ray_an_open_job_is_left_to_be_closed_and_has_not_failed(
    tmp_path: Path,
    make_spec: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    check: str,
    notices: Callable[..., None],
) -> None:
    ledger, recorder = Ledger.create(tmp_path, make_spec()), MemoryRecorder()
    recorder.start("demo", {}, {})
    job = Job("trial-0", Kind.TRIAL, "trial 0", {}, [], states=str(tmp_path / "states"))
    with LiveDisplay(ledger.log, (tmp_path / "display").open("w")) as display:
        books = Bookkeeper(ledger, recorder, display, tmp_path / "states", {})
        queue = JobQueue(iter([[job]]), ledger.log, Budget(ledger.log), concurrency=1)
        driver = Driver(queue, books, Packing(None, 0, 1), Heartbeat(None), None, tmp_path / "stop", Spent(tmp_path))
        begun = driver.next_job("tune-1")
        assert begun is not None
        assert begun.id == "trial-0"
        trial = SimpleNamespace(trial_id="tune-1", set_experiment_tag=lambda tag: None)
        driver.on_trial_start(trial=trial)

        def gone() -> None:
            raise RayLost("Ray's raylet is gone")

        driver.on_step_begin()  # all is well
        monkeypatch.setattr(sweeps.engine.driver, check, gone)
        monkeypatch.setattr(driver, "_asked", time.monotonic() - ASK_S)
        with pytest.raises(RayLost, match=r"^Ray's raylet is gone$"):
            notices(driver, trial)
        assert driver.error is None
        assert ledger.log.jobs["trial-0"].status == "RUNNING"
        assert books.open_jobs == {"trial-0"}
