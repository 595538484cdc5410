"""Choosing the configuration: prediction per trial, then the best trial; pure functions of the ledger's rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from safe.metrics import session_metrics
from sweeps.ledger import JobLog


@dataclass(frozen=True)
class Scored:
    """A trial at its best settings of prediction.

    Attributes:
        sessions: the aggregated metrics after each session, names without prefix.
        score: the objective after the last session.
    """

    trial: str
    prediction: dict[str, Any]
    score: float
    sessions: tuple[dict[str, float], ...]


def aggregated(sessions: Sequence[dict[str, Any]], index: int) -> tuple[dict[str, float], ...]:
    """Return the aggregated metrics after each session at settings `index` of the grid.

    Args:
        sessions: session records; `grid[index]` is the row of accuracies, `counts` the images per session group.
        index: position in the list of predictions.
    """
    rows = [record["grid"][index] for record in sessions]
    return tuple(session_metrics(rows[: t + 1], record["counts"]) for t, record in enumerate(sessions))


def score_trial(job: JobLog, objective: str, split: str) -> Scored:
    """Return the trial at the settings of prediction that maximise the objective.

    Of equals the temperature nearest to 1 wins, then the first.

    Raises:
        ValueError: no session is finished, or a session was judged on other images than `split` allows.
    """
    if not job.sessions:
        raise ValueError(f"{job.id} has no finished session")
    if wrong := {record["split"] for record in job.sessions} - {split}:
        raise ValueError(f"{job.id} was judged on {sorted(wrong)}, but only {split!r} may steer this sweep")
    candidates = [
        Scored(job.id, prediction, sessions[-1][objective], sessions)
        for index, prediction in enumerate(job.predictions)
        for sessions in [aggregated(job.sessions, index)]
    ]
    return max(
        candidates, key=lambda scored: (scored.score, -abs(math.log(scored.prediction["aggregation.temperature"])))
    )


def leaderboard(jobs: Iterable[JobLog], objective: str, split: str) -> list[Scored]:
    """Return the finished trials, best first; of equals the one that stands first in `jobs`."""
    scored = [score_trial(job, objective, split) for job in jobs if job.status == "FINISHED"]
    return sorted(scored, key=lambda entry: -entry.score)
