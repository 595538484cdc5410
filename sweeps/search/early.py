"""Which trials end early, decided from the ledger alone after each of their sessions."""

from __future__ import annotations

from typing import Protocol

from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.results.selection import measured, score_trial
from sweeps.search.asha import Halving
from sweeps.spec.specs import SweepSpec
from sweeps.spec.stopping import Hopeless, stopping


class Early(Protocol):
    """Decides for every job of a search whether it ends."""

    def reason(self, job: JobLog) -> str | None:
        """Return why the job ends after its newest session, None where it goes on."""
        ...


def early_stopping(log: SweepLog) -> Early | None:
    """Return what ends trials of a sweep early, if anything does."""
    rule = stopping(log.spec.stop) if isinstance(log.spec, SweepSpec) else "none"
    if isinstance(rule, Hopeless):
        return Below(log, rule)
    return Halving(log) if rule == "asha" else None


class Below:
    """Ends trials that are hopeless after a given session; a slow setting is judged by the slow learner alone."""

    def __init__(self, log: SweepLog, rule: Hopeless) -> None:
        self._spec = log.sweep_spec
        self._rule = rule

    def reason(self, job: JobLog) -> str | None:
        """See `Early`; a metric that the job does not have ends nothing."""
        if len(job.sessions) != self._rule.session:
            return None
        wish, split = self._rule.metric, self._spec.split
        if job.kind == Kind.SLOW:
            value = measured(job, f"slow/{wish.name}", split)
        else:
            objective = f"{wish.name}:{'max' if wish.maximise else 'min'}"
            value = score_trial(job, objective, split).values[0]
        worse = value is not None and wish.goodness(value) < wish.goodness(self._rule.value)
        return self._rule.reason if worse else None
