"""The jobs of a study, handed out round by round: order, retries, budget and what is over already.

Nothing here knows Ray; `sweeps.engine.tune_adapters` asks for jobs on Tune's behalf.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from safe.errors import UserError
from sweeps.engine.budget import Budget
from sweeps.engine.order import first_free
from sweeps.ledger.jobs import BUDGET, SEARCH_KINDS, Job, Kind
from sweeps.ledger.ledger import SweepLog
from tracking.recorder import Status

MOST_LOST_NODES = 5


class AllFailedError(RuntimeError):
    """No run of a kind came to its end, so there is nothing to go on with."""


@dataclass(eq=False)
class JobQueue:
    """Hands out jobs, and goes on with the work of a study when every job of a round has ended.

    A job that is over already is skipped. A job that failed is tried again from its newest checkpoint; from the one
    before when it failed before its first result, since then the checkpoint itself may be the cause.

    Args:
        rounds: the work; it reads `log` between rounds.
        concurrency: jobs at a time.
        retries: further tries of a job that fails.
        stage_key: what tells the gradient steps of a job's session (from 1) apart, where jobs share them; None hands
            jobs out in their order.
        incoming: takes up what was asked for meanwhile and returns new jobs of the present round.

    Attributes:
        draining: nothing more is handed out.
        finished: nothing runs, and nothing will be handed out any more.
    """

    rounds: Iterator[list[Job]]
    log: SweepLog
    budget: Budget
    concurrency: int
    retries: int = 1
    stage_key: Callable[[Job, int], str] | None = None
    incoming: Callable[[], list[Job]] = list

    def __post_init__(self) -> None:
        self.finished = False
        self.draining = False
        self.running: dict[str, Job] = {}
        self._round: list[Job] = []
        self._waiting: deque[Job] = deque()
        self._sessions_at_start: dict[str, int] = {}
        self._most_at_start: dict[str, int] = {}  # jobs at a time
        self._failures: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._distrusted: set[str] = set()
        self._user_error: UserError | None = None

    def next(self) -> Job | None:
        """Return the job to begin now; None when there is none now, or none any more (`finished`).

        Raises:
            UserError, AllFailedError: every job of the round but its audits failed, and every other of their kinds; the
                first cause.
            Exception: what the work raised.
        """
        if len(self.running) < self.concurrency and self.prepare():
            return self._begin(self._take())
        self.finished = self.draining and not self.running
        return None

    def prepare(self) -> bool:
        """Go on with the work as far as it comes without a job; return whether a job may begin now."""
        while not self.draining:
            while self._waiting and self._waiting[0].kind in SEARCH_KINDS and self.budget.spent():
                self._waiting.popleft()
                self.budget.left = False
            if self._waiting:
                return True
            if self.running:
                return False
            self._close_round()
            try:
                self._round = list(next(self.rounds))
            except StopIteration:
                self.draining = True
                return False
            self._waiting.extend(job for job in self._round if not self._over(job))
        return False

    def listen(self) -> None:
        """Take in what was asked for meanwhile: new jobs begin next, and those that are over now do not begin."""
        if not self.draining:
            new = self.incoming()
            self._round.extend(new)
            self._waiting = deque(job for job in (*new, *self._waiting) if not self._over(job))

    def drain(self) -> None:
        """Hand out nothing more; what runs may end."""
        self.draining = True
        self._waiting.clear()
        self.finished = not self.running

    def fewer(self, job_id: str) -> bool:
        """Run one job less at a time than when one began that memory was too little for; False when it ran alone.

        Jobs that went down together make it one less together.
        """
        most = self._most_at_start[job_id]
        self.concurrency = min(self.concurrency, max(1, most - 1))
        return most > 1

    def lost(self, job_id: str) -> bool:
        """A job went down with its node; return whether that is to be taken for an accident.

        It is up to MOST_LOST_NODES times: then it may well be the job that takes the nodes down.
        """
        self._lost[job_id] += 1
        return self._lost[job_id] <= MOST_LOST_NODES

    def ended(self, job_id: str, error: UserError | None = None, *, counts: bool = True) -> None:
        """Take note that a job has ended, as the log tells by now; one that failed may come again.

        Args:
            job_id: of a running job.
            error: what it failed with, when that was bad input.
            counts: whether a failure uses up one of the retries.
        """
        job = self.running.pop(job_id)
        self._user_error = self._user_error or error
        self.budget.searching(any(other.kind in SEARCH_KINDS for other in self.running.values()))
        log = self.log.jobs[job_id]
        if log.reason == BUDGET:
            self.budget.left = False
        if log.status == Status.FAILED:
            self._failures[job_id] += counts
            if counts and job.resume_from and len(log.sessions) == self._sessions_at_start[job_id]:
                self._distrusted.add(job.resume_from[0])
            if self._failures[job_id] <= self.retries and not self.draining and job_id not in self.log.dropped:
                self._waiting.appendleft(job)

    def _take(self) -> Job:
        """Return the first waiting job, or one that can go on while that one would wait for a running one's stage."""
        place = 0
        if self.stage_key is not None and self.running:
            now = [
                (job, len(self.log.jobs[id].sessions) + 1 if id in self.log.jobs else 1)
                for id, job in self.running.items()
            ]
            place = first_free(self._waiting, now, self.stage_key)
        job = self._waiting[place]
        del self._waiting[place]
        return job

    def _begin(self, job: Job) -> Job:
        log = self.log.jobs.get(job.id)
        job = replace(job, resume_from=log.resumable(self._distrusted) if log else [])
        self._sessions_at_start[job.id] = len(log.sessions) if log else 0
        self._most_at_start[job.id] = self.concurrency
        self.running[job.id] = job
        self.budget.searching(any(other.kind in SEARCH_KINDS for other in self.running.values()))
        return job

    def _over(self, job: Job) -> bool:
        return job.id in self.log.jobs and self.log.jobs[job.id].over

    def _close_round(self) -> None:
        jobs = [job for job in self._round if job.kind != Kind.AUDIT]  # which a study is whole without
        kinds = {job.kind for job in jobs}
        logs = [self.log.jobs[job.id] for job in jobs if job.id in self.log.jobs]
        failed = [log for log in logs if log.status == Status.FAILED]
        if not failed or len(failed) < len(jobs):
            return
        if all(log.status == Status.FAILED for log in self.log.jobs.values() if log.kind in kinds):
            first = failed[0]
            raise self._user_error or AllFailedError(f"every {first.kind} run failed; {first.id}: {first.reason}")
