"""Which metrics of a session are shown, and which are settled once it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from safe.evaluation.metrics import depends_on_prediction
from safe.types import with_split
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import JobLog, SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.results.selection import score_trial


def shown_sessions(job: JobLog, log: SweepLog) -> Sequence[Mapping[str, float]]:
    """Return the metrics after each session of a job that a person wants to see, names without prefix."""
    if job.predictions:
        return score_trial(job, log.sweep_spec.objective, job.sessions[-1].split).sessions
    learner = "slow/" if job.kind == Kind.SLOW else ""  # a slow setting is judged by that learner alone
    return [record.judged(learner) for record in job.sessions]


def live_metrics(job: JobLog, record: SessionRecord) -> Mapping[str, float]:
    """Return the metrics of a session that are known once it is over.

    For a trial, that leaves out the aggregated ones, which depend on the settings of prediction that are chosen later.
    """
    if not job.predictions:
        return record.metrics
    later = {with_split(record.split, name) for name in record.judged() if depends_on_prediction(name)}
    return {name: value for name, value in record.metrics.items() if name not in later}
