"""Tune's events, translated for the bookkeeper."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune import Callback, Stopper

from safe.errors import UserError
from sweeps.bookkeeper import Bookkeeper

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

LONGEST_REASON = 500


def _kept(hook: Callable[..., None]) -> Callable[..., None]:
    """Keep what a hook raises: Tune would take it for a failure of the trial. The sweep is stopped instead."""

    @functools.wraps(hook)
    def guarded(self: TuneCallback, *args: Any, **kwargs: Any) -> None:
        if self.error is None:
            try:
                hook(self, *args, **kwargs)
            except Exception as error:
                self.error = error

    return guarded


class TuneCallback(Callback):
    """Hands what happens to Tune's trials to the bookkeeper.

    Attributes:
        error: the first exception of the bookkeeper; the `stopper` then ends the experiment.
        user_error: the first `UserError` of a trial.
    """

    def __init__(self, books: Bookkeeper) -> None:
        self.books = books
        self.error: Exception | None = None
        self.user_error: UserError | None = None
        self.stopper = _StopOnError(self)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks to restore an experiment; ours is restored from the ledger."""
        return {}

    @_kept
    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The job begins, or begins again after a failure."""
        self._begin(trial)

    @_kept
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A session has a result."""
        self.books.session(trial.config["job"]["id"], result["session"])

    @_kept
    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: tune.Checkpoint, **info: Any
    ) -> None:
        """The job can be resumed after its newest session."""
        self.books.checkpoint(trial.config["job"]["id"], checkpoint.path)

    @_kept
    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The job is over, in the end of its stream or earlier by the scheduler."""
        job_id = trial.config["job"]["id"]
        if job_id not in self.books.open_jobs:
            return  # stopped before it began
        log = self.books.ledger.log.jobs[job_id]
        self.books.ended(job_id, "FINISHED" if log.complete else "STOPPED")
        for folder in {Path(path) for path in log.checkpoints.values()}:
            shutil.rmtree(folder, ignore_errors=True)

    @_kept
    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The job failed, and its second try too."""
        if trial.config["job"]["id"] not in self.books.open_jobs:
            self._begin(trial)  # its process died before it could start
        raised = trial.get_pickled_error()
        cause = getattr(raised, "cause", None) or raised
        if isinstance(cause, UserError):
            self.user_error = self.user_error or cause
        reason = str(cause).strip() if isinstance(cause, UserError) else f"{type(cause).__name__}: {cause}".strip()
        first_line = reason.splitlines()[0][:LONGEST_REASON]
        self.books.ended(trial.config["job"]["id"], "FAILED", f"{first_line} (details: {trial.path}/error.txt)")

    def _begin(self, trial: Trial) -> None:
        job = trial.config["job"]
        self.books.started(
            job["id"], kind=job["kind"], title=job["title"], config=job["config"], predictions=job["predictions"]
        )


class _StopOnError(Stopper):
    """Ends the experiment when the bookkeeper cannot go on."""

    def __init__(self, callback: TuneCallback) -> None:
        self.callback = callback

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.callback.error is not None

    def __getstate__(self) -> dict[str, Any]:
        return {}
