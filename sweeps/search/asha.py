"""Stopping trials early by successive halving across sessions, decided from the ledger alone.

Asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020,
Algorithm 2) in the variant that stops instead of pausing. The resource is the session: trials are compared only at the
same session, where all of them have seen the same classes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import OUTRANKED, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.results.selection import measured, score_trial

REDUCTION = 3
GRACE = 1


def rungs(sessions: int) -> tuple[int, ...]:
    """Return the sessions after which trials are compared: GRACE x REDUCTION^k below the last of `sessions`.

    After the last session nothing is saved by stopping, so it is no rung.
    """
    powers = (GRACE * REDUCTION**k for k in itertools.count())
    return tuple(itertools.takewhile(lambda rung: rung < sessions, powers))


def survives(score: float, reached: Sequence[float]) -> bool:
    """Return whether `score` is among the best ceil(n / REDUCTION) of the n scores at a rung.

    Args:
        score: of the trial that has just reached the rung.
        reached: scores of all trials that have reached it so far, this one included. Equal scores stand together, so
            the first trial to arrive always goes on.
    """
    return sum(other > score for other in reached) < math.ceil(len(reached) / REDUCTION)


class Halving:
    """Decides for every trial of a sweep whether it goes on, from what the ledger has of all trials of its kind.

    Trials that other calls ran count as those of this one do, so that a continued sweep decides as if it had never
    been away.
    """

    def __init__(self, log: SweepLog) -> None:
        self._log = log
        self._scores: dict[tuple[str, int], float] = {}

    def reason(self, job: JobLog) -> str | None:
        """Return why the job, after its newest session, is to be stopped; None where it goes on."""
        session = len(job.sessions)
        if session not in rungs(job.sessions[-1].sessions):
            return None
        reached = [other for other in self._log.of_kind(job.kind) if len(other.sessions) >= session]
        scores = [self._score(other, session) for other in reached]
        return None if survives(self._score(job, session), scores) else OUTRANKED

    def _score(self, job: JobLog, session: int) -> float:
        """Return the first objective as it was after `session`; more is better."""
        if (job.id, session) not in self._scores:
            spec = self._log.sweep_spec
            then = replace(job, sessions=job.sessions[:session])
            if job.kind == Kind.SLOW:
                value = measured(then, "slow/average_accuracy", spec.split)
                assert value is not None, "the slow learner is judged after every session"
            else:
                value = score_trial(then, spec.objective, spec.split).goodness[0]
            self._scores[job.id, session] = value
        return self._scores[job.id, session]
