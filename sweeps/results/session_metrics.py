"""Which metrics of a session are shown, and which are settled once it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safe.evaluation.metrics import depends_on_prediction
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import JobLog, SweepLog
from sweeps.results.selection import score_trial


def shown_sessions(job: JobLog, log: SweepLog) -> Sequence[Mapping[str, float]]:
    """Return the metrics after each session of a job that a person wants to see, names without prefix."""
    if job.predictions:
        return score_trial(job, log.sweep_spec.objective, job.sessions[-1]["split"]).sessions
    learner = "slow/" if job.kind == Kind.SLOW else ""  # a slow setting is judged by that learner alone
    sessions = []
    for record in job.sessions:
        prefix = f"{record['split']}/{learner}"
        metrics = record["metrics"].items()
        sessions.append({name.removeprefix(prefix): value for name, value in metrics if name.startswith(prefix)})
    return sessions


def live_metrics(job: JobLog, record: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a session that are known once it is over.

    For a trial, that leaves out the aggregated ones, which depend on the settings of prediction that are chosen later.
    """
    metrics: dict[str, float] = record["metrics"]
    if not job.predictions:
        return metrics
    split = f"{record['split']}/"
    return {
        name: value
        for name, value in metrics.items()
        if not (name.startswith(split) and depends_on_prediction(name.removeprefix(split)))
    }
