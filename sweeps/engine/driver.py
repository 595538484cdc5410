"""What happens to Tune's trials, taken down for the bookkeeper, and what Tune is to do next.

`Driver` holds everything that Tune has to know. It hears Tune's events itself; jobs and workers go to Tune through
`sweeps.engine.tune_adapters`.
"""

from __future__ import annotations

import functools
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.result import SHOULD_CHECKPOINT

from safe.errors import UserError
from safe.io.writable import no_room
from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.compat import check_answer, check_processes, forget, in_words, kill_worker, node_died
from sweeps.engine.heartbeat import Heartbeat
from sweeps.engine.job_queue import JobQueue
from sweeps.engine.packing import Packing
from sweeps.engine.spent import Spent
from sweeps.ledger.jobs import BUDGET, DROPPED, INTERRUPTED, SEARCH_KINDS, Job
from sweeps.ledger.record import SessionRecord
from sweeps.search.early import Early
from tracking.recorder import Status

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


LONGEST_REASON = 500
ASK_S = 10.0  # how often Ray is asked whether it is there
LISTEN_S = 1.0  # how often requests of the user are looked for
KEPT_CHECKPOINTS = 2  # the one before the newest serves when the newest cannot be read


def _kept(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Keep what a hook raises: Tune would take it for a failure of the trial. The study is stopped instead."""

    @functools.wraps(hook)
    def guarded(self: Driver, *args: Any, **kwargs: Any) -> Any:
        if self.error is None:
            try:
                return hook(self, *args, **kwargs)
            except Exception as error:
                self.error = error
                self.queue.drain()
        return None

    return guarded


@dataclass(eq=False)
class Driver(tune.Callback, tune.Stopper):
    """Takes down what happens to Tune's trials and says what Tune is to do next.

    It is a stopper too because Tune asks stoppers first, and with the last result of a trial too, which no scheduler
    gets. Callbacks come last: early stopping ranks a result in the ledger, and would come a session too late if a
    callback took it there.

    Args:
        stop: file that asks the running jobs to pause; see `interrupt`.
        spent: takes the checkpoints from which no job goes on any more.

    Attributes:
        error: the first exception of the bookkeeper or of the work; the experiment then ends.
        raised: what trials failed with, by Tune's trial id; see `sweeps.engine.compat`.
        interrupts: how often the user asked to stop.
    """

    queue: JobQueue
    books: Bookkeeper
    packing: Packing
    heartbeat: Heartbeat
    early: Early | None
    stop: Path
    spent: Spent

    def __post_init__(self) -> None:
        self.raised: dict[str, Exception] = {}
        self.error: Exception | None = None
        self.interrupts = 0
        self._jobs: dict[str, Job] = {}  # by Tune's trial id
        self._trials: dict[str, Trial] = {}  # that run, by job id
        self._stopped: dict[str, str] = {}  # why a job is being stopped, by job id
        self._broken: dict[str, str] = {}  # what is wrong with a result, by job id
        self._hung: set[str] = set()
        self._told = False
        self._asked = self._listened = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles what it is given in order to restore an experiment; ours is restored from the ledger."""
        return {}

    def setup(self, **info: Any) -> None:
        """Take Ctrl-C from Tune, which would drop the running sessions; the third one ends Python as usual."""

        def on_interrupt(*_: object) -> None:
            self.interrupt()
            if self.interrupts > 1:
                signal.signal(signal.SIGINT, signal.default_int_handler)

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_interrupt)

    def interrupt(self) -> None:
        """The user asked to stop: running jobs pause at the next chance. Asked again, everything ends at once."""
        self.interrupts += 1
        self.queue.drain()
        self.stop.touch()

    @_kept
    def next_job(self, trial_id: str) -> Job | None:
        """Return the job of a new trial, if one may begin now."""
        if not self.packing.fits(job.gpus for job in self._jobs.values()):
            return None
        job = self.queue.next()
        if job is not None:
            job = replace(job, gpus=self.packing.share)
            self._jobs[trial_id] = job
        return job

    def on_step_begin(self, **info: Any) -> None:
        """Do what is due at every turn of Tune's loop.

        Raises:
            KeyboardInterrupt: the user asked twice, or Ray is gone; here nothing is half written.
        """
        check_processes()
        if time.monotonic() - self._asked >= ASK_S:
            check_answer()
            self._asked = time.monotonic()
        if self.interrupts > 1:
            raise KeyboardInterrupt
        if self.interrupts and not self._told:
            self._told = True
            print("stopping after the epochs that are running; Ctrl-C again stops at once", file=sys.stderr)
        if time.monotonic() - self._listened >= LISTEN_S:
            self._listen()
            self._listened = time.monotonic()
        for job_id, working in self.heartbeat.look().items():
            self.books.display.working(job_id, working)
        for job_id in self.heartbeat.silent():
            self.heartbeat.ended(job_id)
            self._hung.add(job_id)
            kill_worker(self._trials[job_id])

    @_kept
    def _listen(self) -> None:
        self.queue.listen()

    @_kept
    def on_trial_start(self, *, trial: Trial, **info: Any) -> None:
        """A job begins."""
        job = self._jobs[trial.trial_id]
        self._trials[job.id] = trial
        trial.set_experiment_tag("")  # else the whole config as text, in every result
        self.books.started(job)
        if job.heartbeat:
            self.heartbeat.started(job.id, Path(job.heartbeat))

    @_kept
    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """A session has a result, or a job paused without one; return whether the job stops here."""
        job = self._jobs[trial_id]
        # What Tune keeps of a result to its own end is never read again; it even keeps statistics of every setting.
        record: SessionRecord | None = result.pop("session", None)
        result.pop("config", None)
        ends = record is not None and self._take(job, record)
        # Tune saves what may go on from here, and nothing else.
        result[SHOULD_CHECKPOINT] = not ends or self._stopped.get(job.id) == BUDGET
        return ends or record is None or (self.queue.draining and self.interrupts > 0)

    def _take(self, job: Job, record: SessionRecord) -> bool:
        """Take down a session; return whether the job ends with it."""
        self.heartbeat.sign(job.id)
        if (broken := record.not_finite()) is not None:
            self._broken[job.id] = broken
            return True
        self.books.session(job.id, record)
        if "memory/peak_mib" in record.metrics and "memory/total_mib" in record.metrics:
            self.packing.measured(record.metrics["memory/peak_mib"], record.metrics["memory/total_mib"])
        log = self.books.ledger.log.jobs[job.id]
        if job.id in self.books.ledger.log.dropped:
            self._stopped[job.id] = DROPPED
            return True
        if log.complete:
            return True
        if job.kind in SEARCH_KINDS:
            self.books.clock(self.queue.budget.seconds)
            if self.queue.budget.out_of_time():
                self._stopped[job.id] = BUDGET
            elif self.early is not None and (reason := self.early.reason(log)) is not None:
                self._stopped[job.id] = reason
        return job.id in self._stopped

    def stop_all(self) -> bool:
        """Whether the experiment ends here."""
        return self.error is not None

    @_kept
    def on_checkpoint(self, *, trial: Trial, checkpoint: tune.Checkpoint, **info: Any) -> None:
        """The job can be resumed from a checkpoint."""
        job = self._jobs[trial.trial_id]
        if job.id in self._broken:
            return
        log = self.books.ledger.log.jobs[job.id]
        before = set(log.checkpoints.values())
        self.books.checkpoint(job.id, checkpoint.path)
        newest = sorted(log.checkpoints.items())[-KEPT_CHECKPOINTS:]
        self.spent.remove(before - {path for _, path in newest})

    @_kept
    def on_trial_complete(self, *, trial: Trial, **info: Any) -> None:
        """The job is over: in the end of its stream, or stopped, or paused."""
        job = self._jobs.pop(trial.trial_id)
        forget(trial)
        if job.id not in self._trials:
            return  # stopped before it began
        log = self.books.ledger.log.jobs[job.id]
        checkpoints = set(log.checkpoints.values())
        reason = self._stopped.pop(job.id, DROPPED if job.id in self.books.ledger.log.dropped else None)
        if job.id in self._broken:
            self._end(job, Status.FAILED, self._broken.pop(job.id))
        elif log.complete and reason != DROPPED:
            self._end(job, Status.FINISHED)
        elif reason is not None:
            self._end(job, Status.STOPPED, reason)
        else:
            self._end(job, Status.KILLED, INTERRUPTED)
        if log.over:
            self.spent.remove(checkpoints)

    @_kept
    def on_trial_error(self, *, trial: Trial, **info: Any) -> None:
        """The job failed.

        Raises:
            KeyboardInterrupt: it did because Ray is gone.
        """
        check_processes()
        job = self._jobs.pop(trial.trial_id)
        forget(trial)
        if job.id not in self._trials:
            self.books.started(job)  # its process died before it could start
        self._stopped.pop(job.id, None)
        self._broken.pop(job.id, None)
        raised = self.raised.pop(trial.trial_id)
        cause = getattr(raised, "cause", None) or raised
        if self.interrupts and isinstance(cause, ray.exceptions.RayActorError):
            # Whoever ends every process of a sweep means no failure of a run.
            self._end(job, Status.KILLED, INTERRUPTED)
            return
        if no_room(cause):  # no run's fault, and none of the others would find any
            raise cause
        details = Path(trial.path) / "error.txt"
        details.parent.mkdir(parents=True, exist_ok=True)
        details.write_text(f"{raised}\n", "utf-8", errors="backslashreplace")
        if job.id in self._hung:
            self._hung.discard(job.id)
            reason = f"no step within {self.heartbeat.timeout:g} s (trial_timeout)"
        else:
            told = in_words(cause) or f"{type(cause).__name__}: {cause}".strip()
            if isinstance(cause, UserError):
                told = str(cause).strip()
            reason = f"{told.splitlines()[0][:LONGEST_REASON]} (details: {details})"
        spared = self._lowered(job, cause) or (node_died(cause) and self.queue.lost(job.id))
        self._end(job, Status.FAILED, reason, cause if isinstance(cause, UserError) else None, counts=not spared)

    def _lowered(self, job: Job, cause: BaseException) -> bool:
        """Make room after memory ran out, of a GPU or of the machine; False when it had all, or failed otherwise."""
        if isinstance(cause, ray.exceptions.OutOfMemoryError):
            return self.queue.fewer(job.id)
        return type(cause).__name__ == "OutOfMemoryError" and self.packing.lower(job.gpus)

    def _end(
        self,
        job: Job,
        status: Status,
        reason: str | None = None,
        error: UserError | None = None,
        *,
        counts: bool = True,
    ) -> None:
        self._trials.pop(job.id, None)
        self.heartbeat.ended(job.id)
        if job.kind in SEARCH_KINDS:
            self.books.clock(self.queue.budget.seconds)
        self.books.ended(job.id, status, reason)
        self.queue.ended(job.id, error, counts=counts)
