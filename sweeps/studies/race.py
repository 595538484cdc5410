"""The race of a sweep: baselines beside the trials, finalists over further seeds, the choice among them.

What it decides depends on the ledger alone, repeat by repeat, so an interrupted race goes on to the same end. Sessions
are counted by what has to be trained for different configurations, not by what a run found in the stage store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from safe.config import validate
from safe.errors import UserError
from sweeps.engine.work import Study
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import SEARCH_KINDS, Job, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.results.finalists import SEARCHED, standing, winner
from sweeps.results.selection import Scored, leaderboard, point_at
from sweeps.results.slow import AGAIN, judged_again, lucks
from sweeps.spec.configs import (
    BASELINE_NAMES,
    BASELINES,
    PRESET,
    absolute,
    baseline_config,
    own_prediction,
    race_config,
)
from sweeps.spec.objective import OWN_GROUPS, objectives
from sweeps.spec.runs import PLACES
from sweeps.spec.space import PREDICTION_SETTINGS, Space
from sweeps.studies.plan import count, race_budget
from tracking.recorder import Status

MOST_FINALISTS = 5
STANDARD_ERRORS = 2.0
MOST_REPEATS = 20
LEAST_REPEATS = 3  # finalists are so few that the race's sessions are enough for so many repeats
_ANYWHERE = (*PLACES, *PREDICTION_SETTINGS, "backbone.weights")  # do not make another configuration


def predictions(space: Space, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings of prediction of the space, and those that trials start from where it lacks them."""
    own = own_prediction(config)
    return [*space.predictions, *([] if own in space.predictions else [own])]


def baseline_jobs(study: Study, space: Space) -> list[Job]:
    """Return RanPAC and the frozen head, which predict by the slow learner alone."""
    return [_baseline(study, space, name) for name in BASELINES if name != PRESET]


def preset_jobs(study: Study, space: Space) -> list[Job]:
    """Return the preset where no trial is the preset."""
    return [] if preset_trial(study.log) else [_baseline(study, space, PRESET)]


def slow_rounds(study: Study) -> Iterator[list[Job]]:
    """Yield the repeats of the better slow settings, each of them alone; see `sweeps.results.slow`."""
    repeat = 1
    while again := judged_again(study.log, repeat):
        yield [race_job(study, id, repeat, AGAIN) for id in again]
        repeat += 1


def race_rounds(study: Study) -> Iterator[list[Job]]:
    """Yield the repeats of the race, each with the finalists that are left; the ledger has who they are and the end."""
    log, spec = study.log, study.log.sweep_spec
    budget = race_budget(spec, _trained(job for job in log.jobs.values() if job.kind in SEARCH_KINDS))
    field = _finalists(log, budget)
    if log.race is None or log.race["finalists"] != field:
        study.append("race", finalists=field, budget=budget, repeats=0, end=None)
    raced = [job.id for job in log.of_kind(Kind.RACE) if job.variant == AGAIN]
    end = f"after {MOST_REPEATS} repeats"
    for repeat in range(1, MOST_REPEATS + 1):
        now = standing(log, before=repeat)
        if now.settled is not None or len(field) < 2:
            end = now.settled or "one is left"
            break
        if _trained(log.jobs[id] for id in raced) >= budget:
            end = f"its {budget} training sessions are spent"
            break
        jobs = {job.id: job for job in (race_job(study, field[index]["job"], repeat) for index in sorted(now.alive))}
        yield list(jobs.values())
        raced += jobs
        assert log.race is not None
        if repeat > log.race["repeats"]:
            study.append("race", **{**log.race, "repeats": repeat, "end": None})
    assert log.race is not None
    if log.race["end"] != end:
        study.append("race", **{**log.race, "end": end})


def chosen(log: SweepLog) -> dict[str, Any]:
    """Return the record of the choice that the race led to."""
    taken = winner(log)
    return {"trial": taken.job, "prediction": dict(taken.prediction), "score": taken.score}


def _baseline(study: Study, space: Space, name: str) -> Job:
    spec = study.log.sweep_spec
    config = absolute(baseline_config(spec, name, space.fixed))
    own = own_prediction(config)
    grid = predictions(space, spec.base) if name == PRESET else [{**own, "aggregation.kind": "slow"}]
    return study.job(Kind.BASELINE, BASELINE_NAMES[name], config, grid, variant=name, until=spec.first_k)


def race_job(study: Study, candidate: str, repeat: int, variant: str | None = None) -> Job:
    """Return a repeat of a trial, baseline or slow setting."""
    of = study.log.jobs[candidate]
    return study.job(
        Kind.RACE,
        f"race {repeat} · {of.title}",
        race_config(of.config, repeat),
        of.predictions,
        trial=of.trial,
        variant=variant or of.variant,
        repeat=repeat,
        until=study.log.sweep_spec.first_k,
    )


def _finalists(log: SweepLog, budget: int) -> list[dict[str, Any]]:
    """Return the finalists, the best of the search first, then the preset and the baselines.

    A trial lies near the best when it is not behind by more than two standard errors of the best one's score, that of a
    share of so many images. Without a number asked for, they are also as few as the race can follow. The luck of a
    trial's slow learner, as far as it is known, does not count.
    """
    spec, trials = log.sweep_spec, log.of_kind(Kind.TRIAL)
    luck = lucks(log, trials)
    board = [
        (entry.goodness[0] - luck[entry.trial], entry) for entry in leaderboard(trials, spec.objective, spec.split)
    ]
    board.sort(key=lambda one: one[0], reverse=True)
    preset = preset_trial(log)
    others = sorted(log.of_kind(Kind.BASELINE), key=lambda job: list(BASELINES).index(str(job.variant)))
    fixed = [at_own_prediction(log, job.id, str(job.variant)) for job in others if job.status == Status.FINISHED]
    if preset is not None and preset.status == Status.FINISHED:
        fixed.insert(0, at_own_prediction(log, preset.id, PRESET))
    least = board[0][0] - _two_errors(log, board[0][1])
    near = [one for one in board[:MOST_FINALISTS] if one[0] >= least]
    field: list[dict[str, Any]] = []
    for _, entry in board[: spec.finalists] if spec.finalists else near:
        one = {"job": entry.trial, "role": SEARCHED, "prediction": entry.prediction, "score": entry.score}
        if any((one["job"], one["prediction"]) == (own["job"], own["prediction"]) for own in fixed):
            continue
        repeat = _trained(log.jobs[id] for id in {each["job"]: None for each in [*field, one, *fixed]})
        if field and not spec.finalists and LEAST_REPEATS * repeat > budget:
            break
        field.append(one)
    return [*field, *fixed]


def at_own_prediction(log: SweepLog, job: str, role: str) -> dict[str, Any]:
    """Return a finalist at its own settings of prediction."""
    spec, of = log.sweep_spec, log.jobs[job]
    own = own_prediction(of.config) if role == PRESET else of.predictions[0]
    point = point_at(of, own, spec.objective, spec.split)
    return {"job": job, "role": role, "prediction": own, "score": None if point is None else point.score}


def _two_errors(log: SweepLog, best: Scored) -> float:
    """Return twice the standard error of a share of the judging images; without end for what is no share."""
    spec = log.sweep_spec
    name, images = objectives(spec.objective)[0].name, sum(log.jobs[best.trial].sessions[-1].counts)
    share = best.score
    if share is None or not 0 <= share <= 1 or name.startswith(OWN_GROUPS) or name.endswith("nll"):
        return math.inf
    return STANDARD_ERRORS * math.sqrt(share * (1 - share) / images)


def preset_trial(log: SweepLog) -> JobLog | None:
    """Return the trial that is the preset: equal in all but where data lie and the settings of prediction."""
    try:
        preset = what_it_is(baseline_config(log.sweep_spec, PRESET, {}))
    except UserError:
        return None
    return next((job for job in log.of_kind(Kind.TRIAL) if what_it_is(job.config) == preset), None)


def what_it_is(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a configuration another one: all but where data lie and the settings of prediction."""
    return {name: value for name, value in config.items() if name not in _ANYWHERE}


def _trained(jobs: Iterable[JobLog]) -> int:
    """Return how many sessions have to be trained for those that runs have finished, shared ones once."""
    return count([(validate(job.config), range(1, len(job.sessions) + 1)) for job in jobs if job.sessions], 1).trained
