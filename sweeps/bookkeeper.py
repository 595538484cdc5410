"""What happens to a job, written down: in the ledger first, then in the recorder, then on the display.

`Bookkeeper` knows nothing of Ray; `sweeps.callback` translates Tune's events for it. Both live in the driver, the only
process that opens the ledger and the recorder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from safe.types import LEARNERS
from sweeps.ledger import JobLog, Ledger
from sweeps.selection import score_trial
from sweeps.space import PREDICTION_SETTINGS
from tracking.recorder import Point, Recorder

TRIAL = "trial"
FINAL = "final"
ENDED_WELL = ("FINISHED", "STOPPED")


class Display(Protocol):
    """Shows the sweep to a person."""

    def job_changed(self, job: JobLog, accuracy: float | None, forgetting: float | None) -> None:
        """Take over the state of a job; the two numbers are those of its newest session."""
        ...


class Bookkeeper:
    """Writes down what the jobs of one sweep do.

    Args:
        ledger: of this sweep.
        recorder: has started the parent run, whose key is the sweep's name.
        display: shows progress.
        states: folder that holds one folder of inference states per job.
        tags: environment tags for every run.
    """

    def __init__(
        self, ledger: Ledger, recorder: Recorder, display: Display, states: Path, tags: Mapping[str, str]
    ) -> None:
        self.ledger = ledger
        self.recorder = recorder
        self.display = display
        self.states = states
        self.tags = tags
        self.open_jobs: set[str] = set()

    def started(
        self, job_id: str, *, kind: str, title: str, config: Mapping[str, Any], predictions: list[dict[str, Any]]
    ) -> None:
        """A job begins, or goes on after an interruption."""
        again = job_id in self.ledger.log.jobs
        if not again:
            self.ledger.append("job", job=job_id, kind=kind, title=title, config=dict(config), predictions=predictions)
        self.ledger.append("status", job=job_id, status="RUNNING", reason=None)
        self.open_jobs.add(job_id)
        self._start_run(self._job(job_id))
        if again:
            self.recorder.set_tags(self.run_key(job_id), {"reason": ""})  # why it ended before is over
        self._show(job_id)

    def session(self, job_id: str, record: Mapping[str, Any]) -> None:
        """A session has a result."""
        self.ledger.append("session", job=job_id, **record)
        job = self._job(job_id)
        self.recorder.log_points(self.run_key(job_id), session_points(job, record))
        if record["session"] == 1:
            self.recorder.set_tags(self.run_key(job_id), record["provenance"])
        self._show(job_id)

    def checkpoint(self, job_id: str, path: str) -> None:
        """The state after the newest session can be resumed from `path`."""
        self.ledger.append("checkpoint", job=job_id, session=len(self._job(job_id).sessions), path=path)

    def ended(self, job_id: str, status: str, reason: str | None = None) -> None:
        """A job is over: FINISHED, STOPPED, FAILED or KILLED."""
        self.ledger.append("status", job=job_id, status=status, reason=reason)
        self.open_jobs.discard(job_id)
        self._end_run(self._job(job_id))
        self.ledger.append("recorded", job=job_id)
        self._show(job_id)

    def close_open(self, status: str, reason: str) -> None:
        """End every job that is still open."""
        for job_id in sorted(self.open_jobs):
            self.ended(job_id, status, reason)

    def replay(self, *, everything: bool = False) -> None:
        """Bring the recorder up to the ledger, which a kill may have left ahead of it; show what is done already.

        Runs that were recorded to their end are left alone, unless `everything` asks for them too: the recorder is
        another one than before.
        """
        for job in self.ledger.log.jobs.values():
            if everything or not job.recorded:
                self._replay_job(job)
            self._show(job.id)

    def _replay_job(self, job: JobLog) -> None:
        if job.status == "RUNNING" and not job.complete:
            self.ledger.append("status", job=job.id, status="KILLED", reason="the process ended without a word")
        elif job.complete and job.status not in ENDED_WELL:
            self.ledger.append("status", job=job.id, status="FINISHED", reason=None)
        self._start_run(job)
        for record in job.sessions:
            self.recorder.log_points(self.run_key(job.id), session_points(job, record))
        if job.sessions:
            self.recorder.set_tags(self.run_key(job.id), job.sessions[0]["provenance"])
        self._end_run(job)
        self.ledger.append("recorded", job=job.id)

    def run_key(self, job_id: str) -> str:
        """Return the recorder's key of a job."""
        return f"{self.ledger.log.spec.name}/{job_id}"

    def _job(self, job_id: str) -> JobLog:
        return self.ledger.log.jobs[job_id]

    def _start_run(self, job: JobLog) -> None:
        spec = self.ledger.log.spec
        params = {
            name: value for name, value in job.config.items() if job.kind != TRIAL or name not in PREDICTION_SETTINGS
        }
        tags = {**self.tags, "sweep": spec.name, "kind": job.kind, "selection": spec.selection}
        self.recorder.start(self.run_key(job.id), params, tags, name=job.title, parent=spec.name)

    def _end_run(self, job: JobLog) -> None:
        key = self.run_key(job.id)
        if job.kind == TRIAL and job.status in ENDED_WELL:
            spec = self.ledger.log.sweep_spec
            # The prediction is chosen after the trial, and the aggregated metrics of all its sessions with it.
            best = score_trial(job, spec.objective, spec.split)
            points = [
                Point(f"{spec.split}/{name}", value, session)
                for session, metrics in enumerate(best.sessions, start=1)
                for name, value in metrics.items()
            ]
            self.recorder.log_points(key, points)
            self.recorder.set_tags(key, {name: _text(value) for name, value in best.prediction.items()})
        if job.reason:
            self.recorder.set_tags(key, {"reason": job.reason})
        if (self.states / job.id).is_dir():
            self.recorder.log_directory(key, self.states / job.id, "checkpoints")
        self.recorder.finish(key, job.status)

    def _show(self, job_id: str) -> None:
        job = self._job(job_id)
        newest: Mapping[str, float] = {}
        if job.sessions and job.kind == TRIAL:
            spec = self.ledger.log.sweep_spec
            newest = score_trial(job, spec.objective, spec.split).sessions[-1]
        elif job.sessions:
            prefix = f"{job.sessions[-1]['split']}/"
            newest = {name.removeprefix(prefix): value for name, value in job.sessions[-1]["metrics"].items()}
        self.display.job_changed(job, newest.get("accuracy"), newest.get("forgetting"))


def live_metrics(job: JobLog, record: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a session that are known once it is over.

    For a trial, that leaves out the aggregated ones, which depend on the settings of prediction that are chosen later.
    """
    metrics: dict[str, float] = record["metrics"]
    if job.kind != TRIAL:
        return metrics
    split = f"{record['split']}/"
    own = tuple(f"{split}{learner}/" for learner in LEARNERS)
    return {name: value for name, value in metrics.items() if not name.startswith(split) or name.startswith(own)}


def session_points(job: JobLog, record: Mapping[str, Any]) -> list[Point]:
    """Return the points of a session: metrics at step = session, loss terms at step = epochs done so far."""
    metrics = live_metrics(job, record)
    points = [Point(name, value, record["session"]) for name, value in metrics.items()]
    points += [Point(name, value, step) for step, terms in record["losses"] for name, value in terms.items()]
    return points


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
