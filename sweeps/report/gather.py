"""What the ledger says, as plain data for the report; fractions in [0, 1]; what is absent is None or empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from safe.errors import UserError
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import SEARCH_KINDS, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.results.finalists import learner_rows
from sweeps.results.selection import Scored, leaderboard, score_points, varied
from sweeps.results.statistics import summary
from sweeps.results.summary import control_runs, final_runs
from sweeps.spec.objective import objectives
from sweeps.spec.space import PREDICTION_SETTINGS
from sweeps.spec.specs import SweepSpec
from tracking.recorder import Status

Stats = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """A trial at its best settings of prediction, or at the chosen ones.

    Attributes:
        metrics: of its last finished session, names without prefix.
        values: the objectives there; empty before the first session.
        rank: place among the finished trials, from 1; None for the others.
    """

    id: str
    status: Status
    reason: str | None
    config: Mapping[str, Any]
    prediction: dict[str, Any]
    metrics: dict[str, float]
    values: tuple[float | None, ...]
    sessions: int
    rank: int | None

    @property
    def score(self) -> float | None:
        """The first objective."""
        return self.values[0] if self.values else None


@dataclass(frozen=True)
class Curve:
    """A metric after each session over several runs: mean and standard deviation (None for one run)."""

    label: str
    mean: list[float]
    std: list[float | None]
    runs: int


class Gathered:
    """A sweep's log with what several parts of the report ask for, each computed once."""

    def __init__(self, log: SweepLog) -> None:
        if not isinstance(log.spec, SweepSpec):
            raise UserError(
                f"{log.spec.name!r} is an ablation, and a report is about a search; its table: "
                f"python -m sweeps show {log.spec.name}"
            )
        self.log = log
        self.spec = log.spec
        self.on_test = self.spec.selection == "test"
        self.objectives = objectives(self.spec.objective)
        self.judged_on = "test" if self.on_test else "validation"

    @cached_property
    def trials(self) -> list[Trial]:
        """The finished trials and baselines, best first, then the others in the order of their numbers."""
        jobs = self.log.candidates()
        ranked = [scored.trial for scored in leaderboard(jobs, self.spec.objective, self.spec.split)]
        others = [job.id for job in jobs if job.id not in set(ranked)]
        trials = []
        for place, job_id in enumerate([*ranked, *others], start=1):
            job = self.log.jobs[job_id]
            best = self._point(job) if job.sessions else None
            trials.append(
                Trial(
                    id=job.id,
                    status=job.status,
                    reason=job.reason,
                    config=job.config,
                    prediction=best.prediction if best else {},
                    metrics=best.last if best else {},
                    values=best.values if best else (),
                    sessions=len(job.sessions),
                    rank=place if place <= len(ranked) else None,
                )
            )
        return trials

    def _point(self, job: JobLog) -> Scored:
        """Return a trial at its best settings of prediction, the chosen one at those that were chosen."""
        points = score_points(job, self.spec.objective, self.spec.split)
        chosen = self.log.selected
        if chosen is None or chosen["trial"] != job.id:
            return points[0]
        return next(point for point in points if point.prediction == chosen["prediction"])

    @property
    def finished(self) -> list[Trial]:
        """The finished trials, best first."""
        return [trial for trial in self.trials if trial.rank is not None]

    @cached_property
    def varied(self) -> list[str]:
        """The trained settings of the space that differ between trials."""
        names = (name for name in self.spec.space if name not in PREDICTION_SETTINGS)
        return varied(names, [trial.config for trial in self.trials])

    @property
    def predictions(self) -> list[str]:
        """The settings of prediction that the space lists."""
        return [name for name in self.spec.space if name in PREDICTION_SETTINGS]

    @cached_property
    def winner(self) -> Trial | None:
        """The chosen trial; None while nothing is chosen."""
        if self.log.selected is None:
            return None
        return next(trial for trial in self.trials if trial.id == self.log.selected["trial"])

    @property
    def winner_config(self) -> dict[str, Any]:
        """The chosen configuration with its settings of prediction; empty while nothing is chosen."""
        return {**self.winner.config, **self.winner.prediction} if self.winner is not None else {}

    @cached_property
    def finals(self) -> list[JobLog]:
        """The finished final runs of the chosen trial."""
        return final_runs(self.log)

    @cached_property
    def learners(self) -> tuple[tuple[str, str], ...]:
        """What the results of the chosen configuration are called, each with the prefix of its metrics."""
        return learner_rows(self.log)

    @cached_property
    def controls(self) -> list[JobLog]:
        """The finished runs of the preset default, beside the final ones."""
        return control_runs(self.log)


def last_metric(jobs: Sequence[JobLog], metric: str) -> Stats | None:
    """Return mean, std and values of a metric after the last session, or None where a run lacks it."""
    values = [job.sessions[-1].metric(metric) for job in jobs]
    known = [value for value in values if value is not None]
    return summary(known) if known and len(known) == len(jobs) else None


def curve(label: str, jobs: Sequence[JobLog], metric: str) -> Curve | None:
    """Return a metric session by session over runs of equal length, or None where it is absent."""
    lengths = {len(job.sessions) for job in jobs}
    if len(lengths) != 1:
        return None
    rows = [[record.metric(metric) for record in job.sessions] for job in jobs]
    if any(value is None for row in rows for value in row):
        return None
    stats = [summary(column) for column in zip(*rows, strict=True)]
    return Curve(label, [s["mean"] for s in stats], [s["std"] for s in stats], len(jobs))


def curves(gathered: Gathered) -> list[Curve]:
    """Return the accuracy of what was chosen, its learners and the control over the final runs."""
    rows = gathered.learners if gathered.finals else ()
    drawn = [curve(label, gathered.finals, f"{prefix}accuracy") for label, prefix in rows]
    if gathered.controls:
        drawn.append(curve("control", gathered.controls, "accuracy"))
    return [entry for entry in drawn if entry is not None]


@dataclass(frozen=True)
class Matrix:
    """Accuracy after session s (row) on the classes of session k (column), a triangle; mean over `runs` runs."""

    rows: list[list[float]]
    runs: int
    split: str
    of_finals: bool


def matrix(gathered: Gathered) -> Matrix | None:
    """Return the accuracy matrix of the final runs or, where they kept none, of the chosen trial."""
    finals = [job for job in gathered.finals if all(record.row for record in job.sessions)]
    tables = [[record.row for record in job.sessions] for job in finals]
    if tables and len({len(table) for table in tables}) == 1:
        rows = [
            [summary(list(cells))["mean"] for cells in zip(*same, strict=True)] for same in zip(*tables, strict=True)
        ]
        return Matrix(rows, len(tables), "test", of_finals=True)
    if gathered.winner is None:
        return None
    job = gathered.log.jobs[gathered.winner.id]
    index = job.predictions.index(gathered.winner.prediction)
    return Matrix([list(record.grid[index]) for record in job.sessions], 1, gathered.spec.split, of_finals=False)


def prediction_scores(gathered: Gathered, trial: str) -> list[tuple[dict[str, Any], float]]:
    """Return the first objective at every setting of prediction of a trial, in the order of the grid."""
    job = gathered.log.jobs[trial]
    points = score_points(job, gathered.spec.objective, gathered.spec.split)
    scored = [(point.prediction, point.score) for point in points if point.score is not None]
    return sorted(scored, key=lambda entry: job.predictions.index(entry[0]))


@dataclass(frozen=True)
class Progress:
    """The search, trial by trial: training sessions so far, score (None where unfinished), best finished so far."""

    trials: list[str]
    sessions: list[int]
    scores: list[float | None]
    best: list[float | None]


def progress(gathered: Gathered) -> Progress:
    """Return score against training cost, in the order in which the search began its runs.

    A session whose training was taken from the stage store costs nothing; without that record every session counts.
    """
    scores = {trial.id: trial.score for trial in gathered.finished}
    course = Progress([], [], [], [])
    better = max if gathered.objectives[0].maximise else min
    spent, best = 0, None
    for job in gathered.log.jobs.values():
        if job.kind not in SEARCH_KINDS:
            continue
        spent += sum(record.trained for record in job.sessions)
        if job.kind != Kind.TRIAL:
            continue
        score = scores.get(job.id)
        if score is not None:
            best = score if best is None else better(best, score)
        course.trials.append(job.id)
        course.sessions.append(spent)
        course.scores.append(score)
        course.best.append(best)
    return course
