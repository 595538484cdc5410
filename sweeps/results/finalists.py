"""The race of a sweep as its ledger tells it: finalists with their scores by repeat, who left, who was taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from safe.types import with_split
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Kind, job_id
from sweeps.ledger.ledger import SweepLog
from sweeps.results.heads import head_words
from sweeps.results.racing import SEARCH, Standing, race, taken
from sweeps.results.selection import point_at
from sweeps.results.slow import lucks
from sweeps.results.statistics import paired_difference
from sweeps.spec.combinations import of_heads
from sweeps.spec.configs import BASELINE_NAMES, PRESET
from sweeps.spec.objective import Objective, objectives
from tracking.recorder import Status

SEARCHED = "searched"


@dataclass(frozen=True)
class Finalist:
    """A candidate at settings of prediction.

    Attributes:
        job: id of the trial or baseline.
        role: `searched`, `preset`, or the name of the baseline.
        score: its first objective in the search, as it was measured.
        by_repeat: the same in the race, by repeat.
    """

    job: str
    role: str
    prediction: Mapping[str, Any]
    score: float
    by_repeat: Mapping[int, float]

    @property
    def safe(self) -> bool:
        """Whether it is a configuration of SAFE, not a baseline of others."""
        return self.role in (SEARCHED, PRESET)

    @property
    def name(self) -> str:
        """Return what people call it."""
        return self.job if self.role == SEARCHED else BASELINE_NAMES[self.role]


def finalists(log: SweepLog) -> list[Finalist]:
    """Return the finalists of the newest race, in its order; none before it."""
    return [
        Finalist(one["job"], one["role"], one["prediction"], one["score"], _scores(log, one))
        for one in (log.race or {}).get("finalists", ())
    ]


def standing(log: SweepLog, before: int | None = None) -> Standing:
    """Return where the race stands after the repeats that are over, or stood before one of them."""
    wish, field = _wish(log), finalists(log)
    repeats = range(1, before if before is not None else (log.race or {"repeats": 0})["repeats"] + 1)
    scores = [{r: wish.goodness(value) for r, value in one.by_repeat.items()} for one in field]
    if log.sweep_spec.shrinks and all(one.score is not None for one in field):
        luck = lucks(log, log.of_kind(Kind.TRIAL))
        for one, of in zip(field, scores, strict=True):
            of[SEARCH] = wish.goodness(one.score) - luck.get(one.job, 0.0)
    return race(scores, repeats)


def winner(log: SweepLog) -> Finalist:
    """Return the finalist that is taken of those that tie: the preset, else the one with the fewest epochs to train."""
    field = finalists(log)
    preset = next((index for index, one in enumerate(field) if one.role == PRESET), None)
    return field[taken(_tied(log, standing(log)), [_epochs(log, one) for one in field], preset)]


def rival(log: SweepLog) -> Finalist | None:
    """Return whom the winner is measured against on the test images: the best baseline, or the best of SAFE.

    None where there is no finalist of the other kind.
    """
    ours, wish = winner(log), _wish(log)
    others = [one for one in finalists(log) if one.safe is not ours.safe and one.by_repeat]
    return max(others, key=lambda one: fmean(map(wish.goodness, one.by_repeat.values())), default=None)


def preset_stays(log: SweepLog) -> bool:
    """Whether a race ended with the preset."""
    return log.selected is not None and log.race is not None and bool(finalists(log)) and winner(log).role == PRESET


def learner_rows(log: SweepLog) -> tuple[tuple[str, str], ...]:
    """Return what the chosen configuration's results are called, each with the prefix of its metrics.

    SAFE and its two learners; a baseline that was chosen has one learner, and its own name.
    """
    chosen = log.chosen
    if chosen is not None and chosen.kind == Kind.BASELINE and chosen.variant != PRESET:
        return ((BASELINE_NAMES[str(chosen.variant)], ""),)
    return (("SAFE", ""), ("slow learner", "slow/"), ("fast learner", "fast/"))


def race_summary(log: SweepLog) -> dict[str, Any] | None:
    """Return the race as one object for programs; None where there was none.

    finalists: each with its scores by repeat, `left` (after which repeat, behind whom, at which p) or None.
    ties: the finalists that are as good as the best; the preset stays, else the cheapest is taken.
    near: the others that are not told apart from it.
    optimism: by how much the winner's score in the search was better than in the race (winner's curse).
    against: SAFE minus the baseline nearest to it, on the holdout and on the test images; `heads` where they differ.
    """
    field, wish = finalists(log), _wish(log)
    if log.race is None or not any(one.by_repeat for one in field):
        return None
    now, chosen = standing(log), winner(log)
    ties = _tied(log, now)
    rows = []
    for index, one in enumerate(field):
        left = now.left.get(index)
        behind = None if left is None or left.behind is None else field[left.behind].name
        rows.append(
            {
                "name": one.name,
                "trial": one.job,
                "role": one.role,
                "prediction": dict(one.prediction),
                "search": one.score,
                "scores": {str(repeat): value for repeat, value in one.by_repeat.items()},
                "mean": fmean(one.by_repeat.values()) if one.by_repeat else None,
                "left": None if left is None else {"repeat": left.repeat, "behind": behind, "p": left.p},
            }
        )
    mean = fmean(chosen.by_repeat.values())
    return {
        "metric": with_split(log.sweep_spec.split, wish.name),
        "finalists": rows,
        "repeats": len(now.repeats),
        "end": log.race["end"],
        "ties": [field[index].name for index in ties],
        "near": [field[index].name for index in now.near if index not in ties],
        "winner": chosen.name,
        "optimism": wish.goodness(chosen.score) - wish.goodness(mean),
        "against": _against(log, chosen),
    }


def tie_words(summary: Mapping[str, Any]) -> str:
    """Return in words whether finalists tie, which one is taken and how many others are not told apart from it."""
    more = len(summary["near"])
    near = f"; {more} more {'is' if more == 1 else 'are'} within noise of it" if more else ""
    if len(summary["ties"]) < 2:
        return f"{summary['winner']} is chosen{near}"
    stays = summary["winner"] == BASELINE_NAMES[PRESET]
    what = "stays" if stays else "is taken, the cheapest"
    return f"{len(summary['ties'])} settings tie; {summary['winner']} {what}{near}"


def _against(log: SweepLog, chosen: Finalist) -> dict[str, Any] | None:
    """Return SAFE minus the baseline: `holdout` over the repeats and `test` over the seeds that both have."""
    other, name = rival(log), _wish(log).name
    if other is None:
        return None
    ours, theirs = (chosen, other) if chosen.safe else (other, chosen)
    tests = [
        {job.repeat: value for job in _refits(log, one) if (value := _tested(job, name)) is not None}
        for one in (ours, theirs)
    ]
    names = of_heads(log.sweep_spec.parsed_space())
    heads = [head_words(log.jobs[one.job].config, names) for one in (ours, theirs)]
    return {
        "safe": ours.name,
        "baseline": theirs.name,
        "heads": heads if heads[0] != heads[1] else None,
        "holdout": _paired(ours.by_repeat, theirs.by_repeat),
        "test": _paired(*tests),
    }


def _tied(log: SweepLog, now: Standing) -> tuple[int, ...]:
    """Return the finalists among which the preset or the cheapest is taken; before rules 5 all that are near."""
    return now.tied if log.sweep_spec.rules > 4 else now.near


def _paired(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> dict[str, Any] | None:
    """Return mean, half width (None for one pair) and number of the pairs; None without any."""
    shared = [repeat for repeat in ours if repeat in theirs]
    if not shared:
        return None
    sides = [[side[repeat] for repeat in shared] for side in (ours, theirs)]
    if len(shared) == 1:
        return {"mean": sides[0][0] - sides[1][0], "half_width": None, "pairs": 1}
    return {**paired_difference(*sides), "pairs": len(shared)}


def _refits(log: SweepLog, one: Finalist) -> list[JobLog]:
    """Return the runs of a finalist on all training images; the preset's may be the control's."""
    own = log.finals_of(log.jobs[one.job])
    return own if own or one.role != PRESET else log.of_kind(Kind.CONTROL)


def _tested(job: JobLog, name: str) -> float | None:
    last = job.sessions[-1] if job.status == Status.FINISHED else None
    return None if last is None else last.metric(name)


def _scores(log: SweepLog, finalist: Mapping[str, Any]) -> dict[int, float]:
    """Return the first objective of a finalist's finished runs at its settings of prediction, by repeat."""
    spec, of = log.sweep_spec, log.jobs[finalist["job"]]
    scores: dict[int, float] = {}
    for repeat in range(1, (log.race or {})["repeats"] + 1):
        run = log.jobs.get(job_id(Kind.RACE, of.trial, repeat, of.variant))
        if run is None or run.status != Status.FINISHED:
            continue
        point = point_at(run, finalist["prediction"], spec.objective, spec.split)
        if point is not None and point.score is not None:
            scores[repeat] = point.score
    return scores


def _epochs(log: SweepLog, finalist: Finalist) -> float:
    """Return the epochs that a run of a finalist trains."""
    job = log.jobs[finalist.job]
    return float(job.config["slow.epochs"] + job.config["fast.epochs"] * (job.sessions[-1].sessions - 1))


def _wish(log: SweepLog) -> Objective:
    return objectives(log.sweep_spec.objective)[0]
