"""A sweep and its user: trials that are added while it runs or rests, and trials that are dropped.

Whatever is asked for is taken up in the ledger first, together with how many trials the search had proposed by then.
The search is told of an added trial in the rounds that come after these, so a killed sweep goes on to the same end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safe.config.described import acting, of_role
from safe.config.marks import Acts, Role
from safe.errors import UserError, nearest
from sweeps.engine.work import Study
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import ADDED, DROPPED, SEARCH_KINDS, Job, Kind, job_id
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.requests import Request
from sweeps.report.terminal import trial_title
from sweeps.spec.configs import absolute
from sweeps.spec.space import PREDICTION_SETTINGS, Space
from sweeps.spec.specs import SweepSpec
from sweeps.studies.race import predictions, what_it_is
from tracking.recorder import Status


class Live:
    """Takes up what is asked of a sweep.

    Attributes:
        proposed: trials that the search has proposed so far.
    """

    def __init__(self, study: Study, space: Space) -> None:
        self.proposed = 0
        self._study, self._space = study, space
        self._given = 0

    def take_up(self) -> list[Job]:
        """Take up what is waiting; return the added trials that this call of the sweep has not been given yet."""
        log, study = self._study.log, self._study
        for request in study.requests.waiting() if study.requests else ():
            if request.id not in log.requests:
                try:
                    self._take(request)
                except UserError as error:
                    study.note(f"not taken up: {error}")
            assert study.requests is not None
            study.requests.remove(request)
        for id in sorted(log.dropped):
            if log.jobs[id].status != Status.RUNNING and not log.jobs[id].over:
                study.end(id, DROPPED)
        begin, self._given = self._given, len(log.added)
        return [self._job(number) for number in range(begin, self._given)]

    def _take(self, request: Request) -> None:
        log, study = self._study.log, self._study
        if request.wrong is not None:
            raise UserError(request.wrong)
        if request.drop is not None:
            study.append("dropped", request=request.id, job=droppable(log, request.drop).id)
            return
        settings = request.add or {}
        added_config(log, settings)
        after = max([self.proposed, *(number + 1 for number in log.trials())])
        told = not outside(log.sweep_spec, self._space, settings)
        study.append("added", request=request.id, settings=settings, after=after, told=told)

    def _job(self, number: int) -> Job:
        log, spec = self._study.log, self._study.log.sweep_spec
        settings = log.added[number]["settings"]
        config = _config(spec, self._space, settings)
        title = trial_title(f"added {number:02d} by hand", config, [*settings])
        grid = predictions(self._space, spec.base) if spec.raced else self._space.predictions
        return self._study.job(Kind.TRIAL, title, config, grid, trial=number, variant=ADDED, until=spec.first_k)


def added_config(log: SweepLog, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a trial of the user's own; what is not set stays as in the preset.

    Raises:
        UserError: a setting is unknown, or none of a trial's; a value is not possible; or there is such a trial.
    """
    spec = log.sweep_spec
    space = spec.parsed_space()
    if free := [name for name in settings if name in PREDICTION_SETTINGS]:
        raise UserError(
            f"{free[0]} acts at prediction, so there is nothing to train: every trial is judged at all its values in "
            "the space; another space is a sweep of its own"
        )
    of_data = {name for name in acting(Acts.FACTS) if name.startswith("data.")} - {*spec.space}
    frame = {*of_role(Role.FRAME), *of_data}
    if fixed := [name for name in settings if name in frame or name.startswith("runtime.")]:
        raise UserError(
            f"{fixed[0]} is the same in all trials of this sweep, whose scores could not be compared otherwise; "
            "an added trial cannot set it"
        )
    if spec.target is not None and (strange := [name for name in settings if name not in spec.space]):
        raise UserError(
            f"{strange[0]} is not of the space, and only its settings are refit on {spec.evaluate_on}; "
            f"it can set {', '.join(space.domains)}"
        )
    config = _config(spec, space, settings)
    known = {job.id: job.config for job in log.candidates()}
    for number, one in enumerate(log.added):  # it may still wait for its turn
        known.setdefault(job_id(Kind.TRIAL, number, variant=ADDED), _config(spec, space, one["settings"]))
    same = next((id for id, one in known.items() if what_it_is(one) == what_it_is(config)), None)
    if same is not None:
        raise UserError(f"{same} has this very configuration; add another one")
    return config


def outside(spec: SweepSpec, space: Space, settings: Mapping[str, Any]) -> list[str]:
    """Return the settings that the space does not hold at these values, each with what it holds there."""
    strange = []
    for name, value in settings.items():
        domain = space.domains.get(name)
        if value != space.fixed.get(name, spec.base[name]) if domain is None else value not in domain:
            holds = f"the space has {spec.space[name]}" if name in spec.space else "the space does not vary it"
            strange.append(f"{name}={value}: {holds}")
    return strange


def droppable(log: SweepLog, id: str) -> JobLog:
    """Return the trial that is to end.

    Raises:
        UserError: there is none, or nothing is left of it to end.
    """
    known = [job.id for kind in SEARCH_KINDS for job in log.of_kind(kind)]
    if id not in known:
        still = [one for one in known if not log.jobs[one].over]
        raise UserError(
            f"{log.spec.name} has begun no trial called {id!r}; still to end: {', '.join(still) or 'none'}."
            f"{nearest(id, still)}"
        )
    job = log.jobs[id]
    if job.over or id in log.dropped:
        how = f"{job.status.lower()}{f' ({job.reason})' if job.reason else ''}" if job.over else DROPPED
        raise UserError(f"{id} is {how} already; there is nothing to end")
    return job


def repeated(log: SweepLog, settings: Mapping[str, Any], waiting: Sequence[Request]) -> bool:
    """Return whether a request that waits already asks for the same trial."""
    spec, space = log.sweep_spec, log.sweep_spec.parsed_space()
    configs = [what_it_is(_config(spec, space, request.add)) for request in waiting if request.add is not None]
    return what_it_is(_config(spec, space, settings)) in configs


def _config(spec: SweepSpec, space: Space, settings: Mapping[str, Any]) -> dict[str, Any]:
    return absolute(spec.trial_config({**space.fixed, **settings}))
