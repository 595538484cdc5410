"""Choosing the configuration: prediction per trial, then the best trial; pure functions of the ledger's rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from safe.errors import UserError
from safe.evaluation.metrics import session_metrics
from safe.types import with_split
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.packed import PackedSessions
from sweeps.ledger.record import SessionRecord
from sweeps.spec.objective import Objective, objectives
from tracking.recorder import Status


@dataclass(frozen=True)
class Scored:
    """A trial at some settings of prediction.

    Attributes:
        values: the objectives after the last session, as they were measured; None where the trial has no such metric.
        goodness: the same, turned so that more is better, and worst where there is none.
        records: sessions of the trial.
        index: position of the settings in the list of predictions.
    """

    trial: str
    prediction: dict[str, Any]
    values: tuple[float | None, ...]
    goodness: tuple[float, ...]
    records: Sequence[SessionRecord] = field(compare=False, repr=False)
    index: int

    @property
    def score(self) -> float | None:
        """Return the first objective."""
        return self.values[0]

    @cached_property
    def sessions(self) -> tuple[dict[str, float], ...]:
        """Return the metrics after each session that depend on the settings of prediction, names without prefix."""
        return aggregated(self.records, self.index)

    @property
    def last(self) -> dict[str, float]:
        """Return the last of `sessions`, without the others."""
        return _after(self.records, self.index)

    def dominates(self, other: Scored) -> bool:
        """Return whether it is nowhere worse and somewhere better."""
        pairs = list(zip(self.goodness, other.goodness, strict=True))
        return all(ours >= theirs for ours, theirs in pairs) and any(ours > theirs for ours, theirs in pairs)


def aggregated(sessions: Sequence[SessionRecord], index: int) -> tuple[dict[str, float], ...]:
    """Return the metrics after each session that belong to settings `index` of the grid.

    Args:
        sessions: those of one run, from the first.
        index: position in the list of predictions.
    """
    return tuple(_after(sessions[:t], index) for t in range(1, len(sessions) + 1))


def _after(sessions: Sequence[SessionRecord], index: int, asked: Set[str] | None = None) -> dict[str, float]:
    """Return the metrics after the last of these sessions, of thousands of trials only those that are asked for."""
    last, rows = sessions[-1], [record.grid[index] for record in sessions]
    within = [record.grid_within[index] for record in sessions if record.grid_within]
    known = within if len(within) == len(sessions) else ()
    return session_metrics(rows, last.counts, known, asked) | dict(last.grid_metrics[index])


def score_points(job: JobLog, objective: str, split: str) -> tuple[Scored, ...]:
    """Return a trial at each of its settings of prediction, best first.

    Of equals the temperature nearest to 1 comes first, then the one listed first. A search asks before every round for
    all trials, tables and reports for each several times: it is reckoned once while the sessions stay as they are.

    Raises:
        ValueError: no session is finished, or a session was judged on other images than `split` allows.
    """
    points = _known(job, objective, split)
    if len(points) < max(1, len(job.predictions)):
        points = _scored(job, objective, split)
        _keep(job, objective, split, points)
    return points


def pack(job: JobLog) -> None:
    """Keep of a job that is over its sessions packed, and of what was reckoned from them the best point."""
    best = {wanted: points[0] for wanted, (_, points) in job.scored.items() if _known(job, *wanted)}
    job.sessions = PackedSessions(job.sessions)
    for (objective, split), point in best.items():
        _keep(job, objective, split, (replace(point, records=job.sessions),))


def _known(job: JobLog, objective: str, split: str) -> tuple[Scored, ...]:
    """Return the points that were reckoned from the sessions as they are: all, the best one or none."""
    sessions, points = job.scored.get((objective, split), ((), ()))
    # Of equal records most are the same ones, which takes no time.
    return points if sessions is job.sessions or sessions == job.sessions else ()


def _keep(job: JobLog, objective: str, split: str, points: tuple[Scored, ...]) -> None:
    packed = isinstance(job.sessions, PackedSessions)
    job.scored[objective, split] = (job.sessions, points[:1]) if packed else (list(job.sessions), points)


def _scored(job: JobLog, objective: str, split: str) -> tuple[Scored, ...]:
    if not job.sessions:
        raise ValueError(f"{job.id} has no finished session")
    if wrong := {record.split for record in job.sessions} - {split}:
        raise ValueError(f"{job.id} was judged on {sorted(wrong)}, but only {split!r} may steer this sweep")
    wanted, points = objectives(objective), []
    asked = {wish.name for wish in wanted}
    records = job.sessions if isinstance(job.sessions, PackedSessions) else tuple(job.sessions)
    for index, prediction in enumerate(job.predictions):
        metrics = _after(records, index, asked)
        values = tuple(measured(job, wish.name, split, metrics) for wish in wanted)
        goodness = tuple(wish.goodness(value) for wish, value in zip(wanted, values, strict=True))
        points.append(Scored(job.id, prediction, values, goodness, records, index))
    return tuple(sorted(points, key=_rank, reverse=True))


def score_trial(job: JobLog, objective: str, split: str) -> Scored:
    """Return the trial at the settings of prediction that are best by the objective; see `score_points`."""
    return (_known(job, objective, split) or score_points(job, objective, split))[0]


def point_at(job: JobLog, prediction: Mapping[str, Any], objective: str, split: str) -> Scored | None:
    """Return a trial at given settings of prediction, None where it was not scored at them."""
    return next((point for point in score_points(job, objective, split) if point.prediction == prediction), None)


def shown_sessions(job: JobLog, log: SweepLog) -> Sequence[Mapping[str, float]]:
    """Return the metrics after each session of a job that a person wants to see, names without prefix."""
    if job.predictions:
        return score_trial(job, log.sweep_spec.objective, job.sessions[-1].split).sessions
    learner = "slow/" if job.kind == Kind.SLOW else ""  # a slow setting is judged by that learner alone
    return [record.judged(learner) for record in job.sessions]


def leaderboard(jobs: Iterable[JobLog], objective: str, split: str) -> list[Scored]:
    """Return the finished trials, best first; of equals the one that stands first in `jobs`.

    Several objectives rank by the first, then the next, so that the first of the board is on the Pareto front.
    """
    scored = [score_trial(job, objective, split) for job in jobs if job.status == Status.FINISHED]
    return sorted(scored, key=lambda entry: entry.goodness, reverse=True)


def pareto(jobs: Iterable[JobLog], objective: str, split: str) -> list[Scored]:
    """Return the points (trial, prediction) that no other point dominates, best by the first objective first.

    Of points with equal values the first by trial and by `score_points` stands for all.
    """
    points = [point for job in jobs if job.status == Status.FINISHED for point in score_points(job, objective, split)]
    front: list[Scored] = []
    # In this order nothing dominates what stands before it, so a comparison with the front so far is enough.
    for point in sorted(points, key=lambda entry: entry.goodness, reverse=True):
        if not any(kept.goodness == point.goodness or kept.dominates(point) for kept in front):
            front.append(point)
    return front


def choose(jobs: Iterable[JobLog], objective: str, split: str) -> Scored | None:
    """Return the chosen trial at its prediction, or None when no trial is finished.

    Raises:
        UserError: the trials have no such metric.
    """
    board = leaderboard(jobs, objective, split)
    if not board:
        return None
    if missing := [
        wish.name for wish, value in zip(objectives(objective), board[0].values, strict=True) if value is None
    ]:
        raise UserError(f"no finished trial has the metric {missing[0]}; choose another with --objective")
    return board[0]


def varied(names: Iterable[str], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings in which configurations differ."""
    return [name for name in names if len({str(config.get(name)) for config in configs}) > 1]


def carried_on(log: SweepLog) -> set[str]:
    """Return the ids of the slow settings that trials were made of."""
    slow = log.of_kind(Kind.SLOW)
    names = varied(log.sweep_spec.space, [job.config for job in slow])
    made_of = {tuple(str(trial.config[name]) for name in names) for trial in log.of_kind(Kind.TRIAL)}
    return {job.id for job in slow if tuple(str(job.config[name]) for name in names) in made_of}


def slow_objective(finished: Iterable[JobLog], objective: str, split: str) -> Objective:
    """Return by what slow candidates are judged.

    An objective that is not a learner's own (a time, say) is replaced by the slow learner's average accuracy.
    """
    wish = objectives(objective)[0]
    own = Objective(f"slow/{wish.name.rpartition('/')[2]}", wish.maximise)
    if any(measured(job, own.name, split) is None for job in finished):
        return Objective("slow/average_accuracy", True)
    return own


def measured(job: JobLog, name: str, split: str, of_prediction: dict[str, float] | None = None) -> float | None:
    """Return a metric after the last session of a job, or the last value of a loss term; None if there is none."""
    for metrics, key in (
        (of_prediction or {}, name),
        (job.sessions[-1].metrics, with_split(split, name)),
        (job.sessions[-1].metrics, name),
    ):
        if key in metrics:
            return float(metrics[key])
    terms = [terms[name] for record in job.sessions for _, terms in record.losses if name in terms]
    return float(terms[-1]) if terms else None


def _rank(point: Scored) -> tuple[tuple[float, ...], float]:
    return point.goodness, -abs(math.log(point.prediction["aggregation.temperature"]))
