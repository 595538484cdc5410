"""What happens to a job, written down: in the ledger first, then in the recorder, then on the display.

`Bookkeeper` knows nothing of Ray; `sweeps.engine.driver` translates Tune's events for it. Both live in the
driver, the only process that opens the ledger and the recorder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safe.types import Working, with_split
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import ADDED, DROPPED, SEARCH_KINDS, Job, Kind
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.packed import settings_over
from sweeps.ledger.record import SessionRecord
from sweeps.model.session_models import SessionModels, judged_on
from sweeps.results.selection import pack, score_trial, shown_sessions
from sweeps.spec.configs import absolute, final_config, refit_config
from sweeps.spec.objective import objectives
from sweeps.spec.space import PREDICTION_SETTINGS
from sweeps.spec.specs import SweepSpec
from sweeps.spec.titles import data_name, param, run_name
from sweeps.worker.artifacts import CHECKPOINTS, TABLES
from tracking.mlflow_pages import shown_as_tables
from tracking.recorder import ModelOutput, Point, Recorder, Status

CLOCK_SECONDS = 1.0  # the ledger is told the time at most this often
# Which data of a run are those of its study, unless they are searched.
PARENT_INPUTS = {
    **dict.fromkeys((*SEARCH_KINDS, Kind.VARIANT), ("train", "holdout", "test")),
    Kind.FINAL: ("test",),
}
HOLDOUT = ("data.holdout_share", "data.holdout_seed")  # what decides which images are held out


class Display(Protocol):
    """Shows the sweep to a person."""

    def job_changed(self, job: JobLog, sessions: Sequence[Mapping[str, float]]) -> None:
        """Take over the state of a job and the metrics after each of its sessions, names without prefix."""
        ...

    def working(self, job_id: str, working: Working) -> None:
        """Take over how far a running job is with its present session."""
        ...

    def note(self, words: str) -> None:
        """Tell something beside the progress."""
        ...


@dataclass(eq=False)
class Bookkeeper:
    """Writes down what the jobs of one sweep do.

    Args:
        ledger: of this sweep.
        recorder: has started the parent run, whose key is the sweep's name.
        display: shows progress.
        states: folder that holds one folder of files per job.
        tags: environment tags for every run.
    """

    ledger: Ledger
    recorder: Recorder
    display: Display
    states: Path
    tags: Mapping[str, str]

    def __post_init__(self) -> None:
        self.open_jobs: set[str] = set()
        self.models = SessionModels(self.ledger.log, self.ledger.path.parent, self.states)
        self._noted: set[str] = set()
        self._best = float("-inf")  # goodness of the best complete trial

    def started(self, job: Job) -> None:
        """A job begins, or goes on after an interruption."""
        again = job.id in self.ledger.log.jobs
        if not again:
            self.ledger.append("job", **job.record())
        self.ledger.append("status", job=job.id, status=Status.RUNNING, reason=None)
        self.open_jobs.add(job.id)
        self._start_run(self._job(job.id))
        if again:
            self.recorder.set_tags(self.run_key(job.id), {"reason": ""})  # why it ended before is over
        self._show(job.id)

    def session(self, job_id: str, record: SessionRecord) -> None:
        """A session has a result."""
        self.ledger.append("session", job=job_id, **record.to_json())
        job = self._job(job_id)
        self._record(job, record)
        self._record_best([job])
        self._show(job_id)
        for what, words in record.notes.items():  # every worker tells it once, which makes it many times
            if what not in self._noted:
                self._noted.add(what)
                self.display.note(words)

    def checkpoint(self, job_id: str, path: str) -> None:
        """The state after the newest session can be resumed from `path`."""
        folder = self.ledger.path.parent
        own = os.path.relpath(path, folder) if Path(path).is_relative_to(folder) else path
        self.ledger.append("checkpoint", job=job_id, session=len(self._job(job_id).sessions), path=own)

    def clock(self, seconds: float) -> None:
        """The search has taken so long, over all calls."""
        if seconds - self.ledger.log.search_seconds >= CLOCK_SECONDS:
            self.ledger.append("clock", seconds=seconds)

    def ended(self, job_id: str, status: Status, reason: str | None = None) -> None:
        """A job is over: FINISHED, STOPPED, FAILED or KILLED."""
        self.ledger.append("status", job=job_id, status=status, reason=reason)
        self.open_jobs.discard(job_id)
        self._end_run(self._job(job_id))
        self.ledger.append("recorded", job=job_id)
        self.models.drop_states_of_others(self._job(job_id))
        self._show(job_id)
        self._put_away(self._job(job_id))

    def stopped(self, job_id: str, reason: str) -> None:
        """A job that does not run any more will not go on either."""
        self._start_run(self._job(job_id))
        self.ended(job_id, Status.STOPPED, reason)

    def keep_best(self) -> None:
        """The choice is taken: the study's run gets its settings, and sessions of the best trials become models."""
        log = self.ledger.log
        if log.selected and (chosen := log.chosen):
            refit = refit_config(log.sweep_spec, chosen.config, log.selected["prediction"], chosen.variant)
            settings = final_config(absolute(refit), 0)
            self.recorder.log_params(log.spec.name, {name: param(value) for name, value in settings.items()})
        for job in self.models.best():
            self._record_settled(job, with_models=True)

    def close_open(self, status: Status, reason: str) -> None:
        """End every job that is still open."""
        for job_id in sorted(self.open_jobs):
            self.ended(job_id, status, reason)

    def record_again(self, *, everything: bool = False) -> None:
        """Bring the recorder up to the ledger, which a kill may have left ahead of it; show what is done already.

        Runs that were recorded to their end are left alone, unless `everything` asks for them too: the recorder is
        another one than before.
        """
        for job in self.ledger.log.jobs.values():
            if everything or not job.recorded:
                self._record_job(job)
            self._show(job.id)
        self._record_best(self.ledger.log.jobs.values())
        for job in self.ledger.log.jobs.values():
            self._put_away(job)

    def _record_job(self, job: JobLog) -> None:
        if job.id in self.ledger.log.dropped and not job.over:
            self.ledger.append("status", job=job.id, status=Status.STOPPED, reason=DROPPED)
        elif job.status == Status.RUNNING and not job.complete:
            why = "the process ended without a word"
            self.ledger.append("status", job=job.id, status=Status.KILLED, reason=why)
        elif job.complete and not job.over:
            self.ledger.append("status", job=job.id, status=Status.FINISHED, reason=None)
        self._start_run(job)
        for record in job.sessions:
            self._record(job, record)
        self._end_run(job)
        self.ledger.append("recorded", job=job.id)

    def take_out(self) -> None:
        """The work is done, and what is told of it asks for all sessions many times."""
        for job in self.ledger.log.jobs.values():
            job.sessions, job.config = list(job.sessions), dict(job.config)

    def _put_away(self, job: JobLog) -> None:
        if job.over and job.kind in SEARCH_KINDS:  # the others are few
            pack(job)
            job.config = settings_over(self.ledger.log.spec.base, job.config)

    def run_key(self, job_id: str) -> str:
        """Return the recorder's key of a job."""
        return f"{self.ledger.log.spec.name}/{job_id}"

    def _job(self, job_id: str) -> JobLog:
        return self.ledger.log.jobs[job_id]

    def _start_run(self, job: JobLog) -> None:
        spec = self.ledger.log.spec
        params = {
            name: param(value)
            for name, value in job.config.items()
            if not (job.predictions and name in PREDICTION_SETTINGS)
        }
        # An audit shows what selecting on test would have given, so it is marked as such, whatever steered the sweep.
        selection = "test" if job.kind == Kind.AUDIT else spec.selection
        tags = {**self.tags, "sweep": spec.name, "kind": str(job.kind), "selection": selection}
        if job.variant == ADDED:
            tags["added"] = "by hand"
        self.recorder.start(self.run_key(job.id), params, tags, name=run_name(job.title, job.config), parent=spec.name)

    def _record(self, job: JobLog, record: SessionRecord) -> None:
        """Record what is settled once a session is over."""
        key, points = self.run_key(job.id), session_points(job, record)
        if record.session == 1:
            self._provenance(job, record)  # first, because models name the data that judge them
        model = None if job.predictions else self.models.at_once(job, record)
        self.recorder.log_models(key, [model] if model else [], points)

    def _record_settled(self, job: JobLog, *, with_models: bool) -> None:
        """Record what a trial's settings of prediction settle, which are chosen after it, for all its sessions."""
        key, split = self.run_key(job.id), job.sessions[-1].split
        best = score_trial(job, self.ledger.log.sweep_spec.objective, split)
        self.recorder.log_params(key, best.prediction)
        models, points, before = list[ModelOutput](), list[Point](), list[Point]()
        for record, metrics in zip(job.sessions, best.sessions, strict=True):
            points += [Point(with_split(split, name), value, record.session) for name, value in metrics.items()]
            if model := self.models.of(job, record) if with_models else self.models.at_once(job, record):
                models.append(model)
                before += session_points(job, record)  # which become the model's
        # What judges the whole first: a page of models has its columns in this order.
        self.recorder.log_models(key, models, [*points, *before])

    def _end_run(self, job: JobLog) -> None:
        key = self.run_key(job.id)
        if job.predictions and job.sessions and job.over:
            self._record_settled(job, with_models=False)
        if job.reason:
            self.recorder.set_tags(key, {"reason": job.reason})
        if (files := self.states / job.id).is_dir():
            for draft in files.rglob(".*"):  # left by a worker that was killed while it wrote
                draft.unlink(missing_ok=True)
            self.recorder.log_directory(key, files, without=[CHECKPOINTS])
            self.recorder.set_tags(key, shown_as_tables(table for table in TABLES if (files / table).is_file()))
        self.recorder.finish(key, job.status)

    def _provenance(self, job: JobLog, record: SessionRecord) -> None:
        """Record what the run was fed with, as its first session tells."""
        key, tags, spec = self.run_key(job.id), record.provenance, self.ledger.log.spec
        searched = isinstance(spec, SweepSpec) and any(name in spec.space for name in HOLDOUT)
        self.recorder.set_tags(key, tags)
        if "data_digest" not in tags:
            return
        for context in ("train", judged_on(record)):
            parts = [context, tags["data_digest"]]
            if context != "test":  # the training images are what the holdout leaves of them
                parts += [str(job.config[name]) for name in HOLDOUT if name in job.config]
            digest = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
            name = data_name(job.config["dataset"])
            self.recorder.log_input(key, name, digest, context)
            if context in PARENT_INPUTS.get(job.kind, ()) and (context == "test" or not searched):
                self.recorder.log_input(spec.name, name, digest, context)

    def _record_best(self, jobs: Iterable[JobLog]) -> None:
        """Record how good the best trial is by how many sessions the search had, whenever one of `jobs` is complete."""
        spec, dropped = self.ledger.log.spec, self.ledger.log.dropped
        if not isinstance(spec, SweepSpec):
            return
        trials = [job for job in jobs if job.kind == Kind.TRIAL and job.complete and job.id not in dropped]
        wish, points = objectives(spec.objective)[0], list[Point]()
        for job in sorted(trials, key=lambda trial: trial.completed or 0):
            if (score := score_trial(job, spec.objective, spec.split).score) is not None:
                self._best = max(self._best, wish.goodness(score))
                value = self._best if wish.maximise else -self._best
                points.append(Point(f"best/{wish.metric(spec.split)}", value, job.completed or 0))
        if points:
            self.recorder.log_points(spec.name, points)

    def _show(self, job_id: str) -> None:
        job = self._job(job_id)
        self.display.job_changed(job, shown_sessions(job, self.ledger.log) if job.sessions else ())


def session_points(job: JobLog, record: SessionRecord) -> list[Point]:
    """Return the points of a session: metrics at step = session, loss terms at step = epochs done so far."""
    metrics = record.settled() if job.predictions else record.metrics
    points = [Point(name, value, record.session) for name, value in metrics.items()]
    points += [Point(name, value, step) for step, terms in record.losses for name, value in terms.items()]
    return points
