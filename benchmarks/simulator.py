"""A sweep without Ray: its rounds driven one job after another, results from a function, the ledger in memory.

It takes the same decisions as the sweep itself, since both run `sweeps.studies.sweep.work`. Searches are rehearsed with
it over a table of results, and tested.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sweeps.engine.budget import Budget
from sweeps.engine.work import Study
from sweeps.ledger.jobs import DROPPED, SEARCH_KINDS, Job
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.ledger.requests import Requests
from sweeps.search.early import early_stopping
from sweeps.spec.specs import SweepSpec, read_spec
from sweeps.studies.sweep import work
from tracking.recorder import Status

Runner = Callable[[Job], list[SessionRecord]]
"""Returns the session records of a job, as `sweeps.worker.trainable` would report them; none for a run that fails."""


class KilledError(Exception):
    """The rehearsal was to end here."""


class Rehearsal(Study):
    """Drives the work of a sweep.

    Args:
        spec: of the sweep.
        records: of an earlier rehearsal, to go on from.
        requests: where trials are added and dropped; looked at after every session.

    Attributes:
        records: what the file of a ledger would hold, but for its first line.
        log: what they say.
        rounds: the rounds that were asked for.
        done: ids of the jobs that this rehearsal ran.
        notes: what a user would be told meanwhile.
    """

    def __init__(self, spec: SweepSpec, records: Sequence[str] = (), requests: Requests | None = None) -> None:
        self.requests = requests
        self.records = list(records)
        self.log = SweepLog(spec)
        for record in self.records:
            self.log.apply(json.loads(record))
        self.rounds: list[list[Job]] = []
        self.done: list[str] = []
        self._budget = Budget(self.log, spec.max_sessions)
        self.notes: list[str] = []

    @property
    def budget_left(self) -> bool:
        return self._budget.left

    def run(self, runner: Runner, *, backwards: bool = False, kill_after: int | None = None) -> SweepLog:
        """Run every job that is not over, and return the log.

        Args:
            backwards: jobs of a round run in the opposite order.
            kill_after: jobs to run before `KilledError` is raised.
        """
        for jobs in work(self):
            self.rounds.append(jobs)
            missing = [job for job in jobs if job.id not in self.log.jobs or not self.log.jobs[job.id].over]
            missing = missing[::-1] if backwards else missing
            while missing:
                if kill_after is not None and len(self.done) == kill_after:
                    raise KilledError
                job = missing.pop(0)
                if job.kind in SEARCH_KINDS and self._budget.spent():
                    self._budget.left = False
                    continue
                missing = [*self._run(job, runner(job)), *missing]
                self.done.append(job.id)
        return self.log

    def again(self, spec: SweepSpec | None = None) -> Rehearsal:
        """Return a rehearsal that goes on from these records, as a later call with this specification would."""
        parsed = read_spec(json.loads((spec or self.log.sweep_spec).model_dump_json()))
        assert isinstance(parsed, SweepSpec)
        return type(self)(parsed, self.records, self.requests)

    def append(self, type: str, **fields: Any) -> None:
        """Write a record to memory, as a ledger does to its file."""
        self.records.append(json.dumps({"type": type, **fields}, allow_nan=False))
        self.log.apply(json.loads(self.records[-1]))

    def tag(self, tags: Mapping[str, str]) -> None:
        """Record nothing."""

    def keep_best(self) -> None:
        """Keep nothing."""

    def end(self, job_id: str, reason: str) -> None:
        self.append("status", job=job_id, status=Status.STOPPED, reason=reason)

    def note(self, words: str) -> None:
        """Take down what a user is told."""
        self.notes.append(words)

    def _run(self, job: Job, records: Sequence[SessionRecord]) -> list[Job]:
        """Take down what a job gave, up to where it is stopped; return what was asked for meanwhile."""
        if job.id not in self.log.jobs:
            self.append("job", **job.record())
        self.append("status", job=job.id, status=Status.RUNNING, reason=None)
        early = early_stopping(self.log) if job.kind in SEARCH_KINDS else None
        new: list[Job] = []
        for record in records:
            self.append("session", job=job.id, **record.to_json())
            new += self.incoming()
            log = self.log.jobs[job.id]
            reason = early.reason(log) if early is not None and not log.complete else None
            if job.id in self.log.dropped or reason is not None:
                self.end(job.id, DROPPED if job.id in self.log.dropped else str(reason))
                return new
        self.append("status", job=job.id, status=Status.FINISHED if records else Status.FAILED, reason=None)
        return new
