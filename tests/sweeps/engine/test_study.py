"""A study carried out: continuing, refusing, and its signals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from safe.errors import UserError
from sweeps.engine import joining
from sweeps.engine import study as module
from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.budget import Budget
from sweeps.engine.display import LiveDisplay
from sweeps.engine.helpers import Helpers
from sweeps.engine.polite import polite_kill
from sweeps.engine.study import _finish, _go_on
from sweeps.engine.work import DrivenStudy
from sweeps.ledger.folders import Folders
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import Ledger, read_ledger
from tracking.memory import MemoryRecorder

Make = Callable[..., Any]
WIDER = {"fast.cross_weight": {"choice": [0.0, 1.0, 2.0]}, "aggregation.temperature": {"grid": [0.1, 1.0, 10.0]}}


@pytest.mark.parametrize(
    ("changes", "finished"),
    [
        ({}, True),
        ({"concurrency": 7, "retries": 3, "trial_timeout": 5.0, "gpus_per_trial": "auto"}, True),
        ({"stage_limit_gb": 1.0, "fresh": True, "checkpoints": "last"}, True),
        ({"trials": 3}, False),
        ({"seeds": 3}, False),
        ({"max_sessions": 50}, False),
        ({"max_hours": 2.0}, False),
        ({"space": WIDER}, False),
    ],
)
def test_what_does_more_opens_a_finished_sweep_again_and_what_does_it_otherwise_does_not(
    finished_sweep: Callable[[], Ledger], make_spec: Make, changes: dict[str, Any], finished: bool
) -> None:
    ledger = finished_sweep()
    spec = make_spec(**changes)
    _go_on(ledger, spec, retry_failed=True)
    assert ledger.log.finished is finished
    assert ledger.log.spec == spec
    assert read_ledger(ledger.path.parent).finished is finished


def test_a_finished_sweep_with_a_failed_trial_is_opened_to_retry_it(
    finished_sweep: Callable[[], Ledger], make_spec: Make
) -> None:
    ledger = finished_sweep()
    ledger.append("status", job="trial-00", status="FAILED", reason="x")
    _go_on(ledger, make_spec(), retry_failed=False)
    assert ledger.log.finished
    _go_on(ledger, make_spec(), retry_failed=True)
    assert not ledger.log.finished
    with pytest.raises(UserError, match="trials: 2 -> 1 \\(can only grow\\)"):
        _go_on(ledger, make_spec(trials=1), retry_failed=True)


def test_an_interrupt_of_the_first_delivery_leaves_nothing_running(
    tmp_path: Path, make_spec: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(MemoryRecorder):
        def flush(self, timeout_s: float) -> None:  # where Ctrl-C comes when the store is slow
            raise KeyboardInterrupt

    spec, recorder, helpers = make_spec(), Interrupted(), Helpers()
    helpers.delivery.close()
    folders = Folders(tmp_path, spec.name)
    folders.make()
    monkeypatch.setattr(module, "study_recorder", lambda *_: recorder)
    with pytest.raises(KeyboardInterrupt):
        module._run(Ledger.create(folders.sweep, spec), folders, lambda _: iter(()), lambda *_: None, "usual", helpers)
    assert recorder.runs[spec.name].status == "KILLED"


def test_a_sigterm_that_ray_answers_is_an_interrupt_and_after_ray_they_are_ours_again(
    monkeypatch: pytest.MonkeyPatch, make_spec: Make
) -> None:
    ended = []

    @contextmanager
    def ray(cpus: int, meanwhile: Callable[[], object]) -> Iterator[None]:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        meanwhile()
        yield
        ended.append(cpus)

    monkeypatch.setattr(joining, "local_ray", ray)
    spec = make_spec()
    with polite_kill():
        ours = signal.getsignal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), joining.ray_of(spec, lambda: signal.raise_signal(signal.SIGTERM)):
            pytest.fail("it does not start")
        assert signal.getsignal(signal.SIGTERM) is ours
        with joining.ray_of(spec):
            assert signal.getsignal(signal.SIGTERM) is ours
            assert ended == []
        assert ended == [spec.concurrency * spec.threads]
        assert signal.getsignal(signal.SIGTERM) is ours


@pytest.mark.parametrize(
    ("kind", "finished"),
    [
        (Kind.TRIAL, True),
        (Kind.SLOW, True),
        (Kind.AUDIT, True),
        (Kind.FINAL, False),
        (Kind.CONTROL, False),
        (Kind.VARIANT, False),
    ],
)
def test_a_sweep_is_finished_without_a_trial_or_an_audit_but_not_without_a_run_of_a_mean(
    finished_sweep: Callable[[], Ledger], make_spec: Make, tmp_path: Path, kind: str, finished: bool
) -> None:
    ledger = finished_sweep()
    ledger.append("spec", spec=make_spec(seeds=3).model_dump(mode="json"))
    ledger.append("job", job=f"{kind}-09", kind=kind, title="", config={}, predictions=[])
    ledger.append("status", job=f"{kind}-09", status="FAILED", reason="broken")
    _finish(ledger, Folders(tmp_path, "demo"))
    assert ledger.log.finished is finished


def test_a_job_has_all_that_its_worker_needs(tmp_path: Path, make_spec: Make) -> None:
    def job(**changes: Any) -> Any:
        spec = make_spec(**changes)
        (tmp_path / spec.name).mkdir()
        ledger, folders = Ledger.create(tmp_path / spec.name, spec), Folders(tmp_path / "results", spec.name)
        books = Bookkeeper(ledger, MemoryRecorder(), LiveDisplay(ledger.log), folders.states, {})
        study = DrivenStudy(books, folders, Budget(ledger.log))
        assert study.budget_left
        return study.job(Kind.TRIAL, "trial 00", {"seed": 1}, [{"aggregation.temperature": 1.0}], trial=0, until=2)

    sweep = tmp_path / "results" / "sweeps" / "a"
    prepared = job(name="a", stage_limit_gb=0.5, checkpoints="best", objective="accuracy")
    assert (prepared.stages, prepared.stage_limit) == (str(tmp_path / "results" / "stages"), 5 * 10**8)
    assert (prepared.checkpoints, prepared.objective, prepared.until) == ("best", "accuracy", 2)
    assert prepared.states == str(sweep / "runs" / "trial-00")
    assert prepared.heartbeat == str(sweep / "heartbeats" / "trial-00")
    assert prepared.stop == str(sweep / "stop")
    assert prepared.resume_from == ()
    assert job(name="b", fresh=True).stages == str(tmp_path / "results" / "sweeps" / "b" / "stages")
    assert job(name="c", stages=False).stages is None
